-- What was told, or set aside, long ago, but for that of incidents that are still open; the oldest first, as many as one
-- statement is to take. $1: the database; $2: days.
DELETE FROM po_exporter.outbox WHERE id IN (
    SELECT o.id FROM po_exporter.outbox o
    WHERE o.database = $1 AND coalesce(o.sent, o.set_aside) < clock_timestamp() - make_interval(days => $2)
      AND o.incident NOT IN (SELECT i.state -> 'incident' ->> 'key' FROM po_exporter.incidents i
                             WHERE i.database = $1 AND i.state -> 'incident' ->> 'key' IS NOT NULL)
    ORDER BY o.id LIMIT 10000
)
