-- What owners ask about: names, what the last attempt said, how long a chain of outcomes is. A small payload stands in its
-- call's row; a large one apart, by number, so that leases and retries do not rewrite it. Dead calls are small rows too, so that
-- counting and listing them reads no payload.
ALTER TABLE calls ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN chain INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN error TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN small BLOB;

ALTER TABLE payloads RENAME TO payloads_by_id;
CREATE TABLE payloads (
    position INTEGER NOT NULL PRIMARY KEY,
    payload  BLOB    NOT NULL
);
INSERT INTO payloads (position, payload)
SELECT calls.position, payload FROM payloads_by_id JOIN calls ON calls.id = payloads_by_id.id;
DROP TABLE payloads_by_id;

-- The next moment of each line is found in the line's own index.
DROP INDEX calls_by_time;

-- What runs: found at the start, and when somebody asks.
CREATE INDEX calls_leased ON calls (position) WHERE leased = 1;

ALTER TABLE dead RENAME TO dead_before;
DROP INDEX dead_by_function;
CREATE TABLE dead (
    position   INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    account    TEXT    NOT NULL,
    region     TEXT    NOT NULL,
    function   TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    qualifier  TEXT,
    context    BLOB    NOT NULL,
    accepted_s REAL    NOT NULL,
    ended_s    REAL    NOT NULL,
    attempts   INTEGER NOT NULL,
    chain      INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    bytes      INTEGER NOT NULL
);
CREATE INDEX dead_by_name ON dead (account, region, name, position);
CREATE INDEX dead_by_time ON dead (ended_s);
CREATE TABLE dead_payloads (
    position INTEGER NOT NULL PRIMARY KEY,
    payload  BLOB    NOT NULL
);
INSERT INTO dead (position, id, account, region, function, name, qualifier, context, accepted_s, ended_s, attempts, chain,
                  reason, error, bytes)
SELECT position, id, account, region, function, '', qualifier, context, accepted_s, accepted_s, attempts, 0,
       reason, '', length(payload) + length(context) + 512
FROM dead_before;
INSERT INTO dead_payloads (position, payload) SELECT position, payload FROM dead_before;
DROP TABLE dead_before;

-- What all dead calls come to: one row.
CREATE TABLE dead_total (
    items INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
INSERT INTO dead_total (items, bytes) SELECT count(*), coalesce(sum(bytes), 0) FROM dead;
