-- Nothing that install makes in the schema belongs to whoever installs.
SET LOCAL ROLE po_exporter_admin;
