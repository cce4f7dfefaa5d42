-- help: Links a filled order that has no link to the one position that lacks exactly what it filled.
-- mends: unlinked_filled_order aged_unlinked_order
-- needs: orders.id orders.position_id orders.trading_pair orders.filled orders.counts orders.contribution
--        orders.fill_time orders.past_grace orders.created_at orders.filled_at? orders.updated_at? orders.account?
--        positions.id positions.trading_pair positions.signed_quantity positions.compared positions.opened_at
--        positions.closed_at? positions.updated_at? positions.account? ledger.quantity ledger.unknown
--
-- Safe because it is the only thing wrong there, and this one link makes all of it right: of the positions of its pair and
-- account that it may have filled in, one alone differs from the sum of its orders, by exactly what it filled; and of the
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
), judged AS (
    SELECT o.*, d.id AS position, d.touched AS position_touched, d.gap, other.id AS other_position, rival.id AS rival
    FROM found o
    LEFT JOIN lacking d ON o.fits = 1 AND d.id::text = o.target
    LEFT JOIN LATERAL (
        SELECT e.id FROM lacking e
        WHERE d.id IS NOT NULL AND e.id <> d.id AND coalesce(e.trading_pair = o.trading_pair, true)
          AND (NOT :compares_accounts OR coalesce(e.account = o.account, true))
          AND coalesce(o.latest >= e.opened_at - :grace, true) AND coalesce(o.earliest <= e.closed_at + :grace, true)
        LIMIT 1) other ON true
    LEFT JOIN LATERAL (
        SELECT r.id FROM loose r
        WHERE d.id IS NOT NULL AND r.id <> o.id
          AND (r.position_id = d.id
               OR (coalesce(r.trading_pair = d.trading_pair, true)
                   AND (NOT :compares_accounts OR coalesce(r.account = d.account, true))
                   AND coalesce(r.latest >= d.opened_at - :grace, true)
                   AND coalesce(r.earliest <= d.closed_at + :grace, true)))
        LIMIT 1) rival ON true
), walked AS (
    -- The position's way with this order in it: from zero, on one side, and at zero at its end alone.
    SELECT j.*, way.crosses, way.last_touched
    FROM judged j
    LEFT JOIN LATERAL (
        SELECT bool_or(w.running = 0 AND NOT w.last) OR (min(w.running) < 0 AND max(w.running) > 0) AS crosses,
               max(w.touched) AS last_touched
        FROM (SELECT sum(s.contribution) OVER way AS running, s.touched,
                     lead(s.id) OVER way IS NULL AS last
              FROM (SELECT f.id, f.contribution, f.fill_time, f.created_at, f.touched FROM fills f
                    WHERE f.position_id = j.position
                    UNION ALL SELECT j.id, j.contribution, j.fill_time, j.created_at, j.touched) s
              WINDOW way AS (ORDER BY s.fill_time, s.created_at, s.id)) w
    ) way ON j.position IS NOT NULL AND j.other_position IS NULL AND j.rival IS NULL
)
SELECT w.id::text AS id, NULL::text AS link, w.position::text AS target, abs(w.contribution)::text AS quantity,
       'position ' || w.position::text || ' lacks exactly ' || w.gap::text || ', and nothing else of '
           || w.trading_pair || ' is wrong at that time' AS proof,
       CASE WHEN w.trading_pair IS NULL THEN 'its trading pair is not known'
            WHEN w.contribution IN ('NaN', 'Infinity', '-Infinity') THEN 'its side or quantity cannot be read'
            WHEN :compares_accounts AND w.account IS NULL THEN 'its account is not known'
            WHEN w.fits = 0 THEN 'no position of its pair lacks exactly what it filled'
            WHEN w.fits > 1 THEN w.fits::text || ' positions lack exactly what it filled'
            WHEN w.other_position IS NOT NULL
                 THEN 'position ' || w.other_position::text || ' may lack it as well'
            WHEN w.rival IS NOT NULL THEN 'order ' || w.rival::text || ' may belong there as well'
            WHEN w.crosses THEN 'with it, the position would be at zero, or beyond, before its last order'
            WHEN w.touched > :quiet_since THEN 'the order was changed within the quiet period'
            WHEN greatest(w.position_touched, w.last_touched) > :quiet_since
                 THEN 'the position, or an order of it, was changed within the quiet period'
       END AS refusal
FROM walked w
ORDER BY w.created_at NULLS LAST, w.id
) AS planned
