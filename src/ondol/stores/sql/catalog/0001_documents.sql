-- What is: one row per document. `revision` is the number of the change that wrote it.
CREATE TABLE documents (
    key      TEXT    NOT NULL PRIMARY KEY,
    value    BLOB    NOT NULL,
    revision INTEGER NOT NULL
);

-- What happened: the last steps, for followers. A NULL value is a removal. The newest row is never pruned, because the
-- next number is counted from it.
CREATE TABLE changes (
    number INTEGER NOT NULL PRIMARY KEY,
    key    TEXT    NOT NULL,
    value  BLOB
);
