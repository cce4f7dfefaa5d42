-- help: An order linked to a position in another trading pair or, where it is mapped, of another account.
-- entity: order
-- priority: high
-- scope: all
-- incremental: true
-- needs: orders.id orders.position_id orders.trading_pair orders.created_at broken_links positions.trading_pair
--        orders.account? positions.account?
-- uses: orders.side orders.status
SELECT o.id, o.created_at AS since,
       jsonb_build_object('position_id', o.position_id::text, 'side', o.side, 'status', o.status,
                          'expected', o.position_trading_pair, 'found', o.trading_pair,
                          'expected_account', o.position_account, 'found_account', o.account) AS details
FROM broken_links o
WHERE o.position_exists
  AND (o.trading_pair IS DISTINCT FROM o.position_trading_pair
       OR (:compares_accounts AND o.account IS DISTINCT FROM o.position_account))
