-- Files and batches: folders with a label and numbered sheets.

CREATE TABLE folders (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    label BLOB NOT NULL,
    until_unix_s REAL NOT NULL,
    version INTEGER NOT NULL,
    bytes INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX shelf ON folders (kind, tenant, seq);
CREATE INDEX folder_ends ON folders (until_unix_s);

-- With a rowid: the numbers of a folder's sheets are then read from the index alone.
CREATE TABLE sheets (
    folder INTEGER NOT NULL,
    number INTEGER NOT NULL,
    content BLOB NOT NULL
);

CREATE UNIQUE INDEX sheet_numbers ON sheets (folder, number);
