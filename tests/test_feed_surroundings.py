"""Where the change feed cannot work, or works no more: the numbers go on by scanning, nothing is left behind, and it
comes back by itself."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

import feed_stories as stories
import parts.program
from feeding import Following, close_all, prepare, slots
from parts.database import Database
from parts.waiting import until
from po_exporter.watch import feed
from po_exporter.watch.incremental import Incremental
from sidecar import NAME, Sidecar, populate, settings

pytestmark = pytest.mark.database

FIRST = {"unlinked_filled_order": 1, "orphaned_position_reference": 1}
LINKED = {"orphaned_position_reference": 1}


@pytest.fixture
async def database(database):
    """The same, with whoever follows it gone first."""
    yield database
    await close_all()


async def scans(following: Following, database: Database, *, why: str, wrong: dict[str, int]) -> None:
    """It scans for that reason, what it says is right, and there is no slot."""

    async def has_tried() -> bool:
        following.incremental._retry_at = 0.0
        assert (await following.poll()).mode == "scan"
        found = following.incremental.why
        return found not in (None, Incremental.why) and why in found

    await until(has_tried, what=lambda: f"the feed to be refused for that reason, not {following.incremental.why}")
    following.incremental._retry_at = float("inf")
    assert said(following, await following.poll()) == wrong
    assert await slots(database) == []


async def follows(following: Following, database: Database, *, wrong: dict[str, int]) -> None:
    """It follows, what it says was and is right, and its only slot goes with it."""
    assert said(following, await following.follow()) == wrong
    await stories.told(database, following, stories.UNLINK, stories.MOVE)
    assert (await following.poll()).mode == "incremental"
    assert said(following, await following.poll()) == FIRST
    assert following.incremental.wrong == []
    assert len(await slots(database)) == 1
    await following.close()
    assert await slots(database) == []


def said(following: Following, outcome: object) -> dict[str, int]:
    return {name: count for name, count in following.counts(outcome).items() if name in FIRST}


@asynccontextmanager
async def altered(database: Database, name: str, value: str) -> AsyncIterator[None]:
    """A server with another setting, restarted for that and afterwards."""
    await database.close()
    database.server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
    database.server.restart()
    try:
        yield
    finally:
        await database.close()
        database.server.psql(f"ALTER SYSTEM RESET {name}")
        database.server.restart()


async def test_a_server_without_logical_decoding(database):
    following = await stories.begun(database)
    async with altered(database, "wal_level", "replica"):
        await database.execute(stories.LINK)
        await scans(following, database, why="wal_level is replica, not logical", wrong=LINKED)
    await follows(following, database, wrong=LINKED)


async def test_a_role_without_the_right_to_replicate(database):
    await populate(database)
    feed_dsn = await prepare(database)
    role = feed_dsn.split("//")[1].split(":")[0]
    await database.execute(f'ALTER ROLE "{role}" NOREPLICATION')
    following = Following(database.reader_dsn, feed_dsn)
    await scans(following, database, why="ALTER ROLE ... REPLICATION", wrong=FIRST)
    await database.execute(f'ALTER ROLE "{role}" REPLICATION')
    await follows(following, database, wrong=FIRST)


async def test_a_role_that_can_do_nothing_but_read_and_replicate(database):
    """Neither a read-only role nor its short timeouts are in the feed's way."""
    await populate(database)
    feed_dsn = await prepare(database)
    role = feed_dsn.split("//")[1].split(":")[0]
    for setting in ("default_transaction_read_only = on", "statement_timeout = '3s'", "synchronous_commit = off"):
        await database.execute(f'ALTER ROLE "{role}" SET {setting}')
    await follows(Following(database.reader_dsn, feed_dsn), database, wrong=FIRST)


async def test_a_role_that_may_not_log_in(database):
    await populate(database)
    await prepare(database)
    following = Following(database.reader_dsn, database.server.dsn(database.name, "po_reader", "wrong"))
    await scans(following, database, why="password authentication failed", wrong=FIRST)
    await following.close()


async def test_a_server_whose_slots_are_all_taken(database):
    await populate(database)
    following = Following(database.reader_dsn, await prepare(database))
    holder = await asyncpg.connect(database.dsn)
    await holder.execute(
        "SELECT pg_create_physical_replication_slot('taken_' || n, false, true) FROM generate_series("
        "(SELECT count(*) FROM pg_replication_slots) + 1, current_setting('max_replication_slots')::int) AS n"
    )
    await scans(following, database, why="no replication slot is free", wrong=FIRST)
    await holder.close()
    await follows(following, database, wrong=FIRST)


async def test_a_standby_and_its_promotion(database, standby):
    await populate(database)
    feed_dsn = (await prepare(database)).replace(f":{database.server.port}/", f":{standby.server.port}/")

    async def arrived() -> bool:
        return await standby.fetchval("SELECT count(*) FROM pg_publication") == 1

    await until(arrived, what="the publication to reach the standby")
    following = Following(standby.reader_dsn, feed_dsn)
    await scans(following, standby, why="the server is a standby", wrong=FIRST)
    standby.server.promote()
    await follows(following, standby, wrong=FIRST)


