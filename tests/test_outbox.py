"""The courier: in order for each incident, nothing lost, nothing held up by what cannot be sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from secrets import token_hex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parts.waiting import until
from po_exporter.tell import outbox
from po_exporter.tell.channel import Undelivered
from po_exporter.tell.outbox import MOST_WAITING, POISON_TRIES, Courier, Letter
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.summary import Number, Summary


@dataclass
class Recorder:
    """A channel that fails as it is told to: ``failing`` says why it does not take a summary, or None."""

    failing: Callable[[Summary], Undelivered | None] = lambda _: None
    name: str = "recorder"
    pace: float = 0.0
    taken: list[tuple[str, str]] = field(default_factory=list)
    threads: list[object] = field(default_factory=list)
    tries: list[str] = field(default_factory=list)

    def wants(self, _: Summary) -> bool:
        return True

    async def send(self, summary: Summary, thread: object) -> object:
        self.tries.append(summary.incident)
        await asyncio.sleep(0)
        failure = self.failing(summary)
        if failure:
            raise failure
        self.taken.append((summary.incident, summary.kind))
        self.threads.append(thread)
        return f"thread of {summary.incident}"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(outbox, "FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(outbox, "MOST_BACKOFF", 0.002)


@pytest.fixture
async def carrying() -> AsyncIterator[Callable[[Recorder], Courier]]:
    tasks = []

    def start(channel: Recorder) -> Courier:
        courier = Courier(channel)
        tasks.append(asyncio.create_task(courier.run()))
        return courier

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def told(incident: str, kind: str = "opened") -> Letter:
    return Letter(replace(SAMPLES["opened"], id=token_hex(8), incident=incident, kind=kind, count=len(incident)))


async def until_empty(courier: Courier) -> None:
    await until(lambda: not courier.status.waiting, what=lambda: f"nothing to wait: {courier.status}")


def busy(reason: str = "server_error", **more: object) -> Undelivered:
    return Undelivered("not now", reason, **more)


async def test_what_one_send_returns_the_next_about_the_same_incident_gets(carrying):
    channel = Recorder()
    courier = carrying(channel)
    for incident, kind in (("a", "opened"), ("b", "opened"), ("a", "closed"), ("a", "opened")):
        courier.put(told(incident, kind))
    await until_empty(courier)
    assert channel.threads == [None, None, "thread of a", None]


async def test_one_that_fails_lets_others_go_first_but_not_those_of_its_incident(carrying, monkeypatch):
    monkeypatch.setattr(outbox, "POISON_TRIES", 10**6)
    stuck = [True]
    channel = Recorder(lambda summary: busy() if summary.incident == "a" and stuck[0] else None)
    courier = carrying(channel)
    for incident, kind in (("a", "opened"), ("b", "opened"), ("a", "closed"), ("b", "closed")):
        courier.put(told(incident, kind))
    await until(lambda: len(channel.taken) == 2, what="those of the other incident to go")
    stuck[0] = False
    await until_empty(courier)
    assert channel.taken == [("b", "opened"), ("b", "closed"), ("a", "opened"), ("a", "closed")]


async def test_one_that_never_gets_through_while_others_do_is_set_aside_and_counted(carrying):
    channel = Recorder(lambda summary: busy() if summary.incident == "poison" else None)
    courier = carrying(channel)
    courier.put(told("poison"))
    await until(lambda: len(channel.tries) >= 3, what="some tries")
    courier.put(told("b"))
    await until_empty(courier)
    assert channel.taken == [("b", "opened")]
    assert channel.tries.count("poison") >= POISON_TRIES
    assert courier.status.failures["server_error"] == channel.tries.count("poison")


async def test_while_nothing_gets_through_nothing_is_set_aside(carrying):
    down = [True]
    channel = Recorder(lambda _: busy("unreachable") if down[0] else None)
    courier = carrying(channel)
    for incident in "abc":
        courier.put(told(incident))
    await until(lambda: len(channel.tries) > 5 * POISON_TRIES, what="many tries")
    assert courier.status.waiting == 3
    down[0] = False
    await until_empty(courier)
    assert sorted(channel.taken) == [("a", "opened"), ("b", "opened"), ("c", "opened")]
    assert courier.status.error is None


async def test_of_several_changes_that_wait_the_last_is_told_and_how_far_it_moved_in_all(carrying):
    down = [True]
    channel = Recorder(lambda _: busy() if down[0] else None)
    courier = carrying(channel)
    courier.put(told("a"))
    for count in (3, 7, 20):
        numbers = (Number("Unlinked fills", str(count), str(count - 1)),)
        change = replace(told("a", "changed").summary, count=count, before=count - 1, numbers=numbers)
        courier.put(Letter(change))
    assert courier.status.waiting == 2
    last = courier._waiting[-1].summary
    assert (last.count, last.before, last.numbers) == (20, 2, (Number("Unlinked fills", "20", "2"),))
    down[0] = False
    await until_empty(courier)
    assert channel.taken == [("a", "opened"), ("a", "changed")]


async def test_what_waits_already_is_not_put_twice(carrying):
    down = [True]
    channel = Recorder(lambda _: busy() if down[0] else None)
    courier = carrying(channel)
    letter = told("a")
    courier.put(letter)
    courier.put(Letter(letter.summary, rows=(7,)))
    assert [each.rows for each in courier._waiting] == [(7,)]
    down[0] = False
    await until_empty(courier)
    assert channel.taken == [("a", "opened")]


async def test_of_an_alert_that_is_repeated_while_it_waits_the_last_is_told(carrying):
    down = [True]
    channel = Recorder(lambda _: busy() if down[0] else None)
    courier = carrying(channel)
    firing = SAMPLES["alert"]
    courier.put(told("a"))
    for count in range(5):
        courier.put(Letter(replace(firing, id=f"repeat {count}", count=count), rows=(count,)))
    courier.put(Letter(replace(firing, id="resolved", alert=replace(firing.alert, resolved=True))))
    courier.put(Letter(replace(firing, id="anew", began=firing.began + timedelta(hours=1))))
    waiting = [(letter.summary.count, letter.rows) for letter in courier._waiting]
    assert waiting == [(1, ()), (4, (0, 1, 2, 3, 4)), (firing.count, ()), (firing.count, ())]
    down[0] = False
    await until_empty(courier)


async def test_what_a_library_stumbles_over_ends_nothing(carrying):
    broken = [True]

    def stumble(_: Summary) -> Undelivered | None:
        if broken[0]:
            raise UnicodeError("label empty or too long: s3cret")
        return None

    channel = Recorder(stumble)
    courier = carrying(channel)
    courier.put(told("a"))
    await until(lambda: courier.status.failures["defect"] > 2, what="some failures")
    assert courier.status.error == "the channel failed by UnicodeError; look at its settings"
    broken[0] = False
    await until_empty(courier)
    assert channel.taken == [("a", "opened")]


async def test_what_a_channel_wants_no_more_is_dropped(carrying):
    channel = Recorder(lambda _: busy())
    courier = carrying(channel)
    courier.put(told("a"))
    await until(lambda: channel.tries, what="a try")
    channel.wants = lambda _: False
    await until_empty(courier)


async def test_what_waits_is_bounded(carrying):
    channel = Recorder(lambda _: busy())
    courier = carrying(channel)
    for number in range(MOST_WAITING + 5):
        courier.put(told(f"incident {number}"))
    assert courier.status.waiting == MOST_WAITING
    assert courier.status.failures["overflow"] == 5


histories = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("changed", "closed", "opened"))), max_size=30)


@given(histories, st.lists(st.booleans(), max_size=60))
def test_in_order_for_each_incident_and_none_lost(puts, failures):
    """However the tries end; changes alone may be told as one."""

    async def play() -> list[tuple[str, str]]:
        fates = list(failures)
        channel = Recorder(lambda _: busy() if fates and fates.pop() else None)
        courier = Courier(channel)
        task = asyncio.create_task(courier.run())
        for incident, kind in puts:
            courier.put(told(incident, kind))
        await until_empty(courier)
        task.cancel()
        return channel.taken

    taken = asyncio.run(play())
    for incident in "abc":
        wanted = [kind for each, kind in puts if each == incident]
        merged = [kind for at, kind in enumerate(wanted) if not (kind == "changed" == (wanted[at - 1] if at else ""))]
        got = [kind for each, kind in taken if each == incident]
        assert [kind for kind in got if kind != "changed"] == [kind for kind in wanted if kind != "changed"]
        assert len(merged) <= len(got) <= len(wanted)
