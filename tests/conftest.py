"""What every test may ask for. The parts themselves are in tests/parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.async_api import Browser, async_playwright

from parts.database import Database, fresh_database
from parts.machine import program
from parts.pgbouncer import Pooler, running_pooler
from parts.postgres import Server, running_server, versions_under_test
from parts.program import Exporter, Finished, Program
from parts.prometheus import Prometheus, run_promtool, running_prometheus
from parts.proxy import Proxy, running_proxy
from parts.slack import Slack, running_slack

# A slow machine is no fault of the code.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", params=versions_under_test())
def pg_version(request: pytest.FixtureRequest) -> int:
    """The major version of PostgreSQL; PO_EXPORTER_TEST_PG names several for the tests marked `database`."""
    version: int = request.param
    return version


@pytest.fixture(scope="session")
def server(pg_version: int) -> Iterator[Server]:
    """One server a version for the whole session. Stop it if need be: the next database starts it again."""
    with running_server(pg_version) as running:
        yield running


@pytest.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    """A database with the guide's two tables, empty, and a reader that may select from them."""
    async with fresh_database(server) as fresh:
        yield fresh


@pytest.fixture
async def empty_database(server: Server) -> AsyncIterator[Database]:
    """A database without tables."""
    async with fresh_database(server, template="template1") as fresh:
        yield fresh


@pytest.fixture
async def standby(database: Database) -> AsyncIterator[Database]:
    """`database` on a streaming standby; `standby.server.promote()` makes it the primary."""
    with database.server.standby() as server:
        copy = Database(server, database.name)
        yield copy
        await copy.close()


@pytest.fixture
async def pooler(database: Database) -> AsyncIterator[Pooler]:
    """PgBouncer in transaction mode in front of `database`."""
    async with running_pooler(database) as running:
        yield running


@pytest.fixture
async def proxy(database: Database) -> AsyncIterator[Proxy]:
    """A wire to `database` that can be broken."""
    async with running_proxy(database) as running:
        yield running


@pytest.fixture
def promtool() -> Callable[..., Awaitable[str]]:
    """Runs promtool: `await promtool("check", "metrics", stdin=page)`; a status other than 0 is an AssertionError."""
    return run_promtool


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Callable[[str], Awaitable[Prometheus]]]:
    """Starts a Prometheus with a configuration (YAML): `await prometheus(config)`."""
    async with AsyncExitStack() as stack:

        async def start(config: str) -> Prometheus:
            return await stack.enter_async_context(running_prometheus(config, tmp_path))

        yield start


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    """Slack's far end: `slack.messages` is what has arrived there."""
    async with running_slack() as running:
        yield running


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A headless browser that asks nobody on the network for anything."""
    binary = program("chromium")
    args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=args)
        yield browser
        await browser.close()


@pytest.fixture
def po_exporter(tmp_path: Path) -> Program:
    """The program, at home in the test's directory."""
    return Program(tmp_path)


@pytest.fixture
def cli(po_exporter: Program) -> Callable[..., Awaitable[Finished]]:
    """Runs a command to its end: `await cli("check", "--format", "json", config=..., env=...)`."""
    return po_exporter.run


@pytest.fixture
async def exporter(po_exporter: Program) -> AsyncIterator[Callable[..., Awaitable[Exporter]]]:
    """Starts the sidecar on a free port: `await exporter(config=..., env=...)`. It is killed with the test."""
    async with AsyncExitStack() as stack:

        async def start(*args: str, **options: Any) -> Exporter:
            return await stack.enter_async_context(po_exporter.running(*args, **options))

        yield start
