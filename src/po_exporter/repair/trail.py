"""A position and the orders that made it: what each added, and whether the sum is what the position says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg

from po_exporter import sql
from po_exporter.database.expressions import with_expressions
from po_exporter.database.schema import Presenter
from po_exporter.database.session import Limits, Session, Snapshot, Target
from po_exporter.errors import DeadlinePassed, UsageError
from po_exporter.mapping import SchemaMapping
from po_exporter.repair.ids import plain_id
from po_exporter.watch.answer import read_time
from po_exporter.watch.statement import compose_query

_POSITION = "id trading_pair account side quantity signed_quantity active compared opened_at closed_at".split()
_ORDER = (
    "id position_id trading_pair side status quantity filled_quantity average_fill_price created_at fill_time filled "
    "counts contribution"
).split()
_NEEDS = frozenset({"positions.id", "positions.signed_quantity", "positions.compared", "ledger.quantity"})
"""What the trail cannot do without; the rest is shown where it can be read."""
_TIMES = frozenset({"created_at", "fill_time", "opened_at", "closed_at"})


@dataclass(frozen=True, slots=True)
class Contribution:
    """One order of the trail. Quantities are the database's decimals as text, ``running_quantity`` their sum so far."""

    id: str
    trading_pair: str | None
    side: str | None
    status: str | None
    quantity: str | None
    filled_quantity: str | None
    average_fill_price: str | None
    created_at: datetime | None
    fill_time: datetime | None
    filled: bool
    unreadable: bool
    running_quantity: str


@dataclass(frozen=True, slots=True)
class Trail:
    """A position, its orders in fill order, and whether they agree. ``reason`` says why not, or why that is so."""

    database: str
    as_of: datetime
    id: str
    trading_pair: str | None
    account: str | None
    side: str | None
    quantity: str | None
    signed_quantity: str | None
    active: bool | None
    opened_at: datetime | None
    closed_at: datetime | None
    orders: tuple[Contribution, ...]
    total: str | None
    agrees: bool
    reason: str | None


async def read_trail(
    target: Target, limits: Limits, mapping: SchemaMapping, position_id: str, tolerance: Decimal
) -> Trail:
    """The trail of one position. ``tolerance`` is how far quantities may be apart.

    Raises UsageError for a malformed id or one that names no position, DatabaseError when it cannot be found out.
    """
    session = Session(target)
    try:
        async with asyncio.timeout(limits.poll.total_seconds()), session.snapshot(limits, mapping) as snapshot:
            return await _read(snapshot, target.name, mapping, position_id, tolerance)
    except TimeoutError:
        raise DeadlinePassed(
            f"the trail took longer than {limits.poll.total_seconds():g} s (monitor.poll_timeout)"
        ) from None
    finally:
        await session.close()


async def _read(
    snapshot: Snapshot, database: str, mapping: SchemaMapping, position_id: str, tolerance: Decimal
) -> Trail:
    presenter = Presenter(mapping, await with_expressions(snapshot, mapping), unbounded=True)
    needed = [f"positions.{name}" for name in _POSITION] + [f"orders.{name}" for name in _ORDER]
    obstacle = presenter.obstacle(_NEEDS)
    if obstacle:
        raise obstacle
    kind = presenter.id_type("positions")
    position_id = plain_id(presenter, "positions", position_id)
    parameters = presenter.parameters | {"position": (position_id, f"text::{kind}")}
    query, arguments = compose_query(presenter, sql.read("trail_position.sql"), needed, parameters)
    found = await snapshot.fetch(query, *arguments)
    if not found:
        raise UsageError(f"{mapping.positions.table} of {database} has no position {position_id}.")
    query, arguments = compose_query(presenter, sql.read("trail_orders.sql"), needed, parameters)
    orders = tuple(Contribution(**_with_times(row)) for row in await snapshot.fetch(query, *arguments))
    position = _with_times(found[0])
    compared = position.pop("compared")
    unreadable = any(order.unreadable for order in orders)
    total = None if unreadable else orders[-1].running_quantity if orders else "0"
    agrees, reason = _agreement(position["signed_quantity"], total, tolerance, mapping, compared=compared)
    return Trail(database, snapshot.as_of, orders=orders, total=total, agrees=agrees, reason=reason, **position)


def _agreement(
    signed: str | None, total: str | None, tolerance: Decimal, mapping: SchemaMapping, *, compared: bool
) -> tuple[bool, str | None]:
    """Whether position and orders agree, as the checks quantity_mismatch and closed_position_not_flat see it."""
    if not compared and mapping.positions.closed_quantity == "kept":
        return True, "the position is closed and keeps its last size, so that it is not compared"
    if total is None:
        return False, "an order that points at it has an unreadable side or quantity, so that nobody can know the sum"
    if not compared:
        return _near(
            total, "0", tolerance
        ), "the position is closed and keeps its last size: its orders should net to 0"
    if signed is None:
        return False, "the position's own quantity is missing or negative, or its side is unknown"
    return _near(signed, total, tolerance), None


def _near(one: str, other: str, tolerance: Decimal) -> bool:
    first, second = Decimal(one), Decimal(other)
    return first.is_finite() and second.is_finite() and abs(first - second) <= tolerance


def _with_times(row: asyncpg.Record) -> dict[str, Any]:
    """A row with its times read; unknown is what the calendar does not hold."""
    return {name: read_time(value) if name in _TIMES else value for name, value in row.items()}
