"""Several replicas over one database: one polls, and another takes its place within the bound, whatever stops it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from asking import watched
from parts.program import Program
from parts.waiting import until
from po_exporter.database.session import Target
from po_exporter.errors import DatabaseError
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret
from po_exporter.watch.lease import Lease
from po_exporter.watch.monitor import Monitor
from sidecar import NAME, Sidecar, by_label, counted_connections, populate, settings

pytestmark = pytest.mark.database
LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND datname = current_database()"""
HEARTBEAT_SINCE = """
SELECT coalesce(bool_or(a.query_start > $1 AND a.state = 'idle'), false)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.mode = 'ExclusiveLock' AND l.granted AND a.datname = current_database()"""
BESIDES = re.compile(r"position_order_(up|exporter_.*)")


@pytest.fixture
async def replicas(database, tmp_path):
    """Starts replicas, each at home in a directory of its own: `await replicas(2, dsn=...)`."""
    await populate(database)
    running, started = [], []

    async def start(number: int, dsn: str = "", **more) -> list[Sidecar]:
        for _ in range(number):
            home = tmp_path / f"replica-{len(started)}"
            home.mkdir()
            context = Program(Path(home)).running(config=settings(dsn or database.reader_dsn) | more)
            started.append(Sidecar(await context.__aenter__()))
            running.append(context)
        return started[-number:]

    yield start
    for context in reversed(running):
        await context.__aexit__(None, None, None)


async def leads(replica: Sidecar) -> bool:
    """Whether it says so, and shows what only a leader shows."""
    shown = await replica.metrics()
    told = shown.value("position_order_exporter_leader", database=replica.name) == 1
    domain = {name for name, _ in shown if not BESIDES.fullmatch(name)}
    assert told or not domain, f"a follower shows {domain}"
    return told and shown.value("position_order_up", database=replica.name) == 1


async def one_leads(*replicas: Sidecar) -> Sidecar:
    """Wait until exactly one of them leads and has an answer; that one."""
    found: list[Sidecar] = []

    async def is_so() -> bool:
        await asyncio.sleep(0.05)
        found[:] = [replica for replica in replicas if await leads(replica)]
        return len(found) == 1

    await until(is_so, timeout=30, what="one replica to lead")
    return found[0]


async def test_one_of_three_polls_and_the_others_follow(database, replicas):
    (first,) = await replicas(1)
    await first.until_up(1)
    others = await replicas(2)
    for other in others:
        await other.until_value(0, "exporter_leader")
        assert (await other.exporter.get("/-/ready")).status == 200
        assert await other.value("up") is None
        assert [await other.value("exporter_mode", mode=mode) for mode in ("scan", "incremental")] == [0, 0]
        assert "follows" in (await other.exporter.get("/")).text
        rows = await other.exporter.get("/api/v1/findings")
        assert (rows.status, rows.json) == (503, {"error": "follower"})
    assert await leads(first)
    assert await database.fetchval(LOCKS) == 1


async def test_when_the_leader_ends_another_goes_on(database, replicas):
    first, second = await replicas(2)
    leader = await one_leads(first, second)
    other = second if leader is first else first
    before = await leader.open_issues()
    assert await leader.exporter.stop() == 0
    assert await one_leads(other) is other
    assert await other.open_issues() == before
    # What was wrong before it took over was counted by the one before it (but for what it has not seen settle).
    assert "UNLINKED_FILLED_ORDER" in by_label(await other.metrics(), "position_order_open_issues", "issue_type")
    assert "UNLINKED_FILLED_ORDER" not in await other.issues_total()


async def test_a_leader_that_is_killed_keeps_no_lock(database, replicas):
    first, second = await replicas(2)
    leader = await one_leads(first, second)
    other = second if leader is first else first
    leader.exporter.signal(signal.SIGKILL)
    await one_leads(other)


