"""What is written belongs together: what is known of an incident, and the letter that tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from installing import without_roles
from keeping import installed
from parts.database import Database
from parts.postgres import Server
from parts.waiting import until
from po_exporter.errors import NotLeading, QueryFailed, Unreachable
from po_exporter.model import Status
from po_exporter.tell.channel import Undelivered
from po_exporter.tell.incidents import Sensitivity
from po_exporter.tell.office import Office
from po_exporter.tell.outbox import Letter, Outcome
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.store import Store
from po_exporter.tell.teller import Terms
from test_incidents import status
from test_outbox import Recorder

pytestmark = pytest.mark.database

TERMS = Terms(Sensitivity(1, 1, 2.0))
UNLINKED, MISMATCH = "unlinked_filled_order", "quantity_mismatch"


class Watch:
    """A database with the sidecar's schema, watched by one that leads; its rows are asked for as long as ``busy``."""

    may_tell = True

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = asyncio.Lock()
        self.status = Status("trading", 60.0)
        self.asked, self.busy = asyncio.Event(), asyncio.Event()
        self.busy.set()

    def polled(self, number: int, **wrong: int) -> None:
        self.status = replace(status(number, {UNLINKED: 0, MISMATCH: 0, "link_rate": 0} | wrong), kept=2)

    async def still_wrong(self, *_: object) -> list[str]:
        self.asked.set()
        await self.busy.wait()
        return []

    async def keep(self, query: str, *arguments: object) -> list[dict[str, object]]:
        async with self._lock:
            return [dict(row) for row in await self._database.fetch(query, *arguments)]


class Memory(Watch):
    """Another database, in which nothing is kept."""

    def __init__(self) -> None:
        self.status = Status("another", 60.0)
        self.asked, self.busy = asyncio.Event(), asyncio.Event()
        self.busy.set()

    def polled(self, number: int, **wrong: int) -> None:
        super().polled(number, **wrong)
        self.status = replace(self.status, database="another", kept=None)


@pytest.fixture
def roles(server: Server) -> Iterator[None]:
    """The server's roles are as they were, afterwards."""
    with without_roles(server):
        yield


@pytest.fixture
async def watch(roles: None, database: Database) -> Watch:
    await installed(database)
    return Watch(database)


async def test_nothing_is_known_to_be_told_that_is_not_written_as_a_letter(watch):
    """Alertmanager may ask in the middle of a poll; a process may be killed after that."""
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0, unlinked_filled_order=1)
        await office.observe(watch)
        watch.polled(1, quantity_mismatch=2)
        watch.busy.clear()
        observing = asyncio.create_task(office.observe(watch))
        await watch.asked.wait()
        await office.answer(watch, [SAMPLES["alert"]])
        known = await watch.keep("SELECT name FROM po_exporter.incidents WHERE state -> 'incident' <> 'null'")
        assert [row["name"] for row in known] == [UNLINKED]
        observing.cancel()  # as if it was killed here
        office.close()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.busy.set()
        watch.polled(2, quantity_mismatch=2)
        await office.observe(watch)
        await until(lambda: not office.channels[0].waiting, what="all to be told")
        office.close()
    # The alert was perhaps sent and not crossed out when it was killed.
    assert sorted(kind for _, kind in channel.taken if kind != "alert") == ["closed", "opened", "opened"]


async def test_what_waits_for_a_channel_that_is_gone_is_set_aside(watch):
    store = await Store.take_over("trading", "a", watch.keep)
    await store.write({}, [("pager", Letter(SAMPLES["opened"])), ("recorder", Letter(SAMPLES["opened"]))])
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0)
        await office.observe(watch)
        await until(lambda: channel.taken, what="the other one to be told")
        await until(lambda: not office.channels[0].waiting, what="it to be crossed out")
        office.close()
    rows = await watch.keep("SELECT channel, set_aside IS NOT NULL AS aside, error FROM po_exporter.outbox")
    assert {row["channel"]: (row["aside"], row["error"]) for row in rows} == {
        "pager": (True, "there is no such channel"), "recorder": (False, None),
    }  # fmt: skip


async def test_what_was_sent_while_nobody_knew_whether_it_was_written_is_not_sent_again(watch):
    """The wire ends between a commit and its answer; meanwhile the letter, which was exempt, went."""
    store = await Store.take_over("trading", "a", watch.keep)
    letter = Letter(SAMPLES["unknown"])
    await store.write({}, [("slack", letter)])
    letter.outcome = Outcome(datetime.now(UTC), ["C0", "1.0", "then"])
    await store.write({}, [("slack", letter)])
    assert await store.waiting() == []


async def test_what_cannot_be_kept_for_a_lock_that_somebody_holds_is_told_all_the_same(watch):
    """Whether it is held when the process starts, or later."""
    refuses = [True]
    keep = watch.keep

    async def slow(query: str, *arguments: object) -> list[dict[str, object]]:
        if refuses[0]:
            raise Unreachable("no answer in time")
        return await keep(query, *arguments)

    watch.keep = slow
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        for number in range(4):
            watch.polled(number, unlinked_filled_order=1)
            await office.observe(watch)
        await until(lambda: len(channel.taken) == 1, what="the opening")
        refuses[0] = False
        watch.polled(4, unlinked_filled_order=1)
        await office.observe(watch)
        refuses[0] = True
        for number in range(5, 9):
            watch.polled(number, unlinked_filled_order=1, quantity_mismatch=2)
            await office.observe(watch)
        await until(lambda: len(channel.taken) == 2, what="the other opening")
        office.close()


