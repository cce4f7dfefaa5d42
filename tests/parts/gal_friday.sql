-- The tables of the users' guide, as loosely constrained as a test needs them: rows may be as wrong as rows can be.
CREATE TABLE positions (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    trading_pair   varchar(20),
    side           varchar(10),
    quantity       numeric(20, 8),
    entry_price    numeric(20, 8),
    current_price  numeric(20, 8),
    realized_pnl   numeric(20, 8),
    unrealized_pnl numeric(20, 8),
    opened_at      timestamp DEFAULT (now() AT TIME ZONE 'UTC'),
    closed_at      timestamp,
    is_active      boolean DEFAULT true
);

CREATE TABLE orders (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    position_id        uuid, -- without a foreign key, so that orphans can exist
    trading_pair       varchar(20),
    exchange           varchar(50),
    side               varchar(10),
    order_type         varchar(20),
    quantity           numeric(20, 8),
    limit_price        numeric(20, 8),
    status             varchar(30),
    exchange_order_id  varchar(100),
    filled_quantity    numeric(20, 8),
    average_fill_price numeric(20, 8),
    commission         numeric(20, 8),
    created_at         timestamp DEFAULT (now() AT TIME ZONE 'UTC'),
    updated_at         timestamp
);

CREATE INDEX orders_position_id ON orders (position_id);
CREATE INDEX orders_created_at ON orders (created_at);

GRANT SELECT ON orders, positions TO po_reader;
