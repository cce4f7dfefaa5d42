-- help: A position whose quantity differs from buys minus sells over its filled orders.
-- entity: position
-- priority: medium
-- scope: all
-- settles: true
-- incremental: true
-- tolerance: 0.00000001
-- needs: positions.id positions.quantity positions.signed_quantity positions.compared
--        ledger.quantity ledger.unknown
-- uses: positions.trading_pair positions.side positions.opened_at
--
-- expected: what its orders add up to. found: what the position says. What cannot be known is never taken for equal.
SELECT p.id, p.opened_at AS since,
       jsonb_build_object('trading_pair', p.trading_pair, 'side', p.side, 'quantity', p.quantity::text,
                          'expected', CASE WHEN l.unknown IS NOT TRUE THEN coalesce(l.quantity, 0)::text END,
                          'found', CASE WHEN l.unknown IS NOT TRUE THEN p.signed_quantity::text END,
                          'difference', CASE WHEN l.unknown IS NOT TRUE
                                             THEN (p.signed_quantity - coalesce(l.quantity, 0))::text END,
                          'reason', CASE WHEN l.unknown THEN 'a linked fill has an unreadable side or quantity'
                                         WHEN p.quantity IS NULL THEN 'the position has no quantity'
                                         WHEN p.quantity IN ('NaN', 'Infinity', '-Infinity')
                                              THEN 'the position''s quantity is not a number'
                                         WHEN p.signed_quantity IS NULL
                                              THEN 'the position''s quantity is negative or its side unknown'
                                         END) AS details
FROM scoped_positions p
LEFT JOIN ledger l ON l.position_id = p.id
WHERE p.compared
  AND (l.unknown OR p.signed_quantity IS NULL
       OR abs(p.signed_quantity - coalesce(l.quantity, 0)) > :tolerance)
