-- The columns that fixes change, and no other.
GRANT UPDATE ({columns}) ON {table} TO po_exporter_fixer;
