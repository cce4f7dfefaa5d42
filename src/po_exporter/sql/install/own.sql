-- What `install` looks at of its roles and its schema before it changes anything. Read-only.
-- $1, $2 and $3, $4: schema and name of the two tables; $5: JSON, which columns of each the fixer is to change;
-- $6: JSON, which roles are to be granted which.
WITH found AS (
    SELECT wanted.role, c.oid, c.relname, c.relacl, n.oid AS schema, n.nspname, n.nspacl
    FROM (VALUES ('orders', $1::text, $2::text), ('positions', $3::text, $4::text)) AS wanted (role, schema, name)
    JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
), roles AS (
    SELECT own.name, own.place, r.*, shobj_description(r.oid, 'pg_authid') AS note,
           EXISTS (SELECT FROM pg_shdepend d
                   WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid
                     AND d.dbid NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
           ) AS elsewhere
    FROM unnest(ARRAY['po_exporter_admin', 'po_exporter_reader', 'po_exporter_fixer', 'po_exporter_sealer'])
         WITH ORDINALITY AS own (name, place)
    LEFT JOIN pg_roles r ON r.rolname = own.name
), readers AS (
    SELECT name, oid, place FROM roles WHERE name IN ('po_exporter_reader', 'po_exporter_fixer')
), me AS (
    SELECT * FROM pg_roles WHERE rolname = current_user
)
SELECT (SELECT rolsuper FROM me) AS superuser,
       (SELECT rolsuper OR rolcreaterole FROM me) AS may_create_roles,
       (SELECT json_agg(json_build_object(
                   'name', r.name, 'exists', r.oid IS NOT NULL, 'note', r.note, 'elsewhere', r.elsewhere,
                   'strong', array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END,
                                                CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
                                                CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
                                                CASE WHEN r.rolreplication THEN 'REPLICATION' END,
                                                CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL),
                   -- Up to PostgreSQL 15, who may make roles may also grant and drop those of others.
                   'at_hand', (SELECT rolsuper FROM me)
                              OR (SELECT rolcreaterole FROM me) AND current_setting('server_version_num')::int < 160000
                              OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')) ORDER BY r.place)
        FROM roles r)::text AS roles,
       (SELECT json_build_object('note', obj_description(n.oid, 'pg_namespace'))
        FROM pg_namespace n WHERE n.nspname = 'po_exporter')::text AS schema,
       (SELECT json_object_agg(f.role, json_build_object(
                   'lacks_usage', (SELECT json_agg(r.name ORDER BY r.place) FROM readers r
                                   WHERE NOT coalesce(has_schema_privilege(r.oid, f.schema, 'USAGE'),
                                                      has_schema_privilege('public', f.schema, 'USAGE'))),
                   'may_grant_usage', has_schema_privilege(f.schema, 'USAGE WITH GRANT OPTION'),
                   'lacks_select', (SELECT json_agg(r.name ORDER BY r.place) FROM readers r
                                    WHERE NOT coalesce(has_table_privilege(r.oid, f.oid, 'SELECT'), false)),
                   'lacks_update', (SELECT json_agg(a.attname ORDER BY wanted.place)
                                    FROM json_array_elements_text($5::json -> f.role)
                                         WITH ORDINALITY AS wanted (name, place)
                                    JOIN pg_attribute a ON a.attrelid = f.oid AND a.attname = wanted.name
                                                       AND a.attnum > 0 AND NOT a.attisdropped
                                    JOIN roles r ON r.name = 'po_exporter_fixer'
                                    WHERE NOT coalesce(has_column_privilege(r.oid, f.oid, a.attnum, 'UPDATE'), false)),
                   'has_usage', (SELECT json_agg(r.name ORDER BY r.place) FROM readers r
                                 WHERE r.oid IN (SELECT grantee FROM aclexplode(f.nspacl))),
                   'has_rights', (SELECT json_agg(r.name ORDER BY r.place) FROM readers r
                                  WHERE r.oid IN (SELECT grantee FROM aclexplode(f.relacl)
                                                  UNION ALL
                                                  SELECT x.grantee FROM pg_attribute a, aclexplode(a.attacl) x
                                                  WHERE a.attrelid = f.oid))))
        FROM found f)::text AS grants,
       (SELECT json_agg(json_build_object('member', w.member, 'group', w.group) ORDER BY w.group DESC, w.member)
        FROM json_to_recordset($6::json) AS w (member text, "group" text)
        JOIN pg_roles m ON m.rolname = w.member
        LEFT JOIN roles r ON r.name = w.group
        WHERE NOT m.rolsuper AND NOT coalesce(pg_has_role(m.oid, r.oid, 'MEMBER'), false))::text AS members
