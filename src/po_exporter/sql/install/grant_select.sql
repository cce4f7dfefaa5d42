-- A grant locks no table.
GRANT SELECT ON {table} TO {roles};
