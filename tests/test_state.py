"""What is held between two polls: time goes by and nobody writes, links are timed, and memory has an end."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from feeding import BUDGET, Following, close_all, prepare
from parts.database import Database
from po_exporter.model import LinkRate
from po_exporter.sql import LINK_RATE
from po_exporter.watch import links
from po_exporter.watch.answer import Answer, Evidence
from po_exporter.watch.changes import Changes
from po_exporter.watch.links import LinkTimer, LinkWatch
from po_exporter.watch.poll import Outcome
from po_exporter.watch.state import Minute, Open, State
from rows import (
    HOUR,
    NOW,
    SECOND,
    TICK,
    Order,
    Position,
    Rules,
    fill,
    freeze,
    mapping,
    move_clock,
    order,
    position,
    uid,
)

on_every_version = pytest.mark.database
RULES = Rules()
DAY = 24 * HOUR
GONE = {"filled_at": NOW - 72 * HOUR, "updated_at": NOW - 72 * HOUR}


class Still:
    """A database whose clock stands until it is moved, and one who follows it."""

    def __init__(self, database: Database, following: Following) -> None:
        self.database, self.following = database, following

    @classmethod
    async def of(
        cls,
        database: Database,
        orders: list[Order],
        positions: list[Position],
        rules: Rules = RULES,
        budget: int = BUDGET,
    ) -> Still:
        await freeze(database)
        await fill(database, orders, positions)
        await database.execute("SET search_path = public")
        feed_dsn = await prepare(database, mapping(rules), indexes=True)
        still = cls(database, Following(database.reader_dsn, feed_dsn, mapping(rules), rules, budget=budget))
        await still.following.follow()
        return still

    async def at(self, moment: datetime) -> dict[str, int]:
        """What is wrong when the clock shows that; the feed says so."""
        await move_clock(self.database, moment)
        return self.following.counts(await self.poll())

    async def poll(self) -> Outcome:
        outcome = await self.following.poll()
        assert outcome.mode == "incremental"
        return outcome

    async def rate(self) -> LinkRate:
        answer = (await self.poll()).answers[LINK_RATE]
        assert isinstance(answer, Answer)
        assert answer.link_rate
        return answer.link_rate

    async def close(self) -> None:
        await self.following.close()
        assert self.following.incremental.wrong == []
        assert self.following.incremental.drift == 0


@pytest.fixture
async def standing(empty_database: Database) -> AsyncIterator[list[Still]]:
    """Put what was made in here: it is closed at the end, and everything that it said was exact."""
    made: list[Still] = []
    yield made
    try:
        for still in made:
            await still.close()
    finally:
        await close_all()


@on_every_version
async def test_a_fill_crosses_the_grace_while_nobody_writes(empty_database, standing):
    fills = [order(1, None, filled_at=NOW - 20 * SECOND), order(2, None, filled_at=NOW - 10 * SECOND)]
    still = await Still.of(empty_database, fills, [])
    standing.append(still)
    assert await still.at(NOW + 10 * SECOND - TICK) == {}
    assert await still.rate() == LinkRate(0, 0)
    assert await still.at(NOW + 10 * SECOND) == {"unlinked_filled_order": 1}
    assert await still.rate() == LinkRate(1, 0)
    assert await still.at(NOW + 20 * SECOND) == {"unlinked_filled_order": 2}


@on_every_version
async def test_a_fill_that_is_touched_all_the_time_crosses_the_grace_by_when_it_was_first_seen(
    empty_database, standing
):
    """Without filled_at, every touch makes a fill look younger."""
    rules = Rules(unmapped=frozenset({"orders.filled_at"}))
    still = await Still.of(empty_database, [order(1, None, updated_at=NOW)], [], rules)
    standing.append(still)
    for seconds in (10, 20, 29):
        moment = NOW + seconds * SECOND
        await empty_database.execute("UPDATE public.orders SET updated_at = $1", moment)
        assert await still.at(moment) == {}
    assert await still.at(NOW + 30 * SECOND) == {"unlinked_filled_order": 1}


@on_every_version
async def test_an_order_leaves_the_window_and_becomes_aged_while_nobody_writes(empty_database, standing):
    entered = NOW - DAY + HOUR
    still = await Still.of(empty_database, [order(1, None, created_at=entered), order(2, None, created_at=None)], [])
    standing.append(still)
    assert await still.at(entered + DAY) == {"unlinked_filled_order": 2}
    assert await still.at(entered + DAY + TICK) == {"unlinked_filled_order": 1, "aged_unlinked_order": 1}
    assert await still.at(NOW + 10 * DAY) == {"unlinked_filled_order": 1, "aged_unlinked_order": 1}


@on_every_version
async def test_the_link_rate_follows_the_lower_edge_of_the_window_to_the_microsecond(empty_database, standing):
    minute = (NOW - DAY).replace(second=0, microsecond=0) + timedelta(minutes=1)
    moments = [minute, minute + TICK, minute + 59 * SECOND, minute + 60 * SECOND - TICK, minute + 60 * SECOND]
    orders = [order(number, created_at=moment, **GONE) for number, moment in enumerate(moments, 1)]
    still = await Still.of(empty_database, orders, [position(quantity="12.5")])
    standing.append(still)
    rates = []
    for moment in moments:
        await move_clock(empty_database, moment + DAY)
        rates.append((await still.rate()).links)
    assert rates == [5, 4, 3, 2, 1]
    await move_clock(empty_database, moments[-1] + DAY + TICK)
    assert await still.rate() == LinkRate(0, 0)


@on_every_version
async def test_a_position_leaves_the_window_while_nobody_writes(empty_database, standing):
    positions = [position(1, quantity=0, opened_at=NOW - DAY + SECOND), position(2, trading_pair="ETH/USD", quantity=0)]
    still = await Still.of(empty_database, [], positions)
    standing.append(still)
    assert await still.at(NOW + SECOND) == {"position_without_orders": 2}
    assert await still.at(NOW + SECOND + TICK) == {"position_without_orders": 1}


CREATED = "UPDATE public.orders SET created_at = $1::text::timestamptz"


@on_every_version
async def test_created_at_moves_between_minutes_out_of_the_window_and_beyond_time(empty_database, standing):
    still = await Still.of(
        empty_database, [order(n, n % 2) for n in range(1, 5)], [position(), position(0, quantity=5)]
    )
    standing.append(still)
    moments = [
        "2026-01-27 00:00", "2026-01-20", "infinity", None, "-infinity", "2026-01-27 01:59:59.999999", "294276-12-31",
        "0044-03-15 BC", "2026-01-27 01:59:59", None, "infinity", "2026-01-27 02:30",
    ]  # fmt: skip
    for moment in moments:
        await empty_database.execute(f"{CREATED} WHERE id = $2", moment, uid(1))
        await still.poll()
    for moment in (None, "infinity", "-infinity"):
        await empty_database.execute(CREATED, moment)
        assert (await still.rate()).eligible == (0 if moment == "-infinity" else 4)
    await empty_database.execute("DELETE FROM public.orders")
    assert await still.rate() == LinkRate(0, 0)


@on_every_version
async def test_a_clock_that_is_put_back_is_noticed(empty_database, standing):
    """What had left the window is in it again, and what had crossed the grace has not."""
    orders = [order(1, None, filled_at=NOW - 20 * SECOND), order(2, created_at=NOW - DAY, **GONE)]
    still = await Still.of(empty_database, orders, [position(opened_at=NOW - 100 * HOUR)])
    standing.append(still)
    assert await still.at(NOW + HOUR) == {"unlinked_filled_order": 1}
    assert await still.at(NOW) == {}
    assert await still.rate() == LinkRate(1, 1)


@on_every_version
async def test_first_seen_is_what_it_was_when_the_mode_changes(empty_database, standing):
    rules = Rules(unmapped=frozenset({"orders.filled_at"}))
    still = await Still.of(empty_database, [order(1, None, updated_at=NOW)], [], rules)
    standing.append(still)
    watch = still.following.poller.watch
    assert watch.first_seen(uid(1)) == NOW
    await move_clock(empty_database, NOW + 20 * SECOND)
    await empty_database.execute("UPDATE public.orders SET updated_at = $1", NOW + 20 * SECOND)
    await still.following.incremental._lose("for the test")
    assert (await still.following.poll()).mode == "scan"
    await still.following.follow()
    assert watch.first_seen(uid(1)) == NOW
    assert await still.at(NOW + 30 * SECOND) == {"unlinked_filled_order": 1}


LINKED = f"UPDATE orders SET position_id = '{uid(1)}'"


@on_every_version
async def test_links_are_timed_by_the_moments_of_their_commits(database, standing):
    """Whatever the clock of the checks says, and however rarely they ask."""
    await database.execute(f"INSERT INTO positions (id) VALUES ('{uid(1)}')")
    await database.execute(f"INSERT INTO orders (id, status, filled_quantity) VALUES ('{uid(1)}', 'FILLED', 1)")
    following = Following(database.reader_dsn, await prepare(database))
    await following.follow()
    await database.execute(f"{LINKED} WHERE id = '{uid(1)}'")
    await following.poll()
    assert timed(following) == (0, 0.0), "it was filled before anybody looked"
    fills = "INSERT INTO orders (id, status, filled_quantity, position_id) VALUES"
    await database.execute(f"{fills} ('{uid(2)}', 'FILLED', 1, '{uid(1)}')")
    await following.poll()
    assert timed(following) == (1, 0.0), "filled and linked in one transaction"
    await database.execute(f"{fills} ('{uid(3)}', 'NEW', 0, NULL)")
    await following.poll()
    await database.execute(f"UPDATE orders SET status = 'FILLED', filled_quantity = 1 WHERE id = '{uid(3)}'")
    await database.execute(f"UPDATE orders SET filled_quantity = 2 WHERE id = '{uid(3)}'")
    await database.execute("SELECT pg_sleep(0.11)")
    await database.execute(f"{LINKED} WHERE id = '{uid(3)}'")
    await following.poll()
    count, seconds = timed(following)
    assert count == 2
    assert seconds >= 0.11, "from the first fill"
    await database.execute(f"UPDATE orders SET position_id = '{uid(9)}' WHERE id = '{uid(3)}'")
    await following.poll()
    assert timed(following) == (count, seconds), "it had a link before"
    await database.execute(f"UPDATE orders SET position_id = NULL WHERE id = '{uid(3)}'")
    await following.poll()
    await database.execute(f"{LINKED} WHERE id = '{uid(3)}'")
    await following.poll()
    assert timed(following) == (count, seconds), "its fill was accounted for"
    await following.close()
    assert following.incremental.wrong == []


@on_every_version
async def test_where_a_fill_has_its_own_time_a_link_is_timed_from_that(empty_database, standing):
    still = await Still.of(empty_database, [order(1, None, filled_at=NOW - HOUR)], [position()])
    standing.append(still)
    before = await empty_database.fetchval("SELECT pg_catalog.clock_timestamp()")
    await empty_database.execute("UPDATE public.orders SET position_id = $1", uid(1))
    await still.poll()
    after = await empty_database.fetchval("SELECT pg_catalog.clock_timestamp()")
    count, seconds = timed(still.following)
    assert count == 1
    assert before - (NOW - HOUR) <= timedelta(seconds=seconds) <= after - (NOW - HOUR)


def test_of_more_fills_than_are_remembered_the_last_are(monkeypatch):
    monkeypatch.setattr(links, "MOST_FILLS", 3)
    timer = LinkTimer(LinkWatch(), has_filled_at=False)
    for number in range(6):
        timer.time([], Changes(filled={str(number): NOW}))
    assert set(timer._fills) == {"3", "4", "5"}


def timed(following: Following) -> tuple[int, float]:
    """How many links were timed, and their seconds in all."""
    seconds = following.poller.watch.seconds
    return sum(seconds.counts), seconds.sum


MANY = 3000


@on_every_version
async def test_more_than_the_budget_holds_is_counted_by_scanning_and_exact_all_the_while(empty_database, standing):
    """The smaller checks are followed as before."""
    orders = [order(n, 99, trading_pair="ETH/USD", quantity=1) for n in range(1, MANY)]
    orders += [order(MANY + n, None) for n in range(5)]
    still = await Still.of(empty_database, orders, [position()], budget=MANY * 450)
    standing.append(still)
    state = still.following.incremental._recompute.state
    assert state.overflowing == {"orphaned_position_reference", "overfilled_order"}
    assert state.size <= state.budget
    outcome = await still.poll()
    counts = still.following.counts(outcome)
    assert (counts["orphaned_position_reference"], counts["unlinked_filled_order"]) == (MANY - 1, 5)
    assert {name for name, answer in outcome.answers.items() if answer.followed} == state.followed
    await empty_database.execute("UPDATE public.orders SET position_id = $1 WHERE position_id IS NULL", uid(99))
    counts = still.following.counts(await still.poll())
    assert (counts["orphaned_position_reference"], "unlinked_filled_order" in counts) == (MANY + 4, False)


@on_every_version
async def test_more_open_orders_than_the_budget_holds_are_counted_by_scanning(empty_database, standing):
    """Nobody knows then when time changes what is said of them."""
    still = await Still.of(empty_database, [order(n, None) for n in range(1, 600)], [position()], budget=100_000)
    standing.append(still)
    state = still.following.incremental._recompute.state
    assert state.overflowing == {LINK_RATE, "unlinked_filled_order", "aged_unlinked_order"}
    assert (await still.at(NOW + DAY))["aged_unlinked_order"] == 599
    await empty_database.execute("UPDATE public.orders SET position_id = $1", uid(1))
    assert "aged_unlinked_order" not in still.following.counts(await still.poll())


@on_every_version
async def test_what_grows_beyond_the_budget_later_is_given_up_then(empty_database, standing):
    still = await Still.of(empty_database, [], [position(), position(2, trading_pair="ETH/USD")], budget=400_000)
    standing.append(still)
    add = (
        "INSERT INTO public.orders (id, position_id, status, filled_quantity, created_at) SELECT"
        " gen_random_uuid(), gen_random_uuid(), 'NEW', 0, $1 FROM generate_series(1, 200)"
    )
    for polls in range(1, 5):
        await empty_database.execute(add, NOW)
        assert still.following.counts(await still.poll())["orphaned_position_reference"] == 200 * polls
    assert still.following.incremental._recompute.state.overflowing == {"orphaned_position_reference"}


@pytest.mark.parametrize(
    "kind", ["ids as long as text may be", "details beyond ASCII", "small findings", "open orders"]
)
def test_the_memory_that_it_takes_is_below_what_it_says(kind):
    """Measured, not estimated; what a growing dictionary takes for a moment is not counted."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        state = State(DAY, budget=10**9)
        for number in range(6_000):
            key = f"order {number} " + "x" * (500 if "ids" in kind else 20)
            if kind == "open orders":
                state.take_open({key: Open(NOW + number * SECOND, f"minute {number}")}, [key])
                state.take_minutes({f"minute {number}": Minute(NOW + number * SECOND, 1000 + number, 2)}, [])
                continue
            details = f'{{"pair": "{"大🚀" * 40 if "beyond" in kind else "BTC/USD"}", "number": {number}}}'
            found = Evidence(key, NOW + number * SECOND, details, NOW - number * SECOND)
            if number == 0:
                state.findings["a check"] = {}
            state.take("a check", Answer(0.0, 1, evidence=(found,)), [key])
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < state.size
