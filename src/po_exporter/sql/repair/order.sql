-- An order as far as a link by hand concerns it.
SELECT o.id::text AS id, o.position_id::text AS link, o.trading_pair, o.account, o.side, o.status,
       o.filled_quantity::text AS quantity, o.filled
FROM orders o WHERE o.id = ANY(:order)