async def test_a_frozen_leader_is_replaced_and_wakes_as_a_follower(database, replicas):
    first, second = await replicas(2)
    leader = await one_leads(first, second)
    other = second if leader is first else first
    leader.exporter.signal(signal.SIGSTOP)
    try:
        await one_leads(other)
    finally:
        leader.exporter.signal(signal.SIGCONT)
    for _ in range(20):  # from the first page that it serves: `leads` finds what only a leader may show
        assert not await leads(leader)
    await leader.until_value(0, "exporter_leader")
    assert await leads(other)


async def test_a_leader_that_is_cut_off_is_replaced(database, replicas, proxy):
    (leader,) = await replicas(1, dsn=proxy.reader_dsn)
    await leader.until_up(1)
    (other,) = await replicas(1)
    await other.until_value(0, "exporter_leader")
    since = await database.fetchval("SELECT clock_timestamp()")

    async def knows() -> bool:
        """Whether a heartbeat of the leader has ended that began when the other one was there."""
        return await database.fetchval(HEARTBEAT_SINCE, since)

    await until(knows, what="a heartbeat of the leader")
    proxy.black_hole()
    await one_leads(other)
    await leader.until_value(0, "exporter_leader")
    await leader.until_up(0)
    assert (await leader.exporter.get("/-/ready")).status == 503
    proxy.heal()
    await leader.until_value(None, "up")
    assert await one_leads(leader, other) is other


async def test_all_of_them_say_that_the_database_is_gone_and_one_leads_when_it_is_back(database, replicas):
    first, second = await replicas(2)
    await one_leads(first, second)
    database.server.stop("immediate")
    try:
        for replica in (first, second):
            await replica.until_up(0)
    finally:
        database.server.start()
    await one_leads(first, second)


async def test_the_only_replica_counts_on_when_the_database_is_back(database, replicas):
    (only,) = await replicas(1)
    await only.until_settled()
    counted = await only.issues_total()
    database.server.restart()
    await only.until_up(1)
    assert await only.issues_total() == counted
    assert await leads(only)


async def test_a_pooler_leaves_one_replica_and_that_is_said(database, replicas, pooler):
    (only,) = await replicas(1, dsn=pooler.reader_dsn)
    await only.until_up(1)
    (said,) = only.said("no_leader_lock")
    assert "set direct_dsn" in said["message"]
    assert await database.fetchval(LOCKS) == 0


async def test_past_the_pooler_one_is_elected(database, replicas, pooler):
    config = settings(pooler.reader_dsn)
    config["databases"]["trading"]["direct_dsn"] = database.reader_dsn
    first, second = await replicas(2, databases=config["databases"])
    await one_leads(first, second)
    assert await database.fetchval(LOCKS) == 1


@pytest.mark.parametrize(("leader", "most"), [("auto", 2), ("off", 1)])
async def test_the_lead_takes_one_connection(database, replicas, leader, most):
    async with counted_connections(database, ["po_reader"]) as connections:
        (only,) = await replicas(1, leader=leader, monitor=settings()["monitor"] | {"mode": "scan"})
        await only.polls(3)
    assert connections.most == most
    assert await database.fetchval(LOCKS) == most - 1


async def test_a_lease_ends_for_its_holder_before_the_server_gives_it_to_another(database, monkeypatch):
    """Whoever is frozen knows at once when it wakes, without asking anybody."""
    lease = Lease(Target("trading", Secret(database.reader_dsn)), timedelta(seconds=1), lambda: None)
    keeping = asyncio.create_task(lease.run())
    await lease.known.wait()
    assert lease.holds
    woken = time.monotonic() + 5
    monkeypatch.setattr(time, "monotonic", lambda: woken)
    assert not lease.holds
    monkeypatch.undo()
    keeping.cancel()
    await asyncio.wait([keeping])
    assert await database.fetchval(LOCKS) == 0


