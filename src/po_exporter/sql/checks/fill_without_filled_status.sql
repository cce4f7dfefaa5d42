-- help: A filled quantity above zero under a status that is not a filled one: a fill that nothing else counts.
-- entity: order
-- priority: medium
-- scope: window
-- settles: true
-- incremental: true
-- needs: orders.id orders.filled orders.filled_quantity
-- uses: orders.trading_pair orders.side orders.status orders.fill_time orders.position_id
SELECT o.id, o.fill_time AS since,
       jsonb_build_object('trading_pair', o.trading_pair, 'side', o.side, 'status', o.status,
                          'filled_quantity', o.filled_quantity::text, 'position_id', o.position_id::text) AS details
FROM scoped_orders o
WHERE o.filled_quantity > 0 AND NOT o.filled
