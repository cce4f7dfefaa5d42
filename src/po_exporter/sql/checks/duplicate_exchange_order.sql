-- help: An order that shares exchange and exchange id with another order of any age.
-- entity: order
-- priority: high
-- scope: window
-- incremental: true
-- group: orders.exchange_order_id
-- needs: orders.id orders.exchange_order_id orders.created_at
--        orders.exchange?
-- uses: orders.trading_pair orders.status
SELECT o.id, o.created_at AS since,
       jsonb_build_object('exchange', o.exchange, 'exchange_order_id', o.exchange_order_id,
                          'trading_pair', o.trading_pair, 'status', o.status) AS details
FROM scoped_orders o
WHERE o.exchange_order_id <> ''
  AND EXISTS (SELECT FROM orders d
              WHERE d.exchange_order_id = o.exchange_order_id AND d.id <> o.id
                AND d.exchange IS NOT DISTINCT FROM o.exchange)
