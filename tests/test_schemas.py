"""One story, told in very different tables: whatever they are called and typed, the same rows are wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from po_exporter.mapping import Column, SchemaMapping, TableName
from po_exporter.model import LinkRate
from rows import (
    HOUR,
    NOW,
    Asked,
    Order,
    Position,
    Rules,
    ask,
    fill,
    freeze,
    mapping,
    move_clock,
    order,
    position,
    uid,
)

pytestmark = pytest.mark.database

NOWHERE = 99
POSITIONS: list[Position] = [
    position(1, trading_pair="BTC/USD"),
    position(2, trading_pair="ETH/USD", quantity="2.0"),
    position(3, trading_pair="SOL/USD", quantity="0"),
    position(4, trading_pair="ADA/USD", quantity="0.75", is_active=False, closed_at=NOW - HOUR / 2),
    position(5, trading_pair="XRP/USD", quantity="1", opened_at=NOW - 3 * HOUR),
    position(6, trading_pair="XRP/USD", quantity="1"),
    position(7, trading_pair="DOT/USD", quantity="0", opened_at=NOW - 5 * HOUR, closed_at=NOW - 3 * HOUR, is_active=False),
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
          trading_pair AS "Pair", side AS "select", status AS "Status", quantity AS "Qty", filled_quantity AS "Exec Qty",
          created_at AS "Entered", account AS "Account", exchange AS "Venue", exchange_order_id AS "Venue ""Id"" no",
          filled_at AS "Filled", updated_at AS "Touched" FROM public.orders;
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
          extract(epoch FROM created_at) AS entered, account, exchange, exchange_order_id, key(id) AS note FROM public.orders;
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
        "UPDATE desk.positions SET quantity = abs(quantity), side = CASE WHEN quantity < 0 THEN 'short' ELSE 'Long ' END;",
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


@pytest.fixture
async def told(empty_database):
    """The story in plain tables, in a database whose clock stands at NOW."""
    await freeze(empty_database)
    await empty_database.execute(PREPARE)
    await fill(empty_database, ORDERS, POSITIONS)
    return empty_database


async def let_read(database) -> None:
    await database.execute(
        "GRANT USAGE ON SCHEMA desk TO po_reader; GRANT SELECT ON ALL TABLES IN SCHEMA desk TO po_reader"
    )


def findings(asked: Asked) -> dict[str, set[str]]:
    """Every check that was asked, and the ids that it found. None failed."""
    assert not asked.errors
    return {name: set(asked.ids(name)) for name in asked.names}


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_same_rows_are_wrong_whatever_the_tables_look_like(told, shape):
    wanted = SHAPES[shape]
    await told.execute(f"SET search_path = public; {wanted.make}")
    await let_read(told)
    for name, value in wanted.settings.items():
        await told.execute(f"ALTER DATABASE {told.name} SET {name} = '{value}'")
    asked = await ask(told.reader_dsn, wanted.schema)
    wrong = WRONG | wanted.wrong
    assert findings(asked) == {
        name: {(wanted.position_key if name in BY_POSITION else wanted.order_key)(key) for key in keys}
        for name, keys in wrong.items()
        if keys is not None
    }
    assert set(asked.off) == {name for name, keys in wrong.items() if keys is None}
    assert asked.link_rate == RATE
    link = asked.finding("orphaned_position_reference").details["position_id"]
    assert str(link).lower() == wanted.position_key(NOWHERE).lower()


async def test_findings_name_a_key_as_the_table_writes_it(told):
    """An id is there to be looked up: it is not to change its case on the way."""
    await told.execute(
        """
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER id TYPE text USING 'ABCDEF' || substr(upper(id::text), 7);
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER position_id TYPE uuid USING ('ABCDEF' || substr(position_id::text, 7))::uuid;
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "desk.positions"))
    assert asked.link_rate == RATE
    assert asked.ids("quantity_mismatch") == ["ABCDEF" + uid(2)[6:]]


