"""A real database, the real sidecar, a real Prometheus with the shipped rules, a real Alertmanager: alerts arrive.

Every `for` and `keep_firing_for` is shorter by one factor (alerting.FACTOR); nothing else of the rules is changed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import pytest
import yaml

from alerting import ALERTS, prometheus_config
from parts.alertmanager import Receiver, running_alertmanager, running_receiver
from parts.prometheus import Prometheus, running_prometheus
from parts.waiting import until
from sidecar import NAME, Sidecar, settings

GUIDES_QUERIES = (
    "(position_order_links_total / position_order_eligible_orders_total) * 100",
    "position_order_unlinked_filled_orders_total",
    "increase(position_order_data_quality_issues_total[1h])",
    "histogram_quantile(0.95, position_order_integration_duration_seconds)",
)
ORDERS = """
INSERT INTO orders (id, position_id, trading_pair, exchange, side, quantity, status, filled_quantity, created_at)
SELECT gen_random_uuid(), $1, 'BTC/USD', 'kraken', 'BUY', 1, 'FILLED', 1, now() AT TIME ZONE 'UTC'
FROM generate_series(1, $2::int)"""
POSITION = """
INSERT INTO positions (id, trading_pair, side, quantity, opened_at)
VALUES ('00000000-0000-0000-0000-0000000000a1', 'BTC/USD', 'LONG', 40, now() AT TIME ZONE 'UTC') RETURNING id"""
MISSING = "00000000-0000-0000-0000-0000000000ff"


@dataclass
class Watch:
    """Everything that stands around one database."""

    sidecar: Sidecar
    prometheus: Prometheus
    receiver: Receiver

    async def until_queried(self, query: str) -> list:
        """Wait until a query returns data."""

        async def data() -> list:
            return await self.prometheus.query(query)

        return await until(data, what=f"data of {query}")


@pytest.fixture
async def watch(database, exporter, tmp_path):
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn)))
    async with watching(sidecar, tmp_path) as found:
        yield found


@asynccontextmanager
async def watching(sidecar, tmp_path):
    alertmanager = yaml.safe_load((ALERTS / "alertmanager.yaml").read_text())
    alertmanager["route"] |= {"group_wait": "0s", "group_interval": "100ms"}
    async with running_receiver() as receiver:
        for each in alertmanager["receivers"]:
            for hook in each.get("webhook_configs", ()):
                hook["url"] = receiver.url
        async with running_alertmanager(yaml.safe_dump(alertmanager), tmp_path) as url:
            config = prometheus_config(tmp_path, sidecar.exporter.url, url)
            async with running_prometheus(config, tmp_path) as running:
                yield Watch(sidecar, running, receiver)


async def test_a_broken_link_is_delivered_and_its_healing_too(watch, database):
    position = await database.fetchval(POSITION)
    await database.execute(ORDERS, position, 29)
    await watch.until_queried("position_order_link_rate == 100")
    # Prometheus takes its time to find its first target; that is longer than the shortened wait of this one.
    assert watch.receiver.names() <= {"PositionOrderExporterAbsent"}
    await database.execute(ORDERS, None, 11)
    arrived = await watch.receiver.until("UnlinkedFilledOrdersHigh")
    assert arrived["annotations"]["description"] == "11 filled orders are not linked to positions"
    assert arrived["labels"] == {
        "alertname": "UnlinkedFilledOrdersHigh", "severity": "critical", "database": NAME, "job": "po-exporter",
    }  # fmt: skip
    await database.execute("UPDATE orders SET position_id = $1 WHERE position_id IS NULL", position)
    await watch.receiver.until("UnlinkedFilledOrdersHigh", "resolved")
    for query in GUIDES_QUERIES:
        assert await watch.until_queried(query), query
    links = await watch.prometheus.query(GUIDES_QUERIES[0])
    assert [sample["value"][1] for sample in links] == ["100"]
    # A gauge of the database is the same whichever replica says it; what a replica says of itself is its own.
    (rate,) = await watch.prometheus.query("position_order_link_rate")
    assert rate["metric"].keys() == {"__name__", "database", "job"}
    (up,) = await watch.prometheus.query("position_order_up")
    assert up["metric"].keys() == {"__name__", "database", "job", "instance"}


async def test_when_the_database_dies_what_was_wrong_is_unknown_at_once(watch, database):
    await database.execute(ORDERS, MISSING, 1)
    await watch.receiver.until("OrphanedPositionReferences")
    await asyncio.to_thread(database.server.stop)
    unknown = await watch.receiver.until("PositionOrderIntegrityUnknown")
    down = await watch.receiver.until("PositionOrderDatabaseDown")
    assert unknown["labels"]["check"] == "orphaned_position_reference"
    assert datetime.fromisoformat(unknown["startsAt"]) < datetime.fromisoformat(down["startsAt"])
    # At the very evaluation at which the series had ended: at the one before, it was there.
    (known,) = await watch.prometheus.query('ALERTS{alertname="OrphanedPositionReferences", alertstate="firing"}[1h]')
    (taken_over,) = await watch.prometheus.query('ALERTS{alertname="PositionOrderIntegrityUnknown"}[1h]')
    first = taken_over["values"][0][0]
    # A scrape bears the time of its beginning: what ended it may have been written only after the evaluation of that
    # time, which is then the one before.
    before = sorted(moment for moment, _ in known["values"] if moment < first)[-2:]
    there = [await watch.prometheus.query("position_order_orphaned_references", at=moment) for moment in before]
    assert any(there)
    assert not await watch.prometheus.query("position_order_orphaned_references", at=first)
    # The alert itself ends when its time is over; the unknown goes on.
    await watch.receiver.until("OrphanedPositionReferences", "resolved")
    assert watch.receiver.alerts("PositionOrderIntegrityUnknown", "resolved") == []
    await asyncio.to_thread(database.server.start)
    await watch.receiver.until("PositionOrderIntegrityUnknown", "resolved")
    await watch.receiver.until("PositionOrderDatabaseDown", "resolved")
    await watch.receiver.until("OrphanedPositionReferences", count=2)
    # What follows from a dead database was kept to ourselves.
    silenced = {"PositionOrderCheckFailing", "PositionOrderCheckStale", "PositionOrderNoLeader"}
    assert watch.receiver.names() & silenced == set()
