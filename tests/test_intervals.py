"""When each check is asked again."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from asking import watched
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.watch.monitor import Monitor
from sidecar import populate

EVERYTHING = {
    "aged_unlinked_order", "orphaned_position_reference", "trading_pair_mismatch", "quantity_mismatch",
    "closed_position_not_flat", "duplicate_active_position",
}  # fmt: skip
"""The checks that look at more than the window."""


@pytest.fixture
async def monitors(database):
    """Starts a monitor with an interval and with intervals of single checks."""
    await populate(database)
    made = []

    def start(interval: timedelta, **own: timedelta) -> Monitor:
        told = watched(database.reader_dsn, GAL_FRIDAY)
        questions = tuple(replace(question, interval=own.get(question.name)) for question in told.questions)
        made.append(Monitor(replace(told, interval=interval, questions=questions)))
        return made[-1]

    yield start
    for each in made:
        await each.close()


async def test_what_looks_at_everything_takes_a_twentieth_of_the_time_at_most(monitors):
    monitor = monitors(timedelta(milliseconds=1), quantity_mismatch=timedelta(milliseconds=1))
    for _ in range(2):
        assert (await monitor.poll()).up
    status = monitor.status
    rarely = {name for name, asked in status.asked.items() if asked == 1}
    assert rarely == EVERYTHING - {"quantity_mismatch"}, "its own interval replaces the rule"
    for name in rarely:
        taken = next(check for check in status.result.checks if check.name == name).seconds
        assert status.check_intervals[name] == pytest.approx(20 * taken)
    assert all(check.ok for check in status.result.checks), "the earlier answers are still there"
    assert status.result.check("trading_pair_mismatch").as_of < status.result.check("link_rate").as_of


async def test_what_failed_is_due_at_the_next_poll(monitors, database):
    await database.execute("ALTER TABLE orders DROP COLUMN trading_pair")
    monitor = monitors(timedelta(milliseconds=1), trading_pair_mismatch=timedelta(hours=1))
    for _ in range(3):
        assert (await monitor.poll()).up
    asked = monitor.status.asked
    assert asked["trading_pair_mismatch"] == 3
    assert {asked[name] for name in EVERYTHING - {"trading_pair_mismatch"}} == {1}


async def test_a_check_of_the_window_may_be_asked_less_often(monitors):
    monitor = monitors(timedelta(milliseconds=1), unlinked_filled_order=timedelta(hours=1))
    for _ in range(2):
        await monitor.poll()
    assert monitor.status.asked["unlinked_filled_order"] == 1
    assert monitor.status.asked["link_rate"] == 2
    assert monitor.status.check_intervals["unlinked_filled_order"] == 3600


@pytest.mark.parametrize(("spent", "rest"), [(0, 60), (20, 40), (59, 1), (60, 60), (70, 50), (185, 55)])
def test_a_poll_that_is_late_is_skipped_not_queued(spent, rest):
    monitor = Monitor(watched("postgresql://po_reader@127.0.0.1:1/gone", GAL_FRIDAY))
    assert monitor._pause(time.monotonic() - spent) == pytest.approx(rest, abs=0.5)
