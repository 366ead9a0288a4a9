-- name: known
-- Which of these ids are waiting already.
SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(:ids))

-- name: last_position
SELECT coalesce(max(position), 0) FROM calls

-- name: insert
-- By place, not by name: this one is run for each call that is accepted.
INSERT INTO calls (position, id, account, region, function, name, qualifier, context, accepted_s, visible_s, attempts, refusals,
                   chain, error, bytes, small)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: insert_payload
INSERT INTO payloads (position, payload) VALUES (?, ?)

-- name: line
SELECT items, bytes FROM lines WHERE function = :function

-- name: total
SELECT coalesce(sum(items), 0), coalesce(sum(bytes), 0) FROM lines

-- name: size
-- What waits, its bytes, and how many were given up.
SELECT (SELECT coalesce(sum(items), 0) FROM lines), (SELECT coalesce(sum(bytes), 0) FROM lines), (SELECT count(*) FROM dead)

-- name: lengthen
INSERT INTO lines (function, items, bytes) VALUES (:function, :items, :bytes)
ON CONFLICT (function) DO UPDATE SET items = lines.items + excluded.items, bytes = lines.bytes + excluded.bytes

-- name: forget_line
DELETE FROM lines WHERE function = :function AND items <= 0

-- name: ready
-- Functions with a visible call, in the order of turns after `after`.
SELECT function FROM lines
WHERE (SELECT min(visible_s) FROM calls WHERE calls.function = lines.function) <= :now_s
ORDER BY function <= :after, function

-- name: heads
-- The oldest visible calls of one function.
SELECT calls.id, account, region, function, name, qualifier, coalesce(small, payload), context, accepted_s, visible_s, attempts,
       refusals, chain, error
FROM calls LEFT JOIN payloads ON payloads.position = calls.position
WHERE function = :function AND visible_s <= :now_s
ORDER BY visible_s, calls.position LIMIT :limit

-- name: lease
UPDATE calls SET visible_s = :until_s, leased = 1 WHERE id = :id

-- name: release
-- Nobody is waiting for their outcomes any more: after a restart. First in their lines, for they were first before.
UPDATE calls SET visible_s = min(accepted_s, :now_s), leased = 0 WHERE leased = 1

-- name: hasten
-- Further in the future than any pause leads, so the clock was wrong when this was written.
UPDATE calls SET visible_s = :latest_s WHERE visible_s > :latest_s AND leased = 0

-- name: retry
UPDATE calls SET visible_s = :visible_s, leased = 0, attempts = attempts + :counted,
    refusals = CASE WHEN :counted THEN 0 ELSE refusals + 1 END, error = :error
WHERE id = :id

-- name: remove
-- Not "small IS NULL": SQLite 3.40 says 0 to that of an added column, whatever it holds.
DELETE FROM calls WHERE id = :id RETURNING position, function, bytes, length(small)

-- name: remove_payload
DELETE FROM payloads WHERE position = :position

-- name: next_visible
SELECT min((SELECT min(visible_s) FROM calls WHERE calls.function = lines.function AND visible_s > :after_s)) FROM lines

-- name: bury
INSERT INTO dead (id, account, region, function, name, qualifier, context, accepted_s, ended_s, attempts, chain, reason, error,
                  bytes)
SELECT id, account, region, function, name, qualifier, context, accepted_s, :now_s, attempts + :counted, chain, :reason,
       CASE WHEN :error = '' THEN error ELSE :error END, bytes
FROM calls WHERE id = :id
ON CONFLICT (id) DO NOTHING
RETURNING position, bytes

-- name: bury_payload
INSERT INTO dead_payloads (position, payload)
SELECT :position, coalesce(small, payload) FROM calls LEFT JOIN payloads ON payloads.position = calls.position
WHERE calls.id = :id

-- name: count_dead
UPDATE dead_total SET items = items + :items, bytes = bytes + :bytes

-- name: total_dead
SELECT items, bytes FROM dead_total

-- name: oldest_dead
SELECT position, bytes FROM dead ORDER BY position LIMIT :limit

-- name: outdated_dead
SELECT position, bytes FROM dead WHERE ended_s < :before_s ORDER BY ended_s LIMIT :limit

-- name: dead_bytes
SELECT bytes FROM dead WHERE position = :position

-- name: forget_dead
DELETE FROM dead WHERE position = :position

-- name: forget_dead_payload
DELETE FROM dead_payloads WHERE position = :position

-- name: list_calls
SELECT id, account, region, function, name, qualifier, x'', context, accepted_s, visible_s, attempts, refusals, chain, error,
       position, coalesce(length(small), (SELECT length(payload) FROM payloads WHERE payloads.position = calls.position)), '', 0.0,
       leased
FROM calls
WHERE account = :account AND region = :region AND (:name IS NULL OR function = :function) AND leased = :leased
  AND position > :after
ORDER BY position LIMIT :limit

-- name: list_dead
SELECT id, account, region, function, name, qualifier, x'', context, accepted_s, ended_s, attempts, 0, chain, error,
       position, (SELECT length(payload) FROM dead_payloads WHERE dead_payloads.position = dead.position), reason, ended_s, 0
FROM dead
WHERE account = :account AND region = :region AND (:name IS NULL OR name = :name) AND position > :after
ORDER BY position LIMIT :limit

-- name: find_call
SELECT id, account, region, function, name, qualifier, coalesce(small, payload), context, accepted_s, visible_s, attempts,
       refusals, chain, error, calls.position, length(coalesce(small, payload)), '', 0.0, leased
FROM calls LEFT JOIN payloads ON payloads.position = calls.position
WHERE id = :id AND account = :account AND region = :region

-- name: find_dead
SELECT id, account, region, function, name, qualifier, payload, context, accepted_s, ended_s, attempts, 0, chain, error,
       dead.position, length(payload), reason, ended_s, 0
FROM dead JOIN dead_payloads ON dead_payloads.position = dead.position
WHERE id = :id AND account = :account AND region = :region
