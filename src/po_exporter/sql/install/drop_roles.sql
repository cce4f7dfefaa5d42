-- The roles that install has made, unless something in another database of this server rests on one of them. Where
-- something here does, this fails, and nothing has changed.
DO $$
DECLARE
    made oid[];
    names text[];
    name text;
BEGIN
    SELECT array_agg(oid), array_agg(rolname::text) INTO made, names
    FROM pg_roles
    WHERE rolname IN ('po_exporter_admin', 'po_exporter_reader', 'po_exporter_fixer', 'po_exporter_sealer')
      AND shobj_description(oid, 'pg_authid') = '{"made_by": "po-exporter install"}';
    IF EXISTS (SELECT FROM pg_shdepend d
               WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = ANY(made)
                 AND d.dbid NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))) THEN
        RETURN;
    END IF;
    FOREACH name IN ARRAY coalesce(names, '{}') LOOP
        EXECUTE format('DROP ROLE %I', name);
    END LOOP;
END
$$;
