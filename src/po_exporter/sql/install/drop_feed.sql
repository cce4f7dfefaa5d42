-- Drops the publication, and gives its tables the identity back that its comment notes, where they still have FULL; an
-- index that is no more becomes DEFAULT. ACCESS EXCLUSIVE on each table for some milliseconds, waited for as briefly.
-- At the end EXPLAIN, which runs nothing, asks the server whether an UPDATE, a DELETE would still be accepted; where
-- one would not, nothing has changed.
DO $$
DECLARE
    noted json;
    steps text[];
    step text;
BEGIN
    SELECT obj_description(oid, 'pg_publication')::json -> 'identity_before' INTO noted
    FROM pg_publication WHERE pubname = 'po_exporter';
    IF noted IS NULL THEN
        RAISE EXCEPTION 'there is no publication po_exporter that po-exporter install made'
            USING ERRCODE = 'undefined_object';
    END IF;
    WITH tables AS (
        SELECT c.oid::regclass AS name,
               (SELECT min(a.attname) FROM pg_attribute a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS column,
               CASE WHEN b.identity = 'n' THEN 'NOTHING'
                    WHEN x.oid IS NOT NULL THEN format('USING INDEX %I', b.index)
                    ELSE 'DEFAULT' END AS identity
        FROM json_to_recordset(noted) AS b (schema text, "table" text, identity text, index text)
        JOIN pg_namespace n ON n.nspname = b.schema
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = b.table
        JOIN pg_publication_rel r ON r.prrelid = c.oid
        JOIN pg_publication p ON p.oid = r.prpubid AND p.pubname = 'po_exporter'
        LEFT JOIN (pg_index i JOIN pg_class x ON x.oid = i.indexrelid)
               ON i.indrelid = c.oid AND x.relname = b.index AND b.identity = 'i'
        WHERE c.relreplident = 'f' AND b.identity <> 'f'
    ), wanted (place, statement) AS (
        SELECT 1, format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', name) FROM tables
        UNION ALL SELECT 2, 'SET LOCAL lock_timeout = ''200ms'''
        UNION ALL SELECT 3, 'DROP PUBLICATION po_exporter'
        UNION ALL SELECT 4, format('ALTER TABLE %s REPLICA IDENTITY %s', name, identity) FROM tables
        UNION ALL SELECT 5, format('EXPLAIN UPDATE %s SET %I = DEFAULT WHERE false', name, "column") FROM tables
        UNION ALL SELECT 6, format('EXPLAIN DELETE FROM %s WHERE false', name) FROM tables
    )
    SELECT array_agg(statement ORDER BY place) INTO steps FROM wanted;
    FOREACH step IN ARRAY steps LOOP
        EXECUTE step;
    END LOOP;
END
$$;
