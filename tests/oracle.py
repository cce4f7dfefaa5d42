"""What the checks have to find, said once more in plain Python: the reference that the SQL is compared with.

It follows the words of the design and not the SQL: row by row, without a join or an index in sight. Where a sentence
leaves room, the reading that is taken here stands beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, localcontext
from typing import TypeVar

from po_exporter.model import LinkRate
from rows import FAR_AWAY, LONG_AGO, Order, Position, Rules

ZERO = Decimal(0)
Row = TypeVar("Row", Order, Position)


@dataclass(frozen=True)
class Expected:
    """What a poll has to answer: the ids that each check finds, without the checks that are off."""

    ids: dict[str, set[str]]
    link_rate: LinkRate
    fill_times: dict[str, datetime | None]


def expect(orders: list[Order], positions: list[Position], rules: Rules, as_of: datetime) -> Expected:
    """The answer to every check that these rules allow."""
    world = World(
        [_visible(each, "orders", rules) for each in orders],
        [_visible(each, "positions", rules) for each in positions],
        rules,
        as_of,
    )
    return Expected(
        {name: getattr(world, name)() for name, needed in needs(rules).items() if needed},
        world.link_rate(),
        {each.id: world.fill_time(each) for each in world.orders},
    )


def needs(rules: Rules) -> dict[str, bool]:
    """Each check, and whether the schema can answer it."""
    knows_activity = rules.mapped("positions.is_active") or rules.mapped("positions.closed_at")
    return {
        "unlinked_filled_order": True,
        "aged_unlinked_order": True,
        "orphaned_position_reference": True,
        "unreadable_fill": True,
        "fill_without_filled_status": True,
        "overfilled_order": rules.mapped("orders.quantity"),
        "trading_pair_mismatch": rules.mapped("orders.trading_pair", "positions.trading_pair"),
        "fill_outside_position": rules.mapped("positions.closed_at"),
        "duplicate_exchange_order": rules.mapped("orders.exchange_order_id"),
        "quantity_mismatch": rules.quantity == "signed" or rules.mapped("positions.side"),
        "position_without_orders": rules.mapped("positions.opened_at"),
        "closed_position_not_flat": rules.closed_quantity != "kept" and knows_activity,
        "duplicate_active_position": rules.one_active_per_pair
        and knows_activity
        and rules.mapped("positions.trading_pair"),
    }


@dataclass(frozen=True)
class World:
    """The two tables in one snapshot. A column that is not mapped reads as None."""

    orders: list[Order]
    positions: list[Position]
    rules: Rules
    as_of: datetime

    # The words.

    def filled(self, order: Order) -> bool:
        return self.is_one_of(order.status, self.rules.filled_statuses) and above(order.filled_quantity, ZERO)

    def fill_time(self, order: Order) -> datetime | None:
        if self.rules.mapped("orders.filled_at"):
            return order.filled_at
        return order.created_at if order.updated_at is None else order.updated_at

    def in_window(self, moment: datetime | None) -> bool:
        if self.rules.window is None or moment is None:
            return True
        return moment >= self.as_of - self.rules.window

    def past_grace(self, order: Order) -> bool:
        moment = self.fill_time(order)
        return moment is None or moment <= self.as_of - self.rules.grace

    def eligible(self, order: Order) -> bool:
        linked = order.position_id is not None
        return self.filled(order) and self.in_window(order.created_at) and (linked or self.past_grace(order))

    def inactive(self, position: Position) -> bool | None:
        """None: nobody knows."""
        if self.rules.mapped("positions.is_active"):
            return None if position.is_active is None else not position.is_active
        return position.closed_at is not None

    def position_of(self, order: Order) -> Position | None:
        return next((each for each in self.positions if each.id == order.position_id), None)

    def orders_of(self, position: Position) -> list[Order]:
        return [each for each in self.orders if each.position_id == position.id]

    def sum_of_orders(self, position: Position) -> Decimal | None:
        """Buys minus sells; None where that cannot be known.

        A fill under a status that is not a filled one is in no sum, whatever its quantity.
        """
        total = ZERO
        for order in self.orders_of(position):
            quantity = ZERO if order.filled_quantity is None else order.filled_quantity
            if not self.is_one_of(order.status, self.rules.filled_statuses) or quantity == 0:
                continue
            if not quantity.is_finite() or quantity < 0:
                return None
            if self.is_one_of(order.side, self.rules.buy_sides):
                total = exact(total, quantity)
            elif self.is_one_of(order.side, self.rules.sell_sides):
                total = exact(total, quantity.copy_negate())
            else:
                return None
        return total

    def signed_quantity(self, position: Position) -> Decimal | None:
        """What the position says that it holds; None where that cannot be read."""
        quantity = position.quantity
        if quantity is None or self.rules.quantity == "signed":
            return quantity
        if quantity.is_nan():
            return quantity
        if quantity < 0:
            return None
        if self.is_one_of(position.side, self.rules.long_sides):
            return quantity
        if self.is_one_of(position.side, self.rules.short_sides):
            return quantity.copy_negate()
        return None

    def differs(self, one: Decimal, other: Decimal) -> bool:
        """By more than the tolerance. What is no number, or infinite, differs from every sum of finite ones."""
        if not one.is_finite() or not other.is_finite():
            return True
        return exact(one, other.copy_negate()).copy_abs() > self.rules.tolerance

    @staticmethod
    def is_one_of(value: str | None, wanted: tuple[str, ...]) -> bool:
        """Trimmed and without case."""
        return value is not None and value.strip().lower() in {each.strip().lower() for each in wanted}

    # The checks on orders.

    def link_rate(self) -> LinkRate:
        eligible = [each for each in self.orders if self.eligible(each)]
        return LinkRate(len(eligible), sum(self.position_of(each) is not None for each in eligible))

    def unlinked_filled_order(self) -> set[str]:
        return {each.id for each in self.orders if self.eligible(each) and each.position_id is None}

    def aged_unlinked_order(self) -> set[str]:
        return {
            each.id
            for each in self.orders
            if self.filled(each)
            and self.past_grace(each)
            and each.position_id is None
            and not self.in_window(each.created_at)
        }

    def orphaned_position_reference(self) -> set[str]:
        return {each.id for each in self.orders if each.position_id is not None and self.position_of(each) is None}

    def unreadable_fill(self) -> set[str]:
        found = set()
        for each in self.orders:
            quantity = each.filled_quantity
            complete = self.is_one_of(each.status, self.rules.complete_statuses)
            sides = self.rules.buy_sides + self.rules.sell_sides
            nothing = quantity is None or (not quantity.is_nan() and quantity <= 0)
            impossible = quantity is not None and (not quantity.is_finite() or quantity < 0)
            sideless = self.filled(each) and not self.is_one_of(each.side, sides)
            if self.in_window(each.created_at) and ((complete and nothing) or impossible or sideless):
                found.add(each.id)
        return found

    def fill_without_filled_status(self) -> set[str]:
        return {
            each.id
            for each in self.orders
            if self.in_window(each.created_at)
            and above(each.filled_quantity, ZERO)
            and not self.is_one_of(each.status, self.rules.filled_statuses)
        }

    def overfilled_order(self) -> set[str]:
        """Whatever its status: more has been filled than was asked for. NULL on either side says nothing."""
        return {
            each.id
            for each in self.orders
            if self.in_window(each.created_at)
            and each.quantity is not None
            and each.filled_quantity is not None
            and above(each.filled_quantity, exact(each.quantity, self.rules.tolerance))
        }

    def trading_pair_mismatch(self) -> set[str]:
        found = set()
        accounts = self.rules.mapped("orders.account", "positions.account")
        for each in self.orders:
            target = self.position_of(each)
            if target is None:
                continue
            if each.trading_pair != target.trading_pair or (accounts and each.account != target.account):
                found.add(each.id)
        return found

    def fill_outside_position(self) -> set[str]:
        """The grace counts on both roads: the times come from different transactions, if not from different clocks."""
        found = set()
        grace = self.rules.grace
        for each in self.orders:
            target = self.position_of(each)
            if target is None or not self.filled(each) or not self.in_window(each.created_at):
                continue
            if self.rules.mapped("orders.filled_at"):
                early = earlier(each.filled_at, target.opened_at, grace)
                late = earlier(target.closed_at, each.filled_at, grace)
            else:
                early, late = False, earlier(target.closed_at, each.created_at, grace)
            if early or late:
                found.add(each.id)
        return found

    def duplicate_exchange_order(self) -> set[str]:
        """An exchange that is NULL is one exchange, too."""
        keys = Counter((each.exchange, each.exchange_order_id) for each in self.orders)
        return {
            each.id
            for each in self.orders
            if self.in_window(each.created_at)
            and each.exchange_order_id
            and keys[each.exchange, each.exchange_order_id] > 1
        }

    # The checks on positions.

    def quantity_mismatch(self) -> set[str]:
        found = set()
        for each in self.positions:
            if self.rules.closed_quantity != "zero" and self.inactive(each) is True:
                continue
            held, total = self.signed_quantity(each), self.sum_of_orders(each)
            if held is None or total is None or self.differs(held, total):
                found.add(each.id)
        return found

    def position_without_orders(self) -> set[str]:
        return {each.id for each in self.positions if self.in_window(each.opened_at) and not self.orders_of(each)}

    def closed_position_not_flat(self) -> set[str]:
        """A sum that cannot be known is not flat. A position without a quantity is for the check above alone."""
        found = set()
        for each in self.positions:
            inactive = self.inactive(each)
            if self.rules.closed_quantity == "zero":
                left = each.quantity is not None and self.differs(each.quantity, ZERO)
            else:
                total = self.sum_of_orders(each)
                left = total is None or self.differs(total, ZERO)
            if inactive is None or (inactive and left):
                found.add(each.id)
        return found

    def duplicate_active_position(self) -> set[str]:
        """Active is what is known to be; an unknown pair or account is one, too; an unknown opening is the youngest."""
        first: dict[tuple[str | None, str | None], str] = {}
        active = [each for each in self.positions if self.inactive(each) is False]
        active.sort(key=lambda each: (each.opened_at is None, each.opened_at or self.as_of, each.id))
        return {each.id for each in active if first.setdefault((each.trading_pair, each.account), each.id) != each.id}


def above(value: Decimal | None, bound: Decimal) -> bool:
    """NULL reads as zero. What is no number sorts above every number, as it does in PostgreSQL."""
    value = ZERO if value is None else value
    if value.is_nan() or bound.is_nan():
        return value.is_nan() and not bound.is_nan()
    return value > bound


def earlier(one: datetime | None, other: datetime | None, by: timedelta) -> bool:
    """Whether one is before the other by more than that. An unknown time is not."""
    if one is None or other is None:
        return False
    if one in (LONG_AGO, FAR_AWAY) or other in (LONG_AGO, FAR_AWAY):
        return one < other
    return other - one > by


def exact(one: Decimal, other: Decimal) -> Decimal:
    """Their sum to the last digit, however many there are."""
    if one.is_nan() or other.is_nan():
        return Decimal("NaN")
    with localcontext() as context:
        context.prec = 400
        return one + other


def _visible(row: Row, table: str, rules: Rules) -> Row:
    hidden = [name.partition(".")[2] for name in rules.unmapped if name.startswith(f"{table}.")]
    return replace(row, **dict.fromkeys(hidden))
