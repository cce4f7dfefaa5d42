"""Signals, and the configuration read again: taken over whole or not at all, and nothing is counted twice."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
import yaml

from parts.database import fresh_database
from parts.machine import free_port
from parts.program import COMMAND, Exporter
from parts.waiting import end, until
from sidecar import COUNTED, DOMAIN, FOUND, Sidecar, populate, settings

DEAD = "postgresql://po_reader@127.0.0.1:1/gone"


class Configured:
    """A sidecar and its file."""

    def __init__(self, exporter: Exporter, path: Any) -> None:
        self.exporter = exporter
        self.trading = Sidecar(exporter)
        self.desk = Sidecar(exporter, "desk")
        self._path = path

    def write(self, config: Any) -> None:
        self._path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))

    def said(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.exporter.log.splitlines()]
        return [line for line in lines if line["event"] == event]

    async def reload(self, config: Any, event: str = "reloaded") -> None:
        """Write the file, send SIGHUP, wait until the log says what became of it."""
        before = len(self.said(event))
        self.write(config)
        self.exporter.signal(signal.SIGHUP)
        await until(lambda: len(self.said(event)) > before, what=f"{event}:\n{self.exporter.log}")

    async def loaded(self) -> float | None:
        return (await self.exporter.metrics()).value("position_order_exporter_config_last_reload_successful")


@pytest.fixture
async def configured(database, exporter, tmp_path):
    await populate(database)
    path = tmp_path / "reloaded.yaml"
    path.write_text(yaml.safe_dump(settings(database.reader_dsn)))
    running = Configured(await exporter(config=path), path)
    await running.trading.until_up(1)
    return running


async def test_a_bad_configuration_changes_nothing_and_is_said(configured, database):
    good = settings(database.reader_dsn)
    assert await configured.loaded() == 1
    for bad in (
        "databases: {",
        good | {"monitor": {"interval": "1 parsec", "graze": "3s"}},
        good | {"server": {"tokens_file": "/absent"}},
        good | {"checks": {"no_such_check": {"enabled": False}}},
    ):
        await configured.reload(bad, "reload_refused")
        assert await configured.loaded() == 0
        await configured.trading.polls(0)
        assert await configured.trading.value("up") == 1
        assert await configured.trading.value("exporter_poll_interval_seconds") == 0.2
    assert any("graze" in fault for fault in configured.said("reload_refused")[1]["faults"])
    assert len(configured.said("reload_refused")[1]["faults"]) == 2, "every fault at once"
    await configured.reload(good)
    assert await configured.loaded() == 1


async def test_databases_come_and_go(configured, database):
    trading = settings(database.reader_dsn)
    async with fresh_database(database.server) as other:
        await populate(other)
        both = settings(database.reader_dsn, other.reader_dsn)
        await configured.reload(both)
        await configured.desk.until_up(1)
        assert {issue: count for issue, count in (await configured.desk.open_issues()).items() if count} == FOUND
        unlinked = {"issue_type": "UNLINKED_FILLED_ORDER", "priority": "high"}
        assert await configured.desk.value("data_quality_issues_total", **unlinked) == 0, "it was there before"
        await configured.reload(trading)
        assert await configured.desk.metrics() == {}

        async def has_let_go() -> bool:
            return not await other.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'po_reader' AND datname = current_database()"
            )

        await until(has_let_go, what="the connection to be closed")
    await configured.trading.polls(0)
    assert await configured.trading.value("up") == 1


async def test_another_dsn_under_the_same_name(configured, database):
    async with fresh_database(database.server) as other:
        await populate(other)
        await other.execute("UPDATE orders SET position_id = NULL")
        await configured.reload(settings(other.reader_dsn))
        await configured.trading.until_value(3, "unlinked_filled_orders")
        unlinked = {"issue_type": "UNLINKED_FILLED_ORDER", "priority": "high"}
        assert await configured.trading.value("data_quality_issues_total", **unlinked) == 0, "they were there before"
        await configured.reload(settings(DEAD))
        await configured.trading.until_up(0)
        assert (await configured.trading.metrics()).names() & DOMAIN == set()
        await configured.reload(settings(database.reader_dsn))
        await configured.trading.until_value(1, "unlinked_filled_orders")
        await configured.trading.until_up(1)


async def test_a_reload_during_an_outage_hides_nothing_of_it(configured, database):
    await configured.trading.until_settled()
    await database.execute("ALTER ROLE po_reader NOLOGIN")
    try:
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'po_reader' AND datname = current_database()"
        )
        await configured.trading.until_up(0)
        success = await configured.trading.value("last_success_timestamp_seconds")
        await configured.reload(settings(database.reader_dsn, poll_timeout="1s", evidence=7))
        assert await configured.trading.value("up") == 0
        await configured.trading.polls()
        assert await configured.trading.value("up") == 0
        assert await configured.trading.value("last_success_timestamp_seconds") == success
        whys = [line["error"] for line in configured.said("database_lost")]
        assert len(whys) == len(set(whys)), "a reload is no reason to say it again"
    finally:
        await database.execute("ALTER ROLE po_reader LOGIN")
    await configured.trading.until_up(1)
    assert await configured.trading.issues_total() == COUNTED


async def test_a_check_is_turned_off_and_on_again(configured, database):
    without = settings(database.reader_dsn) | {"checks": {"unlinked_filled_order": {"enabled": False}}}
    labels = {"issue_type": "UNLINKED_FILLED_ORDER", "priority": "high"}
    await configured.reload(without)
    await configured.trading.until_value(None, "unlinked_filled_orders")
    page = (await configured.exporter.get("/metrics")).text
    assert "unlinked_filled_order" not in page.replace("position_order_unlinked_filled_order", "").lower()
    await database.execute("UPDATE orders SET position_id = NULL")
    await configured.reload(settings(database.reader_dsn))
    await configured.trading.until_value(3, "unlinked_filled_orders")
    assert await configured.trading.value("data_quality_issues_total", **labels) == 0, "seeded"
    await database.execute("UPDATE orders SET id = gen_random_uuid() WHERE exchange_order_id LIKE '%b1'")
    await configured.trading.until_value(1, "data_quality_issues_total", **labels)


async def test_what_was_counted_stays_counted(configured, database):
    labels = {"issue_type": "UNLINKED_FILLED_ORDER", "priority": "high"}
    await database.execute("UPDATE orders SET position_id = NULL WHERE exchange_order_id LIKE '%b1'")
    await configured.trading.until_value(1, "data_quality_issues_total", **labels)
    await configured.reload(settings(database.reader_dsn, interval="100ms", statement_timeout="20s"))
    await configured.trading.until_value(0.1, "exporter_poll_interval_seconds")
    await configured.trading.polls(2)
    assert await configured.trading.value("data_quality_issues_total", **labels) == 1
    # A wider window finds more in what was there all the time.
    await database.execute(
        "INSERT INTO orders SELECT gen_random_uuid(), NULL, 'BTC/USD', 'kraken', 'BUY', NULL, 1, NULL, 'FILLED', 'old',"
        " 1, NULL, NULL, now() AT TIME ZONE 'UTC' - interval '30h', NULL"
    )
    aged = {"issue_type": "AGED_UNLINKED_ORDER", "priority": "high"}
    await configured.trading.until_value(1, "data_quality_issues_total", **aged)
    await configured.reload(settings(database.reader_dsn, window="48h"))
    await configured.trading.until_value(3, "unlinked_filled_orders")
    assert await configured.trading.value("data_quality_issues_total", **labels) == 1
    assert await configured.trading.value("data_quality_issues_total", **aged) == 1


async def test_watching_can_be_turned_off(configured, database):
    await configured.reload(settings(database.reader_dsn, enabled=False))
    await configured.trading.until_value(None, "up")
    assert (await configured.trading.metrics()).names() & DOMAIN == set()
    assert (await configured.exporter.get("/-/ready")).status == 200
    await configured.reload(settings(database.reader_dsn))
    await configured.trading.until_up(1)


async def test_a_reload_is_answered_by_the_server_that_it_replaces(database, po_exporter, tmp_path):
    path, log = tmp_path / "reloaded.yaml", tmp_path / "log"
    tokens = {name: tmp_path / name for name in ("first", "second")}
    for name, file in tokens.items():
        file.write_text(f"admin admin.reconcile,metrics.read {name}-token\n")
    ports = free_port(), free_port()

    def write(port: int, name: str) -> dict[str, dict[str, str]]:
        server = {"listen": f"127.0.0.1:{port}", "reload": True, "tokens_file": str(tokens[name])}
        path.write_text(yaml.safe_dump(settings(database.reader_dsn) | {"server": server}))
        return {"headers": {"Authorization": f"Bearer {name}-token"}}

    first = write(ports[0], "first")
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "run", "--config", str(path), env=po_exporter.environment(), stdout=output, stderr=output
        )
    try:
        here, there = (Exporter(process, f"http://127.0.0.1:{port}", log) for port in ports)
        await until(here.is_healthy, what="po-exporter to answer")
        assert (await here.request("POST", "/-/reload")).status == 401
        path.write_text("nonsense: true")
        answer = await here.request("POST", "/-/reload", **first)
        assert (answer.status, "nonsense" in answer.text) == (400, True)

        second = write(ports[0], "second")
        assert (await here.request("POST", "/-/reload", **first)).status == 200
        assert (await here.request("POST", "/-/reload", **first)).status == 401, "the old tokens are of no more use"

        write(ports[1], "second")
        assert (await here.request("POST", "/-/reload", **second)).status == 200
        assert await there.is_healthy()
        assert not await here.is_healthy()
        assert (await there.get("/metrics", **second)).status == 200
        assert await there.stop() == 0
    finally:
        await end(process)
