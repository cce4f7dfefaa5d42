"""The demo: a PostgreSQL of its own, a trading API that goes wrong by a script, and the real sidecar on top."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
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
from po_exporter.errors import PoExporterError, UsageError

INTERVAL = "2s"
GRACE = "3s"
POLL_WITHIN = 30.0
"""Seconds within which the sidecar must have polled once."""
STOP_WITHIN = 5.0
"""Seconds that the sidecar may take to stop."""


async def run_demo(listen: str, rate: float, duration: float | None, faults: bool) -> int:  # noqa: FBT001 - a command's flag
    """Runs until Ctrl-C, SIGTERM or SIGHUP, or for ``duration`` seconds after the first poll; then returns 0.

    ``listen`` is HOST:PORT, ``rate`` new orders a second. Raises UsageError or ConfigError when it cannot begin as
    asked, PoExporterError when a part of it fails later. Nothing is left behind in any case.
    """
    if rate <= 0 or (duration is not None and duration <= 0):
        raise UsageError("--rate and --duration should be above 0.")
    load(None, environ=_settings("postgresql://po_reader@127.0.0.1/demo", listen))  # a fault is told before all else
    _expect_free(listen)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    show = asyncio.create_task(_show(listen, rate, duration, faults=faults))
    await asyncio.wait({stopped, show}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not show.done():
        show.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await show
    return 0


def _settings(dsn: str, listen: str) -> dict[str, str]:
    """The configuration, in the words that a user would use; the user's own environment has no part in it."""
    return {
        "PO_EXPORTER_DSN": dsn,
        "PO_EXPORTER_MONITOR__INTERVAL": INTERVAL,
        "PO_EXPORTER_MONITOR__GRACE": GRACE,
        "PO_EXPORTER_SERVER__LISTEN": listen,
    }


def _expect_free(listen: str) -> None:
    """A taken port is told in the first moment, not after a server has been set up."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    try:
        with socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise UsageError(f"cannot listen on {listen}: {error.strerror or error}. Choose another with --listen.") from None


async def _show(listen: str, rate: float, duration: float | None, *, faults: bool) -> None:
    story = Story(grace=GRACE)
    async with embedded_server() as server, contextlib.AsyncExitStack() as stack:
        database = await create_trading_database(server, random.Random())  # noqa: S311 - it deals no secrets
        pool = await asyncpg.create_pool(database.writer_dsn, min_size=2, max_size=10)
        stack.callback(pool.terminate)
        app = App(lambda: load(None, environ=_settings(database.reader_dsn, listen)))
        sidecar = await stack.enter_async_context(_running(app))
        acts = [_part("the simulated trading API", _trade(database, pool, rate))]
        polled = asyncio.create_task(_first_poll(app))
        ...
