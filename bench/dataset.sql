-- Makes the tables of a trading system with a known history. Deterministic: the same number of orders gives the same
-- rows, but for the dates. Settings: bench.blocks, bench.pairs, bench.window_blocks.
--
-- Time runs in blocks. In each block every trading pair opens one position, and the eight orders of each follow one
-- another in eight slots: slots 0-3 open it, 4-6 close it (in the last block they add to it: those positions are the
-- active ones), 7 is an order that was cancelled before it filled anything and belongs to no position.
--
-- The orders of the window lie in the last 18 hours, the others end ten minutes before yesterday's now: no order
-- crosses the edge of the window while the benchmark runs.

-- name: tables
CREATE TABLE orders (
    id uuid NOT NULL,
    position_id uuid,
    trading_pair text NOT NULL,
    exchange text NOT NULL,
    side text NOT NULL,
    order_type text NOT NULL,
    quantity numeric(20,8) NOT NULL,
    limit_price numeric(20,8),
    status text NOT NULL,
    exchange_order_id text,
    filled_quantity numeric(20,8),
    average_fill_price numeric(20,8),
    commission numeric(20,8),
    created_at timestamp NOT NULL,
    updated_at timestamp
);
CREATE TABLE positions (
    id uuid NOT NULL,
    trading_pair text NOT NULL,
    side text NOT NULL,
    quantity numeric(20,8) NOT NULL,
    entry_price numeric(20,8),
    current_price numeric(20,8),
    realized_pnl numeric(20,8),
    unrealized_pnl numeric(20,8),
    opened_at timestamp NOT NULL,
    closed_at timestamp,
    is_active boolean NOT NULL
);

-- name: functions
CREATE SCHEMA bench;
CREATE TABLE bench.made (anchor timestamp NOT NULL, orders bigint NOT NULL, complete boolean NOT NULL);
INSERT INTO bench.made VALUES (now() AT TIME ZONE 'UTC',
                               current_setting('bench.blocks')::bigint * current_setting('bench.pairs')::bigint * 8, false);

CREATE FUNCTION bench.order_id(p bigint, slot bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN md5('order ' || p || ' ' || slot)::uuid;
CREATE FUNCTION bench.position_id(p bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN md5('position ' || p)::uuid;
CREATE FUNCTION bench.pair(p bigint) RETURNS text LANGUAGE sql STABLE
    RETURN 'C' || p % current_setting('bench.pairs')::bigint || '/USD';
-- What one of the four opening orders of a position filled.
CREATE FUNCTION bench.part(p bigint, slot bigint) RETURNS numeric LANGUAGE sql IMMUTABLE
    RETURN ((p * 7919 + slot * 104729) % 99991 + 1) * 0.001;
-- When slot 0 of a block begins; 8 slots later the next one does.
CREATE FUNCTION bench.begins(block bigint) RETURNS timestamp LANGUAGE sql STABLE
    RETURN (SELECT CASE WHEN block < b.all_blocks - b.recent
                        THEN m.anchor - interval '30 days'
                             + (interval '29 days' - interval '10 minutes') * (block / (b.all_blocks - b.recent)::float8)
                        ELSE m.anchor - interval '18 hours'
                             + (interval '18 hours' - interval '2 minutes')
                               * ((block - b.all_blocks + b.recent) / b.recent::float8) END
            FROM bench.made m,
                 (SELECT current_setting('bench.blocks')::bigint AS all_blocks,
                         current_setting('bench.window_blocks')::bigint AS recent) b);

CREATE TABLE bench.blocks AS
SELECT block, bench.begins(block) AS begins, slot_length, block = last AS is_last
FROM (SELECT current_setting('bench.blocks')::bigint - 1 AS last) l,
     generate_series(0, last) AS block,
     LATERAL (SELECT CASE WHEN block < last + 1 - current_setting('bench.window_blocks')::bigint
                          THEN (bench.begins(1) - bench.begins(0)) / 8
                          ELSE (bench.begins(last) - bench.begins(last - 1)) / 8 END AS slot_length) s;
ALTER TABLE bench.blocks ADD PRIMARY KEY (block);

-- name: positions
INSERT INTO positions
SELECT bench.position_id(p), bench.pair(p), CASE WHEN p % 2 = 0 THEN 'LONG' ELSE 'SHORT' END,
       CASE WHEN is_last
            THEN (CASE WHEN p % 2 = 0 THEN 2 ELSE -2 END)
                 * (bench.part(p, 0) + bench.part(p, 1) + bench.part(p, 2) + bench.part(p, 3))
            ELSE 0 END,
       100 + p % 900, 101 + p % 900, CASE WHEN is_last THEN 0 ELSE p % 50 END, CASE WHEN is_last THEN p % 50 ELSE 0 END,
       begins + interval '1 second',
       CASE WHEN NOT is_last THEN begins + slot_length * 7 + interval '5 seconds' END,
       is_last
FROM bench.blocks, generate_series(0, current_setting('bench.pairs')::bigint - 1) AS r,
     LATERAL (SELECT block * current_setting('bench.pairs')::bigint + r AS p) n
ORDER BY p;

-- name: orders
INSERT INTO orders
SELECT bench.order_id(p, slot),
       CASE WHEN slot < 7 THEN bench.position_id(p) END,
       bench.pair(p), CASE WHEN p % 3 = 0 THEN 'kraken' ELSE 'coinbase' END,
       CASE WHEN (slot < 4 OR is_last) = (p % 2 = 0) THEN 'BUY' ELSE 'SELL' END,
       CASE WHEN slot % 2 = 0 THEN 'LIMIT' ELSE 'MARKET' END,
       CASE WHEN slot IN (2, 3) THEN filled * 1.25 WHEN slot = 7 THEN bench.part(p, 7) ELSE filled END,
       CASE WHEN slot % 2 = 0 THEN 100 + p % 900 END,
       -- A partial fill that goes on, and one whose rest was cancelled, count like any other.
       CASE slot WHEN 2 THEN 'PARTIALLY_FILLED' WHEN 3 THEN 'CANCELLED' WHEN 7 THEN 'CANCELLED' ELSE 'FILLED' END,
       'X-' || p || '-' || slot,
       filled, CASE WHEN slot < 7 THEN 100 + p % 900 END, CASE WHEN slot < 7 THEN filled * 0.002 ELSE 0 END,
       created_at, CASE WHEN slot <> 5 THEN created_at + interval '3 seconds' END
FROM bench.blocks, generate_series(0, 7) AS slot, generate_series(0, current_setting('bench.pairs')::bigint - 1) AS r,
     LATERAL (SELECT block * current_setting('bench.pairs')::bigint + r AS p,
                     begins + slot_length * (slot + r / current_setting('bench.pairs')::float8) AS created_at) n,
     LATERAL (SELECT CASE slot WHEN 4 THEN bench.part(p, 0) + bench.part(p, 1)
                               WHEN 5 THEN bench.part(p, 2)
                               WHEN 6 THEN bench.part(p, 3)
                               WHEN 7 THEN 0
                               ELSE bench.part(p, slot) END AS filled) f
ORDER BY block, slot, r;

-- name: indexes
ALTER TABLE orders ADD PRIMARY KEY (id);
ALTER TABLE positions ADD PRIMARY KEY (id);
CREATE INDEX orders_position_id ON orders (position_id);
CREATE INDEX orders_created_at ON orders (created_at);
CREATE INDEX orders_exchange_order_id ON orders (exchange_order_id);

-- name: defects
-- bench.picks (defect, nth, p) says which positions are to be spoiled in which way; no position has two defects.
-- Slot 7 belongs to no position, so what happens to it leaves the sums alone.

-- filled after all, and nobody linked them
UPDATE orders o SET status = 'FILLED', filled_quantity = o.quantity
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 7) AND k.defect IN ('unlinked', 'aged');

-- they name a position that was never there
UPDATE orders o SET status = 'FILLED', filled_quantity = o.quantity, position_id = md5('missing ' || k.p)::uuid
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 7) AND k.defect IN ('orphan', 'old orphan');

