-- Records in blocks of what came within a second: writing a record costs a share of a row, and no index of its own.
-- `place` goes up by one and is never used twice.
CREATE TABLE blocks (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    count INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    records BLOB NOT NULL
);

-- Which functions have records in which block.
CREATE TABLE functions (
    function TEXT NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (function, place)
) WITHOUT ROWID;

CREATE INDEX functions_by_place ON functions (place);

-- How many records there are, so that nobody has to count them.
CREATE TABLE total (records INTEGER NOT NULL);
INSERT INTO total (records) VALUES (0);
