-- The two tables as `doctor` sees them: size, what our role may do to them, and the indexes that can serve.
SELECT wanted.role, c.reltuples::bigint AS rows, pg_table_size(c.oid) AS bytes, c.relkind::text AS kind,
       c.relreplident::text AS identity,
       (SELECT json_agg(json_build_object('column', a.attname, 'alone', i.indnkeyatts = 1, 'unique', i.indisunique,
                                          'partial', i.indpred IS NOT NULL))
        FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = c.oid AND i.indisvalid)::text AS leading
FROM (VALUES ('orders', $1::text, $2::text), ('positions', $3::text, $4::text)) AS wanted (role, schema, name)
JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
