-- What somebody would write who knows that one pass is cheaper than fourteen: the same questions in one query, by hand,
-- for these very tables. It says how many, not which.

-- name: combined
WITH sums AS (
    SELECT p.id,
           count(o.position_id) AS orders,
           count(*) FILTER (WHERE o.trading_pair <> p.trading_pair) AS strangers,
           bool_or(o.side NOT IN ('BUY', 'SELL') OR o.filled_quantity < 0 OR o.filled_quantity = 'NaN')
               FILTER (WHERE o.filled) IS TRUE
               OR abs(p.quantity - coalesce(sum(CASE WHEN o.side = 'BUY' THEN o.filled_quantity ELSE -o.filled_quantity END)
                                            FILTER (WHERE o.filled), 0)) > 0.00000001 AS differs,
           NOT p.is_active AND abs(p.quantity) > 0.00000001 AS not_flat,
           p.opened_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours' AS recent
    FROM (SELECT position_id, trading_pair, side, filled_quantity,
                 status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED') AND filled_quantity <> 0
                     AS filled
          FROM orders WHERE position_id IS NOT NULL) o
    FULL JOIN positions p ON p.id = o.position_id
    GROUP BY p.id
), everywhere AS (
    SELECT coalesce(sum(orders) FILTER (WHERE id IS NULL), 0) AS orphaned_position_reference,
           coalesce(sum(strangers) FILTER (WHERE id IS NOT NULL), 0) AS trading_pair_mismatch,
           count(*) FILTER (WHERE id IS NOT NULL AND differs) AS quantity_mismatch,
           count(*) FILTER (WHERE not_flat) AS closed_position_not_flat,
           count(*) FILTER (WHERE recent AND orders = 0) AS position_without_orders
    FROM sums
), window_checks AS (
    SELECT count(*) FILTER (WHERE filled AND (position_id IS NOT NULL OR past_grace)) AS eligible,
           count(*) FILTER (WHERE filled AND found IS NOT NULL) AS links,
           count(*) FILTER (WHERE filled AND position_id IS NULL AND past_grace) AS unlinked_filled_order,
           count(*) FILTER (WHERE (status = 'FILLED' AND (filled_quantity IS NULL OR filled_quantity <= 0))
                               OR filled_quantity < 0 OR filled_quantity = 'NaN'
                               OR (filled AND side NOT IN ('BUY', 'SELL'))) AS unreadable_fill,
           count(*) FILTER (WHERE filled_quantity > 0 AND NOT filled) AS fill_without_filled_status,
           count(*) FILTER (WHERE filled_quantity > quantity + 0.00000001) AS overfilled_order,
           count(*) FILTER (WHERE filled AND created_at > closed_at + interval '30 seconds') AS fill_outside_position
    FROM (SELECT o.*, p.id AS found, p.closed_at,
                 o.status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
                     AND o.filled_quantity > 0 AS filled,
                 coalesce(o.updated_at, o.created_at) <= (now() AT TIME ZONE 'UTC') - interval '30 seconds' AS past_grace
          FROM orders o LEFT JOIN positions p ON p.id = o.position_id
          WHERE o.created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours') recent
), aged AS (
    SELECT count(*) AS aged_unlinked_order
    FROM orders
    WHERE position_id IS NULL
      AND created_at < (now() AT TIME ZONE 'UTC') - interval '24 hours'
      AND status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED')
      AND filled_quantity > 0
      AND coalesce(updated_at, created_at) <= (now() AT TIME ZONE 'UTC') - interval '30 seconds'
), duplicates AS (
    SELECT count(*) AS duplicate_exchange_order
    FROM orders o
    WHERE o.created_at >= (now() AT TIME ZONE 'UTC') - interval '24 hours'
      AND o.exchange_order_id <> ''
      AND EXISTS (SELECT FROM orders d
                  WHERE d.exchange_order_id = o.exchange_order_id AND d.exchange = o.exchange AND d.id <> o.id)
), active AS (
    SELECT count(*) - count(DISTINCT trading_pair) AS duplicate_active_position FROM positions WHERE is_active
)
SELECT * FROM everywhere, window_checks, aged, duplicates, active
