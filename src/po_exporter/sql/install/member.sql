-- The sidecar's own role is granted the rights of {group}: where there is such a role, and unless it has them
-- already, as a superuser has, or is whoever runs this.
SET LOCAL po_exporter.member = {member};
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles
               WHERE rolname = current_setting('po_exporter.member') AND rolname <> current_user
                 AND NOT pg_has_role(oid, '{group}', 'MEMBER')) THEN
        EXECUTE format('GRANT {group} TO %I', current_setting('po_exporter.member'));
    END IF;
END
$$;
