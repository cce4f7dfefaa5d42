"""The thirteen checks, asked of a real server: odd cases by name, and any population at all against the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from oracle import World, exact, expect, needs
from rows import (
    FAR_AWAY, HOUR, LONG_AGO, NOW, SECOND, TICK, Order, Position, Rules, ask, fill, freeze, mapping, uid, watched,
)
from po_exporter.watch.monitor import Monitor

pytestmark = pytest.mark.database

@pytest.fixture
async def frozen(empty_database):
    await freeze(empty_database)
    return empty_database

# Pools of what goes wrong. A few values come often, so that rows meet: same pair, same exchange id, same moment.
TOLERANCE = Rules().tolerance
DUST = Decimal("1e-18")
QUANTITIES = [Decimal(each) for each in ("0", "1", "2.5", "0.1", "0.2", "0.3", "2.50000001", "1e-8", "-1", "0.00", "123456789012.000000000000000001", "NaN", "Infinity", "-Infinity")]
QUANTITIES += [Decimal("2.50000001") + DUST, DUST]
BUYS, SELLS = ["BUY", " buy ", "Buy"], ["SELL", "sell", "\tSELL\n"]
EDGE_OF_WINDOW, EDGE_OF_GRACE = NOW - Rules().window, NOW - Rules().grace
MOMENTS = [NOW - HOUR, NOW - 2 * HOUR, NOW - 30 * HOUR, NOW, NOW + HOUR, LONG_AGO, FAR_AWAY]
MOMENTS += [edge + tick for edge in (EDGE_OF_WINDOW, EDGE_OF_GRACE) for tick in (-TICK, timedelta(), TICK)]
LIVES = [NOW - 2 * HOUR, NOW - HOUR, NOW - 30 * HOUR, EDGE_OF_WINDOW, EDGE_OF_WINDOW - TICK, LONG_AGO, FAR_AWAY]
AROUND = [each + sign * (Rules().grace + tick) for each in LIVES[:2] for sign in (1, -1) for tick in (-TICK, timedelta(), TICK)]

T = TypeVar("T")

def often(usual: T, *pool: T) -> st.SearchStrategy[T]:
    """The usual value half of the time, else one of the pool or NULL."""
    return st.one_of(st.just(usual), st.sampled_from([*pool, None]))

@st.composite
def orders(draw: Callable[..., Any], number: int, positions: int) -> Order:
    created = draw(often(NOW - HOUR, *MOMENTS))
    return Order(
        id=uid(number + 1),
        position_id=draw(often(uid(1), *map(uid, range(1, positions + 2)))),
        trading_pair=draw(often("BTC/USD", "ETH/USD", "btc/usd", "BTC/USD ", "")),
        side=draw(st.one_of(st.sampled_from([*BUYS, *SELLS]), st.sampled_from([*SELLS, "HOLD", "", "LONG", None]))),
        status=draw(often("FILLED", "filled", " Filled", "PARTIALLY_FILLED", "CANCELLED", "NEW", "FILLED?", "", "fill ed")),
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
def positions(draw: Callable[..., Any], number: int) -> Position:
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

OPTIONAL = ["orders.filled_at", "orders.updated_at", "orders.account", "orders.exchange", "orders.trading_pair", "orders.quantity", "orders.exchange_order_id", "positions.is_active", "positions.closed_at", "positions.opened_at", "positions.account", "positions.side", "positions.trading_pair"]

@st.composite
def rules(draw):
    return Rules(
        window=draw(st.sampled_from([Rules().window, Rules().window, None])),
        quantity=draw(st.sampled_from(["signed", "by_side"])),
        closed_quantity=draw(st.sampled_from(["zero", "kept", "kept_flat"])),
        one_active_per_pair=draw(st.booleans()),
        unmapped=draw(st.frozensets(st.sampled_from(OPTIONAL), max_size=4)),
    )

@st.composite
def worlds(draw):
    chosen = draw(rules())
    many = draw(st.integers(0, 5))
    held = [draw(positions(number)) for number in range(many)]
    made = [draw(orders(number, many)) for number in range(draw(st.integers(0, 14)))]
    # Left to chance a position would never agree with its orders: most are what these make, or off by a hair.
    world = World(made, held, chosen, NOW)
    for place, each in enumerate(held):
        total = world.sum_of_orders(each)
        hair = draw(st.sampled_from([None, 0, 0, TOLERANCE, -TOLERANCE, TOLERANCE + DUST, -TOLERANCE - DUST, TOLERANCE - DUST]))
        if total is not None and hair is not None:
            near = exact(total, Decimal(hair))
            side = each.side
            if chosen.quantity == "by_side" and draw(st.booleans()):
                near, side = near.copy_abs(), "SHORT" if near < 0 else "LONG"
            held[place] = replace(each, quantity=near, side=side)
    return made, held, chosen

@settings(max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large], phases=[Phase.generate, Phase.shrink])
@given(world=worlds())
async def test_any_population(frozen, world):
    made, held, chosen = world
    await fill(frozen, made, held)
    asked = await ask(frozen.reader_dsn, mapping(chosen), chosen)
    expected = expect(made, held, chosen, NOW)
    assert asked.status.result.as_of == NOW
    answered = {check.name for check in asked.status.result.checks} - {"link_rate"}
    assert answered == set(expected.ids)
    got = {name: set(asked.ids(name)) for name in expected.ids}
    assert got == expected.ids
    assert {name: asked.count(name) for name in expected.ids} == {n: len(i) for n, i in expected.ids.items()}
    assert asked.link_rate == expected.link_rate
    for name in expected.ids:
        f = asked.good(name).findings
        keys = [(x.since is None, x.since or NOW, x.id) for x in f if x.since]
        assert keys == sorted(keys), name
