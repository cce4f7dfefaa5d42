"""Orders and positions as plain values, healthy unless told otherwise, and the way into a database whose clock stands.

An order and a position as they come out of ``order()`` and ``position()`` agree with each other: each test changes what
it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from parts.database import Database
from po_exporter.mapping import (
    ORDER_COLUMNS,
    POSITION_COLUMNS,
    Column,
    OrdersMapping,
    PositionsMapping,
    SchemaMapping,
    TableName,
)

NOW = datetime(2026, 1, 27, 2, 0, 0, 123456, tzinfo=UTC)
HOUR, SECOND, TICK = timedelta(hours=1), timedelta(seconds=1), timedelta(microseconds=1)
LONG_AGO, FAR_AWAY = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""Stand for PostgreSQL's -infinity and infinity."""


@dataclass(frozen=True)
class Order:
    """A row of the orders table under canonical names."""

    id: str
    position_id: str | None
    trading_pair: str | None
    side: str | None
    status: str | None
    quantity: Decimal | None
    filled_quantity: Decimal | None
    created_at: datetime | None
    account: str | None
    exchange: str | None
    exchange_order_id: str | None
    filled_at: datetime | None
    updated_at: datetime | None


@dataclass(frozen=True)
class Position:
    """A row of the positions table under canonical names."""

    id: str
    trading_pair: str | None
    side: str | None
    quantity: Decimal | None
    opened_at: datetime | None
    closed_at: datetime | None
    is_active: bool | None
    account: str | None


@dataclass(frozen=True)
class Rules:
    """How the tables are to be read: what a configuration says about them."""

    window: timedelta | None = timedelta(hours=24)
    grace: timedelta = timedelta(seconds=30)
    tolerance: Decimal = Decimal("0.00000001")
    quantity: Literal["signed", "by_side"] = "signed"
    closed_quantity: Literal["zero", "kept", "kept_flat"] = "zero"
    one_active_per_pair: bool = True
    unmapped: frozenset[str] = frozenset()
    filled_statuses: tuple[str, ...] = ("FILLED", "PARTIALLY_FILLED", "CANCELLED")
    complete_statuses: tuple[str, ...] = ("FILLED",)
    buy_sides: tuple[str, ...] = ("BUY",)
    sell_sides: tuple[str, ...] = ("SELL",)
    long_sides: tuple[str, ...] = ("LONG",)
    short_sides: tuple[str, ...] = ("SHORT",)

    def mapped(self, *columns: str) -> bool:
        """Whether all of these canonical columns ("orders.filled_at") are mapped."""
        return self.unmapped.isdisjoint(columns)


def uid(number: int) -> str:
    """The same number, the same id; ids sort as their numbers do."""
    return str(UUID(int=number))


def amount(value: Any) -> Decimal | None:
    """A decimal from how it is written."""
    return None if value is None else Decimal(str(value))


def order(number: int, position: int | None = 1, **changes: Any) -> Order:
    """A buy of 2.5 an hour ago, filled at once and linked to that position."""
    values: dict[str, Any] = {
        "id": uid(number),
        "position_id": None if position is None else uid(position),
        "trading_pair": "BTC/USD",
        "side": "BUY",
        "status": "FILLED",
        "quantity": "2.5",
        "filled_quantity": "2.5",
        "created_at": NOW - HOUR,
        "account": "main",
        "exchange": "kraken",
        "exchange_order_id": f"exchange-{number}",
        "filled_at": NOW - HOUR,
        "updated_at": NOW - HOUR,
    } | changes
    return Order(**_decimals(values, "quantity", "filled_quantity"))


def position(number: int = 1, **changes: Any) -> Position:
    """Two hours old, open and long of 2.5: what one ``order()`` makes."""
    values: dict[str, Any] = {
        "id": uid(number),
        "trading_pair": "BTC/USD",
        "side": "LONG",
        "quantity": "2.5",
        "opened_at": NOW - 2 * HOUR,
        "closed_at": None,
        "is_active": True,
        "account": "main",
    } | changes
    return Position(**_decimals(values, "quantity"))


