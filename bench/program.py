"""A program that is measured: started, scraped, weighed, and what one poll of it is."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.server import Server, Work

LONGEST_WAIT = 900.0  # seconds for anything to answer; then the benchmark gives up

Page = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process and its children, in MB of a million bytes; ``pss`` shares common pages out."""

    rss: float
    pss: float


@dataclass(frozen=True, slots=True)
class Poll:
    """One answer to the questions, all or those of the window. Times in seconds."""

    answers: Mapping[str, int]
    work: Work
    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Place:
    """What everyone is given: the server, a connection that watches it, a client, and a directory for files."""

    server: Server
    watcher: asyncpg.Connection
    client: aiohttp.ClientSession
    files: Path


@dataclass(frozen=True, slots=True)
class Command:
    """How a program is started."""

    arguments: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)


class Program:
    """A process that serves metrics over HTTP."""

    def __init__(self, place: Place, name: str, port: int, command: Command) -> None:
        self.place, self.name = place, name
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.log = place.files / f"{name}.log"
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command.arguments,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=place.files,
                env={**os.environ, **command.environment},
            )

    async def fetch(self) -> str:
        """The page that Prometheus would read."""
        timeout = aiohttp.ClientTimeout(total=LONGEST_WAIT)
        async with self.place.client.get(self.url, timeout=timeout) as response:
            text = await response.text()
            if response.status != 200:
                raise RuntimeError(f"{self.name} answered {response.status}: {text[:500]}")
            return text

    async def scrape(self) -> Page:
        """Everything that it exposes."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for metric in text_string_to_metric_families(await self.fetch())
            for sample in metric.samples
        }

    async def await_listening(self, every: float = 0.05) -> None:
        """Return as soon as it accepts connections."""
        while time.monotonic() - self.started < 60:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.process.returncode}:\n{self.tail()}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", int(self.url.split(":")[2].split("/")[0]))
            except OSError:
                await asyncio.sleep(every)
            else:
                writer.close()
                return
        raise RuntimeError(f"{self.name} did not listen within a minute:\n{self.tail()}")

    def memory(self) -> Memory:
        """What the process holds now."""
        main = psutil.Process(self.process.pid)
        full = [process.memory_full_info() for process in (main, *main.children(recursive=True))]
        return Memory(sum(info.rss for info in full) / 1e6, sum(info.pss for info in full) / 1e6)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]
