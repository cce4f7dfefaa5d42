-- Who holds locks on these tables, or on ours, that changing or dropping them waits for. $1: their oids.
SELECT string_agg(DISTINCT CASE WHEN l.pid IS NULL THEN 'a prepared transaction (pg_prepared_xacts)'
                                ELSE format('pid %s (%s, %s), since %s', l.pid, a.usename, a.application_name,
                                            a.xact_start) END, '; ') AS blockers
FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND (l.relation = ANY($1::bigint[]::oid[])
       OR l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace('po_exporter')))
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()
