-- Who the change feed is, and whether it may make a slot.
SELECT pg_backend_pid() AS pid, current_user AS role, current_setting('max_slot_wal_keep_size') AS most_wal,
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user) AS may_replicate
