-- A replica begins to lead: another term. What a leader of an earlier one writes from now on changes nothing.
-- $1: the database's name in the configuration; $2: the replica's.
INSERT INTO po_exporter.leader AS l (database, term, replica, since) VALUES ($1, 1, $2, clock_timestamp())
ON CONFLICT (database) DO UPDATE SET term = l.term + 1, replica = excluded.replica, since = excluded.since
RETURNING term
