"""Those who are measured: each a real program with a role of its own, asked for the same answers."""

from __future__ import annotations

import asyncio
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bench import install
from bench.dataset import CHECKS, sections
from bench.server import DATABASE, Server, Work, free_port, stop

WINDOW_CHECKS = frozenset(
    {
        "link_rate",
        "unlinked_filled_order",
        "unreadable_fill",
        "fill_without_filled_status",
        "overfilled_order",
        "fill_outside_position",
        "duplicate_exchange_order",
        "position_without_orders",
    }
)
HEADLINES = ("link_rate", "unlinked_filled_order", "orphaned_position_reference", "quantity_mismatch")
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


class Peer:
    """An exporter that runs its queries when it is scraped: a scrape is a poll.

    ``product`` is the program with its version.
    """

    product: str

    def __init__(self, name: str, role: str, questions: Mapping[str, str]) -> None:
        self.name, self.role, self.questions = name, role, questions
        self.program: Program | None = None

    def command(self, place: Place, port: int) -> Command:
        """How it is started, with its configuration written."""
        raise NotImplementedError

    def answers(self, page: Page) -> dict[str, int]:
        """The counts by check, and the parts of the link rate."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self, place: Place) -> AsyncIterator[None]:
        """Runs, and rests unless it is scraped."""
        port = free_port()
        self.program = Program(place, self.role, port, self.command(place, port))
        try:
            await self.program.await_listening()
            yield
        finally:
            stop(self.program.process)

    async def poll(self, place: Place) -> Poll:
        """One scrape and what it cost."""
        assert self.program is not None
        await place.server.forget(place.watcher, self.role)
        cpu, begun = place.server.cpu_seconds(), time.perf_counter()
        page = await self.program.scrape()
        wall = time.perf_counter() - begun
        cpu = place.server.cpu_seconds() - cpu
        work = await place.server.work(place.watcher, self.role)
        answers = self.answers(page)
        if len(answers) != len(CHECKS) + 2:
            raise RuntimeError(f"{self.name} did not answer everything:\n{self.program.tail()}")
        return Poll(answers, work, wall, cpu)


class PostgresExporter(Peer):
    """Runs the queries of a file at each scrape."""

    def __init__(self) -> None:
        super().__init__("postgres_exporter", "postgres_exporter", sections("questions.sql"))
        self.path = install.postgres_exporter()
        self.product = f"postgres_exporter {_version(self.path)}"

    def command(self, place: Place, port: int) -> Command:
        """Its own metrics and collectors are off: only the questions count."""
        queries = {
            name: {
                "query": sql,
                "master": True,
                "metrics": [{column: {"usage": "GAUGE", "description": name}} for column in _columns(name)],
            }
            for name, sql in self.questions.items()
        }
        file = place.files / "postgres_exporter.yaml"
        file.write_text(yaml.safe_dump(queries))
        dsn = f"postgresql://{self.role}@127.0.0.1:{place.server.port}/{DATABASE}?sslmode=disable"
        return Command(
            [self.path, f"--extend.query-path={file}", "--disable-default-metrics", "--disable-settings-metrics",
             "--no-collector.database", "--no-collector.bgwriter", f"--web.listen-address=127.0.0.1:{port}"],
            {"DATA_SOURCE_NAME": dsn, "PGPASSWORD": place.server.password},
        )  # fmt: skip

    def answers(self, page: Page) -> dict[str, int]:
        """Its metrics are called query_column."""
        return {
            column if name == "link_rate" else name: int(value)
            for (metric, _), value in page.items()
            for name in self.questions
            for column in _columns(name)
            if metric == f"{name}_{column}" and not math.isnan(value)
        }


class QueryExporter(Peer):
    """Runs queries that have no interval of their own at each scrape, over one connection, one after the other."""

    def __init__(self, name: str, role: str, questions: Mapping[str, str]) -> None:
        super().__init__(name, role, questions)
        self.path = install.query_exporter()
        self.product = f"query-exporter {_version(self.path)}"

    def command(self, place: Place, port: int) -> Command:
        """Columns are matched to metrics by name."""
        queries = {}
        for name, sql in self.questions.items():
            metrics = [*CHECKS, "eligible", "links"] if name == "combined" else _columns(name)
            if metrics == ["findings"]:
                metrics, sql = [name], sql.replace("AS findings", f"AS {name}", 1)  # noqa: PLW2901
            queries[name] = {"databases": [DATABASE], "metrics": metrics, "sql": sql}
        dsn = f"postgresql+psycopg2://{self.role}:{place.server.password}@127.0.0.1:{place.server.port}/{DATABASE}"
        config = {
            "databases": {DATABASE: {"dsn": dsn}},
            "metrics": {name: {"type": "gauge"} for query in queries.values() for name in query["metrics"]},
            "queries": queries,
        }
        file = place.files / f"{self.role}.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(config))
        return Command([self.path, "--config", file, "--host", "127.0.0.1", "--port", str(port)])

    def answers(self, page: Page) -> dict[str, int]:
        """Its metrics are called as the configuration names them. Those that were never set are not there."""
        wanted = {*CHECKS, "eligible", "links"}
        return {metric: int(value) for (metric, _), value in page.items() if metric in wanted}


def _version(program: Path) -> str:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True, timeout=30)
    number = re.search(r"\d+(?:\.\d+)+", said.stdout + said.stderr)
    return number.group() if number else "of an unknown version"


def _columns(name: str) -> list[str]:
    return ["eligible", "links"] if name == "link_rate" else ["findings"]


def peers() -> tuple[list[Peer], dict[str, str]]:
    """Those that can be had here, and why the others cannot."""
    found: list[Peer] = []
    left_out: dict[str, str] = {}
    try:
        found.append(PostgresExporter())
    except install.MissingError as why:
        left_out["postgres_exporter"] = str(why)
    try:
        found.append(QueryExporter("query-exporter", "query_exporter", sections("questions.sql")))
        found.append(QueryExporter("one query by hand", "one_query", sections("combined.sql")))
    except install.MissingError as why:
        left_out["query-exporter"] = str(why)
    return found, left_out


@dataclass
class Ours:
    """``po-exporter run`` in scan mode, as one installs it. It polls by itself; ``interval`` is in whole seconds."""

    place: Place
    interval: int
    full: bool
    role: str = "po_reader"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Program]:
        """A process of its own, from its start to its end."""
        port = free_port()
        password = self.place.files / "po_reader.password"
        password.touch(mode=0o600)
        password.write_text(self.place.server.password)
        # In scan mode the costly checks are asked less often than the others, unless they are told otherwise.
        rare = [name for name in CHECKS if name not in WINDOW_CHECKS]
        config = {
            "databases": {
                DATABASE: {
                    "dsn": f"postgresql://{self.role}@127.0.0.1:{self.place.server.port}/{DATABASE}?sslmode=disable",
                    "password_file": str(password),
                    "schema": "gal-friday",
                }
            },
            "monitor": {
                "interval": f"{self.interval}s", "mode": "scan", "statement_timeout": "5m", "poll_timeout": "10m",
            },
            "checks": {name: {"interval": f"{self.interval}s" if self.full else "1d"} for name in rare},
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


def polls_ended(page: Page) -> int:
    """How often the link rate, which every poll asks, was asked."""
    return int(page.get(_series("position_order_exporter_checks_total", check="link_rate"), 0))


def poll_seconds(page: Page) -> float:
    """Seconds from the last poll's snapshot to its end."""
    ended = page[_series("position_order_last_poll_timestamp_seconds")]
    return ended - page[_series("position_order_exporter_snapshot_timestamp_seconds")]


def our_answers(page: Page) -> dict[str, int]:
    """The counts by check, and the parts of the link rate."""
    found = {
        dict(labels)["issue_type"].lower(): int(value)
        for (metric, labels), value in page.items()
        if metric == "position_order_open_issues"
    }
    for part in ("eligible_orders", "links"):
        found[part.removesuffix("_orders")] = int(page.get(_series(f"position_order_{part}"), -1))
    return found


async def await_poll(program: Program, number: int, every: float = 0.1) -> Page:
    """The first page on which so many polls have ended."""
    deadline = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < deadline:
        if program.process.poll() is not None:
            raise RuntimeError(f"{program.name} ended with status {program.process.returncode}:\n{program.tail()}")
        page = await program.scrape()
        if polls_ended(page) >= number:
            if page.get(_series("position_order_up")) != 1:
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


def _series(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset({"database": DATABASE, **labels}.items())
