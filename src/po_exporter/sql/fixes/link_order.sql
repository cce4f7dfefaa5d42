-- help: Links a filled order that has no link to the one position that lacks exactly what it filled.
-- mends: unlinked_filled_order aged_unlinked_order
-- needs: orders.id orders.position_id orders.trading_pair orders.filled orders.counts orders.contribution
--        orders.fill_time orders.past_grace orders.created_at orders.filled_at? orders.updated_at? orders.account?
--        positions.id positions.trading_pair positions.signed_quantity positions.compared positions.opened_at
--        positions.closed_at? positions.is_active? positions.updated_at? positions.account? ledger.quantity ledger.unknown
--
-- Safe because there is one place for it and one order for that place, and this one link makes all of it right: one
-- position alone of its pair and account was open when it may have filled, and lacks exactly what it filled; and of the
-- orders of that pair and account that may have filled in that position, it alone belongs nowhere. What may be is taken
-- widely: an unknown pair, account or time rules nothing out, and clocks may differ by the grace.
SELECT * FROM (
WITH fills AS NOT MATERIALIZED (
    -- Each order that counts in a sum, and between which moments it filled.
    SELECT o.id, o.position_id, o.trading_pair, o.account, o.contribution, o.filled, o.past_grace, o.fill_time, o.created_at,
           coalesce(o.filled_at, o.created_at) AS earliest, coalesce(o.filled_at, o.updated_at, :as_of) AS latest,
           greatest(o.created_at, o.updated_at, o.filled_at) AS touched
    FROM orders o WHERE o.counts
), loose AS MATERIALIZED (
    -- Those of them that belong nowhere: no link, or one to nothing, to another pair or account, or to a position that was
    -- not open then.
    SELECT f.* FROM fills f LEFT JOIN positions p ON p.id = f.position_id
    WHERE p.id IS NULL OR p.trading_pair IS DISTINCT FROM f.trading_pair
       OR (:compares_accounts AND p.account IS DISTINCT FROM f.account)
       OR f.earliest > p.closed_at + :grace OR f.latest < p.opened_at - :grace
), lacking AS MATERIALIZED (
    -- The positions that are not known to be the sum of their orders, and what they lack; NULL where nobody can tell.
    SELECT d.* FROM (
        SELECT p.id, p.trading_pair, p.account, p.opened_at, p.closed_at,
               greatest(p.opened_at, p.closed_at, p.updated_at) AS touched,
               p.compared AND p.signed_quantity <> 0 AND (p.is_active IS FALSE OR p.closed_at IS NOT NULL) AS closed_not_flat,
               CASE WHEN l.unknown IS TRUE THEN NULL WHEN p.compared THEN p.signed_quantity - coalesce(l.quantity, 0)
                    WHEN :closed_quantity = 'kept_flat' THEN -coalesce(l.quantity, 0) END AS gap
        FROM positions p LEFT JOIN ledger l ON l.position_id = p.id) d
    WHERE d.gap IS NULL OR abs(d.gap) > :tolerance
), found AS MATERIALIZED (
    SELECT o.id, o.contribution, o.trading_pair, o.account, o.fill_time, o.created_at, o.earliest, o.latest, o.touched,
           count(d.id) AS fits, min(d.id::text) AS target
    FROM loose o
    LEFT JOIN lacking d ON d.trading_pair = o.trading_pair AND d.gap = o.contribution
                       AND (NOT :compares_accounts OR d.account = o.account)
                       AND o.latest >= d.opened_at - :grace
                       AND (d.closed_at IS NULL OR o.earliest <= d.closed_at + :grace)
    WHERE o.position_id IS NULL AND o.filled AND o.past_grace
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
), matched AS MATERIALIZED (
    SELECT o.id, o.contribution, o.trading_pair, o.account, o.fill_time, o.created_at, o.earliest, o.latest, o.touched,
           d.id AS position, d.account AS position_account, d.opened_at, d.closed_at, d.touched AS position_touched, d.gap,
           d.closed_not_flat
    FROM found o JOIN lacking d ON d.id::text = o.target
    WHERE o.fits = 1
), places AS MATERIALIZED (
    -- Where else it may have filled: in a position of its pair, or in one whose pair nobody knows.
    SELECT m.id, min(p.id::text) AS position
    FROM matched m JOIN positions p ON p.trading_pair = m.trading_pair
    WHERE p.id <> m.position AND (NOT :compares_accounts OR coalesce(p.account = m.account, true))
      AND coalesce(m.latest >= p.opened_at - :grace, true) AND coalesce(m.earliest <= p.closed_at + :grace, true)
    GROUP BY 1
    UNION ALL
    SELECT m.id, min(p.id::text)
    FROM matched m JOIN positions p ON p.trading_pair IS NULL
    WHERE (NOT :compares_accounts OR coalesce(p.account = m.account, true))
      AND coalesce(m.latest >= p.opened_at - :grace, true) AND coalesce(m.earliest <= p.closed_at + :grace, true)
    GROUP BY 1
), rivals AS MATERIALIZED (
    -- Which other order may belong there, or belongs nowhere and is linked there: as above.
    SELECT m.id, min(r.id::text) AS rival
    FROM matched m JOIN loose r ON r.trading_pair = m.trading_pair
    WHERE r.id <> m.id AND (NOT :compares_accounts OR coalesce(r.account = m.position_account, true))
      AND coalesce(r.latest >= m.opened_at - :grace, true) AND coalesce(r.earliest <= m.closed_at + :grace, true)
    GROUP BY 1
    UNION ALL
    SELECT m.id, min(r.id::text)
    FROM matched m JOIN loose r ON r.trading_pair IS NULL
    WHERE r.id <> m.id AND (NOT :compares_accounts OR coalesce(r.account = m.position_account, true))
      AND coalesce(r.latest >= m.opened_at - :grace, true) AND coalesce(r.earliest <= m.closed_at + :grace, true)
    GROUP BY 1
    UNION ALL
    SELECT m.id, min(r.id::text) FROM matched m JOIN loose r ON r.position_id = m.position GROUP BY 1
), parts AS MATERIALIZED (
    -- The orders of the position with this one among them, and between which moments each filled; those on the opening
    -- side, which is that of what is left, or of the first, where nothing is.
    SELECT s.*, sign(s.contribution) = coalesce(
               nullif(sign(sum(s.contribution) OVER one), 0),
               sign(first_value(s.contribution) OVER (one ORDER BY s.fill_time, s.id))) AS opens
    FROM (SELECT m.id AS matched, f.id, f.contribution, f.earliest, f.latest, f.fill_time, f.touched
          FROM matched m JOIN fills f ON f.position_id = m.position
          UNION ALL
          SELECT m.id, m.id, m.contribution, m.earliest, m.latest, m.fill_time, m.touched FROM matched m) s
    WINDOW one AS (PARTITION BY s.matched)
), ways AS MATERIALIZED (
    -- Its way from zero, on one side, at zero at its end alone, in whatever order they may have filled: at each closing one,
    -- what was certainly opened before it is more than what may have been closed by then.
    SELECT c.matched, bool_or(c.opened < c.closed OR (c.opened = c.closed AND (c.opened, c.closed) <> (c.opens, c.closes)))
               AS crosses
    FROM (SELECT e.matched, e.asks,
                 sum(e.opening) OVER (PARTITION BY e.matched ORDER BY e.at, e.asks) AS opened,
                 sum(e.closing) OVER (PARTITION BY e.matched ORDER BY e.until, e.asks) AS closed,
                 sum(e.opening) OVER (PARTITION BY e.matched) AS opens,
                 sum(e.closing) OVER (PARTITION BY e.matched) AS closes
          FROM (SELECT p.matched, false AS asks, p.latest AS at, p.earliest AS until,
                       CASE WHEN p.opens THEN abs(p.contribution) ELSE 0 END AS opening,
                       CASE WHEN p.opens THEN 0 ELSE abs(p.contribution) END AS closing
                FROM parts p
                UNION ALL
                SELECT p.matched, true, p.earliest, p.latest, 0, 0 FROM parts p WHERE NOT p.opens) e) c
    WHERE c.asks
    GROUP BY 1
), walked AS (
    SELECT o.*, m.position, m.position_touched, m.gap, m.closed_not_flat, way.crosses, part.last_touched,
           e.position AS other_position, r.rival
    FROM found o
    LEFT JOIN matched m ON m.id = o.id
    LEFT JOIN ways way ON way.matched = o.id
    LEFT JOIN (SELECT matched, max(touched) AS last_touched FROM parts GROUP BY 1) part ON part.matched = o.id
    LEFT JOIN (SELECT id, min(position) AS position FROM places GROUP BY 1) e ON e.id = o.id
    LEFT JOIN (SELECT id, min(rival) AS rival FROM rivals GROUP BY 1) r ON r.id = o.id
)
SELECT w.id::text AS id, NULL::text AS link, w.position::text AS target, abs(w.contribution)::text AS quantity,
       'position ' || w.position::text || ' lacks exactly ' || w.gap::text || '; no other position of '
           || w.trading_pair || ' was open then, and no other order of it belongs nowhere' AS proof,
       CASE WHEN w.trading_pair IS NULL THEN 'its trading pair is not known'
            WHEN w.contribution IN ('NaN', 'Infinity', '-Infinity') THEN 'its side or quantity cannot be read'
            WHEN :compares_accounts AND w.account IS NULL THEN 'its account is not known'
            WHEN w.fits = 0 THEN 'no position of its pair lacks exactly what it filled'
            WHEN w.fits > 1 THEN w.fits::text || ' positions lack exactly what it filled'
            WHEN w.other_position IS NOT NULL
                 THEN 'position ' || w.other_position || ' was open then, too'
            WHEN w.rival IS NOT NULL THEN 'order ' || w.rival || ' may belong there as well'
            WHEN w.closed_not_flat THEN 'position ' || w.position::text || ' is closed, and not at zero'
            WHEN w.crosses THEN 'with it, the position may have been at zero, or beyond, before its last order'
            WHEN w.touched > :quiet_since THEN 'the order was changed within the quiet period'
            WHEN greatest(w.position_touched, w.last_touched) > :quiet_since
                 THEN 'the position, or an order of it, was changed within the quiet period'
       END AS refusal
FROM walked w
ORDER BY w.created_at NULLS LAST, w.id
) AS planned
