-- The orders of a position, in fill order, with what each adds; NULL where it does not count.
SELECT o.id::text AS id, o.status, o.complete, CASE WHEN o.counts THEN o.contribution::text END AS contribution,
       o.average_fill_price::text AS price
FROM orders o WHERE o.position_id = ANY(:position)
ORDER BY o.fill_time, o.created_at, o.id
