-- Whether the change feed can work here: everything that its preflight looks at, in one row. Read-only.
-- $1, $2 and $3, $4: schema and name of the two tables; $5: the publication.
WITH found AS (
    SELECT wanted.role, c.oid, c.relkind, c.relpersistence, c.relreplident, n.nspname, c.relname
    FROM (VALUES ('orders', $1::text, $2::text), ('positions', $3::text, $4::text)) AS wanted (role, schema, name)
    JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
)
SELECT current_setting('wal_level') AS wal_level,
       pg_is_in_recovery() AS standby,
       pg_backend_pid() AS pid,
       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots) AS free_slots,
       -- PostgreSQL 14 has neither column lists nor row filters, hence the way through JSON.
       (SELECT json_build_object('operations', p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
                                 'all_tables', p.puballtables)
        FROM pg_publication p WHERE p.pubname = $5::text)::text AS publication,
       (SELECT json_object_agg(c.role, json_build_object(
                   'oid', c.oid::bigint, 'kind', c.relkind, 'identity', c.relreplident,
                   'inherits', EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid),
                   -- By name, or as one of all that are logged: what comes with its schema can go without a trace.
                   'published', (SELECT p.puballtables AND c.relpersistence = 'p'
                                     OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid)
                                 FROM pg_publication p WHERE p.pubname = $5::text),
                   -- Beside identity FULL, a column list makes updates and deletes fail; a row filter does not.
                   'narrowed', (SELECT json_object_agg(p.pubname, (to_jsonb(r) ->> 'prattrs') IS NOT NULL
                                                                   AND (p.pubupdate OR p.pubdelete))
                                FROM pg_publication p, pg_publication_rel r
                                WHERE r.prpubid = p.oid AND r.prrelid = c.oid
                                  AND ((to_jsonb(r) ->> 'prattrs') IS NOT NULL OR (to_jsonb(r) ->> 'prqual') IS NOT NULL)),
                   -- Since PostgreSQL 18 a generated column that is not published does so, too; a virtual one never is.
                   'unpublished', (SELECT json_agg(p.pubname ORDER BY p.pubname)
                                   FROM pg_publication p
                                   JOIN pg_publication_tables t ON t.pubname = p.pubname
                                   WHERE t.schemaname = c.nspname AND t.tablename = c.relname
                                     AND (p.pubupdate OR p.pubdelete) AND (to_jsonb(p) ->> 'pubgencols') IS NOT NULL
                                     AND EXISTS (SELECT FROM pg_attribute a
                                                 WHERE a.attrelid = c.oid
                                                   AND (a.attgenerated = 'v' OR (a.attgenerated = 's'
                                                        AND (to_jsonb(p) ->> 'pubgencols') = 'n')))),
                   'types', (SELECT json_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
                             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
                   'unique', (SELECT json_agg(a.attname) FROM pg_index i
                              JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                              WHERE i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indnkeyatts = 1
                                AND i.indpred IS NULL),
                   'indexed', (SELECT json_agg(a.attname)
                               FROM pg_index i
                               JOIN pg_class x ON x.oid = i.indexrelid
                               JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
                               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                               WHERE i.indrelid = c.oid AND i.indisvalid
                                 AND (i.indpred IS NULL
                                      OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname)))))
        FROM found c)::text AS tables
