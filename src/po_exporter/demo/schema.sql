-- The database of the simulated trading API: the built-in schema `gal-friday`.
-- No foreign key from orders to positions and no other constraint that would keep a wrong row out: the demo is about
-- a system that lets them in. Times are without zone and in UTC.

CREATE TABLE positions (
    id             uuid PRIMARY KEY,
    trading_pair   varchar(20) NOT NULL,
    side           varchar(10) NOT NULL,
    quantity       numeric(20, 8) NOT NULL,   -- signed: below zero is short, and a closed position is zero
    entry_price    numeric(20, 8) NOT NULL,
    current_price  numeric(20, 8),
    realized_pnl   numeric(20, 8) NOT NULL DEFAULT 0,
    unrealized_pnl numeric(20, 8) NOT NULL DEFAULT 0,
    opened_at      timestamp NOT NULL,
    closed_at      timestamp,
    is_active      boolean NOT NULL DEFAULT true
);

CREATE TABLE orders (
    id                 uuid PRIMARY KEY,
    position_id        uuid,                  -- the link
    trading_pair       varchar(20) NOT NULL,
    exchange           varchar(50) NOT NULL,
    side               varchar(10) NOT NULL,
    order_type         varchar(20) NOT NULL,
    quantity           numeric(20, 8) NOT NULL,
    limit_price        numeric(20, 8),
    status             varchar(20) NOT NULL,
    exchange_order_id  varchar(100),
    filled_quantity    numeric(20, 8) NOT NULL DEFAULT 0,
    average_fill_price numeric(20, 8),
    commission         numeric(20, 8) NOT NULL DEFAULT 0,
    created_at         timestamp NOT NULL,
    updated_at         timestamp
);

CREATE INDEX orders_position_id ON orders (position_id);
CREATE INDEX orders_created_at ON orders (created_at);
CREATE INDEX orders_exchange_order_id ON orders (exchange_order_id);
CREATE INDEX positions_opened_at ON positions (opened_at);
CREATE INDEX positions_active ON positions (trading_pair) WHERE is_active;

GRANT SELECT ON orders, positions TO po_reader;

-- What the change feed needs: a publication of both tables, and old rows whole in the stream.
ALTER TABLE orders REPLICA IDENTITY FULL;
ALTER TABLE positions REPLICA IDENTITY FULL;
CREATE PUBLICATION po_exporter FOR TABLE orders, positions;
