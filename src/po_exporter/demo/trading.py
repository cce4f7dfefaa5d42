"""The simulated trading API: what happens to an order from its creation to its link, and how that is written."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Protocol

import asyncpg

from po_exporter.demo.book import Order, Pair, Position

USUAL_RATE = 20.0
"""Orders a second up to which an order takes the time that a person can watch; above, all goes faster."""
WRITTEN_APART = 1 / 50
"""The share of orders whose fill, position and link are written in transactions of their own."""


class Clock(Protocol):
    """Time as a desk lives it: real, or a day that passes at once."""

    def now(self) -> datetime:
        """In UTC and without zone, as the tables keep it."""

    async def pause(self, seconds: float) -> None:
        """Lets the exchange take its time."""

    async def begin(self) -> bool:
        """Waits until one more order may be made; False when there shall be no more."""


class Record(Protocol):
    """Where a desk writes what it does."""

    async def created(self, order: Order) -> None:
        """The order is new."""

    async def changed(self, order: Order) -> None:
        """It was accepted by the exchange, or is over."""

    async def filled(self, order: Order, position: Position, *, apart: bool) -> None:
        """A fill: the order, its position and its link change, in one transaction or in one each."""


class Desk:
    """Trades one pair: opens a position with several orders, closes it with several more, and begins again.

    It keeps what the sidecar checks: one active position a pair, zero when closed, the sum of its orders always.
    """

    def __init__(
        self, pair: Pair, clock: Clock, record: Record, rng: random.Random, position: Position | None = None
    ) -> None:
        self.pair = pair
        self.position = position
        self._clock = clock
        self._record = record
        self._rng = rng
        self._one_fill = asyncio.Lock()

    async def trade(self) -> None:
        """Until the clock gives no more orders; those that were begun are brought to their end."""
        while await self.open() and await self._close():
            pass

    async def open(self) -> bool:
        """Several orders at a time, on one side. Says whether the clock would have given more."""
        side = self._rng.choice(("BUY", "SELL"))
        if self.position is not None:
            side = "BUY" if self.position.quantity > 0 else "SELL"
        orders = (self._order(side, self._lots(self._rng.randint(2, 60))) for _ in range(self._rng.randint(2, 8)))
        return all(await asyncio.gather(*orders))

    async def _close(self) -> bool:
        """One order after the other, linked from the start, until the position is at zero."""
        while (position := self.position) is not None:
            side = "SELL" if position.quantity > 0 else "BUY"
            lots = int(abs(position.quantity) / self.pair.lot)
            part = lots if lots < 4 or self._rng.random() < 0.6 else self._rng.randint(1, lots - 1)
            if not await self._order(side, self._lots(part), reduces=position):
                return False
        return True

    async def _order(self, side: str, quantity: Decimal, reduces: Position | None = None) -> bool:
        """One life of an order. Most are filled, in one part or several; some are rejected, cancelled or expire."""
        if not await self._clock.begin():
            return False
        rng = self._rng
        price = self.pair.next_price(rng)
        at_market = rng.random() < 0.4
        order = Order(
            self.pair, side, "MARKET" if at_market else "LIMIT", quantity, None if at_market else price,
            self._clock.now(), position_id=reduces.id if reduces else None,
        )  # fmt: skip
        apart = rng.random() < WRITTEN_APART
        await self._record.created(order)
        await self._clock.pause(rng.uniform(0.02, 0.08))
        fate = rng.random()
        if fate < 0.02:
            order.end("REJECTED", self._clock.now())
            await self._record.changed(order)
            return True
        order.accept(self._clock.now())
        await self._record.changed(order)
        parts = self._parts(quantity)
        if fate < 0.08:
            parts = []
        elif fate < 0.16:
            parts = parts[:-1]
        for part in parts:
            await self._clock.pause(rng.uniform(0.05, 0.3))
            await self._fill(order, part, apart=apart)
        if order.filled_quantity != order.quantity:
            await self._clock.pause(rng.uniform(0.05, 0.3))
            order.end(rng.choice(("CANCELLED", "EXPIRED")), self._clock.now())
            await self._record.changed(order)
        return True

    async def _fill(self, order: Order, quantity: Decimal, *, apart: bool) -> None:
        price = self.pair.next_price(self._rng) if order.limit_price is None else order.limit_price
        async with self._one_fill:  # the next fill builds on what this one makes of the position
            at = self._clock.now()
            position = self.position or Position(self.pair, opened_at=at)
            order.fill(quantity, price, at)
            order.position_id = position.id
            position.fill(order.side, quantity, price, at)
            await self._record.filled(order, position, apart=apart)
            self.position = position if position.closed_at is None else None

    def _lots(self, count: int) -> Decimal:
        return count * self.pair.lot

    def _parts(self, quantity: Decimal) -> list[Decimal]:
        lots = int(quantity / self.pair.lot)
        cuts = sorted({self._rng.randint(1, lots) for _ in range(self._rng.randint(0, 2))} | {0, lots})
        return [self._lots(end - start) for start, end in pairwise(cuts)]


class LiveClock:
    """Real time, and ``rate`` new orders a second over all desks, until ``stop`` is set."""

    def __init__(self, rate: float, stop: asyncio.Event) -> None:
        self._gap = 1 / rate
        self._haste = min(1.0, USUAL_RATE / rate)
        self._stop = stop
        self._next = asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The present."""
        return datetime.now(UTC).replace(tzinfo=None)

    async def pause(self, seconds: float) -> None:
        """Shorter than asked where many orders a second are wanted."""
        await asyncio.sleep(seconds * self._haste)

    async def begin(self) -> bool:
        """In its turn; what was missed in the last second is caught up with."""
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - 1) + self._gap
        try:
            async with asyncio.timeout(self._next - now):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False


