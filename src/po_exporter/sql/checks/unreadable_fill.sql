-- help: A fill that cannot be read: a complete status without a fill, a filled quantity that is negative, NaN or
--       infinite, or a filled order whose side is neither buy nor sell.
-- entity: order
-- priority: high
-- scope: window
-- settles: true
-- incremental: true
-- needs: orders.id orders.filled orders.complete orders.filled_quantity orders.direction
-- uses: orders.trading_pair orders.side orders.status orders.fill_time orders.position_id
SELECT o.id, o.fill_time AS since,
       jsonb_build_object('trading_pair', o.trading_pair, 'side', o.side, 'status', o.status,
                          'filled_quantity', o.filled_quantity::text, 'position_id', o.position_id::text,
                          'reason', CASE WHEN o.filled_quantity < 0 THEN 'the filled quantity is negative'
                                         WHEN o.filled_quantity IN ('NaN', 'Infinity') THEN 'the filled quantity is not a number'
                                         WHEN o.complete AND NOT o.filled THEN 'a complete status without a fill'
                                         ELSE 'the side is neither buy nor sell' END) AS details
FROM scoped_orders o
WHERE (o.complete AND (o.filled_quantity IS NULL OR o.filled_quantity <= 0))
   OR o.filled_quantity < 0 OR o.filled_quantity IN ('NaN', 'Infinity')
   OR (o.filled AND o.direction IS NULL)
