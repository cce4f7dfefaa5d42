-- A position as far as its orders say what it should be.
SELECT p.id::text AS id, p.trading_pair, p.side, p.quantity::text AS quantity, p.signed_quantity::text AS signed_quantity,
       p.entry_price::text AS entry_price, p.realized_pnl::text AS realized_pnl, p.compared, p.is_active
FROM positions p WHERE p.id = ANY(:position)
