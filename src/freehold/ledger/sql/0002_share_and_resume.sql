-- What resuming, fair shares, several models and idempotency need. A request's content and what was made of its answer
-- now stay until its reader has had the last byte.

ALTER TABLE requests ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN lot INTEGER NOT NULL DEFAULT 0;          -- 0 to 99: a canary takes some of them
ALTER TABLE requests ADD COLUMN tag_tokens INTEGER NOT NULL DEFAULT 0;   -- fair share (order.py)
ALTER TABLE requests ADD COLUMN cost_tokens INTEGER NOT NULL DEFAULT 1;  -- expected at accept
ALTER TABLE requests ADD COLUMN body_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;       -- workers that died of it
ALTER TABLE requests ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;    -- 1: its reader has had the last byte
ALTER TABLE requests ADD COLUMN poisoned INTEGER NOT NULL DEFAULT 0;

-- What an older program accepted: the functions read the msgpack, which SQL can't.
UPDATE requests SET
    model = old_model(head), tenant = old_tenant(head), lot = lot_of(id),
    cost_tokens = coalesce((SELECT old_cost_tokens(request) FROM bodies WHERE bodies.seq = requests.seq), 1),
    body_bytes = coalesce((SELECT length(request) FROM bodies WHERE bodies.seq = requests.seq), 0),
    delivered = state = 2;

-- What was made of an answer, checkpoint by checkpoint. `tops` of the newest piece says how far each answer is.
CREATE TABLE pieces (
    seq INTEGER NOT NULL,
    number INTEGER NOT NULL,
    tops BLOB NOT NULL,
    chunks BLOB NOT NULL,
    PRIMARY KEY (seq, number)
) WITHOUT ROWID;

-- One life of a worker: its heartbeat. On the monotonic clock, which nobody sets back.
CREATE TABLE owners (
    owner TEXT PRIMARY KEY,
    renewed_mono_s REAL NOT NULL,
    lease_s REAL NOT NULL
) WITHOUT ROWID;

-- Fair shares: the virtual time of a model's class, and how far each tenant's requests reach in it.
CREATE TABLE lanes (
    model TEXT NOT NULL,
    priority INTEGER NOT NULL,
    virtual_tokens INTEGER NOT NULL,
    PRIMARY KEY (model, priority)
) WITHOUT ROWID;

CREATE TABLE shares (
    model TEXT NOT NULL,
    priority INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    finish_tokens INTEGER NOT NULL,
    PRIMARY KEY (model, priority, tenant)
) WITHOUT ROWID;

CREATE TABLE keys (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    seq INTEGER NOT NULL UNIQUE,
    until_unix_s REAL NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;

DROP INDEX queue;
-- A model's queue in claiming order. What follows seq is there so that depth reads nothing but this index.
CREATE INDEX queue ON requests (
    model, priority, due_unix_s, tag_tokens, seq, accepted_unix_s, cost_tokens, body_bytes
) WHERE state = 0;

DROP INDEX due;
-- Few requests have a deadline, and those without one cost this index nothing.
CREATE INDEX due ON requests (due_unix_s) WHERE state < 2 AND due_unix_s < 1e999;

-- Whose content is still there although they have ended.
CREATE INDEX unread ON requests (ended_unix_s) WHERE state = 2 AND delivered = 0;

CREATE INDEX poison ON requests (seq) WHERE poisoned = 1;
