-- What `doctor` wants to know of the role that writes, asked as that role; one row, read-only. $1, $2 and $3, $4: schema
-- and name of the two tables; $5: the column of the link.
WITH found AS (
    SELECT wanted.role, c.oid
    FROM (VALUES ('orders', $1::text, $2::text), ('positions', $3::text, $4::text)) AS wanted (role, schema, name)
    JOIN pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE CASE WHEN wanted.schema IS NULL THEN pg_table_is_visible(c.oid) ELSE n.nspname = wanted.schema END
)
SELECT current_user AS role,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       pg_is_in_recovery() AS standby,
       (SELECT coalesce(substring(obj_description(oid, 'pg_namespace') from '"version": ?(\d{1,9})')::int, 0)
        FROM pg_namespace WHERE nspname = 'po_exporter') AS version,
       (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'po_exporter') AS enters,
       (SELECT has_any_column_privilege(oid, 'INSERT') FROM pg_class
        WHERE relname = 'record' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'po_exporter')) AS records,
       (SELECT bool_and(has_table_privilege(oid, 'SELECT')) FROM found) AS reads,
       (SELECT has_column_privilege(f.oid, a.attnum, 'UPDATE')
        FROM found f JOIN pg_attribute a ON a.attrelid = f.oid AND a.attname = $5::text
        WHERE f.role = 'orders') AS links,
       (SELECT has_any_column_privilege(oid, 'UPDATE') FROM found WHERE role = 'positions') AS positions
