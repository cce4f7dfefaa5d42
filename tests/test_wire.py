"""What stands between us and the tables: a pooler, a standby, a wire that breaks in every way that wires break."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from asking import watched
from parts.waiting import until
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret
from po_exporter.watch.monitor import Monitor
from sidecar import COUNTED, FOUND, Sidecar, counted_connections, populate, settings

SECOND = timedelta(seconds=1)
OURS = "FROM pg_stat_activity WHERE usename = 'po_reader' AND datname = current_database()"


@pytest.mark.database
async def test_through_a_transaction_pooler(database, pooler, exporter):
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(pooler.reader_dsn)))
    await sidecar.until_up(1)
    # Other clients take turns on the same sessions, and find them as they expect them.
    others = [await asyncpg.connect(pooler.reader_dsn, statement_cache_size=0) for _ in range(4)]
    for _ in range(40):
        for setting, value in {"statement_timeout": "0", "transaction_read_only": "off", "lock_timeout": "0"}.items():
            found = await asyncio.gather(*(each.fetchval(f"SHOW {setting}") for each in others))
            assert set(found) == {value}
        found = await asyncio.gather(*(each.fetchval("SELECT count(*) FROM pg_prepared_statements") for each in others))
        assert set(found) == {0}
    await sidecar.polls(3)
    assert {issue: count for issue, count in (await sidecar.open_issues()).items() if count} == FOUND
    assert sidecar.said("database_lost", "check_failed") == []
    for each in others:
        await each.close()
    # The pooler goes on without its server's sessions: the next poll gets another.
    await database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'po_reader'")
    await sidecar.polls(3)
    assert await sidecar.value("up") == 1


@pytest.mark.database
async def test_a_standby_is_polled_and_goes_on_as_a_primary(database, standby, exporter, cli):
    await populate(database)

    async def has_arrived() -> bool:
        return await standby.fetchval("SELECT count(*) FROM orders") == 3

    await until(has_arrived, what="the rows to reach the standby")
    finished = await cli("doctor", env={"PO_EXPORTER_DSN": standby.reader_dsn})
    assert "standby" in finished.stdout
    sidecar = Sidecar(await exporter(config=settings(standby.reader_dsn)))
    await sidecar.until_up(1)
    assert {issue: count for issue, count in (await sidecar.open_issues()).items() if count} == FOUND
    await asyncio.to_thread(standby.server.promote)
    await standby.execute("UPDATE orders SET position_id = NULL")
    await sidecar.until_value(3, "unlinked_filled_orders")
    await sidecar.until_value(0, "orphaned_references")
    assert sidecar.said("database_lost", "check_failed") == []
    assert await sidecar.exporter.stop() == 0


async def test_one_that_hangs_holds_up_no_other(database, proxy, exporter, cli):
    await populate(database)
    config = settings(proxy.reader_dsn, database.reader_dsn, poll_timeout="30s")
    async with counted_connections(database, ["po_reader"]) as connections:
        running = await exporter(config=config)
        hangs, goes_on = Sidecar(running), Sidecar(running, "desk")
        await hangs.until_up(1)
        await goes_on.until_up(1)
        asked = await hangs.value("exporter_checks_total", check="link_rate")
        proxy.black_hole()
        await goes_on.polls(5)
        assert await hangs.value("exporter_checks_total", check="link_rate") - asked <= 1
        assert await goes_on.value("up") == 1
        assert await running.stop() == 0
    assert connections.most <= 6
    finished = await cli("check", "--format", "json", config=settings(proxy.reader_dsn, database.reader_dsn))
    assert finished.status == 3
    assert {each["database"]: each["verdict"] for each in finished.json["databases"]} == {
        "trading": "UNKNOWN",
        "desk": "CRITICAL",
    }


async def test_the_wire_may_break_in_any_way(database, proxy, exporter):
    """Never more than three sessions of ours, whatever happens; and each time it comes back."""
    await populate(database)
    role = database.create_role("SELECT ON orders, positions")
    name = role.split("//")[1].split(":")[0]
    dsn = role.replace(f":{database.server.port}/", f":{proxy.port}/")
    async with counted_connections(database, [name]) as connections:
        sidecar = Sidecar(await exporter(config=settings(dsn, poll_timeout="500ms")))
        await sidecar.until_settled()
        for _ in range(2):
            proxy.black_hole()
            await sidecar.until_up(0)
            proxy.heal()
            await sidecar.until_up(1)
            proxy.reset()
            await sidecar.polls(1)
            proxy.latency(0.05)
            await sidecar.polls(1)
            proxy.heal()
            await sidecar.until_up(1)
    assert connections.most <= 3
    assert await sidecar.issues_total() == COUNTED


async def test_a_session_that_dies_unnoticed_between_polls_leaves_no_gap(database, proxy):
    await populate(database)
    through = Monitor(watched(proxy.reader_dsn, GAL_FRIDAY))
    assert (await through.poll()).up
    proxy.reset()
    assert (await through.poll()).up
    await database.execute(f"SELECT pg_terminate_backend(pid) {OURS}")
    assert (await through.poll()).up
    await through.close()


async def test_a_session_that_the_network_swallowed_is_ended_later(database, proxy, tmp_path):
    """The server knows nothing of the end of such a session; it would keep it for hours, and its snapshot."""
    dsn = tmp_path / "dsn"
    dsn.write_text(proxy.reader_dsn)
    told = watched("", GAL_FRIDAY)
    limits = replace(told.terms.limits, poll=SECOND)
    target = replace(told.target, dsn=Secret(path=dsn))
    monitor = Monitor(replace(told, target=target, terms=replace(told.terms, limits=limits)))
    assert (await monitor.poll()).up
    swallowed = await database.fetchval(f"SELECT pid {OURS}")
    proxy.black_hole()
    assert not (await monitor.poll()).up
    assert await database.fetchval(f"SELECT array_agg(pid) {OURS}") == [swallowed]
    dsn.write_text(database.reader_dsn)
    assert (await monitor.poll()).up
    left = await database.fetchval(f"SELECT array_agg(pid) {OURS}")
    assert len(left) == 1
    assert left != [swallowed]
    await monitor.close()
