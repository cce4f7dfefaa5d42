-- Which session this is, in a way that no later one is.
SELECT pid::text, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()
