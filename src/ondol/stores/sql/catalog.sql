-- name: newest
-- The number of the last change; 0 before the first.
SELECT coalesce(max(number), 0) FROM changes

-- name: oldest
-- The oldest change still known; NULL before the first.
SELECT min(number) FROM changes

-- name: get
SELECT key, value, revision FROM documents WHERE key = :key

-- name: revision
SELECT revision FROM documents WHERE key = :key

-- name: page
-- In key order from `first` on; the caller stops where its prefix ends.
SELECT key, value, revision FROM documents WHERE key >= :first AND key > :after ORDER BY key LIMIT :limit

-- name: everything
SELECT key, value, revision FROM documents

-- name: put
INSERT INTO documents (key, value, revision) VALUES (:key, :value, :number)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision

-- name: delete
DELETE FROM documents WHERE key = :key

-- name: note
-- One step of history.
INSERT INTO changes (number, key, value) VALUES (:number, :key, :value)

-- name: prune
DELETE FROM changes WHERE number <= :number

-- name: since
SELECT number, key, value FROM changes WHERE number > :number ORDER BY number LIMIT :limit
