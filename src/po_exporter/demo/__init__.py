"""The demo: a PostgreSQL of its own, a trading API that goes wrong by a script, and the real sidecar on top."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import asyncpg

from po_exporter.app import App
from po_exporter.config import load
from po_exporter.demo import faults as script
from po_exporter.demo.server import Server, embedded_server
from po_exporter.demo.setup import TradingDatabase, create_trading_database
from po_exporter.demo.story import Story
from po_exporter.demo.trading import Desk, LiveClock, PostgresRecord
from po_exporter.errors import PoExporterError

INTERVAL = "2s"
GRACE = "3s"
POLL_WITHIN = 30.0
"""Seconds within which the sidecar must have polled once."""
STOP_WITHIN = 5.0
"""Seconds that the sidecar may take to stop."""
CAUSE_WITHIN = 0.5
"""Seconds within which the cause of several failures is known: the first that is seen need not be it."""
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


async def run_demo(listen: str, rate: float, duration: float | None, faults: bool) -> int:  # noqa: FBT001 - as the CLI
    """Runs until Ctrl-C, SIGTERM or SIGHUP, or for ``duration`` seconds after the first poll; then returns 0.

    ``listen`` is HOST:PORT, ``rate`` new orders a second, above 0. Raises UsageError or ConfigError when it cannot
    begin as asked, PoExporterError when a part of it fails later. Nothing is left behind in any case.
    """
    placeholder = "postgresql://po_reader@127.0.0.1/demo"
    load(None, environ=_settings(placeholder, placeholder, listen))  # a fault is told before all else
    stop = asyncio.Event()
    _heed_signals(stop)
    stopped = asyncio.create_task(stop.wait())
    show = asyncio.create_task(_show(stop, listen, rate, duration, faults=faults))
    try:
        await asyncio.wait({stopped, show}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        show.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await show
    return 0


def _heed_signals(stop: asyncio.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _settings(dsn: str, feed_dsn: str, listen: str) -> dict[str, str]:
    """The configuration, in the words that a user would use; the user's own environment has no part in it."""
    return {
        "PO_EXPORTER_DSN": dsn,
        "PO_EXPORTER_DATABASES__DEMO__FEED_DSN": feed_dsn,
        "PO_EXPORTER_DATABASES__DEMO__ENVIRONMENT": "demo",
        "PO_EXPORTER_MONITOR__INTERVAL": INTERVAL,
        "PO_EXPORTER_MONITOR__GRACE": GRACE,
        "PO_EXPORTER_SERVER__LISTEN": listen,
    }


async def _show(stop: asyncio.Event, listen: str, rate: float, duration: float | None, *, faults: bool) -> None:
    """The whole of it, until ``duration`` is over or it is cancelled."""
    story = Story(grace=GRACE)
    async with embedded_server() as server, _explained(server), contextlib.AsyncExitStack() as stack:
        database = await create_trading_database(server, random.Random())  # noqa: S311 - it deals no secrets
        pool = await asyncpg.create_pool(database.writer_dsn, min_size=0, max_size=10)
        stack.push_async_callback(_close, pool)
        app = App(lambda: load(None, environ=_settings(database.reader_dsn, database.feed_dsn, listen)))
        parts = [
            # The server first: when it goes, all others fail as well, and it knows why.
            await stack.enter_async_context(_part("PostgreSQL", server.died())),
            await stack.enter_async_context(_sidecar(app)),
            await stack.enter_async_context(_part("the simulated trading API", _trade(database, pool, rate))),
        ]
        await _first_poll(app, parts)
        _heed_signals(stop)  # again: to the sidecar alone, SIGHUP means that it should reload
        story.opening(listen, app.port, rate=rate, dsn=database.reader_dsn, fix_dsn=database.fix_dsn,
                      position=await _a_position(pool))  # fmt: skip
        parts.append(await stack.enter_async_context(_part("the story", story.follow(app.statuses))))
        if faults:
            parts.append(await stack.enter_async_context(_part("the script", _play(database, story))))
        await _while_all_run(parts, duration)


async def _close(pool: asyncpg.Pool) -> None:
    """Wait for connections that are still being given back; a pool that is cut off meanwhile complains of them."""
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await pool.close()
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pool.terminate()


async def _trade(database: TradingDatabase, pool: asyncpg.Pool, rate: float) -> None:
    clock, record = LiveClock(rate, asyncio.Event()), PostgresRecord(pool)
    desks = [Desk(desk.pair, clock, record, random.Random(), desk.position) for desk in database.history.desks]  # noqa: S311
    await asyncio.gather(*(desk.trade() for desk in desks))


async def _play(database: TradingDatabase, story: Story) -> None:
    connection = await asyncpg.connect(database.writer_dsn)
    try:
        await script.play(connection, story.event)
    finally:
        connection.terminate()


@contextlib.asynccontextmanager
async def _explained(server: Server) -> AsyncIterator[None]:
    """What fails inside, but in none of the parts, is told in a sentence, and with its cause."""
    try:
        yield
    except DATABASE_ERRORS as error:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CAUSE_WITHIN):
                await server.died()
        raise PoExporterError(f"the demo's PostgreSQL could not be used: {error}") from error


@contextlib.asynccontextmanager
async def _part(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Something that runs until it is cancelled at the end."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_WITHIN)
        if task.done() and not task.cancelled():
            task.exception()  # it was told already, or it followed from one that was


@contextlib.asynccontextmanager
async def _sidecar(app: App) -> AsyncIterator[asyncio.Task[None]]:
    """It is asked to stop, as it would be by a signal, and given some time."""
    stop = asyncio.Event()
    async with _part("the sidecar", app.run(stop)) as task:
        try:
            yield task
        finally:
            stop.set()
            await asyncio.wait({task}, timeout=STOP_WITHIN)
            if not task.done():
                raise PoExporterError(f"the sidecar did not stop within {STOP_WITHIN:g} seconds.")
            task.result()


async def _first_poll(app: App, parts: list[asyncio.Task[None]]) -> None:
    try:
        async with asyncio.timeout(POLL_WITHIN):
            while not any(status.up is not None for status in app.statuses()):
                await _while_all_run(parts, seconds=0.05)
    except TimeoutError:
        raise PoExporterError(f"the sidecar did not poll within {POLL_WITHIN:g} seconds.") from None


async def _while_all_run(parts: list[asyncio.Task[None]], seconds: float | None) -> None:
    """Returns after ``seconds``; raises as soon as one of the parts ends, which none of them should."""
    ended, _ = await asyncio.wait(parts, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    if not ended:
        return
    await asyncio.wait(parts, timeout=CAUSE_WITHIN)  # one failure brings others: the first of the list is the cause
    part = next(part for part in parts if part.done())
    error = part.exception()
    if error is None:
        raise PoExporterError(f"{part.get_name()} has ended by itself.")
    if isinstance(error, DATABASE_ERRORS):
        raise PoExporterError(f"{part.get_name()} has failed: {error}") from error
    raise error


async def _a_position(pool: asyncpg.Pool) -> str:
    """The position of DOT/USD: held for hours, so its trail can be read at leisure."""
    return str(await pool.fetchval("SELECT id FROM positions WHERE trading_pair = 'DOT/USD' AND is_active"))
