-- One heartbeat of a replica: whether it leads the database called $1, and whether there are others that would. Both locks
-- are the session's, and end with it; asking for one that it has is free.
SELECT pg_try_advisory_lock(hashtext('po_exporter leader'), hashtext($1::text)) AS leads,
       pg_try_advisory_lock_shared(hashtext('po_exporter replica'), hashtext($1::text)) AS is_replica,
       EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'advisory' AND objsubid = 2 AND pid <> pg_backend_pid()
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND classid = hashtext('po_exporter replica')::oid AND objid = hashtext($1::text)::oid) AS others
