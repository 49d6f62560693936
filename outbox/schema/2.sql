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

-- What retention needs. The small columns of a segment come before its body, so that they are read without walking the
-- body's pages. The rows of version 1 are copied by migrate, since their times are known only to who reads their bodies.
DROP INDEX segments_by_place;
ALTER TABLE segments RENAME TO segments_of_version_1;

CREATE TABLE segments (
    id    INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    first INTEGER NOT NULL,             -- offset of its first event
    n     INTEGER NOT NULL,             -- number of events
    at    INTEGER NOT NULL,             -- when its newest event was received, nanoseconds since 1970
    total INTEGER NOT NULL,             -- bytes of all bodies that the topic ever had, up to and with this one
    body  BLOB    NOT NULL              -- segment.go has the format
);
CREATE UNIQUE INDEX segments_by_place ON segments (topic, first);

ALTER TABLE topics ADD COLUMN purged INTEGER NOT NULL DEFAULT 0; -- last offset whose segment has gone
ALTER TABLE topics ADD COLUMN freed INTEGER NOT NULL DEFAULT 0;  -- total of that segment

CREATE TABLE bodies (
    id     INTEGER PRIMARY KEY,
    topic  INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    body   BLOB    NOT NULL             -- a segment of this one event
);
CREATE UNIQUE INDEX bodies_by_place ON bodies (topic, offset);
