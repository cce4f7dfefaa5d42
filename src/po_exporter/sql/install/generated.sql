-- PostgreSQL 18 refuses every UPDATE of a table with REPLICA IDENTITY FULL and a stored generated column, also one that
-- is added later, unless its publications publish such columns.
DO $$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        ALTER PUBLICATION po_exporter SET (publish_generated_columns = stored);
    END IF;
END
$$;
