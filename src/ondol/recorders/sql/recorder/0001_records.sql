-- In the order in which they were written; `place` is never used twice.
CREATE TABLE records (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    function TEXT NOT NULL,
    invocation TEXT NOT NULL,
    status TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    rest BLOB NOT NULL
);

CREATE INDEX records_by_function ON records (account, region, function, place);
CREATE INDEX records_by_invocation ON records (invocation);
-- Failures are few and looked for; successes are found by walking.
CREATE INDEX records_failed ON records (account, region, place) WHERE status <> 'ok';
