-- The life of one order, as pgbench plays it: new, filled in part, then filled, linked and booked in one transaction.
-- Eight orders of one client make a position, four that open it and four that close it, and it begins another; so that
-- whenever a life ends, the books agree. :run tells the clients of one run from those of another, :n counts.
\set nth :n % 8
\set n :n + 1
\if :nth = 0
\set quantity random(2, 1000)
\endif
INSERT INTO orders (id, trading_pair, exchange, side, order_type, quantity, limit_price, status, filled_quantity,
    commission, created_at)
VALUES (gen_random_uuid(), concat('LIFE/', :run::int, '/', :client_id::int), 'kraken',
    CASE WHEN :nth::int < 4 THEN 'BUY' ELSE 'SELL' END, 'LIMIT', :quantity::int, 100, 'NEW', 0, 0, now() AT TIME ZONE 'UTC')
RETURNING id AS order_id
\gset
UPDATE orders SET status = 'PARTIALLY_FILLED', exchange_order_id = concat('L-', id), filled_quantity = :quantity::int / 2.0,
    average_fill_price = 100, commission = 0.1, updated_at = now() AT TIME ZONE 'UTC'
WHERE id = :order_id::uuid;
BEGIN;
\if :nth = 0
INSERT INTO positions (id, trading_pair, side, quantity, entry_price, current_price, realized_pnl, unrealized_pnl, opened_at,
    is_active)
VALUES (gen_random_uuid(), concat('LIFE/', :run::int, '/', :client_id::int), 'LONG', 0, 100, 100, 0, 0,
    now() AT TIME ZONE 'UTC', true)
RETURNING id AS position_id
\gset
\endif
UPDATE orders SET status = 'FILLED', filled_quantity = quantity, position_id = :position_id::uuid, commission = 0.2,
    updated_at = now() AT TIME ZONE 'UTC'
WHERE id = :order_id::uuid;
UPDATE positions SET quantity = quantity + CASE WHEN :nth::int < 4 THEN :quantity::int ELSE -(:quantity::int) END,
    current_price = 100, is_active = :nth::int < 7, closed_at = CASE WHEN :nth::int = 7 THEN now() AT TIME ZONE 'UTC' END
WHERE id = :position_id::uuid;
COMMIT;
