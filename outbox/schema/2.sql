-- Version 2: the keys by which duplicates are left out. dedupe.go has the format of a body.
CREATE TABLE keys (
    id      INTEGER PRIMARY KEY,        -- ascends with the keys of a topic
    topic   INTEGER NOT NULL,
    written INTEGER NOT NULL,           -- by the machine's clock, nanoseconds since 1970
    body    BLOB    NOT NULL
);

CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO secrets (name, value) VALUES ('keys', randomblob(32));
