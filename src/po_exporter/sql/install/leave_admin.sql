-- Back to whoever installs, who is no po_exporter_admin from here on; and that is no po_exporter_sealer.
DO $$
BEGIN
    PERFORM set_config('role', current_setting('po_exporter.installer'), true);
    REVOKE po_exporter_sealer FROM po_exporter_admin;
    IF current_setting('po_exporter.joined')::boolean THEN
        REVOKE po_exporter_admin FROM CURRENT_USER;
    END IF;
END
$$;
