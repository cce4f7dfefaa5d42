-- The thirteen checks and the link rate, asked of the guide's tables as an expert of the other exporters would ask
-- them: one query a question, written for these very tables, with predicates that their indexes can serve.
-- Each returns one row of numbers. The comment in each query finds it again in pg_stat_statements.

-- name: link_rate
SELECT /* link_rate */ count(*) AS eligible, count(p.id) AS links
FROM orders o
LEFT JOIN positions p ON p.id = o.position_id
WHERE o.created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND o.status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
  AND o.filled_quantity > 0
  AND (o.position_id IS NOT NULL
       OR coalesce(o.updated_at, o.created_at) <= (now() AT TIME ZONE 'UTC') - interval '30 seconds')

-- name: unlinked_filled_order
SELECT /* unlinked_filled_order */ count(*) AS findings
FROM orders
WHERE position_id IS NULL
  AND created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
  AND filled_quantity > 0
  AND coalesce(updated_at, created_at) <= (now() AT TIME ZONE 'UTC') - interval '30 seconds'

-- name: aged_unlinked_order
SELECT /* aged_unlinked_order */ count(*) AS findings
FROM orders
WHERE position_id IS NULL
  AND created_at < (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
  AND filled_quantity > 0
  AND coalesce(updated_at, created_at) <= (now() AT TIME ZONE 'UTC') - interval '30 seconds'

-- name: orphaned_position_reference
SELECT /* orphaned_position_reference */ count(*) AS findings
FROM orders o
WHERE o.position_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM positions p WHERE p.id = o.position_id)

-- name: unreadable_fill
SELECT /* unreadable_fill */ count(*) AS findings
FROM orders
WHERE created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND ((status = 'FILLED' AND (filled_quantity IS NULL OR filled_quantity <= 0))
       OR filled_quantity < 0
       OR filled_quantity = 'NaN'
       OR (status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
           AND filled_quantity > 0 AND side NOT IN ('BUY', 'SELL')))

-- name: fill_without_filled_status
SELECT /* fill_without_filled_status */ count(*) AS findings
FROM orders
WHERE created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND filled_quantity > 0
  AND status NOT IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')

-- name: overfilled_order
SELECT /* overfilled_order */ count(*) AS findings
FROM orders
WHERE created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND filled_quantity > quantity + 0.00000001

-- name: trading_pair_mismatch
SELECT /* trading_pair_mismatch */ count(*) AS findings
FROM orders o
JOIN positions p ON p.id = o.position_id
WHERE o.trading_pair <> p.trading_pair

-- name: fill_outside_position
SELECT /* fill_outside_position */ count(*) AS findings
FROM orders o
JOIN positions p ON p.id = o.position_id
WHERE o.created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND o.created_at > p.closed_at + interval '30 seconds'
  AND o.status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
  AND o.filled_quantity > 0

-- name: duplicate_exchange_order
SELECT /* duplicate_exchange_order */ count(*) AS findings
FROM orders o
WHERE o.created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND o.exchange_order_id <> ''
  AND EXISTS (SELECT FROM orders d
              WHERE d.exchange_order_id = o.exchange_order_id AND d.exchange = o.exchange AND d.id <> o.id)

-- name: quantity_mismatch
SELECT /* quantity_mismatch */ count(*) AS findings
FROM positions p
LEFT JOIN (SELECT position_id,
                  sum(CASE side WHEN 'BUY' THEN filled_quantity WHEN 'SELL' THEN -filled_quantity END) AS quantity,
                  bool_or(side NOT IN ('BUY', 'SELL') OR filled_quantity < 0 OR filled_quantity = 'NaN') AS unknown
           FROM orders
           WHERE position_id IS NOT NULL
             AND status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
             AND filled_quantity <> 0
           GROUP BY position_id) o ON o.position_id = p.id
WHERE o.unknown OR abs(p.quantity - coalesce(o.quantity, 0)) > 0.00000001

-- name: position_without_orders
SELECT /* position_without_orders */ count(*) AS findings
FROM positions p
WHERE p.opened_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
  AND NOT EXISTS (SELECT FROM orders o WHERE o.position_id = p.id)

-- name: closed_position_not_flat
SELECT /* closed_position_not_flat */ count(*) AS findings
FROM positions
WHERE NOT is_active AND abs(quantity) > 0.00000001

-- name: duplicate_active_position
SELECT /* duplicate_active_position */ count(*) - count(DISTINCT trading_pair) AS findings
FROM positions
WHERE is_active
