-- A transaction id that comes after all that the new slot may have missed.
SELECT pg_current_xact_id()::text::bigint
