-- Letters were sent ($4: where the message is), or could not be ($5: why), and are then set aside for good or not ($6).
-- $1: the database; $2: our term; $3: the letters.
WITH leads AS (
    SELECT FROM po_exporter.leader WHERE database = $1 AND term = $2 FOR SHARE
), crossed_out AS (
    UPDATE po_exporter.outbox o
    SET tries = o.tries + 1, error = $5::text, thread = coalesce($4::jsonb, o.thread),
        sent = CASE WHEN $5::text IS NULL THEN clock_timestamp() END,
        set_aside = CASE WHEN $6::boolean THEN clock_timestamp() END
    FROM leads WHERE o.database = $1 AND o.id = ANY ($3::bigint[])
)
SELECT EXISTS (SELECT FROM leads) AS leads
