-- What `doctor` wants to know of the server and of our role there; one row, read-only. $1: the role that is to write
-- into our schema, where that is another.
SELECT current_setting('server_version') AS version,
       current_user AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS connection_limit,
       current_setting('max_connections')::int AS max_connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls,
       inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1' AS local,
       clock_timestamp() AS clock,
       (SELECT coalesce(substring(obj_description(oid, 'pg_namespace') from '"version": ?(\d+)')::int, 0)
        FROM pg_namespace WHERE nspname = 'po_exporter') AS kept_version,
       coalesce($1::text, current_user) AS keeper,
       (SELECT pg_has_role(k.oid, r.oid, 'USAGE') FROM pg_roles k, pg_roles r
        WHERE k.rolname = coalesce($1::text, current_user) AND r.rolname = 'po_exporter_reader') AS may_keep
