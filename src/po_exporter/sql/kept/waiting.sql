-- What has still to be told, in the order in which it was written.
SELECT id, channel, summary::text, tries FROM po_exporter.outbox
WHERE database = $1 AND sent IS NULL AND set_aside IS NULL
ORDER BY id
