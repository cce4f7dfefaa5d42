-- What follows is made as po_exporter_admin, to whom it will belong. Whoever installs joins that role for the moment,
-- unless it is in it already; and po_exporter_admin joins po_exporter_sealer, to hand seal() over to it.
DO $$
DECLARE
    version int := current_setting('server_version_num');
    may boolean;
BEGIN
    IF version >= 160000 THEN
        may := pg_has_role('po_exporter_admin', 'SET');
    ELSE
        may := pg_has_role('po_exporter_admin', 'MEMBER');
    END IF;
    IF NOT may THEN
        GRANT po_exporter_admin TO CURRENT_USER;
    END IF;
    GRANT po_exporter_sealer TO po_exporter_admin;
    PERFORM set_config('po_exporter.installer', current_user, true);
    PERFORM set_config('po_exporter.joined', (NOT may)::text, true);
END
$$;
