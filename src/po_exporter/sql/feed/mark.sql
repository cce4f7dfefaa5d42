-- What an incremental poll notes of its snapshot: which transactions it sees, and a fingerprint of what the feed rests
-- on. Rewrites, renames, edits of the publication and changes of identity send no message: they show here.
-- $1, $2 and $3, $4: schema and name of the two tables; $5: the publication.
WITH found AS (
    SELECT c.oid, c.relfilenode, c.xmin, c.relreplident
    FROM (VALUES ($1::text, $2::text), ($3::text, $4::text)) AS wanted (schema, name)
    JOIN pg_class c ON c.relname = wanted.name
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
), parts (part) AS (
    SELECT concat_ws(' ', 'server', pg_postmaster_start_time(), current_database())
    UNION ALL
    SELECT concat_ws(' ', 'table', oid, relfilenode, xmin, relreplident) FROM found
    UNION ALL
    -- Two columns that change names, and rights on a column that come and go, touch nothing but their own rows.
    SELECT concat_ws(' ', 'columns', attrelid, string_agg(concat_ws(' ', attnum, xmin), ',' ORDER BY attnum))
    FROM pg_attribute WHERE attrelid IN (SELECT oid FROM found) AND attnum > 0 GROUP BY attrelid
    UNION ALL
    SELECT concat_ws(' ', 'publication', oid, xmin) FROM pg_publication WHERE pubname = $5::text
    UNION ALL
    SELECT concat_ws(' ', 'published', oid, xmin) FROM pg_publication_rel WHERE prrelid IN (SELECT oid FROM found)
    UNION ALL
    SELECT concat_ws(' ', 'inherits', inhrelid, inhparent) FROM pg_inherits
    WHERE inhrelid IN (SELECT oid FROM found) OR inhparent IN (SELECT oid FROM found)
)
SELECT pg_current_snapshot()::text AS visible, (SELECT string_agg(part, '; ' ORDER BY part) FROM parts) AS fingerprint
