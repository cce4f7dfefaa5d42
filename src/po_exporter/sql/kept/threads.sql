-- Where the message of each open incident is, by channel: what its last send has left.
SELECT DISTINCT ON (o.channel, o.incident) o.channel, o.incident, o.thread::text
FROM po_exporter.outbox o
WHERE o.database = $1 AND o.thread IS NOT NULL
  AND o.incident IN (SELECT i.state -> 'incident' ->> 'key' FROM po_exporter.incidents i WHERE i.database = $1
                     UNION ALL
                     SELECT w.incident FROM po_exporter.outbox w
                     WHERE w.database = $1 AND w.sent IS NULL AND w.set_aside IS NULL)
ORDER BY o.channel, o.incident, o.id DESC
