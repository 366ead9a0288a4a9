-- Accepted calls that are neither done nor dead. Small rows: leases and retries rewrite them, and leave the payloads alone.
-- `position` is the order of acceptance. A claimed call is one whose `visible_s` lies in the future and whose lease is set.
CREATE TABLE calls (
    position   INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    account    TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    function   TEXT    NOT NULL,
    qualifier  TEXT,
    context    BLOB    NOT NULL,
    accepted_s REAL    NOT NULL,
    visible_s  REAL    NOT NULL,
    attempts   INTEGER NOT NULL,
    leased     INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL
);

-- Each function's own line: its head is found in one step, however long the line is.
CREATE INDEX calls_by_function ON calls (function, visible_s, position);

-- When the next call of all becomes visible.
CREATE INDEX calls_by_time ON calls (visible_s);

CREATE TABLE payloads (
    id      TEXT NOT NULL PRIMARY KEY,
    payload BLOB NOT NULL
);

-- What waits, per function; a function without a row has nothing waiting. The bounds are checked against these sums.
CREATE TABLE lines (
    function TEXT    NOT NULL PRIMARY KEY,
    items    INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
);

-- Given up, with the reason; the oldest go when there are too many.
CREATE TABLE dead (
    position   INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    account    TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    function   TEXT    NOT NULL,
    qualifier  TEXT,
    context    BLOB    NOT NULL,
    accepted_s REAL    NOT NULL,
    attempts   INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    payload    BLOB    NOT NULL
);
CREATE INDEX dead_by_function ON dead (function, position);
