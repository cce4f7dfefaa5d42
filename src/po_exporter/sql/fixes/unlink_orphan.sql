-- help: Takes away the link of an order whose position does not exist. The record keeps the old id.
-- mends: orphaned_position_reference
-- needs: orders.id orders.position_id orders.filled_quantity orders.created_at orders.filled_at? orders.updated_at? positions.id
--
-- Safe because there is nothing at the other end: no position's sum changes, and no other place for the order is claimed.
SELECT o.id::text AS id, o.position_id::text AS link, NULL::text AS target, o.filled_quantity::text AS quantity,
       'no position has the id ' || o.position_id::text AS proof,
       CASE WHEN greatest(o.created_at, o.updated_at, o.filled_at) > :quiet_since
            THEN 'the order was changed within the quiet period' END AS refusal
FROM orders o
WHERE o.position_id IS NOT NULL AND NOT EXISTS (SELECT FROM positions p WHERE p.id = o.position_id)
ORDER BY o.created_at NULLS LAST, o.id
