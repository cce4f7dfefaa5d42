"""Any population at all, judged by the SQL as the oracle judges it.

Pools of what goes wrong feed the tables; a few values come often, so that rows meet: in a pair, in an id, in a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asking import ask
from oracle import World, exact, expect
from rows import FAR_AWAY, HOUR, LONG_AGO, NOW, TICK, Order, Position, Rules, fill, freeze, mapping, uid

pytestmark = pytest.mark.database

RULES = Rules()
WINDOW, GRACE = timedelta(hours=24), RULES.grace
EDGE_OF_WINDOW, EDGE_OF_GRACE = NOW - WINDOW, NOW - GRACE
TOLERANCE, HAIR = RULES.tolerance, Decimal("1e-18")
QUANTITIES = [
    *map(Decimal, "0 1 2.5 0.1 0.2 0.3 2.50000001 1e-8 -1 0.00 NaN Infinity -Infinity".split()),
    Decimal("123456789012.000000000000000001"),
    Decimal("2.50000001") + HAIR,
    HAIR,
]
SIDES = ["BUY", " buy ", "SELL", "sell", "\tSELL\n", "HOLD", "", "LONG", None]
STATUSES = ["filled", " Filled", "PARTIALLY_FILLED", "CANCELLED", "NEW", "FILLED?", "", "fill ed"]
EDGES = [edge + tick for edge in (EDGE_OF_WINDOW, EDGE_OF_GRACE) for tick in (-TICK, timedelta(), TICK)]
MOMENTS = [NOW - HOUR, NOW - 2 * HOUR, NOW - 30 * HOUR, NOW, NOW + HOUR, LONG_AGO, FAR_AWAY, *EDGES]
LIVES = [NOW - 2 * HOUR, NOW - HOUR, NOW - 30 * HOUR, EDGE_OF_WINDOW, EDGE_OF_WINDOW - TICK, LONG_AGO, FAR_AWAY]
AROUND = [each + sign * (GRACE + tick) for each in LIVES[:2] for sign in (1, -1) for tick in (-TICK, timedelta(), TICK)]
OPTIONAL = [
    *(f"orders.{n}" for n in "filled_at updated_at account exchange trading_pair quantity exchange_order_id".split()),
    *(f"positions.{n}" for n in "is_active closed_at opened_at account side trading_pair".split()),
]
AMOUNTS = "quantity filled_quantity expected found difference".split()

T = TypeVar("T")


@pytest.fixture
async def frozen(empty_database):
    """Two tables of the widest types in a database whose clock stands at NOW."""
    await freeze(empty_database)
    return empty_database


def often(usual: T, *pool: T | None) -> st.SearchStrategy[T | None]:
    """The usual value half of the time, else one of the pool or NULL."""
    return st.one_of(st.just(usual), st.sampled_from([*pool, None]))


@st.composite
def an_order(draw: Callable[..., Any], number: int, positions: int) -> Order:
    created = draw(often(NOW - HOUR, *MOMENTS))
    return Order(
        id=uid(number + 1),
        position_id=draw(often(uid(1), *map(uid, range(1, positions + 2)))),
        trading_pair=draw(often("BTC/USD", "ETH/USD", "btc/usd", "BTC/USD ", "")),
        side=draw(st.one_of(st.sampled_from(SIDES[:5]), st.sampled_from(SIDES))),
        status=draw(often("FILLED", *STATUSES)),
        quantity=draw(often(Decimal("2.5"), *QUANTITIES)),
        filled_quantity=draw(often(Decimal("2.5"), *QUANTITIES)),
        created_at=created,
        account=draw(often("main", "Main", "other")),
        exchange=draw(often("kraken", "Kraken", "")),
        exchange_order_id=draw(st.one_of(st.just(f"x{number}"), st.sampled_from(["x1", "x2", "X1", "", None]))),
        filled_at=draw(st.one_of(st.just(created), st.sampled_from([*MOMENTS, *AROUND, None]))),
        updated_at=draw(often(created, *MOMENTS)),
    )


@st.composite
def a_position(draw: Callable[..., Any], number: int) -> Position:
    return Position(
        id=uid(number + 1),
        trading_pair=draw(often("BTC/USD", "ETH/USD", "btc/usd")),
        side=draw(often("LONG", "short", " Short ", "FLAT", "BUY", "")),
        quantity=draw(often(Decimal("2.5"), *QUANTITIES)),
        opened_at=draw(often(NOW - 2 * HOUR, *LIVES, *MOMENTS)),
        closed_at=draw(st.sampled_from([None, *LIVES])),
        is_active=draw(st.sampled_from([True, True, False, None])),
        account=draw(often("main", "other")),
    )


@st.composite
def some_rules(draw: Callable[..., Any]) -> Rules:
    return Rules(
        window=draw(st.sampled_from([WINDOW, WINDOW, None])),
        quantity=draw(st.sampled_from(["signed", "by_side"])),
        closed_quantity=draw(st.sampled_from(["zero", "kept", "kept_flat"])),
        one_active_per_pair=draw(st.booleans()),
        unmapped=draw(st.frozensets(st.sampled_from(OPTIONAL), max_size=4)),
    )


@st.composite
def populations(draw: Callable[..., Any]) -> tuple[list[Order], list[Position], Rules]:
    rules = draw(some_rules())
    many = draw(st.integers(0, 6))
    positions = [draw(a_position(number)) for number in range(many)]
    orders = [draw(an_order(number, many)) for number in range(draw(st.integers(0, 20)))]
    # Left to chance no position would agree with its orders: most hold what these make, or are off by a hair.
    world = World(orders, positions, rules, NOW)
    steps = [None, 0, 0, TOLERANCE, -TOLERANCE, TOLERANCE + HAIR, -TOLERANCE - HAIR, TOLERANCE - HAIR]
    for place, each in enumerate(positions):
        total, step = world.sum_of_orders(each), draw(st.sampled_from(steps))
        if total is None or step is None:
            continue
        near = exact(total, Decimal(step))
        if rules.quantity == "by_side" and draw(st.booleans()):
            positions[place] = replace(each, quantity=near.copy_abs(), side="SHORT" if near < 0 else "LONG")
        else:
            positions[place] = replace(each, quantity=near)
    return orders, positions, rules


@settings(
    max_examples=200,
    derandomize=True,  # the same populations in every run
    database=None,
    phases=[Phase.generate, Phase.shrink],
    # One database serves all examples: each begins by emptying it.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(population=populations())
async def test_any_population_is_judged_as_the_oracle_judges_it(frozen, population):
    orders, positions, rules = population
    await fill(frozen, orders, positions)
    asked = await ask(frozen.reader_dsn, mapping(rules), rules)
    wanted = expect(orders, positions, rules, NOW)
    assert not asked.errors
    assert {name: set(asked.ids(name)) for name in asked.names} == wanted.ids
    assert {name: asked.count(name) for name in asked.names} == {name: len(ids) for name, ids in wanted.ids.items()}
    assert asked.link_rate == wanted.link_rate
    assert asked.status.result.as_of == NOW
    for name in asked.names:
        found = asked.good(name).findings
        order = [(finding.since is None, finding.since or NOW, finding.id) for finding in found]
        assert order == sorted(order), f"{name} has its evidence in another order"
        amounts = {finding.details.get(amount) for finding in found for amount in AMOUNTS}
        assert all(each is None or isinstance(each, str) for each in amounts), "whole numbers, too"
    for name in ("unlinked_filled_order", "aged_unlinked_order"):
        times = {key: wanted.fill_times[key] for key in asked.ids(name)}
        known = {key: time for key, time in times.items() if time not in (None, LONG_AGO, FAR_AWAY)}
        assert {finding.id: finding.since for finding in asked.good(name).findings if finding.since} == known
        assert asked.good(name).oldest == min(known.values(), default=None)
