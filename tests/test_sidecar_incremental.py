"""The incremental mode as its users see it: a running sidecar whose feed comes, goes and comes back."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from asking import watched
from feeding import prepare, slots
from parts.waiting import until
from po_exporter.database.session import Target
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret
from po_exporter.watch.monitor import Monitor
from sidecar import FOUND, Sidecar, counted_connections, populate, settings

pytestmark = pytest.mark.database
GROUPED = {"duplicate_exchange_order"}
"""What is followed only where there is an index for it."""
A1 = "00000000-0000-0000-0000-0000000000a1"


@pytest.fixture
async def config(database):
    """A configuration of a database that is ready for the feed."""
    await populate(database)
    made = settings(database.reader_dsn)
    made["databases"]["trading"]["feed_dsn"] = await prepare(database)
    return made


async def incremental(sidecar: Sidecar) -> None:
    await sidecar.until_value(1, "exporter_mode", mode="incremental")


async def test_it_scans_until_the_feed_stands_and_then_follows(database, exporter, config):
    sidecar = Sidecar(await exporter(config=config))
    await sidecar.until_up(1)
    assert (await sidecar.open_issues()).items() >= FOUND.items()
    await incremental(sidecar)
    await database.execute("UPDATE orders SET position_id = $1 WHERE position_id IS NULL", A1)
    await sidecar.until_value(0, "unlinked_filled_orders")
    await sidecar.until_value(2, "quantity_mismatches")
    assert await sidecar.value("exporter_mode", mode="incremental") == 1
    assert await sidecar.value("exporter_drift_total") == 0
    assert await sidecar.value("exporter_feed_pending_transactions") is not None
    page = (await sidecar.exporter.get("/")).text
    assert re.search(r"Incremental: asked is what changed\. Drift 0\.", page)


async def test_a_feed_that_is_killed_is_told_of_and_comes_back(database, exporter, config):
    sidecar = Sidecar(await exporter(config=config))
    await incremental(sidecar)
    before = await slots(database)
    await database.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = ANY($1)", before
    )
    await database.execute("UPDATE orders SET position_id = $1 WHERE position_id IS NULL", A1)
    await sidecar.until_value(0, "unlinked_filled_orders")

    async def anew() -> bool:
        now = await slots(database)
        return len(now) == 1 and now != before

    await sidecar._until(anew, "another slot")
    await incremental(sidecar)
    (lost,) = sidecar.said("feed_lost")
    assert lost["message"].startswith("the feed's session was ended")  # and the server's words, if there was time
    assert len(sidecar.said("feed_started")) == 2
    assert not sidecar.said("database_lost", "check_failed")
    assert await sidecar.value("up") == 1


async def test_one_connection_reads_one_leads_and_one_feeds(database, exporter, config):
    feed = re.search(r"//([^:]+):", config["databases"]["trading"]["feed_dsn"])[1]
    async with (
        counted_connections(database, [feed]) as feeding,
        counted_connections(database, ["po_reader"]) as reading,
    ):
        sidecar = Sidecar(await exporter(config=config))
        await incremental(sidecar)
        await sidecar.polls(5)
        await sidecar.exporter.stop()
    assert (reading.most, feeding.most) == (2, 1)
    assert await slots(database) == []


async def test_what_is_not_ready_is_scanned_and_said_once(database, exporter):
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn)))
    await sidecar.until_up(1)
    await sidecar.polls(10)
    assert await sidecar.value("exporter_mode", mode="scan") == 1
    assert (await sidecar.open_issues()).items() >= FOUND.items()
    (why,) = sidecar.said("feed_unavailable")
    assert "there is no publication po_exporter" in why["message"]
    assert "REPLICA IDENTITY FULL" in why["message"]
    assert "po-exporter install" in (await sidecar.exporter.get("/")).text


async def test_who_wants_to_scan_opens_no_feed(database, exporter, config):
    config["monitor"]["mode"] = "scan"
    sidecar = Sidecar(await exporter(config=config))
    await sidecar.until_up(1)
    await sidecar.polls(5)
    assert await slots(database) == []
    assert await sidecar.value("exporter_drift_total") is None
    assert "Scanning" not in (await sidecar.exporter.get("/")).text


async def test_doctor_goes_through_what_the_feed_needs(database, cli, config):
    finished = await cli("doctor", "--format", "json", config=config)
    remarks = [each for each in finished.json["databases"][0]["remarks"] if each["subject"] == "incremental feed"]
    assert finished.status == 0
    assert "finds what it needs: polls cost what changed" in [each["message"] for each in remarks]

    await database.execute(
        "DROP PUBLICATION po_exporter; ALTER TABLE positions REPLICA IDENTITY DEFAULT;DROP INDEX orders_position_id"
    )
    config["databases"]["trading"]["feed_dsn"] = database.reader_dsn
    config["monitor"]["mode"] = "incremental"
    finished = await cli("doctor", "--format", "json", config=config)
    remarks = [each for each in finished.json["databases"][0]["remarks"] if each["subject"] == "incremental feed"]
    assert finished.status == 1, "what was asked for cannot work"
    problems = {each["message"] for each in remarks if each["level"] == "problem"}
    assert all(each["action"] for each in remarks if each["level"] == "problem")
    for lack in (
        "there is no publication",
        "positions has no REPLICA IDENTITY FULL",
        "no index leads on orders.position_id",
        "po_reader has no REPLICATION attribute",
    ):
        assert any(lack in problem for problem in problems), (lack, problems)
    assert len(problems) == 4


STOPS = {
    "a column list": (15, "CREATE PUBLICATION somebody_else FOR TABLE orders (id, status)"),
    "a generated column": (
        18,
        "CREATE PUBLICATION somebody_else FOR TABLE orders; ALTER PUBLICATION po_exporter DROP TABLE orders; "
        "ALTER TABLE orders ADD twice numeric GENERATED ALWAYS AS (quantity * 2) STORED",
    ),
}


@pytest.mark.parametrize("what", STOPS)
async def test_doctor_tells_of_a_publication_that_stops_the_trading_api(database, cli, config, what):
    oldest, made = STOPS[what]
    if database.server.version < oldest:
        pytest.skip(f"PostgreSQL {database.server.version} has no such thing")
    await database.execute(made)
    with pytest.raises(asyncpg.PostgresError, match="cannot update table"):
        await database.execute("UPDATE orders SET status = 'FILLED'")
    finished = await cli("doctor", "--format", "json", config=config)
    problems = [each for each in finished.json["databases"][0]["remarks"] if each["level"] == "problem"]
    assert finished.status == 1
    (told,) = [each["message"] for each in problems if "UPDATE" in each["message"]]
    assert "somebody_else" in told
    assert told.endswith("every UPDATE of it fails")


async def test_the_first_baseline_asks_every_check_whenever_it_was_asked_last(database, config):
    made = watched(database.reader_dsn, GAL_FRIDAY)
    # As it is configured usually: what looks at everything is not due again when the feed begins.
    questions = tuple(replace(each, interval=timedelta(hours=1)) for each in made.questions)
    feed = Target("trading", Secret(config["databases"]["trading"]["feed_dsn"]))
    monitor = Monitor(replace(made, questions=questions, mode="incremental", feed=feed))
    monitor._follow()

    async def follows() -> bool:
        return (await monitor.poll()).mode == "incremental"

    try:
        await until(follows, what="the feed to stand")
        assert monitor._poller.follows >= {each.name for each in questions if each.file.incremental} - GROUPED
        assert all(check.ok for check in monitor.status.result.checks)
    finally:
        await monitor.close()
