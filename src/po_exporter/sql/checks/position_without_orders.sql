-- help: A position, opened in the window, that no order points at.
-- entity: position
-- priority: medium
-- scope: window
-- settles: true
-- incremental: true
-- needs: positions.id positions.opened_at orders.position_id
-- uses: positions.trading_pair positions.side positions.quantity
SELECT p.id, p.opened_at AS since,
       jsonb_build_object('trading_pair', p.trading_pair, 'side', p.side, 'quantity', p.quantity::text) AS details
FROM scoped_positions p
WHERE NOT EXISTS (SELECT FROM orders o WHERE o.position_id = p.id)
