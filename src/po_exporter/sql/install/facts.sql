-- What `install` looks at before it changes anything. Read-only.
-- $1, $2 and $3, $4: schema and name of the two tables; $5: the publication.
WITH found AS (
    SELECT wanted.role, c.oid, c.relkind, c.relpersistence, c.relreplident, c.relowner, n.nspname, c.relname
    FROM (VALUES ('orders', $1::text, $2::text), ('positions', $3::text, $4::text)) AS wanted (role, schema, name)
    JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
), members AS (
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relreplident AS identity, t.pubname IS NULL AS hidden,
           pg_has_role(c.relowner, 'USAGE') AS owned
    FROM pg_publication p
    JOIN pg_publication_rel r ON r.prpubid = p.oid
    JOIN pg_class c ON c.oid = r.prrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname AND t.schemaname = n.nspname AND t.tablename = c.relname
    WHERE p.pubname = $5::text
)
SELECT current_database() AS database,
       current_user AS role,
       pg_is_in_recovery() AS standby,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       (SELECT json_object_agg(c.role, json_build_object(
                   'oid', c.oid::bigint, 'schema', c.nspname, 'name', c.relname, 'kind', c.relkind,
                   'permanent', c.relpersistence = 'p', 'identity', c.relreplident,
                   'owned', pg_has_role(c.relowner, 'USAGE'),
                   'inherits', EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid OR i.inhrelid = c.oid),
                   'virtual', EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v'),
                   -- PostgreSQL 14 has neither column lists nor row filters, hence the way through JSON.
                   'narrowed', (SELECT json_agg(p.pubname ORDER BY p.pubname)
                                FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
                                WHERE r.prrelid = c.oid AND p.pubname <> $5::text AND (p.pubupdate OR p.pubdelete)
                                  AND (to_jsonb(r) ->> 'prattrs') IS NOT NULL)))
        FROM found c)::text AS tables,
       (SELECT json_build_object(
                   'owned', pg_has_role(p.pubowner, 'USAGE'),
                   'note', obj_description(p.oid, 'pg_publication'),
                   'operations', p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
                   'all_tables', p.puballtables,
                   'generated', (to_jsonb(p) ->> 'pubgencols') IS DISTINCT FROM 'n',
                   'tables', (SELECT count(*) FROM pg_publication_tables t WHERE t.pubname = p.pubname),
                   'members', (SELECT json_agg(to_json(m)) FROM members m),
                   'narrowed', EXISTS (SELECT FROM pg_publication_rel r
                                       WHERE r.prpubid = p.oid AND ((to_jsonb(r) ->> 'prattrs') IS NOT NULL
                                                                    OR (to_jsonb(r) ->> 'prqual') IS NOT NULL)))
        FROM pg_publication p WHERE p.pubname = $5::text)::text AS publication
