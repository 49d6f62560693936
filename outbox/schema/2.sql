-- Version 2. doc.go explains every table.

-- The keys by which duplicates are left out; dedupe.go has the format of a body.
CREATE TABLE keys (
    id      INTEGER PRIMARY KEY,        -- ascends with the keys of a topic
    topic   INTEGER NOT NULL,
    written INTEGER NOT NULL,           -- by the machine's clock, nanoseconds since 1970
    body    BLOB    NOT NULL
);

CREATE TABLE secrets (              -- keys of hashes, so that nobody outside can choose what collides
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO secrets (name, value) VALUES ('keys', randomblob(32)), ('ids', randomblob(16));

-- What can be had again or done without: receipts of deliveries, and where events are by their ids.
CREATE TABLE receipts (
    id           INTEGER PRIMARY KEY,   -- ascending in the order of writing
    subscription INTEGER NOT NULL,
    low          INTEGER NOT NULL,      -- offset of its first receipt
    high         INTEGER NOT NULL,      -- and of its last
    at           INTEGER NOT NULL,      -- when it was written, nanoseconds since 1970
    total        INTEGER NOT NULL,      -- bytes of all rows ever written, up to and with this one
    body         BLOB    NOT NULL       -- receipts.go has the format
);
CREATE INDEX receipts_by_place ON receipts (subscription, low, high);

CREATE TABLE id_blocks (                -- the blocks that are whole
    topic INTEGER NOT NULL,
    block INTEGER NOT NULL,
    PRIMARY KEY (topic, block)
) WITHOUT ROWID;

CREATE TABLE ids (
    id   INTEGER PRIMARY KEY,           -- topic, part of the hash, block: what one look-up reads lies side by side
    body BLOB NOT NULL                  -- ids.go has the format
);
