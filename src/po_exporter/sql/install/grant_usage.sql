GRANT USAGE ON SCHEMA {schema} TO {roles};
