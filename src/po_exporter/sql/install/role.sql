-- 3. A role for the feed alone, once for the whole server, by a superuser. It has no right on any table and needs none.
--    It has no password yet, so that nobody can log in as it: in psql,  \password po_feed  sets one.
CREATE ROLE po_feed LOGIN REPLICATION CONNECTION LIMIT 3 PASSWORD NULL;
--    Each reading of a slot writes six lines into the server's log. This keeps them out, and with them the feed's own
--    errors, which the sidecar logs. It takes a superuser; from PostgreSQL 15 on, GRANT SET ON PARAMETER is enough.
ALTER ROLE po_feed SET log_min_messages = 'fatal';
-- GRANT CONNECT ON DATABASE ... TO po_feed;   -- where PUBLIC may not connect

--    REPLICATION is a strong right: it lets a role copy the whole cluster, whatever it may read. In pg_hba.conf, above
--    all other lines, let it in from the sidecar alone, into this database alone, and not to physical replication:
--
--      hostssl  <database>   po_feed  <address>/32  scram-sha-256
--      host     all          po_feed  all           reject
--      host     replication  po_feed  all           reject
--      local    all          po_feed                reject
--      local    replication  po_feed                reject
--
--    That stops pg_basebackup and standbys. It does not stop whoever has both the password and the sidecar's address: a
--    connection with replication=database counts as one to that database, and may ask for a backup, too. So keep this
--    password as you keep a superuser's.

-- 4. The server, once, by a superuser; each line is for you to judge, hence the comments.
-- ALTER SYSTEM SET wal_level = 'logical';               -- unless it is; needs a restart
-- ALTER SYSTEM SET max_slot_wal_keep_size = '10GB';     -- bounds what any slot can keep, those of standbys included;
-- SELECT pg_reload_conf();                              -- the feed's own goes with its connection
