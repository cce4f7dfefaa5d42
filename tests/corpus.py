"""Situations in which an order has lost its link, each with the truth of where it belongs; made at random.

Each has a pair of its own, so that thousands stand side by side in one database and are judged by one plan.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from parts.database import Database
from po_exporter.mapping import GAL_FRIDAY, Column, OrdersMapping, PositionsMapping, SchemaMapping, TableName

ACCOUNTS = SchemaMapping(
    "desk",
    OrdersMapping(
        TableName("fills"),
        {name: Column(name) for name in ("id position_id trading_pair account side quantity status filled_quantity "
                                         "created_at filled_at").split()},
        filled_statuses=("FILLED", "PARTIALLY_FILLED", "CANCELLED"), complete_statuses=("FILLED",),
        buy_sides=("BUY",), sell_sides=("SELL",),
    ),
    PositionsMapping(
        TableName("books"),
        {name: Column(name) for name in "id trading_pair account side quantity opened_at closed_at is_active".split()},
        quantity="by_side", long_sides=("LONG",), short_sides=("SHORT",),
    ),
)  # fmt: skip
"""Several accounts, both directions at once, and a time of the fill."""
TABLES = """
CREATE TABLE fills (id bigint PRIMARY KEY, position_id bigint, trading_pair text, account text, side text,
                    quantity numeric, status text, filled_quantity numeric, created_at timestamptz,
                    filled_at timestamptz);
CREATE TABLE books (id bigint PRIMARY KEY, trading_pair text, account text, side text, quantity numeric,
                    opened_at timestamptz, closed_at timestamptz, is_active boolean);
