-- help: An order, whatever its status, whose link names a position that does not exist.
-- entity: order
-- priority: high
-- scope: all
-- among: mislinked
-- settles: true
-- needs: orders.id orders.position_id orders.created_at positions.id
-- uses: orders.trading_pair orders.side orders.status
SELECT o.id, o.created_at AS since,
       jsonb_build_object('position_id', o.position_id::text, 'trading_pair', o.trading_pair, 'side', o.side,
                          'status', o.status) AS details
FROM scoped_orders o
WHERE o.position_id IS NOT NULL AND NOT EXISTS (SELECT FROM positions p WHERE p.id = o.position_id)
