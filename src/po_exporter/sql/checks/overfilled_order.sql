-- help: An order that filled more than its quantity, beyond the tolerance.
-- entity: order
-- priority: high
-- scope: window
-- incremental: true
-- tolerance: 0.00000001
-- needs: orders.id orders.quantity orders.filled_quantity
-- uses: orders.trading_pair orders.side orders.status orders.fill_time
SELECT o.id, o.fill_time AS since,
       jsonb_build_object('trading_pair', o.trading_pair, 'side', o.side, 'status', o.status,
                          'expected', o.quantity::text, 'found', o.filled_quantity::text) AS details
FROM scoped_orders o
WHERE o.filled_quantity > o.quantity + :tolerance
