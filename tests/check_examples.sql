-- The rows behind the examples of docs/checks: what each check finds, and what it only just does not find.
-- The clock stands at 2026-01-27 02:00 UTC; window and grace are the defaults, 24 hours and 30 seconds.
-- Ids end in -a...NN for orders and in -b...NN for positions; NN begins with the number of the example.

INSERT INTO positions (id, trading_pair, side, quantity, opened_at, closed_at, is_active) VALUES
    ('00000000-0000-4000-b000-000000000001', 'BTC/USD',  'LONG',  1,          '2026-01-27 01:00', NULL,               true),
    ('00000000-0000-4000-b000-000000000044', 'NEAR/USD', 'LONG',  1,          '2026-01-27 01:00', NULL,               true),
    ('00000000-0000-4000-b000-000000000061', 'ATOM/USD', 'LONG',  1.5,        '2026-01-27 01:00', NULL,               true),
    ('00000000-0000-4000-b000-000000000062', 'UNI/USD',  'LONG',  2.00000001, '2026-01-27 01:00', NULL,               true),
    ('00000000-0000-4000-b000-000000000071', 'ETH/EUR',  'LONG',  2,          '2026-01-27 01:00', NULL,               true),
    ('00000000-0000-4000-b000-000000000072', 'SOL/USD',  'LONG',  2,          '2026-01-23 01:00', NULL,               true),
    ('00000000-0000-4000-b000-000000000081', 'DOT/USD',  'LONG',  0,          '2026-01-27 00:00', '2026-01-27 01:00', false),
    ('00000000-0000-4000-b000-000000000091', 'AVAX/USD', 'LONG',  1.5,        '2026-01-27 01:00', NULL,               true),
    ('00000000-0000-4000-b000-0000000000a1', 'ADA/USD',  'LONG',  150,        '2026-01-26 09:30', NULL,               true),
    ('00000000-0000-4000-b000-0000000000a2', 'TRX/USD',  'LONG',  NULL,       '2026-01-20 01:00', NULL,               true),
    ('00000000-0000-4000-b000-0000000000a3', 'ALGO/USD', 'SHORT', -0.99999999, '2026-01-27 01:00', NULL,              true),
    ('00000000-0000-4000-b000-0000000000a4', 'FIL/USD',  'LONG',  5,          '2026-01-20 01:00', NULL,               true),
    ('00000000-0000-4000-b000-0000000000b1', 'LTC/USD',  'LONG',  0,          '2026-01-27 01:30', NULL,               true),
    ('00000000-0000-4000-b000-0000000000b2', 'XLM/USD',  'LONG',  0,          NULL,               NULL,               true),
    ('00000000-0000-4000-b000-0000000000b3', 'XMR/USD',  'LONG',  0,          '2026-01-26 01:59:59.999999', NULL,     true),
    ('00000000-0000-4000-b000-0000000000c1', 'XRP/USD',  'LONG',  0.3,        '2026-01-20 14:00', '2026-01-27 01:45', false),
    ('00000000-0000-4000-b000-0000000000c2', 'EOS/USD',  'LONG',  0,          '2026-01-20 14:00', NULL,               NULL),
    ('00000000-0000-4000-b000-0000000000c3', 'XTZ/USD',  'LONG',  0.00000001, '2026-01-20 14:00', '2026-01-27 01:45', false),
    ('00000000-0000-4000-b000-0000000000d1', 'LINK/USD', 'LONG',  10,         '2026-01-27 00:30', NULL,               true),
    ('00000000-0000-4000-b000-0000000000d2', 'LINK/USD', 'LONG',  10,         '2026-01-27 01:30', NULL,               true),
    ('00000000-0000-4000-b000-0000000000d3', 'LINK/USD', 'LONG',  10,         NULL,               NULL,               true),
    ('00000000-0000-4000-b000-0000000000d4', 'LINK/USD', 'LONG',  0,          '2026-01-26 01:00', '2026-01-26 02:00', false);

INSERT INTO orders (id, position_id, trading_pair, exchange, side, order_type, quantity, status, exchange_order_id,
                    filled_quantity, created_at, updated_at)