async def test_a_reader_on_a_standby_with_a_feed_from_its_primary(database, standby):
    """Which transactions a snapshot over there sees, nobody can say."""
    await populate(database)
    feed_dsn = await prepare(database)

    async def arrived() -> bool:
        return await standby.fetchval("SELECT count(*) FROM pg_publication") == 1

    await until(arrived, what="the publication to reach the standby")
    following = Following(standby.reader_dsn, feed_dsn)
    await scans(following, database, why="the reader is on a standby", wrong=FIRST)
    await following.close()


async def test_a_prepared_transaction_that_was_forgotten_is_named(database, monkeypatch):
    monkeypatch.setattr(feed, "START_TIMEOUT", timedelta(milliseconds=500))
    await populate(database)
    following = Following(database.reader_dsn, await prepare(database))
    await database.execute("BEGIN; CREATE TABLE unfinished (); PREPARE TRANSACTION 'forgotten'")
    await scans(following, database, why="the prepared transaction 'forgotten', since", wrong=FIRST)
    await database.execute("ROLLBACK PREPARED 'forgotten'")
    await follows(following, database, wrong=FIRST)


async def test_who_has_been_writing_for_long_is_named(database, monkeypatch):
    monkeypatch.setattr(feed, "START_TIMEOUT", timedelta(milliseconds=500))
    await populate(database)
    following = Following(database.reader_dsn, await prepare(database))
    writer = await asyncpg.connect(database.dsn)
    await writer.execute(f"BEGIN; {stories.LINK}")
    await scans(following, database, why=f"waits for pid {writer.get_server_pid()} (postgres", wrong=FIRST)
    await writer.execute("COMMIT")
    await writer.close()
    await follows(following, database, wrong=LINKED)


async def test_a_feed_whose_session_is_killed(database):
    following = await stories.begun(database)
    await database.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({stories.FEED}) AS feed")
    await database.execute(stories.LINK)
    await scans(following, database, why="", wrong=LINKED)
    await follows(following, database, wrong=LINKED)


async def test_a_feed_that_holds_more_write_ahead_log_than_the_server_allows(database):
    following = await stories.begun(database)
    database.server.psql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf()")
    try:

        async def killed() -> bool:
            await database.execute("SELECT pg_logical_emit_message(true, 'much', repeat('x', 1000))")
            await database.execute("SELECT pg_switch_wal()")
            await database.execute("CHECKPOINT")
            return not await slots(database)

        await until(killed, what="the server to take the slot away")
    finally:
        database.server.psql("ALTER SYSTEM RESET max_slot_wal_keep_size; SELECT pg_reload_conf()")
    await database.execute(stories.LINK)
    await scans(following, database, why="", wrong=LINKED)
    await follows(following, database, wrong=LINKED)


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_a_server_that_is_restarted(database, how):
    following = await stories.begun(database)
    await database.close()
    database.server.stop(how)
    database.server.start()
    await database.execute(stories.LINK)
    await scans(following, database, why="", wrong=LINKED)
    await follows(following, database, wrong=LINKED)


async def test_a_feed_that_nobody_reads_is_ended_by_the_server(database, monkeypatch):
    """So that a process which froze keeps no write-ahead log."""
    monkeypatch.setattr(feed, "LEAST_IDLE", timedelta(milliseconds=300))
    await populate(database)
    following = Following(database.reader_dsn, await prepare(database))
    following.incremental.interval = timedelta(milliseconds=100)
    await following.follow()
    await _until_no_slot(database)
    await database.execute(stories.LINK)
    await scans(following, database, why="", wrong=LINKED)
    following.incremental.interval = timedelta(seconds=10)
    await follows(following, database, wrong=LINKED)


IMPATIENT = """
from datetime import timedelta
from po_exporter.watch import feed
feed.LEAST_IDLE = timedelta(seconds=1)
from po_exporter.cli import main
main()
"""


async def test_a_process_that_was_stopped_for_long_goes_on_where_it_was(database, exporter, monkeypatch):
    """The whole program, but with less patience on the server's side."""
    monkeypatch.setattr(parts.program, "COMMAND", (sys.executable, "-c", IMPATIENT))
    await populate(database)
    config = settings(database.reader_dsn)
    config["databases"][NAME]["feed_dsn"] = await prepare(database)
    running = await exporter(config=config)
    sidecar = Sidecar(running)
    await sidecar.until_value(1, "exporter_mode", mode="incremental")
    await sidecar.until_value(1, "unlinked_filled_orders")
    running.signal(signal.SIGSTOP)
    await _until_no_slot(database)
    await database.execute(stories.LINK)
    running.signal(signal.SIGCONT)
    await sidecar.until_value(0, "unlinked_filled_orders")
    await sidecar.until_value(1, "exporter_mode", mode="incremental")
    await database.execute(stories.UNLINK)
    await sidecar.until_value(1, "unlinked_filled_orders")
    assert await sidecar.value("exporter_drift_total") == 0
    assert await running.stop() == 0
    await _until_no_slot(database)


async def _until_no_slot(database: Database) -> None:
    async def gone() -> bool:
        return not await slots(database)

    def held() -> str:
        return "the slot to go: " + database.server.psql("SELECT s, a FROM pg_replication_slots s, pg_stat_activity a")

    await until(gone, 60, what=held)
