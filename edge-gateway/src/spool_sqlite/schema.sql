-- The spool's database, format 2 (docs/formats/spool.md). SQLite's integers are signed 64-bit: unsigned values are stored
-- as the same 64 bits.

CREATE TABLE identity (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    format  INTEGER NOT NULL,
    spool   BLOB NOT NULL,
    gateway TEXT NOT NULL
);

-- Readings, in the order of their receipt: a row here holds the rows of one commit. A table per lane, so that reading one
-- lane does not pass over the other's backlog.
CREATE TABLE segment_control (
    first_row INTEGER PRIMARY KEY,
    rows      INTEGER NOT NULL,
    crc       INTEGER NOT NULL,
    data      BLOB NOT NULL
);

CREATE TABLE segment_live (
    first_row INTEGER PRIMARY KEY,
    rows      INTEGER NOT NULL,
    crc       INTEGER NOT NULL,
    data      BLOB NOT NULL
);

-- The last sequence of a device's queue. `made` counts a device's queues: the lowest is the oldest.
CREATE TABLE device (
    device BLOB NOT NULL,
    queue  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    made   INTEGER NOT NULL,
    PRIMARY KEY (device, queue)
) WITHOUT ROWID;

-- Batches that have a place in their stream and no acknowledgement.
CREATE TABLE inflight (
    number     INTEGER PRIMARY KEY,
    lane       INTEGER NOT NULL,
    pid        INTEGER NOT NULL,
    topic      BLOB NOT NULL,
    partition  INTEGER NOT NULL,
    partitions INTEGER NOT NULL,
    epoch      INTEGER NOT NULL,
    base       INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    prev_tag   INTEGER NOT NULL,
    tag        INTEGER NOT NULL,
    from_row   INTEGER NOT NULL,
    to_row     INTEGER NOT NULL,
    backfill   INTEGER NOT NULL
);

-- Where the log acknowledged a stream. `last` is null before the first batch of an epoch.
CREATE TABLE stream (
    pid       INTEGER NOT NULL,
    topic     BLOB NOT NULL,
    partition INTEGER NOT NULL,
    lane      INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    last      INTEGER,
    tag       INTEGER NOT NULL,
    PRIMARY KEY (pid, topic, partition)
) WITHOUT ROWID;

-- Cursors and the ledger: one leaf page, written with every commit.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
