-- Positions with so many orders that each sum of them is dear, by the planner's statistics; none without an index on
-- link and created_at, by which a single hour of them can be read. A position that is missed here costs time, no truth.
SELECT v.id
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = $3::text
CROSS JOIN unnest(s.most_common_vals::text::text[], s.most_common_freqs) AS v (id, share)
WHERE c.relname = $2::text
  AND CASE WHEN $1::text IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = $1::text END
  AND v.share * c.reltuples > $5::float8
  AND EXISTS (SELECT FROM pg_index i
              JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] AND a.attname = $3::text
              JOIN pg_attribute b ON b.attrelid = c.oid AND b.attnum = i.indkey[1] AND b.attname = $4::text
              WHERE i.indrelid = c.oid AND i.indisvalid)
ORDER BY v.share DESC
LIMIT 100
