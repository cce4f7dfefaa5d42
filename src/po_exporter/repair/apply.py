"""Makes what a plan has shown, if it is still safe; takes it back; and does what a person asks for."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from po_exporter.database.session import Target
from po_exporter.errors import DatabaseError, DeadlinePassed, Refused, Unreachable, UsageError
from po_exporter.repair.ids import plain_id
from po_exporter.repair.plan import Change, judge
from po_exporter.repair.record import Entry, read_log
from po_exporter.repair.rules import Rules
from po_exporter.repair.writer import Columns, Swap, Writer, writing
from po_exporter.watch.watched import Watched

HOUR_FULL = "fix.max_per_hour ({most}) is reached"
LINK, UNLINK = "link", "unlink"
"""What is done by hand, in the record."""
AGREES = (
    "positions.id positions.signed_quantity positions.compared orders.position_id orders.counts orders.contribution"
).split()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Made:
    """What came of one change: the number of its record, or why it was refused; neither, where it was so already."""

    fix: str
    id: str
    before: Columns
    after: Columns
    record: int | None
    refusal: str | None = None


async def apply(
    watched: Watched, target: Target, rules: Rules, shown: Sequence[Change], actor: str
) -> tuple[str, list[Made]]:
    """Make these changes, each if all its guards hold once more in the transaction that makes it.

    The name of the run, and what came of each. Raises Stopped, or DatabaseError when nothing was made.
    """
    run = secrets.token_hex(8)

    async def work(writer: Writer) -> list[Made]:
        lately = await writer.begin(sorted(rules.allow))
        await writer.note("orders", [change.id for change in shown])
        await writer.note("positions", [change.target for change in shown if change.target])
        judged = {(change.fix, change.id): change for change in (await judge(writer.asking, rules))[0]}
        outcomes: list[Made] = []
        for change in shown:
            made = lately + sum(each.record is not None for each in outcomes)
            outcomes.append(await _make(writer, rules, change, judged.get((change.fix, change.id)), made))
        return outcomes

    return run, await within(watched, target, run, actor, work)


async def undo(watched: Watched, target: Target, entries: Sequence[Entry], actor: str) -> tuple[str, list[Made]]:
    """Take these changes back, the newest first: the columns that each has changed become what they were, if they still
    are what it has made of them."""
    run = secrets.token_hex(8)

    async def work(writer: Writer) -> list[Made]:
        await writer.begin()
        return [
            await swapped(
                writer,
                Swap(
                    entry.fix, f"{entry.entity}s", entry.entity_id, entry.after, entry.before,
                    f"undoes record {entry.id}", undoes=entry.id,
                ),
            )
            for entry in entries
        ]  # fmt: skip

    return run, await within(watched, target, run, actor, work)


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it is before a person changes its link."""

    id: str
    link: str | None
    trading_pair: str | None
    account: str | None
    side: str | None
    status: str | None
    quantity: str | None
    filled: bool


async def look_at(watched: Watched, target: Target, order: str, position: str | None) -> tuple[Order, str | None]:
    """The order that is to be linked, and the position's id as it is written. Raises UsageError where one is not."""

    async def work(writer: Writer) -> tuple[Order, str | None]:
        presenter = writer.asking.presenter
        if obstacle := presenter.obstacle({"orders.id", "orders.position_id", "positions.id"}):
            raise obstacle
        key = plain_id(presenter, "orders", order)
        place = position and plain_id(presenter, "positions", position)
        found = await orders(writer, [key])
        if key not in found:
            raise UsageError(f"{watched.mapping.orders.table} of {watched.name} has no order {order}.")
        if place and not await existing(writer, [place]):
            raise UsageError(f"{watched.mapping.positions.table} of {watched.name} has no position {position}.")
        return found[key], place

    return await within(watched, target, "", "", work)


async def link(
    watched: Watched, target: Target, order: Order, position: str | None, actor: str
) -> tuple[str, list[Made]]:
    """Link an order to a position, or to none, as a person says; if its link is still what that one has seen."""
    run = secrets.token_hex(8)

    async def work(writer: Writer) -> list[Made]:
        await writer.begin()
        return [await swapped(writer, by_hand(writer, order, position))]

    return run, await within(watched, target, run, actor, work)


