-- Ends sessions of our own that were given up unanswered (a cut network, a hung server), so that they do not pile up.
-- $3: how many milliseconds each end is waited for.
SELECT pg_terminate_backend(a.pid, $3::bigint)
FROM pg_stat_activity a
JOIN unnest($1::text[], $2::text[]) AS mine (pid, backend_start)
  ON a.pid::text = mine.pid AND a.backend_start = mine.backend_start::timestamptz
WHERE a.usename = current_user AND a.pid <> pg_backend_pid()
