-- The slot is temporary: it goes with the connection, so that nothing can fill a disk when we are gone.
SELECT pg_create_logical_replication_slot($1::text, 'pgoutput', true)
