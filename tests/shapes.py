"""One story with a defect of each kind, and the many shapes of tables in which it is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from asking import Asked
from parts.database import Database
from po_exporter.mapping import Column, SchemaMapping, TableName
from po_exporter.model import LinkRate
from rows import HOUR, NOW, Order, Position, Rules, fill, freeze, mapping, order, position, uid

NOWHERE = 99
CLOSED = {"closed_at": NOW - 3 * HOUR, "is_active": False}
POSITIONS: list[Position] = [
    position(1, trading_pair="BTC/USD"),
    position(2, trading_pair="ETH/USD", quantity="2.0"),
    position(3, trading_pair="SOL/USD", quantity="0"),
    position(4, trading_pair="ADA/USD", quantity="0.75", is_active=False, closed_at=NOW - HOUR / 2),
    position(5, trading_pair="XRP/USD", quantity="1", opened_at=NOW - 3 * HOUR),
    position(6, trading_pair="XRP/USD", quantity="1"),
    position(7, trading_pair="DOT/USD", quantity=0, opened_at=NOW - 5 * HOUR, **CLOSED),
    position(8, trading_pair="LTC/USD", quantity="3"),
    position(9, trading_pair="BCH/USD", quantity="1"),
    position(10, trading_pair="XLM/USD", quantity="2"),
    position(11, trading_pair="TRX/USD", quantity="-2", side="SHORT"),
]  # fmt: skip


def made(number: int, of: int | None, size: str, **changes: Any) -> Order:
    """An order in its position's pair that filled whole."""
    pair = POSITIONS[of - 1].trading_pair if of and of != NOWHERE else "BTC/USD"
    return order(number, of, **{"trading_pair": pair, "quantity": size, "filled_quantity": size} | changes)


ORDERS: list[Order] = [
    made(1, 1, "2.5"),
    made(2, 2, "2.5"),
    made(4, 4, "0.75"),
    made(5, 5, "1"),
    made(6, 6, "1"),
    made(7, 7, "1", created_at=NOW - 4 * HOUR, filled_at=NOW - 4 * HOUR),
    made(8, 7, "1", side="SELL"),
    made(10, None, "1", side="SELL"),
    made(11, None, "1", created_at=NOW - 72 * HOUR, filled_at=NOW - 72 * HOUR, updated_at=NOW - 72 * HOUR),
    made(12, NOWHERE, "1"),
    made(13, None, "0"),
    made(14, None, "1", status="NEW"),
    made(15, 8, "3", quantity="2"),
    made(16, 9, "1", trading_pair="BTC/USD"),
    made(17, 10, "1", exchange_order_id="twin"),
    made(18, 10, "1", exchange_order_id="twin", status="CANCELLED"),
    made(19, 11, "2", side="SELL"),
]

WRONG: dict[str, set[int]] = {
    "unlinked_filled_order": {10},
    "aged_unlinked_order": {11},
    "orphaned_position_reference": {12},
    "unreadable_fill": {13},
    "fill_without_filled_status": {14},
    "overfilled_order": {15},
    "trading_pair_mismatch": {16},
    "fill_outside_position": {8},
    "duplicate_exchange_order": {17, 18},
    "quantity_mismatch": {2},
    "position_without_orders": {3},
    "closed_position_not_flat": {4},
    "duplicate_active_position": {6},
}
RATE = LinkRate(eligible=14, links=12)
BY_POSITION = {"quantity_mismatch", "position_without_orders", "closed_position_not_flat", "duplicate_active_position"}

COLUMNS = {
    "orders": "id position_id trading_pair side status quantity filled_quantity created_at account exchange"
    " exchange_order_id filled_at updated_at".split(),
    "positions": "id trading_pair side quantity opened_at closed_at is_active account".split(),
}


def schema(
    orders: str | TableName,
    positions: str | TableName,
    order_columns: dict[str, str | Column | None] | None = None,
    position_columns: dict[str, str | Column | None] | None = None,
    **conventions: Any,
) -> SchemaMapping:
    """A mapping in which each column bears its canonical name but for those named; None leaves one out."""

    def columns(table: str, named: dict[str, str | Column | None] | None) -> dict[str, Column]:
        wanted = dict.fromkeys(COLUMNS[table]) | {name: name for name in COLUMNS[table]} | (named or {})
        return {n: c if isinstance(c, Column) else Column(c) for n, c in wanted.items() if c is not None}

    plain = mapping(Rules())
    zone = conventions.pop("timezone", "UTC")
    of_orders = {name: conventions.pop(name) for name in ("buy_sides", "sell_sides") if name in conventions}
    return SchemaMapping(
        "desk",
        replace(
            plain.orders, table=_table(orders), columns=columns("orders", order_columns), timezone=zone, **of_orders
        ),
        replace(
            plain.positions,
            table=_table(positions),
            columns=columns("positions", position_columns),
            timezone=zone,
            **conventions,
        ),
    )


