-- help: A filled order that belongs to a position that was not open when it filled.
-- entity: order
-- priority: low
-- scope: window
-- incremental: true
-- needs: orders.id orders.position_id orders.filled orders.created_at positions.id positions.closed_at
--        orders.filled_at? positions.opened_at?
-- uses: orders.trading_pair orders.side orders.status
--
-- Without filled_at only one thing is certain: an order that was created after the position closed filled after it.
SELECT o.id, coalesce(o.filled_at, o.created_at) AS since,
       jsonb_build_object('position_id', p.id::text, 'trading_pair', o.trading_pair, 'side', o.side,
                          'created_at', o.created_at, 'filled_at', o.filled_at,
                          'opened_at', p.opened_at, 'closed_at', p.closed_at) AS details
FROM scoped_orders o
JOIN positions p ON p.id = o.position_id
WHERE o.filled
  AND CASE WHEN :has_filled_at
           THEN o.filled_at < p.opened_at - :grace OR o.filled_at > p.closed_at + :grace
           ELSE o.created_at > p.closed_at + :grace END