CREATE INDEX ON fills (position_id);
GRANT SELECT ON fills, books TO po_reader;
"""
SIZES = [Decimal(size) / 2 for size in (1, 2, 2, 3, 4)]
"""So few that what differs is often of the same size."""
NOWHERE = 0


@dataclass
class Order:
    """``truth``: the position to which it belongs, NOWHERE for one that belongs to none, or nobody could say where."""

    id: int
    truth: int
    pair: str
    account: str
    signed: Decimal
    at: datetime
    status: str = "FILLED"
    link: int | None = None
    created: timedelta = timedelta()
    touched: timedelta | None = timedelta()


@dataclass
class Position:
    id: int
    pair: str
    account: str
    direction: int
    opened: datetime
    closed: datetime | None = None
    quantity: Decimal = Decimal(0)


@dataclass
class Corpus:
    """Of one seed. So many ``faults`` a situation at most, besides lost links; ``kinds`` counts them."""

    seed: int
    accounts: bool
    faults: int = 1
    orders: list[Order] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)
    lost: dict[int, int] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self._next = 1
        self._now = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)

    @property
    def mapping(self) -> SchemaMapping:
        return ACCOUNTS if self.accounts else GAL_FRIDAY

    def grow(self, situations: int) -> None:
        """So many more."""
        for _ in range(situations):
            self._situation()

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _situation(self) -> None:
        dice, pair = self.dice, f"P{self._number()}/USD"
        orders: list[Order] = []
        positions: list[Position] = []
        for account in ["main", "second"][: 1 + (self.accounts and dice.random() < 0.4)]:
            at = self._now - timedelta(hours=dice.randint(3, 40))
            for _ in range(dice.choice((1, 1, 2, 3))):
                at = self._life(orders, positions, pair, account, at)
                if self.accounts and dice.random() < 0.3:  # hedged: the next one begins while this one is open
                    at -= timedelta(minutes=dice.randint(5, 60))
        for order in orders:
            order.link = order.truth
        self._break(orders, positions)
        self.orders += orders
        self.positions += positions
        self.lost |= {order.id: order.truth for order in orders if order.link is None}

    def _life(self, orders: list[Order], positions: list[Position], pair: str, account: str, at: datetime) -> datetime:
        """One position from its first fill to its last, and when the next may begin."""
        dice = self.dice
        position = Position(self._number(), pair, account, dice.choice((1, -1)), at)
        running, size = Decimal(0), Decimal(0)
        fills = dice.randint(1, 5)
        for place in range(fills):
            twin = place and running and dice.random() < 0.2
            if not twin:  # else one of the same size, in the same second
                at += timedelta(seconds=dice.randint(1, 900))
                size = dice.choice(SIZES)
                if running > size and dice.random() < 0.4:
                    size = -size
            elif running + size <= 0:
                size = -size
            running += size
            orders.append(self._order(position.id, pair, account, size * position.direction, at))
        if dice.random() < 0.5:
            at += timedelta(seconds=dice.randint(1, 900))
            orders.append(self._order(position.id, pair, account, -running * position.direction, at))
            position.closed, running = at + timedelta(milliseconds=dice.randint(0, 800)), Decimal(0)
        position.opened += timedelta(milliseconds=dice.randint(0, 800))
        first = next(order for order in orders if order.truth == position.id)
        position.opened = first.at + timedelta(milliseconds=dice.randint(0, 800))
        position.quantity = running * position.direction
        positions.append(position)
        return at + timedelta(seconds=dice.choice((0, 1, 5, 60, 3600)))

    def _order(self, truth: int, pair: str, account: str, signed: Decimal, at: datetime) -> Order:
        dice = self.dice
        status = dice.choice(("FILLED", "FILLED", "FILLED", "PARTIALLY_FILLED", "CANCELLED"))
        touched = dice.choice((timedelta(), timedelta(), timedelta(milliseconds=300), None, timedelta(minutes=5)))
        created = timedelta(milliseconds=dice.choice((0, 20, 900, 60_000)))
        return Order(self._number(), truth, pair, account, signed, at, status, created=created, touched=touched)

    def _break(self, orders: list[Order], positions: list[Position]) -> None:
        """Links are lost, and often something else is wrong as well."""
        dice = self.dice
        for order in dice.sample(orders, min(len(orders), dice.choice((1, 1, 1, 2, 3)))):
            order.link = None
        others = [
            ("nothing else", lambda: None), ("nothing else", lambda: None), ("fee", lambda: self._fee(positions)),
            ("late fill", lambda: self._late(orders, positions)), ("flip", lambda: self._flip(orders, positions)),
            ("stray", lambda: self._stray(orders, positions)), ("deleted", lambda: self._deleted(positions)),
            ("mislinked", lambda: self._mislinked(orders, positions)),
            ("stale", lambda: self._stale(orders, positions)),
            ("still going on", lambda: self._recent(orders, positions)),
        ]  # fmt: skip
        for name, do in dice.sample(others, self.faults):
            if positions:
                do()
                self.kinds[name] += 1

    def _fee(self, positions: list[Position]) -> None:
        """The exchange keeps a part of what was bought."""
        position = self.dice.choice(positions)
        position.quantity -= self.dice.choice((Decimal("0.001"), Decimal("0.0026"))) * position.direction

    def _late(self, orders: list[Order], positions: list[Position]) -> None:
        """A fill is reported after the position has closed: nobody knows where it belongs."""
        closed = [position for position in positions if position.closed]
        if closed:
            position = self.dice.choice(closed)
            after = timedelta(seconds=self.dice.choice((0, 1, 20, 300)))
            orders.append(self._order(NOWHERE, position.pair, position.account, self.dice.choice(SIZES)
                                      * self.dice.choice((1, -1)), position.closed + after))  # fmt: skip

    def _flip(self, orders: list[Order], positions: list[Position]) -> None:
        """One order closes a position and opens the next, in a row of its own or in the same: nobody could say to which
        it belongs."""
        position = self.dice.choice(positions)
        if not position.quantity:
            return
        at = max(order.at for order in orders if order.truth == position.id) + timedelta(seconds=30)
        left = -position.quantity
        orders.append(self._order(NOWHERE, position.pair, position.account, 2 * left, at))
        if self.dice.random() < 0.5:
            position.quantity, position.direction = left, -position.direction
        else:
            position.closed, position.quantity = at, Decimal(0)
            positions.append(
                Position(self._number(), position.pair, position.account, -position.direction, at, None, left)
            )

    def _stray(self, orders: list[Order], positions: list[Position]) -> None:
        """An order that belongs to none of them, while they are open."""
        position = self.dice.choice(positions)
        size = self.dice.choice(SIZES) * self.dice.choice((1, -1))
        orders.append(self._order(NOWHERE, position.pair, position.account, size,
                                  position.opened + timedelta(seconds=self.dice.randint(0, 900))))  # fmt: skip

    def _deleted(self, positions: list[Position]) -> None:
        positions.remove(self.dice.choice(positions))

    def _mislinked(self, orders: list[Order], positions: list[Position]) -> None:
        linked = [order for order in orders if order.link]
        if linked:
            self.dice.choice(linked).link = self.dice.choice(positions).id

    def _stale(self, orders: list[Order], positions: list[Position]) -> None:
        """A position was not updated for one of its orders."""
        position = self.dice.choice(positions)
        mine = [order for order in orders if order.truth == position.id]
        if mine:
            position.quantity -= self.dice.choice(mine).signed

    def _recent(self, orders: list[Order], positions: list[Position]) -> None:
        """An order that has just filled, of which the position knows already."""
        position = self.dice.choice(positions)
        if position.closed is None:
            size = self.dice.choice(SIZES) * position.direction
            now = datetime.now(UTC)
            order = self._order(position.id, position.pair, position.account, size, now)
            position.quantity += size
            orders.append(order)

    async def fill(self, database: Database) -> None:
        """Write all of it into the mapping's tables."""
        connection = await database.connection()
        if self.accounts:
            await connection.execute("TRUNCATE fills, books")
            await connection.copy_records_to_table("books", records=[
                (p.id, p.pair, p.account, "LONG" if p.direction > 0 else "SHORT", abs(p.quantity), p.opened, p.closed,
                 p.closed is None) for p in self.positions])  # fmt: skip
            await connection.copy_records_to_table("fills", records=[
                (o.id, o.link, o.pair, o.account, "BUY" if o.signed > 0 else "SELL", abs(o.signed), o.status,
                 abs(o.signed), o.at - o.created, o.at) for o in self.orders])  # fmt: skip
            await connection.execute("ANALYZE fills, books")
            return
        await connection.execute("TRUNCATE orders, positions")
        await connection.copy_records_to_table("positions", columns=[
            "id", "trading_pair", "side", "quantity", "opened_at", "closed_at", "is_active"], records=[
            (uuid(p.id), p.pair, "LONG" if p.direction > 0 else "SHORT", p.quantity, naive(p.opened), naive(p.closed),
             p.closed is None) for p in self.positions])  # fmt: skip
        await connection.copy_records_to_table("orders", columns=[
            "id", "position_id", "trading_pair", "side", "quantity", "status", "filled_quantity", "created_at",
            "updated_at"], records=[
            (uuid(o.id), uuid(o.link), o.pair, "BUY" if o.signed > 0 else "SELL", abs(o.signed), o.status,
             abs(o.signed), naive(o.at - o.created), None if o.touched is None else naive(o.at + o.touched))
            for o in self.orders])  # fmt: skip
        await connection.execute("ANALYZE orders, positions")

    def number(self, key: str) -> int:
        """An id in the database as it is here."""
        return int(key) if self.accounts else int(key.replace("-", ""), 16)


def uuid(number: int | None) -> str | None:
    """A number as an id."""
    return None if number is None else f"00000000-0000-0000-0000-{number:012x}"


def naive(moment: datetime | None) -> datetime | None:
    """As a column without zone has it."""
    return moment and moment.replace(tzinfo=None)
