-- The orders of positions that came, went, or changed in what is said of their orders.
SELECT o.id::text AS id, o.minute FROM orders o WHERE o.position_id = ANY(:hosts) LIMIT :most