async def test_a_slow_wire_does_not_make_the_lead_flicker(database, proxy):
    """An answer takes two seconds; three heartbeats make a lease of five."""
    lease = Lease(Target("trading", Secret(proxy.reader_dsn)), timedelta(seconds=1), lambda: None)
    keeping = asyncio.create_task(lease.run())
    await lease.known.wait()
    proxy.latency(1)
    leases = set()

    def renewed() -> bool:
        assert lease.holds
        leases.add(lease._until)
        return len(leases) > 4

    await until(renewed, 30, what="some heartbeats")
    keeping.cancel()
    await asyncio.wait([keeping])


async def test_doctor_says_what_a_pooler_takes_away(database, pooler, cli):
    await populate(database)
    finished = await cli("doctor", "--format", "json", config=settings(pooler.reader_dsn))
    (told,) = [each for each in finished.json["databases"][0]["remarks"] if each["subject"] == "leader"]
    assert (told["level"], told["action"]) == ("advice", "set direct_dsn past the pooler to run several")
    finished = await cli("doctor", "--format", "json", config=settings(database.reader_dsn))
    remarks = finished.json["databases"][0]["remarks"]
    assert [each for each in remarks if each["subject"] == "leader"] == []
    (told,) = [each["message"] for each in remarks if each["subject"] == "connections"]
    assert told.startswith("3 will be used (the reader, the change feed, the leader's lock); ")


async def test_what_is_written_slowly_does_not_cost_the_lead(database):
    """However many wait for the connection that has the lock: a heartbeat waits for one of them."""
    heard: list[bool] = []
    lease = Lease(Target(NAME, Secret(database.reader_dsn)), timedelta(seconds=5), lambda: heard.append(lease.leads))
    keeping = asyncio.create_task(lease.run())
    await until(lambda: lease.holds, what="the lead")
    slow = await asyncio.gather(*(lease.ask("SELECT pg_sleep(60)") for _ in range(6)), return_exceptions=True)
    assert all(isinstance(each, DatabaseError) for each in slow), slow
    assert lease.holds
    assert heard == [True]
    keeping.cancel()
    await asyncio.wait([keeping])


class Standing:
    """A replica that polls, as far as it knows, while what it knows is of an earlier term, or not."""

    leads, why, cut_off, holds = True, None, False, True

    def __init__(self, *, in_office: bool) -> None:
        self.in_office = in_office

    async def stand(self, *_: object, **__: object) -> None: ...

    async def lost_office(self) -> bool:
        return False

    async def close(self) -> None: ...


@pytest.mark.parametrize("in_office", [True, False])
async def test_nothing_is_told_in_the_moment_in_which_the_lead_changes(in_office):
    told: list[Monitor] = []

    async def tell(monitor: Monitor) -> None:
        told.append(monitor)

    monitor = Monitor(replace(watched("postgresql:///nowhere", GAL_FRIDAY), polls=False), told=tell)
    monitor._candidate = Standing(in_office=in_office)
    loops = 0

    def pause(_: float) -> float:
        nonlocal loops
        loops += 1
        return 0.001

    monitor._pause = pause
    running = asyncio.create_task(monitor.run())
    await until(lambda: loops >= 3, what="some rounds")
    running.cancel()
    await asyncio.wait([running])
    assert bool(told) == in_office


async def test_nothing_is_told_of_a_database_that_is_about_to_be_another_one():
    told: list[Target] = []
    here = replace(watched("postgresql:///nowhere", GAL_FRIDAY), polls=False)
    there = replace(here, target=replace(here.target, dsn=Secret("postgresql:///elsewhere")))

    class Moving(Standing):
        async def lost_office(self) -> bool:
            if monitor.watched == here:  # a reload comes in the middle of a round
                monitor.reconfigure(there)
            return False

    async def tell(monitor: Monitor) -> None:
        told.append(monitor.watched.target)

    monitor = Monitor(here, told=tell)
    monitor._candidate = Moving(in_office=True)
    running = asyncio.create_task(monitor.run())
    await until(lambda: told, what="what is told of the other one")
    running.cancel()
    await asyncio.wait([running])
    assert {each == there.target for each in told} == {True}