UPDATE orders o SET trading_pair = 'OTHER/USD'
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 0) AND k.defect = 'pair mismatch';

UPDATE orders o SET filled_quantity = o.filled_quantity - 0.0005
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 2) AND k.defect = 'quantity mismatch';

-- a difference of exactly the tolerance is none
UPDATE orders o SET filled_quantity = o.filled_quantity - 0.00000001
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 2) AND k.defect = 'rounding';

UPDATE orders o SET quantity = o.filled_quantity - 0.0005
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 1) AND k.defect = 'overfilled';

-- reported twice: both within the window, or once long ago
UPDATE orders o SET exchange_order_id = 'X-' || k.p || '-0'
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 1) AND k.defect = 'duplicate';
UPDATE orders o SET exchange_order_id = d.exchange_order_id, exchange = d.exchange
FROM bench.picks k JOIN orders d ON d.id = bench.order_id(k.nth, 0)
WHERE o.id = bench.order_id(k.p, 1) AND k.defect = 'duplicate of old';

-- closed with something left, and its orders say the same
UPDATE orders o SET filled_quantity = o.filled_quantity - 0.0005
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 6) AND k.defect = 'not flat';
UPDATE positions o SET quantity = CASE WHEN k.p % 2 = 0 THEN 0.0005 ELSE -0.0005 END
FROM bench.picks k
WHERE o.id = bench.position_id(k.p) AND k.defect = 'not flat';

-- opened and closed before any of its seven fills was even ordered
UPDATE positions o SET opened_at = o.opened_at - interval '2 hours', closed_at = o.opened_at - interval '1 hour'
FROM bench.picks k
WHERE o.id = bench.position_id(k.p) AND k.defect = 'outside';

UPDATE orders o SET status = 'FILLED', filled_quantity = CASE k.nth % 3 WHEN 0 THEN 0 WHEN 1 THEN -1 END
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 7) AND k.defect = 'unreadable';

UPDATE orders o SET side = 'SHORT'
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 1) AND k.defect = 'unreadable side';

UPDATE orders o SET status = 'REJECTED', filled_quantity = o.quantity
FROM bench.picks k
WHERE o.id = bench.order_id(k.p, 7) AND k.defect = 'status';

INSERT INTO positions
SELECT md5('empty ' || k.p)::uuid, bench.pair(k.p), 'LONG', CASE k.defect WHEN 'empty with quantity' THEN 1 ELSE 0 END,
       NULL, NULL, 0, 0, m.anchor - interval '12 hours', m.anchor - interval '11 hours', false
FROM bench.picks k, bench.made m
WHERE k.defect IN ('empty', 'empty with quantity');

INSERT INTO positions
SELECT md5('second ' || k.p)::uuid, bench.pair(k.p), 'LONG', 0, NULL, NULL, 0, 0, m.anchor - interval '20 days', NULL, true
FROM bench.picks k, bench.made m
WHERE k.defect = 'second active';

-- name: finish
UPDATE bench.made SET complete = true;
