-- help: A filled order without a position that has grown too old for the window: growing old heals nothing.
-- entity: order
-- priority: high
-- scope: all
-- incremental: true
-- needs: orders.id orders.position_id orders.filled orders.fill_time orders.past_grace orders.in_window
-- uses: orders.trading_pair orders.side orders.status orders.filled_quantity
SELECT o.id, o.fill_time AS since,
       jsonb_build_object('trading_pair', o.trading_pair, 'side', o.side, 'status', o.status,
                          'filled_quantity', o.filled_quantity::text) AS details
FROM scoped_orders o
WHERE o.position_id IS NULL AND NOT o.in_window AND o.filled AND o.past_grace
