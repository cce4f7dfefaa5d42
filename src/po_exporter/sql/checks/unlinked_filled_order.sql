-- help: A filled order of the window that points at no position, although the grace has passed.
-- entity: order
-- priority: high
-- scope: window
-- incremental: true
-- needs: orders.id orders.position_id orders.filled orders.fill_time orders.past_grace
-- uses: orders.trading_pair orders.side orders.status orders.filled_quantity
SELECT o.id, o.fill_time AS since,
       jsonb_build_object('trading_pair', o.trading_pair, 'side', o.side, 'status', o.status,
                          'filled_quantity', o.filled_quantity::text) AS details
FROM scoped_orders o
WHERE o.position_id IS NULL AND o.filled AND o.past_grace