def by_hand(writer: Writer, order: Order, position: str | None) -> Swap:
    """The link of an order as a person wants it."""

    async def still_there() -> None:
        if position is not None and not await existing(writer, [position]):
            raise Refused(f"there is no position {position} any more")

    return Swap(
        LINK if position else UNLINK, "orders", order.id, {"position_id": order.link}, {"position_id": position},
        "by hand", holds=(position,) if position else (), then=still_there,
    )  # fmt: skip


async def _make(writer: Writer, rules: Rules, change: Change, judged: Change | None, lately: int) -> Made:
    """One change, if it is judged as it was when it was shown."""

    def refused(why: str) -> Made:
        return Made(change.fix, change.id, {"position_id": change.link}, {"position_id": change.target}, None, why)

    if judged is None:
        return refused("it is not wrong any more")
    if not judged.made or judged.target != change.target:
        return refused(judged.refusal or judged.held_back or f"it would be linked to {judged.target} by now")
    if lately >= rules.max_per_hour:
        return refused(HOUR_FULL.format(most=rules.max_per_hour))
    if await writer.tried(change.fix, change.id) >= rules.attempts:
        return refused(f"it was made {rules.attempts} times before, and did not stay so")

    async def then() -> None:
        if change.target is None:
            if change.link is not None and await existing(writer, [change.link]):
                raise Refused(f"there is a position {change.link} by now")
        else:
            keys = {"position": writer.asking.presenter.ids("positions", [change.target])}
            rows = await writer.asking.query("repair/agrees.sql", AGREES, keys)
            if not rows or not rows[0]["agrees"]:
                raise Refused("with it, the position would not be the sum of its orders any more")

    holds = (change.target,) if change.target else ()
    reason = judged.proof or ""
    swap = Swap(
        change.fix, "orders", change.id, {"position_id": change.link}, {"position_id": change.target}, reason, holds,
        then=then,
    )  # fmt: skip
    return await swapped(writer, swap)


async def orders(writer: Writer, ids: Sequence[str]) -> dict[str, Order]:
    """Those of these orders that there are."""
    needed = [f"orders.{name}" for name in Order.__dataclass_fields__ if name not in ("link", "quantity")]
    needed += ["orders.position_id", "orders.filled_quantity", "positions.id"]
    keys = {"order": writer.asking.presenter.ids("orders", ids)}
    return {row["id"]: Order(**dict(row)) for row in await writer.asking.query("repair/order.sql", needed, keys)}


async def existing(writer: Writer, positions: Sequence[str]) -> set[str]:
    """Those of these positions that there are."""
    keys = {"position": writer.asking.presenter.ids("positions", positions)}
    return {row["id"] for row in await writer.asking.query("repair/exists.sql", ["positions.id"], keys)}


async def swapped(writer: Writer, swap: Swap) -> Made:
    """What came of one change."""
    try:
        record = await writer.swap(swap)
    except Refused as refused:
        return Made(swap.fix, swap.id, swap.before, swap.after, None, str(refused))
    return Made(swap.fix, swap.id, swap.before, swap.after, record)


async def within(watched: Watched, target: Target, run: str, actor: str, work: Callable[[Writer], Awaitable[T]]) -> T:
    """Work in one transaction. Where its end has no answer, the record says what became of it."""
    done: T | None = None
    try:
        async with (
            asyncio.timeout(watched.terms.limits.poll.total_seconds()),
            writing(watched, target, run, actor) as writer,
        ):
            done = await work(writer)
    except TimeoutError:
        raise DeadlinePassed("it took longer than monitor.poll_timeout; nothing was changed") from None
    except Unreachable as error:
        if done is None or not run:
            raise
        try:
            kept = await read_log(target, run=run)
        except DatabaseError:
            raise Unreachable(f"{error}; whether anything was changed, po-exporter fix log --run {run} says") from None
        if not kept:
            raise Unreachable(f"{error}; nothing was changed") from None
    return done
