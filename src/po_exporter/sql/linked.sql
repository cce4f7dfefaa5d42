-- What became of the orders that an earlier poll saw filled and unlinked: linked now, or still waiting.
SELECT o.id::text AS id, o.position_id IS NOT NULL AS linked
FROM orders o
WHERE o.id = ANY(:pending) AND (o.position_id IS NOT NULL OR o.filled)
