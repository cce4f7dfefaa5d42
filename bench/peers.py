"""The other exporters: real programs that ask the same questions when they are scraped."""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from bench import install
from bench.dataset import CHECKS, sections
from bench.program import Command, Page, Place, Poll, Program
from bench.server import DATABASE, free_port, stop


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


def available_peers() -> tuple[list[Peer], dict[str, str]]:
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