INSERT_ORDER = """
    INSERT INTO orders (id, position_id, trading_pair, exchange, side, order_type, quantity, limit_price, status,
        exchange_order_id, filled_quantity, average_fill_price, commission, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"""
CHANGE_ORDER = """
    UPDATE orders SET status = $2, exchange_order_id = $3, filled_quantity = $4, average_fill_price = $5,
        commission = $6, updated_at = $7
    WHERE id = $1"""
PUT_POSITION = """
    INSERT INTO positions (id, trading_pair, side, quantity, entry_price, current_price, realized_pnl, unrealized_pnl,
        opened_at, closed_at, is_active)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity, entry_price = excluded.entry_price,
        current_price = excluded.current_price, realized_pnl = excluded.realized_pnl,
        unrealized_pnl = excluded.unrealized_pnl, closed_at = excluded.closed_at, is_active = excluded.is_active"""
LINK_ORDER = "UPDATE orders SET position_id = $2 WHERE id = $1"


class PostgresRecord:
    """The trading API's own database."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def created(self, order: Order) -> None:
        """One row more."""
        await self._pool.execute(INSERT_ORDER, *order.row())

    async def changed(self, order: Order) -> None:
        """Everything of the order but its link."""
        await self._pool.execute(CHANGE_ORDER, *_changing(order))

    async def filled(self, order: Order, position: Position, *, apart: bool) -> None:
        """Order, position, link: together, or a few milliseconds apart, as systems do that know no better."""
        async with self._pool.acquire() as connection:
            if apart:
                await connection.execute(CHANGE_ORDER, *_changing(order))
                await asyncio.sleep(0.001)
                await connection.execute(PUT_POSITION, *position.row())
                await asyncio.sleep(0.001)
                await connection.execute(LINK_ORDER, order.id, position.id)
                return
            async with connection.transaction():
                await connection.execute(CHANGE_ORDER, *_changing(order))
                await connection.execute(PUT_POSITION, *position.row())
                await connection.execute(LINK_ORDER, order.id, position.id)


def _changing(order: Order) -> tuple[object, ...]:
    return (
        order.id, order.status, order.exchange_order_id, order.filled_quantity, order.average_fill_price,
        order.commission, order.updated_at,
    )  # fmt: skip
