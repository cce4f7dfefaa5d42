-- help: An order linked to a position in another trading pair or, where it is mapped, of another account.
-- entity: order
-- priority: high
-- scope: all
-- among: mislinked
-- needs: orders.id orders.position_id orders.trading_pair orders.created_at positions.id positions.trading_pair
--        orders.account? positions.account?
-- uses: orders.side orders.status
SELECT o.id, o.created_at AS since,
       jsonb_build_object('position_id', o.position_id::text, 'side', o.side, 'status', o.status,
                          'expected', p.trading_pair, 'found', o.trading_pair,
                          'expected_account', p.account, 'found_account', o.account) AS details
FROM scoped_orders o
JOIN positions p ON p.id = o.position_id
WHERE o.trading_pair IS DISTINCT FROM p.trading_pair
   OR (:compares_accounts AND o.account IS DISTINCT FROM p.account)
