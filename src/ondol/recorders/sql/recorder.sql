-- name: add
INSERT INTO blocks (account, region, first_ms, last_ms, count, failed, records)
VALUES (:account, :region, :first_ms, :last_ms, :count, :failed, :records)

-- name: add_function
INSERT INTO functions (function, place) VALUES (:function, :place)

-- name: find
-- Blocks that may hold what is looked for, newest first.
SELECT place, records FROM blocks
WHERE account = :account AND region = :region AND place <= :place AND last_ms >= :since_ms AND first_ms < :until_ms
  AND (:failed IS NULL OR (CASE WHEN :failed THEN failed > 0 ELSE failed < count END))
ORDER BY place DESC

-- name: find_of_function
SELECT place, records FROM functions JOIN blocks USING (place)
WHERE function = :function
  AND account = :account AND region = :region AND place <= :place AND last_ms >= :since_ms AND first_ms < :until_ms
  AND (:failed IS NULL OR (CASE WHEN :failed THEN failed > 0 ELSE failed < count END))
ORDER BY place DESC

-- name: count
SELECT records FROM total

-- name: recount
UPDATE total SET records = records + :count

-- name: oldest
SELECT place, count, last_ms FROM blocks ORDER BY place LIMIT :limit

-- name: drop
DELETE FROM blocks WHERE place <= :place

-- name: drop_functions
DELETE FROM functions WHERE place <= :place
