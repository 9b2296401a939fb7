-- The local history: requests that ended and slots of ten seconds, oldest deleted first. Only what a filter looks at is a
-- column; the rest is msgpack. Ids are not unique: a client may name several of its requests alike.

CREATE TABLE requests (
    received_unix_s REAL NOT NULL,
    id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    model TEXT NOT NULL,
    tenant TEXT NOT NULL,
    took_ms REAL NOT NULL,      -- from received to delivered
    row BLOB NOT NULL,
    texts BLOB NOT NULL         -- prompts and answers as JSON; empty unless they are kept
);

CREATE INDEX requests_received ON requests (received_unix_s);

CREATE TABLE slots (
    begin_unix_s REAL NOT NULL,
    slot BLOB NOT NULL          -- compressed (zlib)
);

CREATE INDEX slots_begin ON slots (begin_unix_s);
