-- What the filled orders of a position add up to, hour by hour of created_at. NULL is all that no calendar has.
SELECT o.position_id::text AS id,
       CASE WHEN o.created_raw >= '0001-01-01' THEN left(o.minute, -3) END AS hour,
       sum(o.contribution)::text AS total
FROM scoped_orders o
WHERE o.counts
GROUP BY 1, 2
