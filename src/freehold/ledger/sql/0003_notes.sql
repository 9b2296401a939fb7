-- Small things that are due at some time, such as webhooks: durable like a request, and one taker has each at a time.

CREATE TABLE notes (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    due_unix_s REAL NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;

CREATE INDEX due_notes ON notes (kind, due_unix_s);