async def test_where_the_schema_is_gone_what_waits_there_goes_on(watch):
    """It cannot be crossed out any more; that holds up nothing."""
    down = [True]
    channel = Recorder(lambda _: Undelivered("not now", "server_error") if down[0] else None)
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0, unlinked_filled_order=1, quantity_mismatch=2)
        await office.observe(watch)
        await until(lambda: channel.tries, what="a try")
        watch.polled(1, unlinked_filled_order=1, quantity_mismatch=2)
        watch.status = replace(watch.status, kept=None)

        async def gone(*_: object) -> list[dict[str, object]]:
            raise QueryFailed("there is no such table")

        watch.keep = gone
        await office.observe(watch)
        down[0] = False
        await until(lambda: not office.channels[0].waiting, what="both to be told")
        office.close()
    assert [kind for _, kind in channel.taken] == ["opened", "opened"]


def full_disk(watch: Watch) -> list[bool]:
    """No letter can be written, as long as what is returned says so."""
    keep, full = watch.keep, [True]

    async def refusing(query: str, *arguments: object) -> list[dict[str, object]]:
        if full[0] and "INSERT INTO po_exporter.outbox" in query:
            raise QueryFailed("no space left on device")
        return await keep(query, *arguments)

    watch.keep = refusing
    return full


async def test_what_was_refused_is_written_with_what_is_known_of_it_and_told_by_the_next(watch):
    """The disk is full at first, and nobody takes what there is to tell until the process has been killed."""
    full = full_disk(watch)
    channel = Recorder(lambda _: Undelivered("not now", "server_error"))
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0, unlinked_filled_order=1)
        await office.observe(watch)
        await until(lambda: channel.tries, what="a try although nothing was written")
        watch.polled(1, unlinked_filled_order=5)
        await office.observe(watch)  # the change is told in what waits, or waits for itself
        full[0] = False
        watch.polled(2, unlinked_filled_order=20)
        await office.observe(watch)
        office.close()  # as if it was killed
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(3, unlinked_filled_order=20)
        await office.observe(watch)
        await until(lambda: not office.channels[0].waiting, what="all to be told")
        office.close()
    assert [kind for _, kind in channel.taken] == ["opened", "changed"]


async def test_what_was_told_while_it_was_refused_is_not_told_again_by_the_next(watch):
    full = full_disk(watch)
    for number in range(3):
        channel = Recorder()
        async with asyncio.TaskGroup() as group:
            office = Office([channel], TERMS, group)
            watch.polled(2 * number, unlinked_filled_order=1)
            await office.observe(watch)
            await until(lambda o=office: not o.channels[0].waiting, what="all to be told")
            full[0] = False
            watch.polled(2 * number + 1, unlinked_filled_order=1)
            await office.observe(watch)
            office.close()
        assert len(channel.taken) == (number == 0)
    (row,) = await watch.keep("SELECT sent IS NOT NULL AS sent, thread FROM po_exporter.outbox")
    assert row["sent"]
    assert row["thread"], "where the message is, for what there will be to tell of it"


async def test_an_alert_that_cannot_be_kept_is_to_be_asked_for_again_and_told_once(watch):
    """Somebody holds a lock: Alertmanager is told that it was not taken, and comes again."""
    keep = watch.keep
    locked = [False]

    async def slow(query: str, *arguments: object) -> list[dict[str, object]]:
        if locked[0]:
            raise Unreachable("no answer in time")
        return await keep(query, *arguments)

    watch.keep = slow
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0)
        await office.observe(watch)
        locked[0] = True
        with pytest.raises(NotLeading):
            await office.answer(watch, [SAMPLES["alert"]])
        locked[0] = False
        watch.polled(1)
        await office.observe(watch)
        assert office.channels[0].waiting == 0
        await office.answer(watch, [replace(SAMPLES["alert"], id="again")])
        await until(lambda: channel.taken, what="the alert")
        await Store.take_over("trading", "another", keep)
        with pytest.raises(NotLeading):
            await office.answer(watch, [replace(SAMPLES["alert"], id="later")])
        office.close()
    assert len(channel.taken) == 1


async def test_what_hangs_in_one_database_holds_up_nothing_of_another(watch):
    """What was sent is to be crossed out there, and there is no answer."""
    keep = watch.keep
    hangs = asyncio.Event()

    async def hanging(query: str, *arguments: object) -> list[dict[str, object]]:
        if "crossed_out" in query:
            hangs.set()
            await asyncio.Event().wait()
        return await keep(query, *arguments)

    watch.keep = hanging
    other = Memory()
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0, unlinked_filled_order=1)
        await office.observe(watch)
        await hangs.wait()
        other.polled(0, unlinked_filled_order=1)
        await office.observe(other)
        await until(lambda: len(channel.taken) == 2, what="the one of the other database")
        office.close()


async def test_a_channel_that_comes_back_tells_nothing_of_what_waited_when_it_went(watch):
    channel = Recorder(lambda _: Undelivered("not now", "server_error"))
    async with asyncio.TaskGroup() as group:
        office = Office([channel], TERMS, group)
        watch.polled(0, unlinked_filled_order=1)
        await office.observe(watch)
        await until(lambda: channel.tries, what="a try")
        office.configure([Recorder(name="another")], TERMS)

        async def set_aside() -> bool:
            rows = await watch.keep("SELECT error FROM po_exporter.outbox WHERE set_aside IS NOT NULL")
            return [row["error"] for row in rows] == ["there is no such channel"]

        await until(set_aside, what="it to be set aside where it is kept")
        office.close()
