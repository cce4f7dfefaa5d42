"""A real Prometheus, its promtool, and a page of metrics as a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from parts.machine import free_port, program
from parts.waiting import end, until


class Metrics(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of a page: ``{(name, frozenset(labels.items())): value}``."""

    @classmethod
    def parse(cls, page: str) -> Metrics:
        """Read the text format; ValueError where it is malformed."""
        return cls(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        )

    def value(self, name: str, **labels: str) -> float | None:
        """The value of the series with exactly these labels; None where there is none."""
        return self.get((name, frozenset(labels.items())))

    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self}


async def run_promtool(*args: str | Path, stdin: str | None = None) -> str:
    """What promtool prints; AssertionError with all of it where its status is not 0."""
    process = await asyncio.create_subprocess_exec(
        program("promtool"), *args,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate(None if stdin is None else stdin.encode())
    text = output.decode()
    assert process.returncode == 0, f"promtool {' '.join(map(str, args))}:\n{text}"
    return text


class Prometheus:
    """A Prometheus that scrapes and evaluates."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def query(self, expression: str, at: float | None = None) -> list[dict[str, Any]]:
        """The result of an instant query, now or at a time; AssertionError where Prometheus refuses it."""
        asked = {"query": expression} | ({} if at is None else {"time": str(at)})
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/query", params=asked) as response,
        ):
            answer = await response.json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@asynccontextmanager
async def running_prometheus(config: str, directory: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus with the configuration ``config`` (YAML) that keeps its data in ``directory``."""
    binary = program("prometheus")
    port = free_port()
    config_file, log = directory / "prometheus.yml", directory / "prometheus.log"
    config_file.write_text(config)
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--web.listen-address=127.0.0.1:{port}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--config.file={config_file}",
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        assert process.returncode is None, f"Prometheus ended at once: {log.read_text()}"
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await until(ready, what="Prometheus to be ready")
        yield Prometheus(url)
    finally:
        await end(process)
