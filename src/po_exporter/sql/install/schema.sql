-- The schema of what the sidecar keeps. Its steps, in their order, make what is in it; each notes its version.
CREATE SCHEMA po_exporter AUTHORIZATION po_exporter_admin;
