"""What a position should be, from its orders in fill order: quantity, average entry price, realized result.

By hand only: whether the position or one of its orders is wrong, no rule can tell.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from po_exporter import sql
from po_exporter.database.catalog import quote_table
from po_exporter.database.session import Target
from po_exporter.errors import Refused, UsageError
from po_exporter.repair.apply import Made, swapped, within
from po_exporter.repair.ids import plain_id
from po_exporter.repair.writer import Columns, Swap, Writer
from po_exporter.watch.watched import Watched

RECALCULATE = "recalculate_position"
PRECISE = Context(prec=60)
"""Digits of an average; columns have far fewer."""
ENDED = frozenset("canceled cancelled expired rejected replaced done_for_day".split())
"""Statuses besides the complete ones under which an order fills no more. FIX: OrdStatus (tag 39)."""
WRITTEN = ("quantity", "entry_price", "realized_pnl")


@dataclass(frozen=True, slots=True)
class Sum:
    """What a position's fills come to. ``entry`` is the average price of what is held, or was held last; ``realized``
    is before fees; both None where a fill has no price."""

    quantity: Decimal
    entry: Decimal | None
    realized: Decimal | None


@dataclass(frozen=True, slots=True)
class Recalculation:
    """A position before and after, by canonical column, and from how many orders."""

    id: str
    described: str
    before: Columns
    after: Columns
    orders: int


def add_up(fills: Iterable[tuple[str, Decimal, Decimal | None]]) -> Sum:
    """The fills (id, signed quantity, price) of a position, in fill order: what is opened is averaged, what is closed
    is realized at that average. Raises Refused where one of them crosses zero, or cannot be read."""
    held, cost, realized = Decimal(0), Decimal(0), Decimal(0)
    entry: Decimal | None = None
    priced = True
    for key, quantity, price in fills:
        if not quantity.is_finite():
            raise Refused(f"order {key} has an unreadable side or quantity")
        priced = priced and price is not None and price.is_finite()
        after = PRECISE.add(held, quantity)
        if held * after < 0:
            raise Refused(f"order {key} crosses zero: it closes a position and opens another")
        if priced and price is not None:
            if held * quantity >= 0:
                cost = PRECISE.add(cost, PRECISE.multiply(quantity, price))
                entry = PRECISE.divide(cost, after) if after else entry
            else:
                average = PRECISE.divide(cost, held)
                realized = PRECISE.add(
                    realized, PRECISE.multiply(quantity.copy_negate(), PRECISE.subtract(price, average))
                )
                cost = PRECISE.multiply(average, after)
        held = after
    return Sum(held, entry if priced else None, realized if priced else None)


async def look_at(watched: Watched, target: Target, position: str, cap: Decimal | None) -> Recalculation:
    """What the position would become. Raises UsageError where there is none, Refused where its orders do not say."""

    async def work(writer: Writer) -> Recalculation:
        return await _calculate(writer, watched, position, cap)

    return await within(watched, target, "", "", work)


async def recalculate(
    watched: Watched, target: Target, shown: Recalculation, cap: Decimal | None, actor: str
) -> tuple[str, list[Made]]:
    """Write what was shown, if the position and its orders still say so."""
    run = secrets.token_hex(8)

    async def work(writer: Writer) -> list[Made]:
        await writer.begin()

        async def then() -> None:
            again = await _calculate(writer, watched, shown.id, cap)
            if again.after:
                raise Refused("its orders have changed meanwhile")

        reason = f"from its {shown.orders:,} orders, in fill order"
        return [
            await swapped(
                writer, Swap(RECALCULATE, "positions", shown.id, shown.before, shown.after, reason, then=then)
            )
        ]

    return run, await within(watched, target, run, actor, work)


async def _calculate(writer: Writer, watched: Watched, position: str, cap: Decimal | None) -> Recalculation:
    presenter = writer.asking.presenter
    needed = {f"positions.{name}" for name in "id trading_pair side quantity signed_quantity entry_price realized_pnl "
              "compared is_active".split()} | {f"orders.{name}" for name in "id position_id status complete counts "
              "contribution average_fill_price fill_time created_at".split()}  # fmt: skip
    required = {
        "positions.id",
        "positions.signed_quantity",
        "orders.position_id",
        "orders.counts",
        "orders.contribution",
    }
    if obstacle := presenter.obstacle(required):
        raise obstacle
    keys = {"position": presenter.ids("positions", [plain_id(presenter, "positions", position)])}
    rows = await writer.asking.query("repair/position.sql", needed, keys)
    if not rows:
        raise UsageError(f"{watched.mapping.positions.table} of {watched.name} has no position {position}.")
    row = dict(rows[0])
    if not row["compared"]:
        raise Refused("it is closed and keeps its last size: it is not the sum of its orders")
    fills = await writer.asking.query("repair/fills.sql", needed, keys)
    for fill in fills:
        if not fill["complete"] and (fill["status"] or "").strip().lower() not in ENDED:
            raise Refused(f"order {fill['id']} is {fill['status'] or 'of no status'}: it may still fill")
    total = add_up(
        (fill["id"], Decimal(fill["contribution"]), Decimal(fill["price"]) if fill["price"] else None)
        for fill in fills
        if fill["contribution"] is not None
    )
    after = await _written(writer, watched, row, total)
    change = PRECISE.subtract(total.quantity, Decimal(row["signed_quantity"] or 0)).copy_abs()
    if cap is not None and not change <= cap:
        raise Refused(f"its quantity would change by {change}, more than fix.max_quantity ({cap})")
    described = " ".join(part for part in (row["trading_pair"], row["side"], row["quantity"]) if part)
    return Recalculation(row["id"], described, {name: row[name] for name in after}, after, len(fills))


async def _written(writer: Writer, watched: Watched, row: Mapping[str, Any], total: Sum) -> dict[str, str | None]:
    """The columns that would change, as the table would keep them."""
    mapping = watched.mapping.positions
    quantity = total.quantity
    if mapping.quantity == "by_side":
        side = (row["side"] or "").strip().lower()
        words = mapping.long_sides if quantity > 0 else mapping.short_sides
        if quantity and side not in {word.lower() for word in words}:
            raise Refused(f"its orders come to {quantity}, which is no quantity of side {row['side']}")
        quantity = quantity.copy_abs()
    values = {"quantity": quantity, "entry_price": total.entry, "realized_pnl": total.realized}
    after: dict[str, str | None] = {}
    for name in WRITTEN:
        column, value = mapping.columns.get(name), values[name]
        if column is None or column.is_sql or value is None:
            continue
        fetch = writer.asking.snapshot.fetch
        (kind,) = await fetch(sql.read("repair/precise_type.sql"), quote_table(mapping.table), column.text)
        (kept,) = await fetch(sql.read("repair/rounded.sql").format(type=kind["type"]), f"{value:f}")
        if row[name] is None or Decimal(kept["value"]) != Decimal(row[name]):
            after[name] = kept["value"]
    return after
