-- name: add
INSERT INTO records (account, region, function, invocation, status, started_ms, rest)
VALUES (:account, :region, :function, :invocation, :status, :started_ms, :rest)

-- name: newest
SELECT coalesce(max(place), 0) FROM records

-- name: beyond
-- Places go up by one: what lies `count` or more behind the newest is one too many.
DELETE FROM records WHERE place IN (SELECT place FROM records WHERE place <= :place ORDER BY place LIMIT :limit)

-- name: aged
DELETE FROM records WHERE place IN (
    SELECT place FROM (SELECT place, started_ms FROM records ORDER BY place LIMIT :limit) WHERE started_ms < :before_ms
)
