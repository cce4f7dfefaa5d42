"""po-exporter itself, as one installs it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import yaml

from bench.dataset import CHECKS, WINDOW_CHECKS
from bench.lives import FEED
from bench.program import LONGEST_WAIT, Command, Page, Place, Poll, Program
from bench.server import DATABASE, free_port, stop


@dataclass
class Ours:
    """``po-exporter run`` as one installs it. It polls by itself; ``interval`` is in whole seconds.

    In scan mode ``full`` says whether every poll asks everything. In incremental mode all is as it comes.
    """

    place: Place
    interval: int
    full: bool = False
    mode: Literal["scan", "incremental"] = "scan"
    role: str = "po_reader"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Program]:
        """A process of its own, from its start to its end."""
        port = free_port()
        password = self._secret("po_reader.password", self.place.server.password)
        # In scan mode the costly checks are asked less often than the others, unless they are told otherwise.
        rare = [name for name in CHECKS if name not in WINDOW_CHECKS]
        checks = {name: {"interval": f"{self.interval}s" if self.full else "1d"} for name in rare}
        feed = {}
        if self.mode == "incremental":
            feed["feed_dsn_file"] = self._secret("po_feed.dsn", self._dsn(FEED, secret=True))
        config = {
            "databases": {
                DATABASE: {
                    "dsn": self._dsn(self.role),
                    "password_file": password,
                    "schema": "gal-friday",
                    **feed,
                }
            },
            "monitor": {
                "interval": f"{self.interval}s", "mode": self.mode, "statement_timeout": "5m", "poll_timeout": "10m",
            },
            "checks": checks if self.mode == "scan" else {},
            "server": {"listen": f"127.0.0.1:{port}"},
        }  # fmt: skip
        file = self.place.files / "po-exporter.yaml"
        file.write_text(yaml.safe_dump(config))
        command = Command([sys.executable, "-m", "po_exporter", "run", "--config", file])
        program = Program(self.place, "po-exporter", port, command)
        try:
            yield program
        finally:
            stop(program.process)

    def _dsn(self, role: str, *, secret: bool = False) -> str:
        server = self.place.server
        password = f":{server.password}" if secret else ""
        return f"postgresql://{role}{password}@127.0.0.1:{server.port}/{DATABASE}?sslmode=disable"

    def _secret(self, name: str, value: str) -> str:
        file = self.place.files / name
        file.touch(mode=0o600)
        file.write_text(value)
        return str(file)


def polls_ended(page: Page) -> int:
    """How often the link rate, which every poll asks, was asked."""
    return int(page.get(series("position_order_exporter_checks_total", check="link_rate"), 0))


def poll_seconds(page: Page) -> float:
    """Seconds from the last poll's snapshot to its end."""
    ended = page[series("position_order_last_poll_timestamp_seconds")]
    return ended - page[series("position_order_exporter_snapshot_timestamp_seconds")]


def our_answers(page: Page) -> dict[str, int]:
    """The counts by check, and the parts of the link rate."""
    found = {
        dict(labels)["issue_type"].lower(): int(value)
        for (metric, labels), value in page.items()
        if metric == "position_order_open_issues"
    }
    for part in ("eligible_orders", "links"):
        found[part.removesuffix("_orders")] = int(page.get(series(f"position_order_{part}"), -1))
    return found


async def await_poll(program: Program, number: int, every: float = 0.1) -> Page:
    """The first page on which so many polls have ended."""
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        if program.process.poll() is not None:
            raise RuntimeError(f"{program.name} ended with status {program.process.returncode}:\n{program.tail()}")
        page = await program.scrape()
        if polls_ended(page) >= number:
            if page.get(series("position_order_up")) != 1:
                raise RuntimeError(f"{program.name} could not ask:\n{program.tail()}")
            return page
        await asyncio.sleep(every)
    raise RuntimeError(f"{program.name}: no poll ended in {LONGEST_WAIT:.0f} s:\n{program.tail()}")


async def first_poll(ours: Ours) -> float:
    """Seconds of the first poll of a process, which asks everything."""
    async with ours.running() as program:
        await program.await_listening()
        return poll_seconds(await await_poll(program, 1))


async def second_poll(ours: Ours) -> tuple[float, Poll]:
    """A process of its own: seconds from its start to its first metrics beyond its first poll, then its second poll."""
    place = ours.place
    async with ours.running() as program:
        await program.await_listening(every=0.005)
        first = await await_poll(program, 1, every=0.01)
        ready = time.monotonic() - program.started - poll_seconds(first)
        await place.server.forget(place.watcher, ours.role)
        cpu = place.server.cpu_seconds()
        second = await await_poll(program, 2)
        cpu = place.server.cpu_seconds() - cpu
        work = await place.server.work(place.watcher, ours.role)
        if polls_ended(second) != 2:
            raise RuntimeError(f"{polls_ended(second)} polls ended where the second was to be measured")
        return ready, Poll(our_answers(second), work, poll_seconds(second), cpu)


def series(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """A series of ours on a page."""
    return name, frozenset({"database": DATABASE, **labels}.items())
