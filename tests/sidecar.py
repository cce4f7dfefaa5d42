"""A running sidecar as its users see it from outside, and a small population for it to watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from parts.database import Database
from parts.program import Exporter
from parts.prometheus import Metrics
from parts.waiting import until
from po_exporter.database.failures import DRIVER_ERRORS

NAME = "trading"
"""The `database` label."""

# An order in order; one without a link; one whose position is missing; and a position that no order made.
POPULATION = """
WITH p AS (
  INSERT INTO positions (id, trading_pair, side, quantity, opened_at)
  VALUES ('00000000-0000-0000-0000-0000000000a1', 'BTC/USD', 'LONG', 2.5, now() AT TIME ZONE 'UTC' - interval '2h'),
         ('00000000-0000-0000-0000-0000000000a2', 'ETH/USD', 'LONG', 1, now() AT TIME ZONE 'UTC' - interval '2h'))
INSERT INTO orders (id, position_id, trading_pair, exchange, side, quantity, status, exchange_order_id,
                    filled_quantity, created_at)
SELECT id, position_id, 'BTC/USD', 'kraken', 'BUY', 2.5, 'FILLED', id::text, 2.5,
       now() AT TIME ZONE 'UTC' - interval '1h'
FROM (VALUES ('00000000-0000-0000-0000-0000000000b1'::uuid, '00000000-0000-0000-0000-0000000000a1'::uuid),
             ('00000000-0000-0000-0000-0000000000b2', NULL),
             ('00000000-0000-0000-0000-0000000000b3', '00000000-0000-0000-0000-0000000000ff')) AS o (id, position_id)
"""
FOUND = {
    "UNLINKED_FILLED_ORDER": 1,
    "ORPHANED_POSITION_REFERENCE": 1,
    "QUANTITY_MISMATCH": 1,
    "POSITION_WITHOUT_ORDERS": 1,
}
"""What the population is wrong in, by issue type."""
COUNTED = {issue_type: 1 for issue_type in FOUND if issue_type != "UNLINKED_FILLED_ORDER"}
"""What of it counts as an issue: what settles while it is watched. What had settled before is seeded."""

DOMAIN = {
    f"position_order_{name}"
    for name in (
        "link_rate link_ratio eligible_orders eligible_orders_total links links_total unlinked_filled_orders "
        "unlinked_filled_orders_total orphaned_references quantity_mismatches open_issues "
        "oldest_unlinked_order_timestamp_seconds"
    ).split()
}
"""The gauges that end while the truth is unknown."""


async def populate(database: Database) -> None:
    """Fill the guide's two tables."""
    await database.execute(POPULATION)


def settings(*dsns: str, **monitor: Any) -> dict[str, Any]:
    """A configuration that polls five times a second; the first database is called `trading`, the next `desk`."""
    quick = {"interval": "200ms", "poll_timeout": "1s", "lock_timeout": "200ms", "grace": "0s"}
    databases = {name: {"dsn": dsn} for name, dsn in zip((NAME, "desk"), dsns, strict=False)}
    return {"databases": databases, "monitor": quick | monitor}


class Sidecar:
    """One database of a running sidecar."""

    def __init__(self, exporter: Exporter, name: str = NAME) -> None:
        self.exporter = exporter
        self.name = name

    async def metrics(self) -> Metrics:
        """Every series of this database; the page must be there whatever the database does."""
        page = await self.exporter.metrics()
        return Metrics({key: value for key, value in page.items() if ("database", self.name) in key[1]})

    async def value(self, name: str, **labels: str) -> float | None:
        """One series of this database."""
        return (await self.metrics()).value(f"position_order_{name}", database=self.name, **labels)

    async def until_up(self, wanted: float) -> None:
        """Wait until the last poll was answered (1), or was not (0)."""

        async def is_so() -> bool:
            return await self.value("up") == wanted

        await self._until(is_so, f"position_order_up {wanted} of {self.name}")

    async def until_value(self, wanted: float | None, name: str, **labels: str) -> None:
        """Wait for the value of a series."""

        async def is_so() -> bool:
            return await self.value(name, **labels) == wanted

        await self._until(is_so, f"{name} {labels} {wanted}")

    async def polls(self, more: int = 1) -> None:
        """Wait for some polls that begin from now on."""
        asked = {"name": "exporter_checks_total", "check": "link_rate"}
        goal = (await self.value(**asked) or 0) + more + 1

        async def done() -> bool:
            return (await self.value(**asked) or 0) >= goal

        await self._until(done, f"{more} polls more of {self.name}")

    async def open_issues(self) -> dict[str, float]:
        """Issue type -> findings, of every check that is answered."""
        return by_label(await self.metrics(), "position_order_open_issues", "issue_type")

    async def issues_total(self) -> dict[str, float]:
        """Issue type -> issues counted so far, without those that are 0."""
        counted = by_label(await self.metrics(), "position_order_data_quality_issues_total", "issue_type")
        return {issue_type: value for issue_type, value in counted.items() if value}

    async def until_settled(self) -> None:
        """Wait until every issue of the population that counts is counted."""

        async def is_so() -> bool:
            return await self.issues_total() == COUNTED

        await self._until(is_so, f"{COUNTED} to be counted")

    async def successful(self) -> dict[str, float]:
        """Check -> whether its latest attempt was answered."""
        return by_label(await self.metrics(), "position_order_check_success", "check")

    async def failing(self) -> set[str]:
        """The checks without an answer."""
        return {check for check, value in (await self.successful()).items() if not value}

    async def until_failing(self, *checks: str) -> None:
        """Wait until these checks are without an answer, and no others."""

        async def is_so() -> bool:
            return await self.failing() == set(checks)

        await self._until(is_so, f"exactly {checks} to fail")

    async def _until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        async def calmly() -> bool:
            await asyncio.sleep(0.05)  # a page every 20 ms would cost the machine more than what is tested
            return await condition()

        try:
            await until(calmly, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.failing()} fail\n{self.exporter.log[-3000:]}") from None

    def said(self, *events: str) -> list[dict[str, Any]]:
        """The log's lines of these events, about this database."""
        lines = [json.loads(line) for line in self.exporter.log.splitlines()]
        return [line for line in lines if line["event"] in events and line.get("database") == self.name]


def by_label(metrics: Metrics, name: str, label: str) -> dict[str, float]:
    """The series of one name, by the value of one label."""
    return {dict(labels)[label]: value for (each, labels), value in metrics.items() if each == name}


class Connections:
    """How many sessions there were at once."""

    most = 0


@asynccontextmanager
async def counted_connections(database: Database, roles: Iterable[str]) -> AsyncIterator[Connections]:
    """Look all the time how many sessions these roles have in a database."""
    seen = Connections()

    async def look() -> None:
        while True:
            with suppress(*DRIVER_ERRORS):
                connection = await asyncpg.connect(database.server.admin_dsn)
                try:
                    while True:
                        now = await connection.fetchval(
                            "SELECT count(*) FROM pg_stat_activity WHERE usename = ANY($1)", list(roles)
                        )
                        seen.most = max(seen.most, now)
                        await asyncio.sleep(0.02)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
