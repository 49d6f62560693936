-- Version 1. Every table is explained in doc.go.
CREATE TABLE file (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    id      BLOB    NOT NULL,           -- 16 random bytes, made with the file
    commits INTEGER NOT NULL            -- number of the last commit
);

CREATE TABLE topics (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE segments (
    id    INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    first INTEGER NOT NULL,             -- offset of its first event
    n     INTEGER NOT NULL,             -- number of events
    body  BLOB    NOT NULL              -- segment.go has the format
);
CREATE UNIQUE INDEX segments_by_place ON segments (topic, first);

CREATE TABLE subscriptions (
    id     INTEGER PRIMARY KEY,
    name   TEXT    NOT NULL UNIQUE,
    topic  INTEGER NOT NULL,
    cursor INTEGER NOT NULL,            -- everything up to it is settled
    ahead  BLOB,                        -- what is settled beyond the cursor; NULL is nothing
    ended  INTEGER,                     -- last offset owed to a removed subscription; NULL while it is named
    gaps   BLOB                         -- ranges that are not owed, pairs of varints; NULL is none
);

CREATE TABLE deliveries (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- the id of a dead letter, never used twice
    subscription INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    state        INTEGER NOT NULL,      -- 1 retry, 2 dead
    reason       TEXT    NOT NULL,
    stage        TEXT    NOT NULL,
    status       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    counted      INTEGER NOT NULL,
    next_at      INTEGER NOT NULL,      -- times are nanoseconds since 1970, 0 is none
    first_at     INTEGER NOT NULL,
    last_at      INTEGER NOT NULL,
    error        TEXT    NOT NULL,
    answer       BLOB,
    progress     BLOB
);
CREATE UNIQUE INDEX deliveries_by_place ON deliveries (subscription, offset);
CREATE INDEX deliveries_by_time ON deliveries (subscription, state, next_at, offset);

CREATE TABLE states (
    owner TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (owner, key)
) WITHOUT ROWID;
