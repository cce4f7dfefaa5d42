-- One position, as the checks see it.
SELECT p.id::text AS id, p.trading_pair, p.account, p.side, p.quantity::text AS quantity,
       p.signed_quantity::text AS signed_quantity, p.active, p.compared,
       p.opened_at, p.closed_at
FROM positions p WHERE p.id = :position