SELECT id::uuid, position_id::uuid, trading_pair, coalesce(exchange, 'kraken'), side, 'LIMIT', quantity, status,
       coalesce(exchange_order_id, 'O-' || right(id, 4)), filled_quantity, created_at::timestamp, updated_at::timestamp
FROM (VALUES
    ('00000000-0000-4000-a000-000000000001', '00000000-0000-4000-b000-000000000001', 'BTC/USD', 'BUY',  0.5,  'FILLED', 0.5,  '2026-01-27 01:00', '2026-01-27 01:00', NULL, NULL),
    ('00000000-0000-4000-a000-000000000002', '00000000-0000-4000-b000-000000000001', 'BTC/USD', ' buy', 0.5,  'canceled', 0.25, '2026-01-27 01:05', '2026-01-27 01:06', NULL, NULL),
    -- unlinked_filled_order: no link; no times at all; the first moment of the window; the last before the grace
    ('00000000-0000-4000-a000-000000000011', NULL, 'BTC/USD', 'BUY',  0.25, 'FILLED',             0.25, '2026-01-27 01:12', '2026-01-27 01:12:09', NULL, NULL),
    ('00000000-0000-4000-a000-000000000012', NULL, 'BTC/USD', 'BUY',  0.25, ' partially_filled ', 0.1,  NULL,               NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000013', NULL, 'BTC/USD', 'SELL', 0.25, 'CANCELLED',          0.1,  '2026-01-26 02:00', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000014', NULL, 'BTC/USD', 'BUY',  0.25, 'FILLED',             0.25, '2026-01-27 01:12', '2026-01-27 01:59:45', NULL, NULL),
    ('00000000-0000-4000-a000-000000000015', NULL, 'BTC/USD', 'BUY',  0.25, 'FILLED',             0.25, '2026-01-27 01:12', '2026-01-27 01:59:30', NULL, NULL),
    ('00000000-0000-4000-a000-000000000016', NULL, 'BTC/USD', 'BUY',  0.25, 'NEW',                0,    '2026-01-27 01:12', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000017', NULL, 'BTC/USD', 'BUY',  0.25, 'FILLED',             0.25, '2026-01-27 03:00', NULL, NULL, NULL),
    -- aged_unlinked_order: days ago; the last moment before the window; touched a moment ago
    ('00000000-0000-4000-a000-000000000021', NULL, 'ETH/USD', 'SELL', 4,    'FILLED',             4,    '2026-01-24 10:00', '2026-01-24 10:00:03', NULL, NULL),
    ('00000000-0000-4000-a000-000000000022', NULL, 'ETH/USD', 'SELL', 4,    'EXPIRED',            0.5,  '2026-01-26 01:59:59.999999', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000023', NULL, 'ETH/USD', 'SELL', 4,    'FILLED',             4,    '2026-01-24 10:00', '2026-01-27 01:59:50', NULL, NULL),
    -- orphaned_position_reference: a fill; one that never filled
    ('00000000-0000-4000-a000-000000000031', '00000000-0000-4000-b000-000000000099', 'ETH/USD', 'BUY', 1.2, 'FILLED',    1.2, '2026-01-25 16:20', '2026-01-25 16:20:04', NULL, NULL),
    ('00000000-0000-4000-a000-000000000032', '00000000-0000-4000-b000-000000000099', 'ETH/USD', 'BUY', 1.2, 'CANCELLED', 0,   '2026-01-27 01:20', NULL, NULL, NULL),
    -- unreadable_fill: nothing filled; a negative fill; NaN; no side; nothing filled again; a cancelled order is fine
    ('00000000-0000-4000-a000-000000000041', NULL, 'SOL/USD', 'BUY',  14, 'FILLED',    NULL,  '2026-01-27 01:18', '2026-01-27 01:18:02', NULL, NULL),
    ('00000000-0000-4000-a000-000000000042', NULL, 'SOL/USD', 'BUY',  14, 'NEW',       -1,    '2026-01-27 01:18', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000043', NULL, 'SOL/USD', 'BUY',  14, 'FILLED',    'NaN', '2026-01-27 01:18', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000044', '00000000-0000-4000-b000-000000000044', 'NEAR/USD', 'HOLD', 1, 'FILLED', 1, '2026-01-27 01:18', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000045', NULL, 'SOL/USD', 'BUY',  14, 'FILLED',    0,     '2026-01-27 01:18', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000046', NULL, 'SOL/USD', 'HOLD', 14, 'CANCELLED', NULL,  '2026-01-27 01:18', NULL, NULL, NULL),
    -- fill_without_filled_status: a working order; no status at all
    ('00000000-0000-4000-a000-000000000051', NULL, 'BTC/USD', 'SELL', 1, 'NEW', 0.4, '2026-01-27 01:40', '2026-01-27 01:41:30', NULL, NULL),
    ('00000000-0000-4000-a000-000000000052', NULL, 'BTC/USD', 'SELL', 1, NULL,  0.4, '2026-01-27 01:40', NULL, NULL, NULL),
    -- overfilled_order: by a half; by the tolerance exactly; of an unknown quantity
    ('00000000-0000-4000-a000-000000000061', '00000000-0000-4000-b000-000000000061', 'ATOM/USD', 'BUY', 1,    'FILLED', 1.5,        '2026-01-27 01:22', '2026-01-27 01:22:01', NULL, NULL),
    ('00000000-0000-4000-a000-000000000062', '00000000-0000-4000-b000-000000000062', 'UNI/USD',  'BUY', 1,    'FILLED', 1.00000001, '2026-01-27 01:22', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000063', '00000000-0000-4000-b000-000000000062', 'UNI/USD',  'BUY', NULL, 'FILLED', 1,          '2026-01-27 01:22', NULL, NULL, NULL),
    -- trading_pair_mismatch: another pair; an unknown one; other letters, days ago
    ('00000000-0000-4000-a000-000000000071', '00000000-0000-4000-b000-000000000071', 'ETH/USD', 'BUY', 2, 'FILLED', 2, '2026-01-27 01:25', '2026-01-27 01:25:02', NULL, NULL),
    ('00000000-0000-4000-a000-000000000072', '00000000-0000-4000-b000-000000000072', NULL,      'BUY', 1, 'FILLED', 1, '2026-01-27 01:25', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000073', '00000000-0000-4000-b000-000000000072', 'sol/usd', 'BUY', 1, 'FILLED', 1, '2026-01-23 01:25', NULL, NULL, NULL),
    -- fill_outside_position: ten minutes after the close; half a minute after it
    ('00000000-0000-4000-a000-000000000081', '00000000-0000-4000-b000-000000000081', 'DOT/USD', 'BUY',  3, 'FILLED', 3, '2026-01-27 00:10', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000082', '00000000-0000-4000-b000-000000000081', 'DOT/USD', 'SELL', 3, 'FILLED', 3, '2026-01-27 00:50', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-000000000083', '00000000-0000-4000-b000-000000000081', 'DOT/USD', 'SELL', 1, 'FILLED', 1, '2026-01-27 01:10', '2026-01-27 01:10:05', NULL, NULL),
    ('00000000-0000-4000-a000-000000000084', '00000000-0000-4000-b000-000000000081', 'DOT/USD', 'BUY',  1, 'FILLED', 1, '2026-01-27 01:00:30', NULL, NULL, NULL),
    -- duplicate_exchange_order: two of today; one of today and an old one; another exchange; no ids
    ('00000000-0000-4000-a000-000000000091', '00000000-0000-4000-b000-000000000091', 'AVAX/USD', 'BUY', 0.5, 'FILLED', 0.5, '2026-01-27 01:15', NULL, 'OQCLML-BW3P3-BUCMWZ', NULL),
    ('00000000-0000-4000-a000-000000000092', '00000000-0000-4000-b000-000000000091', 'AVAX/USD', 'BUY', 0.5, 'FILLED', 0.5, '2026-01-27 01:16', NULL, 'OQCLML-BW3P3-BUCMWZ', NULL),
    ('00000000-0000-4000-a000-000000000093', NULL, 'AVAX/USD', 'BUY', 0.5, 'REJECTED', 0, '2026-01-22 01:15', NULL, 'OAVY7T-MV5VK-KHDF5X', NULL),
    ('00000000-0000-4000-a000-000000000094', NULL, 'AVAX/USD', 'BUY', 0.5, 'REJECTED', 0, '2026-01-27 01:15', NULL, 'OAVY7T-MV5VK-KHDF5X', NULL),
    ('00000000-0000-4000-a000-000000000095', '00000000-0000-4000-b000-000000000091', 'AVAX/USD', 'BUY', 0.5, 'FILLED', 0.5, '2026-01-27 01:15', NULL, 'OQCLML-BW3P3-BUCMWZ', 'binance'),
    ('00000000-0000-4000-a000-000000000096', NULL, 'AVAX/USD', 'BUY', 0.5, 'REJECTED', 0, '2026-01-27 01:15', NULL, '', NULL),
    ('00000000-0000-4000-a000-000000000097', NULL, 'AVAX/USD', 'BUY', 0.5, 'REJECTED', 0, '2026-01-27 01:15', NULL, '', NULL),
    -- quantity_mismatch: 150 out of 100; off by the tolerance exactly
    ('00000000-0000-4000-a000-0000000000a1', '00000000-0000-4000-b000-0000000000a1', 'ADA/USD', 'BUY',   80, 'FILLED', 80, '2026-01-26 09:30', '2026-01-26 09:30:01', NULL, NULL),
    ('00000000-0000-4000-a000-0000000000a2', '00000000-0000-4000-b000-0000000000a1', 'ADA/USD', 'BUY',   40, 'PARTIALLY_FILLED', 30, '2026-01-26 09:40', '2026-01-26 09:40:01', NULL, NULL),
    ('00000000-0000-4000-a000-0000000000a3', '00000000-0000-4000-b000-0000000000a1', 'ADA/USD', 'SELL',  10, 'FILLED', 10, '2026-01-26 11:00', '2026-01-26 11:00:01', NULL, NULL),
    ('00000000-0000-4000-a000-0000000000a4', '00000000-0000-4000-b000-0000000000a3', 'ALGO/USD', 'SELL', 1,  'FILLED', 1,  '2026-01-27 01:00', NULL, NULL, NULL),
    -- closed_position_not_flat: what was bought was never sold
    ('00000000-0000-4000-a000-0000000000c1', '00000000-0000-4000-b000-0000000000c1', 'XRP/USD', 'BUY', 0.3, 'FILLED', 0.3, '2026-01-20 14:00', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-0000000000c3', '00000000-0000-4000-b000-0000000000c3', 'XTZ/USD', 'BUY', 0.3, 'CANCELLED', 0, '2026-01-20 14:00', NULL, NULL, NULL),
    -- duplicate_active_position: each is the sum of its orders
    ('00000000-0000-4000-a000-0000000000d1', '00000000-0000-4000-b000-0000000000d1', 'LINK/USD', 'BUY', 10, 'FILLED', 10, '2026-01-27 00:30', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-0000000000d2', '00000000-0000-4000-b000-0000000000d2', 'LINK/USD', 'BUY', 10, 'FILLED', 10, '2026-01-27 01:30', NULL, NULL, NULL),
    ('00000000-0000-4000-a000-0000000000d3', '00000000-0000-4000-b000-0000000000d3', 'LINK/USD', 'BUY', 10, 'FILLED', 10, '2026-01-27 01:30', NULL, NULL, NULL)
) AS o (id, position_id, trading_pair, side, quantity, status, filled_quantity, created_at, updated_at, exchange_order_id, exchange);

-- What no VALUES list above can say: these orders carry no exchange's id at all.
UPDATE orders SET exchange_order_id = NULL WHERE id IN ('00000000-0000-4000-a000-000000000051', '00000000-0000-4000-a000-000000000052');
