-- Written and flushed after everything that the poll's snapshot sees: what is visible there can then be decoded.
SELECT pg_logical_emit_message(true, 'po-exporter', '')