def _decimals(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return values | {name: amount(values[name]) for name in names}


ORDERS = TableName("orders")
POSITIONS = TableName("positions")
ORDER_FIELDS = [each.name for each in fields(Order)]
POSITION_FIELDS = [each.name for each in fields(Position)]


def mapping(rules: Rules) -> SchemaMapping:
    """Our two tables as these rules read them; every column bears its canonical name."""
    columns = {
        table: {n: Column(n) for n in names if n in known and f"{table}.{n}" not in rules.unmapped}
        for table, names, known in (
            ("orders", ORDER_COLUMNS, ORDER_FIELDS),
            ("positions", POSITION_COLUMNS, POSITION_FIELDS),
        )
    }
    return SchemaMapping(
        name="plain",
        orders=OrdersMapping(
            table=ORDERS,
            columns=columns["orders"],
            filled_statuses=rules.filled_statuses,
            complete_statuses=rules.complete_statuses,
            buy_sides=rules.buy_sides,
            sell_sides=rules.sell_sides,
        ),
        positions=PositionsMapping(
            table=POSITIONS,
            columns=columns["positions"],
            quantity=rules.quantity,
            long_sides=rules.long_sides,
            short_sides=rules.short_sides,
            closed_quantity=rules.closed_quantity,
            one_active_per_pair=rules.one_active_per_pair,
        ),
    )


# The widest types: any decimal, any text, times with their zone. The clock is a function found before PostgreSQL's.
TABLES = f"""
CREATE SCHEMA frozen;
CREATE FUNCTION frozen.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS $$SELECT timestamptz '{NOW}'$$;
GRANT USAGE ON SCHEMA frozen TO PUBLIC;
CREATE TABLE orders (id uuid PRIMARY KEY, position_id uuid, trading_pair text, side text, status text, quantity numeric,
  filled_quantity numeric, created_at timestamptz, account text, exchange text, exchange_order_id text,
  filled_at timestamptz, updated_at timestamptz);
CREATE TABLE positions (id uuid PRIMARY KEY, trading_pair text, side text, quantity numeric, opened_at timestamptz,
  closed_at timestamptz, is_active boolean, account text);
GRANT SELECT ON orders, positions TO po_reader;
"""


async def freeze(database: Database) -> None:
    """Make both tables in an empty database, and stop its clock at ``NOW`` for every later session."""
    await database.execute(TABLES)
    await database.execute(f"ALTER DATABASE {database.name} SET search_path = frozen, pg_catalog, public")


async def move_clock(database: Database, to: datetime) -> None:
    """From now on it is this moment there, for every session."""
    await database.execute(
        "CREATE OR REPLACE FUNCTION frozen.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql"
        f" AS $$SELECT timestamptz '{to}'$$"
    )


async def fill(database: Database, orders: Iterable[Order], positions: Iterable[Position]) -> None:
    """These rows and no others."""
    await database.execute("TRUNCATE public.orders, public.positions")
    for table, names, rows in (
        ("orders", ORDER_FIELDS, list(orders)),
        ("positions", POSITION_FIELDS, list(positions)),
    ):
        columns = list(zip(*(map(_text, astuple(row)) for row in rows), strict=True))
        if columns:
            arrays = ", ".join(f"${place}::text[]" for place in range(1, len(names) + 1))
            casts = ", ".join(f"{name}::{KINDS.get(name, 'text')}" for name in names)
            await database.execute(
                f"INSERT INTO public.{table} SELECT {casts} FROM unnest({arrays}) AS row ({', '.join(names)})", *columns
            )


KINDS = (
    dict.fromkeys(("id", "position_id"), "uuid")
    | dict.fromkeys(("quantity", "filled_quantity"), "numeric")
    | dict.fromkeys(("created_at", "filled_at", "updated_at", "opened_at", "closed_at"), "timestamptz")
    | {"is_active": "boolean"}
)


def _text(value: object) -> str | None:
    if value in (LONG_AGO, FAR_AWAY):
        return "infinity" if value == FAR_AWAY else "-infinity"
    return None if value is None else str(value)
