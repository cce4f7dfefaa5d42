-- Everything that install makes or could leave behind, a line each, by names. A right that was granted and one that is
-- there by default read the same.
WITH ours AS (
    SELECT oid FROM pg_namespace WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
), acls (what, acl) AS (
    SELECT 'schema ' || nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
    UNION ALL
    SELECT c.oid::regclass::text,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
    FROM pg_class c WHERE relkind <> 'i' AND relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT attrelid::regclass || '.' || attname, attacl
    FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace IN (SELECT oid FROM ours))
    UNION ALL
    SELECT oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'type ' || oid::regtype, coalesce(typacl, acldefault('T', typowner))
    FROM pg_type WHERE typnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'database', coalesce(datacl, acldefault('d', datdba)) FROM pg_database WHERE datname = current_database()
), said (kind, it) AS (
    SELECT 'grant', format('%s: %s%s to %s by %s', what, privilege_type, CASE WHEN is_grantable THEN '*' END,
                           CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, grantor::regrole)
    FROM acls, aclexplode(acl)
    UNION ALL
    SELECT 'owner', format('%s %s', oid::regclass, relowner::regrole)
    FROM pg_class WHERE relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'owner', format('%s %s', oid::regprocedure, proowner::regrole)
    FROM pg_proc WHERE pronamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'owner', format('schema %s %s', nspname, nspowner::regrole) FROM pg_namespace WHERE oid IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'column', format('%s.%s %s %s %s %s%s', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod),
                            attnotnull, attidentity, pg_get_expr(adbin, adrelid))
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace IN (SELECT oid FROM ours) AND attnum > 0
    UNION ALL
    SELECT 'constraint', format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'index', pg_get_indexdef(oid) FROM pg_class WHERE relkind = 'i' AND relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'identity', format('%s %s %s', c.oid::regclass, relreplident, i.indexrelid::regclass)
    FROM pg_class c LEFT JOIN pg_index i ON indrelid = c.oid AND indisreplident
    WHERE relkind IN ('r', 'p') AND relnamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'trigger', format('%s %s', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'function', pg_get_functiondef(oid)
    FROM pg_proc WHERE prokind = 'f' AND pronamespace IN (SELECT oid FROM ours)
    UNION ALL
    SELECT 'publication', format('%s %s %s %s %s %s', pubname, puballtables, pubinsert, pubupdate, pubdelete, pubtruncate)
    FROM pg_publication
    UNION ALL
    SELECT 'published', format('%s %s.%s', pubname, schemaname, tablename) FROM pg_publication_tables
    UNION ALL
    SELECT 'comment', format('%s: %s', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description
    UNION ALL
    SELECT 'role', format('%s %s %s %s %s %s %s %s %s', rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb,
                          rolcanlogin, rolreplication, rolbypassrls, shobj_description(oid, 'pg_authid'))
    FROM pg_roles WHERE rolname !~ '^(pg|po_feed|role)_'
    UNION ALL
    SELECT 'member', format('%s of %s, admin %s', member::regrole, roleid::regrole, admin_option)
    FROM pg_auth_members WHERE member::regrole::text !~ '^pg_'
)
SELECT string_agg(kind || ' ' || it, E'\n' ORDER BY kind, it COLLATE "C") FROM said
