-- The oldest transaction that a snapshot taken now would not see the end of.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint
