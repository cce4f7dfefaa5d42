"""A real Alertmanager, its amtool, and a receiver of what it delivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from parts.machine import free_port, program
from parts.waiting import end, until


@dataclass
class Receiver:
    """A webhook's far end; ``delivered`` has every alert that arrived, in order."""

    url: str = ""
    delivered: list[dict[str, Any]] = field(default_factory=list)

    def alerts(self, name: str, status: str = "firing") -> list[dict[str, Any]]:
        """The deliveries of one alert in one state."""
        return [a for a in self.delivered if a["labels"]["alertname"] == name and a["status"] == status]

    def names(self) -> set[str]:
        """Every alert that was ever delivered."""
        return {alert["labels"]["alertname"] for alert in self.delivered}

    async def until(self, name: str, status: str = "firing", count: int = 1) -> dict[str, Any]:
        """Wait for an alert to arrive, for the ``count``-th time; that delivery."""
        arrived = await until(
            lambda: (found := self.alerts(name, status)) and len(found) >= count and found,
            timeout=60,
            what=lambda: f"{name} {status} to arrive; so far: {[(a['labels'], a['status']) for a in self.delivered]}",
        )
        alert: dict[str, Any] = arrived[count - 1]
        return alert

    async def _take(self, request: web.Request) -> web.Response:
        self.delivered += (await request.json())["alerts"]
        return web.Response()


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port, for any path."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver._take)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    receiver.url = f"http://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def run_amtool(*args: str | Path) -> str:
    """What amtool prints; AssertionError with all of it where its status is not 0."""
    process = await asyncio.create_subprocess_exec(
        program("amtool"), *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"amtool {' '.join(map(str, args))}:\n{output.decode()}"
    return output.decode()


@asynccontextmanager
async def running_alertmanager(config: str, directory: Path) -> AsyncIterator[str]:
    """The URL of an Alertmanager with the configuration ``config`` (YAML) that keeps its data in ``directory``."""
    binary, port = program("prometheus-alertmanager"), free_port()
    config_file, log = directory / "alertmanager.yml", directory / "alertmanager.log"
    config_file.write_text(config)
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            f"--storage.path={directory / 'alertmanager'}",
            f"--config.file={config_file}",
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"

    async def ready() -> bool:
        assert process.returncode is None, f"Alertmanager ended at once: {log.read_text()}"
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    try:
        await until(ready, what="Alertmanager to be ready")
        yield url
    finally:
        await end(process)
