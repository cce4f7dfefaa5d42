"""What grows from poll to poll: issues, each counted once, and how long links took. The database's clock is ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from asking import Asked, watched
from parts.database import Database
from po_exporter.model import Histogram
from po_exporter.watch.monitor import Monitor
from po_exporter.watch.watched import Watched
from rows import NOW, SECOND, Order, Position, Rules, fill, freeze, mapping, move_clock, order, position

UNLINKED, AGED = ("UNLINKED_FILLED_ORDER", "high"), ("AGED_UNLINKED_ORDER", "high")
MISMATCH = ("QUANTITY_MISMATCH", "medium")
RULES = Rules(grace=30 * SECOND, one_active_per_pair=False)


class Life:
    """A database and its monitor, poll by poll."""

    def __init__(self, database: Database, told: Watched) -> None:
        self.database = database
        self.told = told
        self.monitor = Monitor(told)

    async def poll(self, *rows: Order | Position, after: float = 0) -> Asked:
        """One poll ``after`` seconds since NOW that finds these rows and no others."""
        await move_clock(self.database, NOW + timedelta(seconds=after))
        await fill(
            self.database,
            [row for row in rows if isinstance(row, Order)],
            [row for row in rows if isinstance(row, Position)],
        )
        return Asked(await self.monitor.poll())

    def counted(self, issue: tuple[str, str]) -> int:
        return self.monitor.status.issues[issue]

    @property
    def linked(self) -> Histogram:
        return self.monitor.status.link_seconds


@pytest.fixture
async def life(empty_database):
    """Starts a life with some terms changed: ``life(window=...)``."""
    await freeze(empty_database)
    lives = []

    def start(rules: Rules = RULES, **terms: Any) -> Life:
        told = watched(empty_database.reader_dsn, mapping(rules), rules)
        lives.append(Life(empty_database, replace(told, terms=replace(told.terms, **terms))))
        return lives[-1]

    yield start
    for each in lives:
        await each.monitor.close()


Start = Callable[..., Life]
HERE = position()
FINE = order(100)


def loose(number: int, **changes: Any) -> Order:
    """An order without a link, filled an hour ago."""
    return order(number, None, **changes)


async def test_an_issue_counts_once_when_it_is_new(life: Start):
    it = life()
    await it.poll(HERE, FINE, loose(1), loose(2))
    assert it.counted(UNLINKED) == 0, "what the first answer holds was there before us"
    await it.poll(HERE, FINE, loose(1), loose(2))
    assert it.counted(UNLINKED) == 0
    await it.poll(HERE, FINE, loose(1), loose(2), loose(3))
    assert it.counted(UNLINKED) == 1
    await it.poll(HERE, FINE, loose(1), loose(2), loose(3))
    assert it.counted(UNLINKED) == 1
    await it.poll(HERE, FINE, loose(4))
    assert it.counted(UNLINKED) == 2, "one new among fewer"
    await it.poll(HERE, FINE)
    await it.poll(HERE, FINE, loose(1))
    assert it.counted(UNLINKED) == 3, "healed and wrong again counts again, seeded or not"


async def test_first_seen_is_kept_as_long_as_it_lasts(life: Start):
    it = life()
    await it.poll(HERE, FINE, loose(1))
    later = await it.poll(HERE, FINE, loose(1), loose(2), after=5)
    assert {finding.id: finding.first_seen for finding in later.good("unlinked_filled_order").findings} == {
        loose(1).id: NOW,
        loose(2).id: NOW + 5 * SECOND,
    }
    await it.poll(HERE, FINE, after=6)
    again = await it.poll(HERE, FINE, loose(1), after=7)
    assert again.finding("unlinked_filled_order").first_seen == NOW + 7 * SECOND


WRONG = position(quantity="3")


async def test_what_settles_counts_after_the_grace_in_every_answer(life: Start):
    it = life()
    await it.poll(HERE, FINE)
    seen = await it.poll(WRONG, FINE, after=10)
    assert seen.count("quantity_mismatch") == 1, "the number is the snapshot's truth"
    assert it.counted(MISMATCH) == 0
    await it.poll(WRONG, FINE, after=39.9)
    assert it.counted(MISMATCH) == 0
    await it.poll(WRONG, FINE, after=40)
    assert it.counted(MISMATCH) == 1
    await it.poll(WRONG, FINE, after=100)
    assert it.counted(MISMATCH) == 1
    await it.poll(HERE, FINE, after=110)
    await it.poll(WRONG, FINE, after=120)
    await it.poll(HERE, FINE, after=130)
    await it.poll(WRONG, FINE, after=140)
    await it.poll(WRONG, FINE, after=160)
    assert it.counted(MISMATCH) == 1, "it was gone in one answer in between"
    await it.poll(WRONG, FINE, after=170)
    assert it.counted(MISMATCH) == 2


async def test_two_answers_at_least_whatever_the_grace(life: Start):
    it = life(replace(RULES, grace=timedelta(0)))
    await it.poll(HERE, FINE)
    await it.poll(WRONG, FINE, after=100)
    assert it.counted(MISMATCH) == 0
    await it.poll(WRONG, FINE, after=101)
    assert it.counted(MISMATCH) == 1


async def test_what_has_not_settled_at_the_first_answer_is_not_seeded(life: Start):
    it = life()
    await it.poll(WRONG, FINE)
    assert it.counted(MISMATCH) == 0, "it may be a writer between two transactions"
    await it.poll(WRONG, FINE, after=60)
    assert it.counted(MISMATCH) == 1
    other = position(2, quantity="1")
    await it.poll(WRONG, FINE, other, after=61)
    await it.poll(WRONG, FINE, other, after=100)
    assert it.counted(MISMATCH) == 2


async def test_what_vanished_before_it_settled_counts_when_it_comes_back(life: Start):
    it = life()
    await it.poll(WRONG, FINE)
    await it.poll(HERE, FINE, after=10)
    await it.poll(WRONG, FINE, after=20)
    await it.poll(WRONG, FINE, after=60)
    assert it.counted(MISMATCH) == 1


async def test_growing_old_counts_once_more_under_the_new_type(life: Start):
    it = life(replace(RULES, window=timedelta(seconds=5), grace=timedelta(0)))
    young = loose(1, created_at=NOW, filled_at=NOW, updated_at=NOW)
    await it.poll(HERE, FINE)
    await it.poll(HERE, FINE, young)
    assert (it.counted(UNLINKED), it.counted(AGED)) == (1, 0)
    await it.poll(HERE, FINE, young, after=5)
    assert (it.counted(UNLINKED), it.counted(AGED)) == (1, 0)
    await it.poll(HERE, FINE, young, after=5.1)
    assert (it.counted(UNLINKED), it.counted(AGED)) == (1, 1)
    await it.poll(HERE, FINE, young, after=50)
    assert (it.counted(UNLINKED), it.counted(AGED)) == (1, 1)


async def test_beyond_the_budget_the_rise_counts(life: Start):
    it = life(identity_budget=2)
    await it.poll(HERE, FINE, loose(1))
    await it.poll(HERE, FINE, *map(loose, (1, 2, 3, 4)))
    assert it.counted(UNLINKED) == 3, "one was there before"
    await it.poll(HERE, FINE, *map(loose, (2, 3, 4, 5)))
    assert it.counted(UNLINKED) == 3, "nobody knows which they are"
    await it.poll(HERE, FINE, *map(loose, (2, 3, 4)))
    await it.poll(HERE, FINE, *map(loose, (2, 3, 4, 5, 6)))
    assert it.counted(UNLINKED) == 5
    await it.poll(HERE, FINE, *map(loose, (2, 3)))
    assert it.counted(UNLINKED) == 5, "back under it, nothing is counted again"
    await it.poll(HERE, FINE, *map(loose, (2, 9)))
    assert it.counted(UNLINKED) == 6, "and from here each is known again"


async def test_beyond_the_budget_what_settles_counts_by_the_least_over_the_grace(life: Start):
    def wrong(many: int) -> list[Position]:
        return [position(number, quantity="1") for number in range(2, 2 + many)]

    it = life(identity_budget=2)
    await it.poll(HERE, FINE)
    for after, many in ((10, 3), (20, 5), (30, 4), (39, 5)):
        await it.poll(HERE, FINE, *wrong(many), after=after)
        assert it.counted(MISMATCH) == 0
    await it.poll(HERE, FINE, *wrong(6), after=40)
    assert it.counted(MISMATCH) == 3
    await it.poll(HERE, FINE, *wrong(6), after=61)
    assert it.counted(MISMATCH) == 4
    await it.poll(HERE, FINE, *wrong(6), after=100)
    assert it.counted(MISMATCH) == 6


async def test_an_outage_is_no_reason_to_count_anything_again(life: Start):
    it = life()
    await it.poll(HERE, FINE)
    await it.poll(HERE, FINE, loose(1))
    assert it.counted(UNLINKED) == 1
    good = it.monitor.watched.target
    it.monitor._poller.session.target = replace(good, dsn=type(good.dsn)("postgresql://po_reader@127.0.0.1:1/gone"))
    await it.monitor._poller.session.close()
    assert (await it.monitor.poll()).up is False
    it.monitor._poller.session.target = good
    await it.poll(HERE, FINE, loose(1), loose(2), after=500)
    assert it.counted(UNLINKED) == 2, "and what is new is new"


async def test_linking_is_timed_once_from_the_fill(life: Start):
    it = life()
    filled = {"created_at": NOW - 9 * SECOND, "filled_at": NOW - 2 * SECOND, "updated_at": NOW}
    await it.poll(HERE, FINE, loose(1, **filled))
    assert it.linked.sum == 0
    await it.poll(HERE, FINE, order(1, **filled), after=2)
    assert (it.linked.sum, sum(it.linked.counts)) == (4, 1)
    await it.poll(HERE, FINE, order(1, **filled), order(2, **filled), after=4)
    assert sum(it.linked.counts) == 1, "the second was never seen without its link"
    await it.poll(HERE, FINE, loose(3, filled_at=None), after=6)
    await it.poll(HERE, FINE, order(3, filled_at=None), after=8)
    assert sum(it.linked.counts) == 1, "nobody knows when the third was filled"
    await it.poll(HERE, FINE, loose(4, status="NEW"), after=10)
    await it.poll(HERE, FINE, order(4), after=12)
    assert sum(it.linked.counts) == 1, "the fourth was not filled when it had no link"
    await it.poll(HERE, FINE, loose(5), after=14)
    await it.poll(HERE, FINE, after=16)
    await it.poll(HERE, FINE, order(5), after=18)
    assert sum(it.linked.counts) == 1, "the fifth was gone in between"


async def test_a_column_that_is_touched_all_the_time_hides_nothing(life: Start):
    it = life(replace(RULES, unmapped=frozenset({"orders.filled_at"})))

    def touched(after: float) -> Order:
        return loose(1, created_at=NOW, updated_at=NOW + timedelta(seconds=after))

    for after in (0, 10, 20, 29):
        seen = await it.poll(HERE, FINE, touched(after), after=after)
        assert seen.count("unlinked_filled_order") == 0
        assert seen.link_rate.eligible == 1
    seen = await it.poll(HERE, FINE, touched(30), after=30)
    assert seen.count("unlinked_filled_order") == 1
    assert seen.link_rate.eligible == 2
    assert it.counted(UNLINKED) == 1
    await it.poll(HERE, FINE, order(1, created_at=NOW, updated_at=NOW + 40 * SECOND), after=40)
    assert (it.linked.sum, sum(it.linked.counts)) == (40, 1), "from the fill as it was first seen"
