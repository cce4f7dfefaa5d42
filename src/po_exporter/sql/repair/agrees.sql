-- Whether a position is exactly the sum of its orders by now.
SELECT CASE WHEN p.compared THEN p.signed_quantity ELSE 0 END
           = coalesce((SELECT sum(o.contribution) FROM orders o WHERE o.counts AND o.position_id = p.id), 0) AS agrees
FROM positions p WHERE p.id = ANY(:position)
