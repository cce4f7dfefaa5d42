"""The digest: when it comes, and what it says of a day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from po_exporter.model import LINK_SECONDS, Histogram
from po_exporter.tell.digest import Schedule
from po_exporter.tell.incidents import Sensitivity
from po_exporter.tell.summary import Links, Summary
from po_exporter.tell.teller import Teller, Terms
from po_exporter.tell.words import headline, past, story
from po_exporter.wiring import load, telling
from test_incidents import LOST, only, status

ZURICH = ZoneInfo("Europe/Zurich")
DAILY = Schedule("0 7 * * *", "UTC")
BEGIN = datetime(2026, 3, 2, 6, 50, tzinfo=UTC)


def moments(schedule: Schedule, since: datetime, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        since = schedule.after(since)
        found.append(since)
    return found


@pytest.mark.parametrize("hour", ["0 2", "30 2", "59 2", "0 3", "0 7"])
@pytest.mark.parametrize(
    "day",
    [datetime(2026, 3, 27, 12, tzinfo=ZURICH), datetime(2026, 10, 23, 12, tzinfo=ZURICH)],
    ids=["spring", "autumn"],
)
def test_a_day_has_one_digest_however_long_it_is(day, hour):
    """On 29 March 2026 there is no time from 2 to 3 in Zurich; on 25 October it comes twice."""
    found = moments(Schedule(f"{hour} * * *", "Europe/Zurich"), day, 5)
    days = [each.astimezone(ZURICH).date() for each in found]
    assert days == [(day + timedelta(days=number)).date() for number in range(1, 6)]
    assert found == sorted(found)


def test_a_schedule_is_by_the_clock_of_its_zone():
    (summer,) = moments(Schedule("0 7 * * *", "America/New_York"), datetime(2026, 7, 1, tzinfo=UTC), 1)
    (winter,) = moments(Schedule("0 7 * * *", "America/New_York"), datetime(2026, 1, 7, tzinfo=UTC), 1)
    assert (summer.astimezone(UTC).hour, winter.astimezone(UTC).hour) == (11, 12)


def test_the_configuration_says_when(tmp_path):
    (tmp_path / "po.yaml").write_text(
        "databases: {trading: {dsn: 'postgresql:///trading'}}\n"
        "notify: {digest: {schedule: '0 7 * * *', timezone: Europe/Zurich}}\n"
    )
    _, terms = telling(load(tmp_path / "po.yaml", {}))
    assert terms.digest == Schedule("0 7 * * *", "Europe/Zurich")


class Clock:
    """The time, as a test wants it."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now


async def play(teller: Teller, clock: Clock, polls: list[object], *, step: timedelta, first: int = 0) -> list[Summary]:
    """Everything that is told in the course of these polls, so far apart; what is due to close is healed."""

    async def healed(_: str, __: object) -> list[str]:
        return []

    told = []
    for number, polled in enumerate(polls, first):
        known = status(number, polled)
        links = Histogram.empty(LINK_SECONDS)
        for _ in range(number):
            links = links.observe(2)
        told += await teller.observe(replace(known, link_seconds=links, environment="production"), healed)
        clock.now += step
    return told


def digests(told: list[Summary]) -> list[Summary]:
    return [summary for summary in told if summary.kind == "digest"]


async def test_it_comes_with_the_first_poll_after_its_time_and_tells_of_the_day():
    clock = Clock()
    terms = Terms(Sensitivity(2, 3, 2.0), {"any": "a runbook"}, "https://page.example/", replica="pod-0", digest=DAILY)
    teller = Teller(terms, clock)
    told = await play(teller, clock, only(1, 1, 0, 0, 0, 2, 2), step=timedelta(minutes=2))
    (digest,) = digests(told)
    assert [summary.kind for summary in told] == ["opened", "closed", "digest", "opened"]
    assert digest.at == BEGIN + timedelta(minutes=10)
    assert (digest.opened, digest.closed) == (1, 1)
    assert [(each.check, each.count, each.ended is None) for each in digest.incidents] == [
        ("unlinked_filled_order", 1, False)
    ]
    assert (digest.links_made, digest.links_within) == (5, 2.5)
    assert digest.links == Links(None, "https://page.example/")
    assert headline(digest) == "The day of trading: CRITICAL"
    assert "Incidents: 1 opened, 1 closed, 0 open now." in story(digest)
    assert "Links made: 5; 99 % of them took 2.5 s at most." in story(digest)
    # The next one tells of its own day.
    clock.now = BEGIN + timedelta(days=1)
    (digest,) = digests(await play(teller, clock, only(*[2] * 8), step=timedelta(minutes=2), first=7))
    assert (digest.opened, digest.closed, digest.began) == (1, 0, BEGIN + timedelta(minutes=10))
    assert [past(each).split(",")[-1] for each in digest.incidents] == [" still open"]
    assert digest.links_made == 7
    before = {number.label: number.before for number in digest.numbers}
    assert before["Unlinked fills"] == "2"


async def test_it_comes_when_all_is_well_and_when_nothing_is_known():
    clock = Clock()
    teller = Teller(Terms(Sensitivity(2, 3, 2.0), digest=DAILY), clock)
    (digest,) = await play(teller, clock, only(*[0] * 8), step=timedelta(minutes=2))
    assert headline(digest) == "The day of trading: OK"
    clock.now = BEGIN + timedelta(days=1)
    told = digests(await play(teller, clock, [LOST] * 8, step=timedelta(minutes=2), first=8))
    assert headline(told[0]) == "The day of trading: UNKNOWN"
    assert "The database cannot be read: cannot reach the server." in story(told[0])
    assert {number.now for number in told[0].numbers} == {None}


async def test_a_follower_sends_none_and_who_takes_over_begins_a_day_of_its_own():
    clock = Clock()
    teller = Teller(Terms(Sensitivity(2, 3, 2.0), digest=DAILY), clock)
    following = replace(status(0, only(0)[0]), leader=False)

    async def nobody(_: str, __: object) -> list[str]:
        raise AssertionError

    for number in range(8):
        assert await teller.observe(replace(following, last_poll=BEGIN + timedelta(minutes=number)), nobody) == []
        clock.now += timedelta(minutes=2)
    assert await play(teller, clock, only(0, 0), step=timedelta(minutes=2)) == []


async def test_a_changed_schedule_holds_from_the_next_poll():
    clock = Clock()
    teller = Teller(Terms(Sensitivity(2, 3, 2.0)), clock)
    assert await play(teller, clock, only(*[0] * 8), step=timedelta(minutes=2)) == []
    teller.terms = Terms(Sensitivity(2, 3, 2.0), digest=Schedule("*/5 * * * *", "UTC"))
    assert len(await play(teller, clock, only(*[0] * 8), step=timedelta(minutes=2), first=8)) == 3


async def test_a_day_that_cannot_be_read_begins_anew():
    clock = Clock()
    teller = Teller(Terms(Sensitivity(2, 3, 2.0), digest=DAILY), clock)
    teller.recall("trading", {"digest": '{"since": "nonsense"}'})
    (digest,) = digests(await play(teller, clock, only(0, 0, 0, 0, 0, 0, 0), step=timedelta(minutes=2)))
    assert digest.began == BEGIN
