-- Has the server write down which transactions run, from which point on a reading need not decode again. From
-- PostgreSQL 16 on, and where we may; it writes one small record.
SELECT CASE WHEN has_function_privilege('pg_log_standby_snapshot()', 'EXECUTE') THEN pg_log_standby_snapshot() END
