-- Filled orders as far as time will change what is said of them, and when they were filled.
SELECT o.id::text AS id, o.position_id IS NOT NULL AS linked, o.in_window, o.past_grace, o.minute,
       extract(epoch FROM o.fill_time)::text AS fill_time, extract(epoch FROM o.created_at)::text AS created_at,
       extract(epoch FROM o.filled_at)::text AS filled_at
FROM scoped_orders o
WHERE o.filled
LIMIT :most