NEW_YORK = "America/New_York"
# A moment, and what the clock on the wall of New York showed 24 hours before.
CHANGES = {
    "clocks went forward in the window": (datetime(2026, 3, 8, 12, tzinfo=UTC), "2026-03-07 07:00:00"),
    "clocks went back in the window": (datetime(2026, 11, 1, 17, tzinfo=UTC), "2026-10-31 13:00:00"),
    "clocks went forward within the last hour": (datetime(2026, 3, 8, 7, 30, tzinfo=UTC), "2026-03-07 02:30:00"),
    "clocks went back within the last hour": (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "2026-10-31 02:30:00"),
    "no change in sight": (datetime(2026, 7, 1, 12, tzinfo=UTC), "2026-06-30 08:00:00"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", ["orders", "positions"])
async def test_a_day_is_24_hours_even_when_clocks_change(told, change, table):
    """The window's edge in local time, to the microsecond."""
    as_of, edge = CHANGES[change]
    await move_clock(told, as_of)
    await told.execute(
        f"""
        CREATE TABLE desk.orders AS SELECT * FROM public.orders LIMIT 0;
        ALTER TABLE desk.orders ALTER created_at TYPE timestamp, ALTER filled_at TYPE timestamp;
        INSERT INTO desk.orders (id, side, status, filled_quantity, created_at)
          VALUES ('{uid(1)}', 'BUY', 'FILLED', 1, '{edge}'),
                 ('{uid(2)}', 'BUY', 'FILLED', 1, timestamp '{edge}' - interval '1 microsecond');
        CREATE TABLE desk.positions AS SELECT * FROM public.positions LIMIT 0;
        ALTER TABLE desk.positions ALTER opened_at TYPE timestamp;
        INSERT INTO desk.positions (id, quantity, opened_at)
          VALUES ('{uid(1)}', 0, '{edge}'), ('{uid(2)}', 0, timestamp '{edge}' - interval '1 microsecond');
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "desk.positions", {"updated_at": None}, timezone=NEW_YORK))
    if table == "orders":
        assert (asked.ids("unlinked_filled_order"), asked.ids("aged_unlinked_order")) == ([uid(1)], [uid(2)])
    else:
        assert asked.ids("position_without_orders") == [uid(1)]


async def test_a_date_is_the_midnight_of_its_time_zone(told):
    """The window begins on 26 January at 02:00 UTC: that day began before it in London, and after it in New York."""
    await told.execute(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders WHERE key(id) = 10;
        ALTER TABLE desk.orders ALTER created_at TYPE date USING '2026-01-26';
        """
    )
    await let_read(told)
    for zone, check in {"Europe/London": "aged_unlinked_order", NEW_YORK: "unlinked_filled_order"}.items():
        asked = await ask(told.reader_dsn, schema("desk.orders", "positions", timezone=zone))
        assert asked.ids(check) == [uid(10)]
        assert asked.good("aged_unlinked_order").count + asked.good("unlinked_filled_order").count == 1


DIGITS = {
    "numeric": ("numeric", "12345678901234567890.123456789012345678"),
    "numeric with a scale": ("numeric(20, 8)", "0.10000000"),
    "double precision, a tenth": ("double precision", "0.1"),
    "double precision, 17 digits": ("double precision", "123456789.12345679"),
    "double precision, tiny": ("double precision", "0.00000000123456789012345"),
    "real": ("real", "0.1"),
    "real, 8 digits": ("real", "16777.217"),
    "integer": ("integer", "2147483647"),
    "bigint": ("bigint", "9223372036854775807"),
    "text": ("text", "0.123456789012345678901"),
}


@pytest.mark.parametrize("kind", DIGITS)
async def test_a_number_keeps_every_digit(told, kind):
    sql_type, digits = DIGITS[kind]
    await told.execute(
        f"""
        CREATE TABLE desk.orders AS SELECT * FROM public.orders WHERE key(id) = 15;
        ALTER TABLE desk.orders ALTER filled_quantity TYPE {sql_type} USING '{digits}'::{sql_type},
          ALTER quantity TYPE numeric USING 0;
        """
    )
    await let_read(told)
    shown = []
    for float_digits in ("1", "0", "-15"):
        await told.execute(f"ALTER DATABASE {told.name} SET extra_float_digits = '{float_digits}'")
        asked = await ask(told.reader_dsn, schema("desk.orders", "positions"), Rules(tolerance=Rules().tolerance / 100))
        shown += [finding.details["found"] for finding in asked.good("overfilled_order").findings]
    assert shown == [digits] * 3, "whatever extra_float_digits the server sets"


async def test_sums_of_floats_are_sums_of_decimals(told):
    """0.1 and 0.2 are 0.3, not 0.30000000000000004; in text they are what they say."""
    await told.execute(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders WHERE key(id) IN (17, 18);
        ALTER TABLE desk.orders ALTER filled_quantity TYPE double precision
          USING CASE key(id) WHEN 17 THEN 0.1 ELSE 0.2 END;
        CREATE TABLE desk.positions AS SELECT * FROM public.positions WHERE key(id) = 10;
        ALTER TABLE desk.positions ALTER quantity TYPE text USING '0.3';
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "desk.positions"), Rules(tolerance=Rules().tolerance * 0))
    assert asked.count("quantity_mismatch") == 0


# What each mapped column carries: without it these have no answer, and all others have theirs.
LINKS = {"link_rate", "unlinked_filled_order", "aged_unlinked_order"}
LOST: dict[str, set[str]] = {
    "orders.quantity": {"overfilled_order"},
    "orders.exchange": {"duplicate_exchange_order"},
    "orders.exchange_order_id": {"duplicate_exchange_order"},
    "orders.trading_pair": {"trading_pair_mismatch"},
    "orders.account": {"trading_pair_mismatch"},
    "orders.filled_at": {*LINKS, "fill_outside_position"},
    "orders.updated_at": set(),  # filled_at says when it filled
    "positions.trading_pair": {"trading_pair_mismatch", "duplicate_active_position"},
    "positions.account": {"trading_pair_mismatch", "duplicate_active_position"},
    "positions.opened_at": {"fill_outside_position", "position_without_orders", "duplicate_active_position"},
    "positions.closed_at": {"fill_outside_position"},  # is_active says whether it is closed
    "positions.is_active": {"closed_position_not_flat", "duplicate_active_position"},
    "positions.side": set(),  # signed
    "positions.quantity": {"quantity_mismatch", "closed_position_not_flat"},
}


def unchanged(asked: Asked, lost: set[str]) -> bool:
    """Whether all other checks answered as they do in the story."""
    assert {name: set(asked.ids(name)) for name in asked.names if name not in lost} == {
        name: set(map(uid, keys)) for name, keys in WRONG.items() if name not in lost
    }
    return "link_rate" in lost or asked.link_rate == RATE


async def test_a_missing_column_takes_down_just_the_checks_that_need_it(told):
    for column, lost in LOST.items():
        table, name = column.split(".")
        await told.execute(f"ALTER TABLE public.{table} RENAME {name} TO gone")
        asked = await ask(told.reader_dsn, schema("orders", "positions"))
        assert set(asked.errors) == lost, column
        assert unchanged(asked, lost), column
        for error in asked.errors.values():
            assert error.startswith(f"there is no column {name} in {table};")
            assert f"schemas.desk.{table}.columns.{name}" in error
        await told.execute(f"ALTER TABLE public.{table} RENAME gone TO {name}")


async def test_a_column_that_may_not_be_read_takes_down_just_the_checks_that_need_it(told):
    for column, lost in LOST.items():
        table, name = column.split(".")
        other = "positions" if table == "orders" else "orders"
        allowed = ", ".join(each for each in COLUMNS[table] if each != name)
        dsn = told.create_role(f"SELECT ({allowed}) ON public.{table}", f"SELECT ON public.{other}")
        asked = await ask(dsn, schema("orders", "positions"))
        assert set(asked.errors) == lost, column
        assert unchanged(asked, lost), column
        for error in asked.errors.values():
            assert f"the role may not read {name} of {table}" in error
            assert f'GRANT SELECT ON "{table}"' in error


async def test_a_column_that_carries_nearly_everything(told):
    """What is left when the link is lost: what needs no link."""
    await told.execute("ALTER TABLE public.orders RENAME position_id TO gone")
    asked = await ask(told.reader_dsn, schema("orders", "positions"))
    alive = {"unreadable_fill", "fill_without_filled_status", "overfilled_order", "duplicate_exchange_order"}
    assert alive <= set(asked.names) - set(asked.errors)
    assert {name: set(asked.ids(name)) for name in alive} == {name: set(map(uid, WRONG[name])) for name in alive}
    assert {"link_rate", "orphaned_position_reference", "quantity_mismatch"} <= set(asked.errors)


@pytest.mark.parametrize("table", ["orders", "positions"])
async def test_a_table_that_may_not_be_read(told, table):
    other = "positions" if table == "orders" else "orders"
    dsn = told.create_role(f"SELECT ON public.{other}")
    asked = await ask(dsn, schema("public.orders", "public.positions"))
    own = {"unlinked_filled_order", "aged_unlinked_order", "unreadable_fill", "fill_without_filled_status",
           "overfilled_order", "duplicate_exchange_order"}  # fmt: skip
    alive = {"duplicate_active_position"} if table == "orders" else own
    assert {*asked.names, "link_rate"} - set(asked.errors) == alive
    assert {name: set(asked.ids(name)) for name in alive} == {name: set(map(uid, WRONG[name])) for name in alive}
    for error in asked.errors.values():
        assert f"of public.{table}; GRANT SELECT ON" in error


async def test_a_schema_that_may_not_be_looked_into(told):
    await told.execute(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders; GRANT SELECT ON desk.orders TO po_reader"
    )
    asked = await ask(told.reader_dsn, schema("desk.orders", "positions"))
    assert {*asked.names, "link_rate"} - set(asked.errors) == {"duplicate_active_position"}
    assert all("desk.orders" in error and "GRANT USAGE ON SCHEMA" in error for error in asked.errors.values())


async def test_a_table_that_is_not_there(told):
    asked = await ask(told.reader_dsn, schema("oms.orders", "positions"))
    assert {*asked.names, "link_rate"} - set(asked.errors) == {"duplicate_active_position"}
    for error in asked.errors.values():
        assert error.startswith("there is no table oms.orders;")
        assert "schemas.desk.orders.table" in error


BROKEN: dict[str, tuple[str, str | Column, set[str], Iterable[str]]] = {
    "names a column that is not there": (
        "orders.quantity", sql("qty * 2"), {"overfilled_order"}, ['column "qty" does not exist'],
    ),
    "is no SQL": ("orders.quantity", sql("quantity +"), {"overfilled_order"}, ["syntax error"]),
    "has a comment that never ends": ("orders.quantity", sql("quantity /* why"), {"overfilled_order"}, ["unterminated"]),
    "tries to be two columns": ("orders.quantity", sql("quantity, filled_quantity"), {"overfilled_order"}, []),
    "breaks out of its parentheses": (
        "orders.quantity", sql("quantity), (filled_quantity"), {"overfilled_order"}, ["one column"],
    ),
    "is a second statement": ("orders.quantity", sql("1); DROP TABLE orders; SELECT (1"), {"overfilled_order"}, []),
    "may not read its table": (
        "orders.filled_at", sql("(SELECT max(now()) FROM desk.fills)"), {*LINKS, "fill_outside_position"},
        ["permission denied"],
    ),
    "is two words where one is meant": ("orders.exchange", sql("exchange, account"), {"duplicate_exchange_order"}, []),
    "is a list of rows": ("orders.exchange", sql("unnest(ARRAY[exchange, account])"), {"duplicate_exchange_order"}, []),
    "is an aggregate": ("orders.exchange", sql("max(exchange)"), {"duplicate_exchange_order"}, []),
    "is a time where a number is meant": ("orders.quantity", sql("created_at"), {"overfilled_order"}, ["a number", "timestamp"]),
    "is text where a time is meant": (
        "orders.filled_at", sql("created_at::text"), {*LINKS, "fill_outside_position"}, ["a time", "text"],
    ),
    "is a column of another kind": ("orders.quantity", "created_at", {"overfilled_order"}, ["a number", "timestamp"]),
    "is no truth": ("positions.is_active", "side", LOST["positions.is_active"], ["true or false", "text"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_column_that_cannot_be_used_is_named_and_the_others_go_on(told, fault):
    column, mapped, lost, words = BROKEN[fault]
    table, name = column.split(".")
    await told.execute("CREATE TABLE desk.fills (no bigint); GRANT USAGE ON SCHEMA desk TO po_reader")
    changed = {name: mapped}
    broken = schema("orders", "positions", *((changed, None) if table == "orders" else (None, changed)))
    asked = await ask(told.reader_dsn, broken)
    assert set(asked.errors) == lost
    assert unchanged(asked, lost)
    assert len(set(asked.errors.values())) == 1, "one message"
    for error in asked.errors.values():
        assert table in error
        assert f"schemas.desk.{table}.columns.{name}" in error
        assert all(word in error for word in words)
    assert await told.fetchval("SELECT count(*) FROM public.orders") == len(ORDERS)


async def test_values_that_are_no_numbers_take_down_just_what_reads_them(told):
    await told.execute(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER quantity TYPE text;
        UPDATE desk.orders SET quantity = 'a lot' WHERE key(id) = 15;
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "positions"))
    assert set(asked.errors) == {"overfilled_order"}
    assert "a lot" in asked.errors["overfilled_order"]
    assert unchanged(asked, {"overfilled_order"})


async def test_a_loss_that_comes_between_two_polls_and_goes_again(told):
    """What a DBA does in the middle of the day: the next poll says it, and the one after takes it back."""
    plain = schema("orders", "positions")
    assert not (await ask(told.reader_dsn, plain)).errors
    await told.execute("ALTER TABLE public.orders RENAME exchange_order_id TO venue_id")
    assert set((await ask(told.reader_dsn, plain)).errors) == {"duplicate_exchange_order"}
    await told.execute("ALTER TABLE public.orders RENAME venue_id TO exchange_order_id")
    assert findings(await ask(told.reader_dsn, plain)) == {name: set(map(uid, keys)) for name, keys in WRONG.items()}


async def test_status_words_beyond_ascii_are_compared_without_case(told):
    """The server may have been made with a locale (C) that knows no capitals beyond ASCII."""
    await told.execute(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders;"
        "UPDATE desk.orders SET status = CASE status WHEN 'FILLED' THEN 'AUSGEFÜHRT' ELSE status END;"
    )
    await let_read(told)
    german = schema("desk.orders", "positions")
    words = ("Ausgeführt", "CANCELLED")
    german = replace(german, orders=replace(german.orders, filled_statuses=words, complete_statuses=words[:1]))
    assert findings(await ask(told.reader_dsn, german)) == {name: set(map(uid, keys)) for name, keys in WRONG.items()}
