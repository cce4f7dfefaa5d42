-- help: A position that is closed and yet not zero, or of which nobody can say whether it is closed.
-- entity: position
-- priority: high
-- scope: all
-- settles: true
-- incremental: true
-- tolerance: 0.00000001
-- off_when: closed_quantity = kept
-- needs: positions.id positions.active positions.quantity
--        ledger.quantity@kept_flat ledger.unknown@kept_flat
-- uses: positions.trading_pair positions.side positions.opened_at positions.closed_at
--
-- Where a closed position keeps its last size (kept_flat), it is its orders that must net to zero.
SELECT p.id, coalesce(p.closed_at, p.opened_at) AS since,
       jsonb_build_object('trading_pair', p.trading_pair, 'side', p.side, 'quantity', p.quantity::text,
                          'expected', '0',
                          'found', CASE WHEN :closed_quantity = 'zero' THEN p.quantity::text
                                        WHEN l.unknown IS NOT TRUE THEN coalesce(l.quantity, 0)::text END,
                          'reason', CASE WHEN p.active IS NULL THEN 'nothing says whether it is active'
                                         WHEN :closed_quantity = 'kept_flat' AND l.unknown
                                              THEN 'a linked fill has an unreadable side or quantity'
                                         END) AS details
FROM scoped_positions p
LEFT JOIN ledger l ON :closed_quantity = 'kept_flat' AND l.position_id = p.id
WHERE p.active IS NULL
   OR (NOT p.active AND CASE WHEN :closed_quantity = 'zero' THEN abs(p.quantity) > :tolerance
                             ELSE l.unknown OR abs(coalesce(l.quantity, 0)) > :tolerance END)
