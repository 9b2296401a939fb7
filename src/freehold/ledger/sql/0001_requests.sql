-- The whole ledger: one narrow row a request, and its content apart so that claiming and finishing
-- a request with a long prompt rewrites a few hundred bytes, not the prompt.
-- Only what a query looks at is a column; the rest is msgpack.

CREATE TABLE requests (
    seq INTEGER PRIMARY KEY,             -- arrival; the last word in the order
    id TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL DEFAULT 0,    -- 0 queued, 1 running, 2 done
    priority INTEGER NOT NULL,           -- smaller is sooner
    due_unix_s REAL NOT NULL,            -- deadline; 1e999 (infinity) without one
    answers INTEGER NOT NULL,            -- how many places it takes in an engine's batch
    keep INTEGER NOT NULL,               -- 1: content and result stay after the end
    attempt INTEGER NOT NULL DEFAULT 0,  -- fencing number, one more at each claim
    worker TEXT NOT NULL DEFAULT '',     -- who claimed it last
    cancel_asked INTEGER NOT NULL DEFAULT 0,
    accepted_unix_s REAL NOT NULL,
    ended_unix_s REAL,
    head BLOB NOT NULL,                  -- the request without its content
    result BLOB
);

CREATE TABLE bodies (
    seq INTEGER PRIMARY KEY,
    request BLOB NOT NULL                -- the request with its content
);

-- The queue in claiming order. accepted_unix_s is there so that depth reads nothing but this index.
CREATE INDEX queue ON requests (priority, due_unix_s, seq, accepted_unix_s) WHERE state = 0;

-- Few requests have a deadline, and those without one cost this index nothing.
CREATE INDEX due ON requests (due_unix_s) WHERE state = 0 AND due_unix_s < 1e999;

CREATE INDEX running ON requests (worker) WHERE state = 1;

CREATE INDEX ended ON requests (keep, ended_unix_s) WHERE state = 2;
