-- help: How many eligible orders of the window are linked to a position that exists.
-- entity: order
-- scope: window
-- incremental: true
-- needs: orders.position_id orders.filled orders.past_grace positions.id
--
-- Returns one row of numbers instead of findings: both come from one snapshot, so that their ratio is a rate.
SELECT count(*) AS eligible, count(p.id) AS links
FROM scoped_orders o
LEFT JOIN positions p ON p.id = o.position_id
WHERE o.filled AND (o.position_id IS NOT NULL OR o.past_grace)
