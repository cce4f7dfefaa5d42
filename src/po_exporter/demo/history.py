"""A day of trading, made in a moment, so that the first numbers are not empty."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from po_exporter.demo.book import Order, Position, live_pairs, quiet_pairs
from po_exporter.demo.trading import Desk

LENGTH = timedelta(hours=23, minutes=30)
"""How far back it reaches: less than the window of a day, so that the first poll sees all of it."""
BETWEEN_ORDERS = timedelta(seconds=110)
SLOWNESS = 180
"""In the history a fill takes minutes instead of a fraction of a second."""


class PastClock:
    """Time that passes only when somebody waits, from ``start`` until ``end``."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self._now = start
        self._end = end

    def now(self) -> datetime:
        """A moment of the past."""
        return self._now

    async def pause(self, seconds: float) -> None:
        """Takes no time, yet more of it than asked."""
        self._now += timedelta(seconds=seconds * SLOWNESS)

    async def begin(self) -> bool:
        """Until the end is near enough that an order might live past it."""
        self._now += BETWEEN_ORDERS
        return self._now < self._end - timedelta(minutes=10)


class Memory:
    """Keeps the orders and positions themselves: at the end they are the rows as they were last written."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.positions: dict[uuid.UUID, Position] = {}

    async def created(self, order: Order) -> None:
        """One order more."""
        self.orders.append(order)

    async def changed(self, order: Order) -> None:
        """Nothing to do: it is the same order."""

    async def filled(self, order: Order, position: Position, *, apart: bool) -> None:  # noqa: ARG002 - see trading.Record
        """One position more, if it is a new one."""
        self.positions[position.id] = position


@dataclass(frozen=True, slots=True)
class History:
    """``desks`` are those of the live pairs, as the day left them."""

    orders: list[Order]
    positions: list[Position]
    desks: list[Desk]

    async def write(self, connection: asyncpg.Connection) -> None:
        """Into empty tables."""
        await connection.copy_records_to_table("positions", records=[position.row() for position in self.positions])
        await connection.copy_records_to_table("orders", records=[order.row() for order in self.orders])
        await connection.execute("ANALYZE orders, positions")


async def make_history(now: datetime, rng: random.Random) -> History:
    """A few thousand orders in the day before ``now``; every quiet pair has one position, opened early and held."""
    memory = Memory()
    start = now - LENGTH
    desks = [Desk(pair, PastClock(start, now), memory, rng) for pair in live_pairs()]
    for desk in desks:
        await desk.trade()
    for pair in quiet_pairs():
        desk = Desk(pair, PastClock(start, now), memory, rng)
        for _ in range(3):
            await desk.open()
        while desk.position is None:
            await desk.open()
    return History(sorted(memory.orders, key=lambda order: order.created_at), list(memory.positions.values()), desks)
