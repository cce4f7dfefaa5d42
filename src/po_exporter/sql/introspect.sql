-- What a poll asks first: this query takes the snapshot. The clock, the server's role, and the two tables as they are.
WITH found AS (
    SELECT wanted.role, c.oid, c.relkind, c.relnamespace, c.reltuples
    FROM (VALUES ('orders', $1::text, $2::text), ('positions', $3::text, $4::text)) AS wanted (role, schema, name)
    JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
)
SELECT clock_timestamp() AS as_of,
       pg_is_in_recovery() AS standby,
       -- The version of the sidecar's own schema, where that can be used; install notes it there.
       (SELECT substring(obj_description(n.oid, 'pg_namespace') FROM '"version": ?(\d{1,9})')::int
        FROM pg_namespace n
        WHERE n.nspname = 'po_exporter' AND NOT pg_is_in_recovery() AND has_schema_privilege(n.oid, 'USAGE')) AS kept,
       pg_backend_pid() AS pid,
       (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) AS backend_start,
       (SELECT json_object_agg(c.role, json_build_object(
                   'kind', c.relkind,
                   'rows', c.reltuples,
                   'may_write', has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'),
                   'rows_may_be_hidden', row_security_active(c.oid),
                   'usage', has_schema_privilege(c.relnamespace, 'USAGE'),
                   'columns', (SELECT json_object_agg(a.attname, json_build_array(
                                          CASE t.typtype WHEN 'd' THEN (
                                              WITH RECURSIVE base AS (
                                                  SELECT t.oid, t.typtype, t.typbasetype
                                                  UNION ALL
                                                  SELECT b.oid, b.typtype, b.typbasetype
                                                  FROM base JOIN pg_type b ON base.typtype = 'd' AND b.oid = base.typbasetype)
                                              SELECT format_type(base.oid, NULL) FROM base WHERE base.typtype <> 'd')
                                          ELSE format_type(t.oid, NULL) END,
                                          has_column_privilege(c.oid, a.attnum, 'SELECT')))
                               FROM pg_attribute a
                               JOIN pg_type t ON t.oid = a.atttypid
                               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)))
        FROM found c) AS tables,
       -- Sums by position for which there is no memory are made by sorting, which workers share and which spills no more:
       -- left alone, the planner takes a hash table that spills. A sum takes about 400 bytes.
       (SELECT set_config('enable_hashagg', 'off', true)
        FROM found
        WHERE role = 'positions' AND reltuples * 400 > pg_size_bytes(current_setting('work_mem'))
                                                       * current_setting('hash_mem_multiplier')::float8) AS sums
