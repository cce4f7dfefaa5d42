-- One position, as the checks see it.
SELECT p.id::text AS id, p.trading_pair, p.account, p.side, p.quantity::text AS quantity,
       p.signed_quantity::text AS signed_quantity, p.active, p.compared,
       CASE WHEN isfinite(p.opened_at) THEN extract(epoch FROM p.opened_at)::text END AS opened_at,
       CASE WHEN isfinite(p.closed_at) THEN extract(epoch FROM p.closed_at)::text END AS closed_at
FROM positions p WHERE p.id = :position
