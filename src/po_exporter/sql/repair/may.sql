-- What stands in the way of writing: the switch in the database; and how many fixes were made within the last hour.
SELECT (SELECT json_build_object('who', who, 'why', why, 'since', since)::text FROM po_exporter.stop
        ORDER BY since LIMIT 1) AS stop,
       (SELECT count(*) FROM po_exporter.record
        WHERE undoes IS NULL AND fix = ANY ($1::text[]) AND at > clock_timestamp() - interval '1 hour') AS last_hour
