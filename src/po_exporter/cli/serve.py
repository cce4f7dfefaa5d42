"""The commands that go on until they are stopped: run and demo."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from po_exporter.app import App
from po_exporter.cli.options import Positive, config_option
from po_exporter.wiring import load


@click.command()
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Overrides server.listen.")
def run(config_file: Path | None, listen: str | None) -> None:
    """Poll, expose, until stopped; SIGHUP reloads the configuration."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    overrides = {"server.listen": listen} if listen else {}
    app = App(lambda: load(config_file, os.environ, overrides))
    asyncio.run(_until_stopped(app.run))


@click.command()
@config_option
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:9843", show_default=True)
@click.option("--rate", type=Positive(max=1000), default=20.0, show_default=True,
              help="Order lives a second.")  # fmt: skip
@click.option("--duration", type=Positive(), help="Seconds; without it, until Ctrl-C.")
@click.option("--no-faults", is_flag=True, help="Break nothing.")
def demo(config_file: Path | None, listen: str, rate: float, duration: float | None, *, no_faults: bool) -> int:  # noqa: ARG001  # taken everywhere
    """An embedded Postgres, a simulated trading API that breaks and heals links, and the sidecar on top.

    It brings a configuration of its own; another one has no effect.
    """
    from po_exporter.demo import run_demo  # noqa: PLC0415  # the demo is an extra, and nobody else pays for it

    return asyncio.run(run_demo(listen, rate, duration, not no_faults))


async def _until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Work with an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await work(stop)
