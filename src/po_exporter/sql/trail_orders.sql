-- The orders that point at a position, in fill order, with the running quantity after each.
SELECT o.id::text AS id, o.trading_pair, o.side, o.status, o.quantity::text AS quantity,
       o.filled_quantity::text AS filled_quantity, o.average_fill_price::text AS average_fill_price,
       CASE WHEN isfinite(o.created_at) THEN extract(epoch FROM o.created_at)::text END AS created_at,
       CASE WHEN isfinite(o.fill_time) THEN extract(epoch FROM o.fill_time)::text END AS fill_time,
       o.filled, coalesce(o.counts AND o.contribution IN ('NaN', 'Infinity', '-Infinity'), false) AS unreadable,
       sum(CASE WHEN o.counts THEN o.contribution ELSE 0 END) OVER (ORDER BY o.fill_time, o.created_at, o.id
                                              ROWS UNBOUNDED PRECEDING)::text AS running_quantity
FROM orders o WHERE o.position_id = :position
ORDER BY o.fill_time, o.created_at, o.id
