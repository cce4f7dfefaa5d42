-- Has the server write down which transactions run, from which point on a reading need not decode again. From
-- PostgreSQL 16 on; it writes one small record.
SELECT pg_log_standby_snapshot()
