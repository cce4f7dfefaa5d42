"""The program under test, as its users run it: a process with a clean environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from parts.machine import free_port
from parts.prometheus import Metrics
from parts.waiting import end, until

COMMAND = (sys.executable, "-m", "po_exporter")


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Response:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.text)


class Program:
    """Runs commands in ``directory``, which is also their home. Nothing of the caller's environment reaches them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._configs = 0

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a command."""
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "HOME": str(self.directory), "LC_ALL": "C.UTF-8", **(more or {})}

    def config_file(self, config: Mapping[str, Any] | str | Path) -> Path:
        """A configuration as a file: a path as it is, text and mappings written as YAML."""
        if isinstance(config, Path):
            return config
        self._configs += 1
        path = self.directory / f"po-exporter-{self._configs}.yaml"
        path.write_text(config if isinstance(config, str) else yaml.safe_dump(dict(config)))
        return path

    async def run(
        self, *args: str, config: Mapping[str, Any] | str | Path | None = None, env: Mapping[str, str] | None = None,
        stdin: str = "", timeout: float = 60,  # noqa: ASYNC109 - a bound on the process, not on this coroutine alone
    ) -> Finished:  # fmt: skip
        """Run ``po-exporter ARGS`` to its end. ``config`` reaches it through PO_EXPORTER_CONFIG."""
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *args, cwd=self.directory, env=self._with_config(config, env),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            stdout, stderr = await asyncio.wait_for(process.communicate(stdin.encode()), timeout)
        finally:
            await end(process)
        assert process.returncode is not None
        return Finished(process.returncode, stdout.decode(), stderr.decode())

    @asynccontextmanager
    async def running(
        self, *args: str, config: Mapping[str, Any] | str | Path | None = None, env: Mapping[str, str] | None = None,
        command: str = "run", scheme: str = "http",
    ) -> AsyncIterator[Exporter]:  # fmt: skip
        """``po-exporter run`` on a free port, yielded when /-/healthy answers; killed at the end if it still runs."""
        port = free_port()
        listen = {"PO_EXPORTER_SERVER__LISTEN": f"127.0.0.1:{port}"}
        log = self.directory / f"{command}-{port}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, command, *args, cwd=self.directory, env=self._with_config(config, listen | dict(env or {})),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        exporter = Exporter(process, f"{scheme}://127.0.0.1:{port}", log)
        try:
            await until(exporter.is_healthy, timeout=30, what="po-exporter to answer /-/healthy")
            yield exporter
        finally:
            await end(process)

    def _with_config(
        self, config: Mapping[str, Any] | str | Path | None, env: Mapping[str, str] | None
    ) -> dict[str, str]:
        more = {} if config is None else {"PO_EXPORTER_CONFIG": str(self.config_file(config))}
        return self.environment(more | dict(env or {}))


class Exporter:
    """A running ``po-exporter run``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    @property
    def log(self) -> str:
        """All that it has written to stdout and stderr."""
        return self._log.read_text()

    async def get(self, path: str, **options: Any) -> Response:
        """GET a path; ``options`` are those of aiohttp (headers, params, auth)."""
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, **options: Any) -> Response:
        """Any other method. Its certificate is not verified: it is the test's own."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, ssl=False, **options) as response,
        ):
            return Response(response.status, dict(response.headers), await response.text())

    async def metrics(self, path: str = "/metrics") -> Metrics:
        """The page of metrics, parsed."""
        answer = await self.get(path)
        assert answer.status == 200, answer
        return Metrics.parse(answer.text)

    async def is_healthy(self) -> bool:
        """Whether /-/healthy answers 200; AssertionError with the log when the process has ended."""
        assert self.process.returncode is None, f"po-exporter ended with {self.process.returncode}:\n{self.log}"
        try:
            return (await self.get("/-/healthy")).status == 200
        except aiohttp.ClientConnectionError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM, then its exit status; TimeoutError when it takes longer than 20 seconds."""
        if self.process.returncode is None:
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 20)
