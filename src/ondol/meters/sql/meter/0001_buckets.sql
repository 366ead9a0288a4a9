CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    space TEXT NOT NULL,
    name TEXT NOT NULL,
    dimensions TEXT NOT NULL,
    unit TEXT NOT NULL,
    last_s INTEGER NOT NULL,
    UNIQUE (account, region, space, name, dimensions, unit)
);

-- A bucket is a minute, or an hour once its minutes are old: span_s says which.
CREATE TABLE buckets (
    series INTEGER NOT NULL,
    at_s INTEGER NOT NULL,
    span_s INTEGER NOT NULL,
    count REAL NOT NULL,
    total REAL NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    bins BLOB NOT NULL,
    PRIMARY KEY (series, at_s)
) WITHOUT ROWID;

CREATE INDEX buckets_by_age ON buckets (at_s, span_s);
