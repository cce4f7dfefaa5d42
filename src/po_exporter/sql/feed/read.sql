-- What was committed since the last reading, as pgoutput messages in commit order; reading consumes it.
SELECT data FROM pg_logical_slot_get_binary_changes($1::text, NULL, NULL, 'proto_version', '1', 'publication_names', $2::text)
