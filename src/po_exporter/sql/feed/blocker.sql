-- Who holds up the making of a slot: the oldest transaction that has written, running or prepared.
SELECT description FROM (
    SELECT backend_xid AS xid, format('pid %s (%s, %s), writing since %s', pid, usename, application_name, xact_start)
               AS description
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
    UNION ALL
    SELECT transaction, format('the prepared transaction %L, since %s', gid, prepared) FROM pg_prepared_xacts
) AS writers
ORDER BY age(xid) DESC LIMIT 1
