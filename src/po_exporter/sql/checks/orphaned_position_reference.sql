-- help: An order, whatever its status, whose link names a position that does not exist.
-- entity: order
-- priority: high
-- scope: all
-- settles: true
-- incremental: true
-- needs: orders.id orders.position_id orders.created_at broken_links
-- uses: orders.trading_pair orders.side orders.status
SELECT o.id, o.created_at AS since,
       jsonb_build_object('position_id', o.position_id::text, 'trading_pair', o.trading_pair, 'side', o.side,
                          'status', o.status) AS details
FROM broken_links o
WHERE NOT o.position_exists
