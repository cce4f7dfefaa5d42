-- help: In a netting account, an active position beside an older one of the same pair and account.
-- entity: position
-- priority: medium
-- scope: all
-- settles: true
-- off_when: one_active_per_pair = false
-- needs: positions.id positions.active positions.trading_pair
--        positions.account? positions.opened_at?
-- uses: positions.side positions.quantity
SELECT p.id, p.opened_at AS since,
       jsonb_build_object('trading_pair', p.trading_pair, 'account', p.account, 'side', p.side,
                          'quantity', p.quantity::text, 'older', p.older::text) AS details
FROM (SELECT a.*, first_value(a.id) OVER same AS older, row_number() OVER same AS nth
      FROM scoped_positions a WHERE a.active
      WINDOW same AS (PARTITION BY a.trading_pair, a.account ORDER BY a.opened_at, a.id)) p
WHERE p.nth > 1
