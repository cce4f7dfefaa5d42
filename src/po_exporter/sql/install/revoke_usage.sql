REVOKE USAGE ON SCHEMA {schema} FROM {roles};
