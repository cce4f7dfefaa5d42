-- Four roles, for the whole server, under which nobody logs in; who is granted one has its rights. The comment is how
-- --uninstall knows that install has made them; a role of such a name that is there already is taken as it is.
DO $$
DECLARE
    made record;
BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        PERFORM set_config('createrole_self_grant', '', true);  -- whoever makes them does not become one of them
    END IF;
    FOR made IN
        SELECT name
        FROM unnest(ARRAY['po_exporter_admin', 'po_exporter_reader', 'po_exporter_fixer', 'po_exporter_sealer']) AS name
        WHERE name NOT IN (SELECT rolname FROM pg_roles)
    LOOP
        EXECUTE format('CREATE ROLE %I NOLOGIN', made.name);
        EXECUTE format('COMMENT ON ROLE %I IS %L', made.name, '{"made_by": "po-exporter install"}');
    END LOOP;
END
$$;
