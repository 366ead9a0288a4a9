-- name: series_of
SELECT id FROM series
WHERE account = :account AND region = :region AND space = :space AND name = :name AND dimensions = :dimensions AND unit = :unit

-- name: series_to_read
SELECT id, unit FROM series
WHERE account = :account AND region = :region AND space = :space AND name = :name AND dimensions = :dimensions
  AND (:unit IS NULL OR unit = :unit)

-- name: add_series
INSERT INTO series (account, region, space, name, dimensions, unit, last_s)
VALUES (:account, :region, :space, :name, :dimensions, :unit, :last_s)

-- name: touch_series
UPDATE series SET last_s = max(last_s, :last_s) WHERE id = :id

-- name: count_series
SELECT count(*) FROM series WHERE account = :account AND (space = '') = :platform

-- name: bucket
SELECT count, total, low, high, bins FROM buckets WHERE series = :series AND at_s = :at_s

-- name: put_bucket
INSERT OR REPLACE INTO buckets (series, at_s, span_s, count, total, low, high, bins)
VALUES (:series, :at_s, :span_s, :count, :total, :low, :high, :bins)

-- name: count_buckets
SELECT count(*) FROM (SELECT 1 FROM buckets WHERE series = :series AND at_s >= :start_s AND at_s < :end_s LIMIT :limit)

-- name: read_plain
SELECT (at_s - :start_s) / :period_s AS period, sum(count), sum(total), min(low), max(high) FROM buckets
WHERE series = :series AND at_s >= :start_s AND at_s < :end_s
GROUP BY period ORDER BY period

-- name: read_sketches
SELECT (at_s - :start_s) / :period_s AS period, count, total, low, high, bins FROM buckets
WHERE series = :series AND at_s >= :start_s AND at_s < :end_s
ORDER BY at_s

-- name: list_series
SELECT id, account, region, space, name, dimensions, unit, last_s FROM series
WHERE id > :after AND account = :account AND region = :region
  AND (:space IS NULL OR space = :space) AND (:name IS NULL OR name = :name) AND last_s >= :since_s
ORDER BY id LIMIT :limit

-- name: old_minutes
SELECT series, at_s, count, total, low, high, bins FROM buckets
WHERE at_s < :before_s AND span_s = 60 ORDER BY at_s LIMIT :limit

-- name: drop_bucket
DELETE FROM buckets WHERE series = :series AND at_s = :at_s AND span_s = 60

-- name: oldest
SELECT series, at_s FROM buckets WHERE at_s < :before_s ORDER BY at_s LIMIT :limit

-- name: drop_any_bucket
DELETE FROM buckets WHERE series = :series AND at_s = :at_s

-- name: drop_series
-- A series goes with its last bucket.
DELETE FROM series WHERE last_s < :before_s AND NOT EXISTS (SELECT 1 FROM buckets WHERE buckets.series = series.id)
