-- Whether we may. Asked apart: the right is wanted as soon as a statement names the function, whatever it does with it.
SELECT has_function_privilege('pg_log_standby_snapshot()', 'EXECUTE')
