-- Eligible orders of the window and how many of them are linked, by the minute of created_at.
SELECT o.minute, extract(epoch FROM min(o.minute_start))::text AS begins, count(*) AS eligible, count(p.id) AS links
FROM scoped_orders o
LEFT JOIN positions p ON p.id = o.position_id
WHERE o.in_window AND o.filled AND (o.position_id IS NOT NULL OR o.past_grace)
GROUP BY o.minute
