-- name: insert
-- A call that is already waiting is the same call: accepted once.
INSERT INTO calls (id, account, region, function, qualifier, context, accepted_s, visible_s, attempts, bytes)
VALUES (:id, :account, :region, :function, :qualifier, :context, :accepted_s, :visible_s, :attempts, :bytes)
ON CONFLICT (id) DO NOTHING

-- name: insert_payload
INSERT INTO payloads (id, payload) VALUES (:id, :payload)

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
SELECT calls.id, account, region, function, qualifier, payload, context, accepted_s, visible_s, attempts
FROM calls JOIN payloads ON payloads.id = calls.id
WHERE function = :function AND visible_s <= :now_s
ORDER BY visible_s, position LIMIT :limit

-- name: lease
UPDATE calls SET visible_s = :until_s, leased = 1 WHERE id = :id

-- name: release
-- Nobody works on them any more: after a restart of the whole node.
UPDATE calls SET visible_s = :now_s, leased = 0 WHERE leased = 1 AND visible_s > :now_s

-- name: retry
UPDATE calls SET visible_s = :visible_s, leased = 0, attempts = attempts + :counted WHERE id = :id

-- name: remove
DELETE FROM calls WHERE id = :id RETURNING function, bytes

-- name: remove_payload
DELETE FROM payloads WHERE id = :id

-- name: bury
INSERT INTO dead (id, account, region, function, qualifier, context, accepted_s, attempts, reason, payload)
SELECT calls.id, account, region, function, qualifier, context, accepted_s, attempts, :reason, payload
FROM calls JOIN payloads ON payloads.id = calls.id WHERE calls.id = :id
ON CONFLICT (id) DO NOTHING

-- name: count_dead
SELECT count(*) FROM dead

-- name: forget_dead
DELETE FROM dead WHERE position IN (SELECT position FROM dead ORDER BY position LIMIT :count)

-- name: dead
-- Newest last.
SELECT id, account, region, function, qualifier, payload, context, accepted_s, attempts, reason
FROM dead WHERE function = :function ORDER BY position LIMIT :limit

-- name: next_visible
SELECT min(visible_s) FROM calls