def _table(name: str | TableName) -> TableName:
    if isinstance(name, TableName):
        return name
    before, _, after = name.rpartition(".")
    return TableName(after, before or None)


def sql(text: str) -> Column:
    return Column(text, is_sql=True)


def number(key: int) -> str:
    return str(key)


@dataclass(frozen=True)
class Shape:
    """How the story's tables look: what makes them from the plain ones, how they are mapped, and how keys are written.

    ``wrong`` is what differs from the story; None is a check that is off.
    """

    make: str
    schema: SchemaMapping
    order_key: Callable[[int], str] = uid
    position_key: Callable[[int], str] = uid
    wrong: dict[str, set[int] | None] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


# From the plain tables' uuid to the number that it was made from.
PREPARE = """
CREATE FUNCTION public.key(uuid) RETURNS bigint IMMUTABLE LANGUAGE sql
  AS $$SELECT ('x' || right($1::text, 12))::bit(48)::bigint$$;
CREATE SCHEMA desk;
"""

SHAPES: dict[str, Shape] = {
    "uuid keys, numeric, times with zone": Shape("", schema("public.orders", "public.positions")),
    "names that only the search path finds": Shape("", schema("orders", "positions")),
    "bigint and integer keys, times without zone, double precision, enums": Shape(
        """
        CREATE TYPE desk.state AS ENUM ('FILLED', 'NEW', 'CANCELLED');
        CREATE TYPE desk.side AS ENUM ('BUY', 'SELL');
        CREATE TABLE desk.orders AS SELECT key(id) AS id, key(position_id)::integer AS position_id, trading_pair,
          side::desk.side AS side, status::desk.state AS status, quantity::double precision AS quantity,
          filled_quantity::double precision AS filled_quantity, created_at AT TIME ZONE 'UTC' AS created_at, account,
          exchange, exchange_order_id, filled_at AT TIME ZONE 'UTC' AS filled_at,
          updated_at AT TIME ZONE 'UTC' AS updated_at FROM public.orders;
        CREATE TABLE desk.positions AS SELECT key(id) AS id, trading_pair, side, quantity::real AS quantity,
          opened_at AT TIME ZONE 'UTC' AS opened_at, closed_at AT TIME ZONE 'UTC' AS closed_at, is_active, account
          FROM public.positions;
        """,
        schema("desk.orders", "desk.positions"),
        number,
        number,
    ),
    "quoted names with capitals, spaces and quotes; text keys": Shape(
        """
        CREATE SCHEMA "OMS";
        CREATE TABLE "OMS"."Order" AS SELECT 'O-' || key(id) AS "Order No", 'P-' || key(position_id) AS "Book",
          trading_pair AS "Pair", side AS "select", status AS "Status", quantity AS "Qty",
          filled_quantity AS "Exec Qty", created_at AS "Entered", account AS "Account", exchange AS "Venue",
          exchange_order_id AS "Venue ""Id"" no", filled_at AS "Filled", updated_at AS "Touched" FROM public.orders;
        CREATE TABLE "OMS"."Book ""A"" 1" AS SELECT 'P-' || key(id) AS "Id", trading_pair AS "Pair", side AS "Dir",
          quantity AS "Size", opened_at AS "Opened", closed_at AS "Closed", is_active AS "Open", account AS "Account"
          FROM public.positions;
        GRANT USAGE ON SCHEMA "OMS" TO po_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA "OMS" TO po_reader;
        """,
        schema(
            TableName("Order", "OMS"),
            TableName('Book "A" 1', "OMS"),
            {
                "id": "Order No",
                "position_id": "Book",
                "trading_pair": "Pair",
                "side": "select",
                "status": "Status",
                "quantity": "Qty",
                "filled_quantity": "Exec Qty",
                "created_at": "Entered",
                "account": "Account",
                "exchange": "Venue",
                "exchange_order_id": 'Venue "Id" no',
                "filled_at": "Filled",
                "updated_at": "Touched",
            },
            {
                "id": "Id",
                "trading_pair": "Pair",
                "side": "Dir",
                "quantity": "Size",
                "opened_at": "Opened",
                "closed_at": "Closed",
                "is_active": "Open",
                "account": "Account",
            },
        ),
        lambda key: f"O-{key}",
        lambda key: f"P-{key}",
    ),
    "a text link, in capitals, to a uuid": Shape(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders;"
        "ALTER TABLE desk.orders ALTER position_id TYPE text USING upper(position_id::text);",
        schema("desk.orders", "public.positions"),
    ),
    "a uuid link to a text key": Shape(
        "CREATE TABLE desk.positions AS SELECT * FROM public.positions;"
        "ALTER TABLE desk.positions ALTER id TYPE varchar(40) USING id::text;",
        schema("public.orders", "desk.positions"),
    ),
    "a text link to a number": Shape(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER position_id TYPE text USING key(position_id)::text;
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER id TYPE bigint USING key(id);
        """,
        schema("desk.orders", "desk.positions"),
        position_key=number,
    ),
    "padded columns of fixed width, numbers that say true, numbers in text": Shape(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER trading_pair TYPE character(12), ALTER side TYPE character(8),
          ALTER status TYPE character(20), ALTER account TYPE character(20), ALTER exchange TYPE character(20),
          ALTER exchange_order_id TYPE character(40), ALTER filled_quantity TYPE text, ALTER quantity TYPE varchar(30);
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER trading_pair TYPE character(20), ALTER account TYPE character(30),
          ALTER quantity TYPE text, ALTER is_active TYPE smallint USING is_active::integer;
        """,
        schema("desk.orders", "desk.positions"),
    ),
    "domains": Shape(
        """
        CREATE DOMAIN desk.key AS uuid;
        CREATE DOMAIN desk.amount AS numeric(30, 10) CHECK (VALUE > -1000);
        CREATE DOMAIN desk.word AS varchar(40);
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER id TYPE desk.key, ALTER position_id TYPE desk.key, ALTER status TYPE desk.word,
          ALTER filled_quantity TYPE desk.amount, ALTER trading_pair TYPE desk.word;
        """,
        schema("desk.orders", "public.positions"),
    ),
    "views": Shape(
        """
        CREATE VIEW desk.orders AS SELECT * FROM public.orders WHERE key(id) < 12
          UNION ALL SELECT * FROM public.orders WHERE key(id) >= 12;
        CREATE MATERIALIZED VIEW desk.positions AS SELECT * FROM public.positions;
        """,
        schema("desk.orders", "desk.positions"),
    ),
    "partitions": Shape(
        """
        CREATE TABLE desk.orders (LIKE public.orders) PARTITION BY RANGE (created_at);
        CREATE TABLE desk.old PARTITION OF desk.orders FOR VALUES FROM (MINVALUE) TO ('2026-01-26');
        CREATE TABLE desk.new PARTITION OF desk.orders FOR VALUES FROM ('2026-01-26') TO (MAXVALUE);
        INSERT INTO desk.orders SELECT * FROM public.orders;
        CREATE TABLE desk.positions (LIKE public.positions) PARTITION BY HASH (id);
        CREATE TABLE desk.even PARTITION OF desk.positions FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE desk.odd PARTITION OF desk.positions FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO desk.positions SELECT * FROM public.positions;
        """,
        schema("desk.orders", "desk.positions"),
    ),
    "times of New York without zone": Shape(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER created_at TYPE timestamp USING created_at AT TIME ZONE 'America/New_York',
          ALTER filled_at TYPE timestamp USING filled_at AT TIME ZONE 'America/New_York',
          ALTER updated_at TYPE timestamp USING updated_at AT TIME ZONE 'America/New_York';
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER opened_at TYPE timestamp USING opened_at AT TIME ZONE 'America/New_York',
          ALTER closed_at TYPE timestamp USING closed_at AT TIME ZONE 'America/New_York';
        """,
        schema("desk.orders", "desk.positions", timezone="America/New_York"),
    ),
    "a server that lives elsewhere, writes dates otherwise and shortens floats": Shape(
        "",
        schema("orders", "positions"),
        settings={
            "timezone": "Asia/Kolkata",
            "datestyle": "German",
            "extra_float_digits": "-10",
            "bytea_output": "escape",
        },
    ),
    "SQL expressions": Shape(
        """
        CREATE TABLE desk.orders AS SELECT key(id) AS no, jsonb_build_object('book', key(position_id), 'pair',
          trading_pair) AS doc, side = 'BUY' AS buys, status, quantity, filled_quantity + 0.5 AS gross, 0.5 AS fee,
          extract(epoch FROM created_at) AS entered, account, exchange, exchange_order_id
          FROM public.orders;
        CREATE TABLE desk.fills AS SELECT key(id) AS no, filled_at FROM public.orders;
        CREATE TABLE desk.positions AS SELECT key(id) AS id, string_to_array(trading_pair, '/') AS legs, side, quantity,
          opened_at, closed_at, account FROM public.positions;
        """,
        schema(
            "desk.orders",
            "desk.positions",
            {
                "id": "no",
                "position_id": sql("(doc->>'book')::bigint"),
                "trading_pair": sql("doc->>'pair' -- what the venue calls it; it's text"),
                "side": sql("CASE WHEN buys THEN 'BUY' ELSE 'SELL' END"),
                "filled_quantity": sql("gross - coalesce(fee, 0) -- fees in the base asset"),
                "created_at": sql("to_timestamp(entered) /* seconds */"),
                "filled_at": sql("(SELECT max(f.filled_at) FROM desk.fills f WHERE f.no = orders.no)"),
                "updated_at": None,
            },
            {"trading_pair": sql("(legs[1:2])[1] || '/' || legs[2]"), "is_active": sql("closed_at IS NULL")},
        ),
        number,
        number,
    ),
    "by side": Shape(
        "CREATE TABLE desk.positions AS SELECT * FROM public.positions;"
        "UPDATE desk.positions SET quantity = abs(quantity),"
        "  side = CASE WHEN quantity < 0 THEN 'short' ELSE 'Long ' END;",
        schema("orders", "desk.positions", quantity="by_side"),
    ),
    "sides in other words": Shape(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders;"
        "UPDATE desk.orders SET side = CASE side WHEN 'BUY' THEN '1' ELSE '5' END;",
        schema("desk.orders", "positions", buy_sides=("1", "3"), sell_sides=("2", "5")),
    ),
    "sides that are numbers": Shape(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders;"
        "ALTER TABLE desk.orders ALTER side TYPE smallint USING CASE side WHEN 'BUY' THEN 1 ELSE -1 END;",
        schema("desk.orders", "positions", buy_sides=("1",), sell_sides=("-1",)),
    ),
    "closed keeps its last size": Shape(
        "CREATE TABLE desk.positions AS SELECT * FROM public.positions;"
        "UPDATE desk.positions SET quantity = 7 WHERE NOT is_active;",
        schema("orders", "desk.positions", closed_quantity="kept"),
        wrong={"closed_position_not_flat": None},
    ),
    "closed keeps its last size, its orders are flat": Shape(
        "CREATE TABLE desk.positions AS SELECT * FROM public.positions;"
        "UPDATE desk.positions SET quantity = 7 WHERE NOT is_active;",
        schema("orders", "desk.positions", closed_quantity="kept_flat"),
    ),
    "hedging": Shape(
        "",
        schema("orders", "positions", one_active_per_pair=False),
        wrong={"duplicate_active_position": None},
    ),
    "only what is required": Shape(
        "",
        schema(
            "orders",
            "positions",
            dict.fromkeys("trading_pair quantity account exchange exchange_order_id filled_at updated_at".split()),
            dict.fromkeys("trading_pair side opened_at closed_at is_active account".split()),
        ),
        wrong=dict.fromkeys(
            "overfilled_order trading_pair_mismatch fill_outside_position duplicate_exchange_order"
            " position_without_orders closed_position_not_flat duplicate_active_position".split()
        ),
    ),
    "closed_at alone": Shape("", schema("orders", "positions", None, {"is_active": None})),
    "is_active alone": Shape(
        "", schema("orders", "positions", None, {"closed_at": None}), wrong={"fill_outside_position": None}
    ),
    "no times but of creation": Shape(
        "",
        schema("orders", "positions", {"filled_at": None, "updated_at": None}, {"opened_at": None}),
        wrong={"position_without_orders": None, "duplicate_active_position": {6}},
    ),
    "no pairs": Shape(
        "",
        schema("orders", "positions", {"trading_pair": None}),
        wrong={"trading_pair_mismatch": None},
    ),
}


async def tell(database: Database) -> None:
    """Put the story into plain tables, in an empty database whose clock then stands at NOW."""
    await freeze(database)
    await database.execute(PREPARE)
    await fill(database, ORDERS, POSITIONS)


async def let_read(database: Database) -> None:
    await database.execute(
        "GRANT USAGE ON SCHEMA desk TO po_reader; GRANT SELECT ON ALL TABLES IN SCHEMA desk TO po_reader"
    )


def findings(asked: Asked) -> dict[str, set[str]]:
    """Every check that was asked, and the ids that it found. None failed."""
    assert not asked.errors
    return {name: set(asked.ids(name)) for name in asked.names}
