"""Orders and positions as the simulated trading API keeps them in mind, and what a fill does to both."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

UNIT = Decimal("0.00000001")
"""The last digit of numeric(20, 8)."""
COMMISSION = Decimal("0.001")


def rounded(value: Decimal) -> Decimal:
    """To the digits that the database keeps."""
    return value.quantize(UNIT, ROUND_HALF_EVEN)


@dataclass(slots=True)
class Pair:
    """A trading pair with its latest price. Quantities are multiples of ``lot``, prices of ``tick``."""

    name: str
    exchange: str
    price: Decimal
    lot: Decimal
    tick: Decimal

    def next_price(self, rng: random.Random) -> Decimal:
        """The price after a small step up or down."""
        moved = self.price * Decimal(1 + rng.gauss(0, 0.0006))
        self.price = max(moved.quantize(self.tick), self.tick)
        return self.price


def live_pairs() -> tuple[Pair, ...]:
    """Those that are traded while the demo runs."""
    return (
        Pair("BTC/USD", "kraken", Decimal("97250.0"), Decimal("0.001"), Decimal("0.1")),
        Pair("ETH/USD", "kraken", Decimal("3410.50"), Decimal("0.01"), Decimal("0.01")),
        Pair("SOL/USD", "kraken", Decimal("187.40"), Decimal("0.1"), Decimal("0.01")),
        Pair("XRP/USD", "coinbase", Decimal("2.3150"), Decimal("10"), Decimal("0.0001")),
        Pair("ADA/USD", "coinbase", Decimal("0.7420"), Decimal("10"), Decimal("0.0001")),
        Pair("LINK/USD", "coinbase", Decimal("18.725"), Decimal("1"), Decimal("0.001")),
    )


def quiet_pairs() -> tuple[Pair, ...]:
    """Those with a position that has been held for hours, and that only the script of faults touches."""
    return (
        Pair("AVAX/USD", "kraken", Decimal("35.62"), Decimal("1"), Decimal("0.01")),
        Pair("DOT/USD", "kraken", Decimal("6.918"), Decimal("5"), Decimal("0.001")),
    )


@dataclass(slots=True)
class Order:
    """One row of ``orders``."""

    pair: Pair
    side: str
    order_type: str
    quantity: Decimal
    limit_price: Decimal | None
    created_at: datetime
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    position_id: uuid.UUID | None = None
    status: str = "NEW"
    exchange_order_id: str | None = None
    filled_quantity: Decimal = Decimal(0)
    average_fill_price: Decimal | None = None
    commission: Decimal = Decimal(0)
    updated_at: datetime | None = None

    def accept(self, at: datetime) -> None:
        """The exchange has it and gives it an id of its own."""
        self.exchange_order_id = f"O-{uuid.uuid4().hex[:16].upper()}"
        self.updated_at = at

    def fill(self, quantity: Decimal, price: Decimal, at: datetime) -> None:
        """A part of it, or the rest, is executed."""
        before = self.filled_quantity * (self.average_fill_price or Decimal(0))
        self.filled_quantity += quantity
        self.average_fill_price = rounded((before + quantity * price) / self.filled_quantity)
        self.commission += rounded(quantity * price * COMMISSION)
        self.status = "FILLED" if self.filled_quantity == self.quantity else "PARTIALLY_FILLED"
        self.updated_at = at

    def end(self, status: str, at: datetime) -> None:
        """It is over without being complete; what was filled stays filled."""
        self.status = status
        self.updated_at = at

    def row(self) -> tuple[object, ...]:
        """Its values in the order of the table's columns."""
        return (
            self.id, self.position_id, self.pair.name, self.pair.exchange, self.side, self.order_type, self.quantity,
            self.limit_price, self.status, self.exchange_order_id, self.filled_quantity, self.average_fill_price,
            self.commission, self.created_at, self.updated_at,
        )  # fmt: skip


@dataclass(slots=True)
class Position:
    """One row of ``positions``."""

    pair: Pair
    opened_at: datetime
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    side: str = "LONG"
    quantity: Decimal = Decimal(0)
    entry_price: Decimal = Decimal(0)
    realized_pnl: Decimal = Decimal(0)
    unrealized_pnl: Decimal = Decimal(0)
    current_price: Decimal | None = None
    closed_at: datetime | None = None

    def fill(self, side: str, quantity: Decimal, price: Decimal, at: datetime) -> None:
        """Grows or shrinks it; it is closed once it is back at zero. It never goes from one side to the other."""
        change = quantity if side == "BUY" else -quantity
        if self.quantity * change >= 0:
            held = abs(self.quantity)
            self.entry_price = rounded((held * self.entry_price + quantity * price) / (held + quantity))
            self.side = "LONG" if change > 0 else "SHORT"
        else:
            self.realized_pnl += rounded((price - self.entry_price) * -change)
        self.quantity += change
        self.current_price = price
        self.unrealized_pnl = rounded((price - self.entry_price) * self.quantity)
        if self.quantity == 0:
            self.closed_at = at

    def row(self) -> tuple[object, ...]:
        """Its values in the order of the table's columns."""
        return (
            self.id, self.pair.name, self.side, self.quantity, self.entry_price, self.current_price,
            self.realized_pnl, self.unrealized_pnl, self.opened_at, self.closed_at, self.closed_at is None,
        )  # fmt: skip
