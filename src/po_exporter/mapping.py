"""How a user's tables are called: canonical name -> column or SQL expression. Pure values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table by its exact name, or an SQL expression over its columns."""

    text: str
    is_sql: bool = False


@dataclass(frozen=True, slots=True)
class TableName:
    """A table as PostgreSQL names it; ``schema`` is None where the search path decides."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class OrdersMapping:
    """The orders table. Statuses and sides are compared trimmed and without case."""

    table: TableName
    columns: Mapping[str, Column]
    filled_statuses: tuple[str, ...]
    complete_statuses: tuple[str, ...]
    buy_sides: tuple[str, ...]
    sell_sides: tuple[str, ...]
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class PositionsMapping:
    """The positions table and the conventions under which its quantities are to be read."""

    table: TableName
    columns: Mapping[str, Column]
    quantity: Literal["signed", "by_side"] = "signed"
    long_sides: tuple[str, ...] = ()
    short_sides: tuple[str, ...] = ()
    closed_quantity: Literal["zero", "kept", "kept_flat"] = "zero"
    one_active_per_pair: bool = False
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class SchemaMapping:
    """Both tables, under the name that the configuration gives them."""

    name: str
    orders: OrdersMapping
    positions: PositionsMapping


ORDER_COLUMNS = (
    "id position_id trading_pair side status quantity filled_quantity created_at account exchange exchange_order_id "
    "average_fill_price commission filled_at updated_at"
).split()
ORDER_REQUIRED = ("id", "position_id", "side", "status", "filled_quantity", "created_at")
POSITION_COLUMNS = (
    "id trading_pair side quantity opened_at closed_at is_active account entry_price realized_pnl updated_at"
).split()
POSITION_REQUIRED = ("id", "quantity")

DERIVED = (
    "orders.filled orders.complete orders.direction orders.fill_time orders.in_window orders.past_grace "
    "orders.counts orders.contribution "
    "positions.signed_quantity positions.active positions.compared positions.in_window "
    "ledger.quantity ledger.unknown"
).split()
CANONICAL = (
    *(f"orders.{name}" for name in ORDER_COLUMNS),
    *(f"positions.{name}" for name in POSITION_COLUMNS),
    *DERIVED,
    "broken_links",
)
"""Everything that a check may name."""


def _columns(names: str) -> dict[str, Column]:
    return {name: Column(name) for name in names.split()}


GAL_FRIDAY = SchemaMapping(
    name="gal-friday",
    orders=OrdersMapping(
        table=TableName("orders"),
        columns=_columns(
            "id position_id trading_pair exchange side quantity status exchange_order_id filled_quantity "
            "average_fill_price commission created_at updated_at"
        ),
        # An order that was partly filled and then cancelled or expired has changed a position, too.
        filled_statuses=("FILLED", "PARTIALLY_FILLED", "CANCELLED", "CANCELED", "EXPIRED"),
        complete_statuses=("FILLED",),
        buy_sides=("BUY",),
        sell_sides=("SELL",),
    ),
    positions=PositionsMapping(
        table=TableName("positions"),
        columns=_columns("id trading_pair side quantity entry_price realized_pnl opened_at closed_at is_active"),
        quantity="signed",
        closed_quantity="zero",
        one_active_per_pair=True,
    ),
)
"""The system of the users' integration guide."""

BUILT_IN = {GAL_FRIDAY.name: GAL_FRIDAY}
