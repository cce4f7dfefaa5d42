-- Filled orders without a link, the youngest first: whose grace is running, and whose linking is waited for.
SELECT o.id::text AS id, extract(epoch FROM o.fill_time)::text AS filled
FROM scoped_orders o
WHERE o.position_id IS NULL AND o.filled
ORDER BY o.fill_time DESC NULLS LAST
LIMIT :pending_limit
