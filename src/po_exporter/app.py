"""Builds everything from the configuration, runs it, reloads it, stops it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from po_exporter.config import Config
from po_exporter.errors import ConfigError, PoExporterError
from po_exporter.expose.server import Listen, Server, View
from po_exporter.model import Status
from po_exporter.tell.alertmanager import Notification, explain
from po_exporter.tell.incidents import Sensitivity
from po_exporter.tell.office import Office
from po_exporter.tell.teller import Terms
from po_exporter.watch.monitor import Monitor
from po_exporter.wiring import listen, questions_of_alerts, telling, telling_terms, watched

log = structlog.get_logger()

MOST_UNMATCHED = 100
"""Alerts that nothing is known of and that the log has named, each once."""
SPREAD = timedelta(seconds=10)
"""First polls of several databases are spread over the interval, or over this where the interval is longer."""


class App:
    """The sidecar: one monitor a database, one office that tells people, one HTTP server.

    ``load`` reads the configuration anew at each call.
    """

    def __init__(self, load: Callable[[], Config]) -> None:
        self._load = load
        self._monitors: dict[str, tuple[Monitor, asyncio.Task[None]]] = {}
        self._office: Office | None = None
        self._server: Server | None = None
        self._listen: Listen | None = None
        self._loaded = True
        self._loaded_at = datetime.now(UTC)
        self._group: asyncio.TaskGroup | None = None
        self._reloading = asyncio.Lock()
        self._explaining: tuple[Mapping[str, Sequence[str]], Terms] = ({}, Terms(Sensitivity(1, 1, 1.0)))
        self._unmatched: set[tuple[str, str | None, str]] = set()

    def statuses(self) -> tuple[Status, ...]:
        """What is known of each database now, in the order of the configuration."""
        return tuple(monitor.status for monitor, _ in self._monitors.values())

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port if self._server else 0

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set. Raises ConfigError, or UsageError when the address is taken, before any poll.

        SIGHUP reloads. A task that dies of a defect takes the process with it: silence would be a false all-clear.
        """
        config = self._load()
        for warning in config.warnings:
            log.warning("configuration", message=warning)
        await self._serve(listen(config))
        gc.freeze()  # what was made so far stays: a collection that walked through it would hold a scrape up
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._group:
                group = self._group
                self._office = Office(*telling(config), group)
                loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self._reload_quietly()))
                await self._follow(config)
                log.info("started", databases=list(config.databases), listen=f"{config.server.host}:{self.port}")
                await stop.wait()
                for _, task in self._monitors.values():
                    task.cancel()
                self._office.close()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            if self._server:
                await self._server.stop()
            log.info("stopped")

    async def reload(self) -> None:
        """Read the configuration again and go on with it: all of it, or none. Raises ConfigError."""
        async with self._reloading:
            try:
                config = self._load()
                told = telling(config)
                if listen(config) != self._listen:
                    await self._serve(listen(config))
                elif self._server:
                    await self._server.reload_certificates()
            except PoExporterError as error:
                self._loaded = False
                faults = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else [str(error)]
                log.error("reload_refused", faults=faults)
                raise error if isinstance(error, ConfigError) else ConfigError.of("server", str(error)) from None
            for warning in config.warnings:
                log.warning("configuration", message=warning)
            if self._office:
                self._office.configure(*told)
            await self._follow(config)
            self._loaded, self._loaded_at = True, datetime.now(UTC)
            log.info("reloaded", databases=list(config.databases))

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except ConfigError:
            return  # said in the log and by the metric

    async def _serve(self, wanted: Listen) -> None:
        """Listen as wanted; as before when that cannot be done."""
        if self._server:
            await self._server.change(wanted)
        else:
            server = Server(wanted, self._view, self.reload, self.explain)
            await server.start()
            self._server = server
        self._listen = wanted

    async def _follow(self, config: Config) -> None:
        """Start, change and stop monitors until they are those of the configuration."""
        if self._group is None or self._office is None:
            raise RuntimeError("the app is not running")
        self._explaining = questions_of_alerts(config), telling_terms(config)
        wanted = {name: watched(config, name) for name in config.databases}
        ended = [
            name
            for name, (monitor, _) in self._monitors.items()
            if name not in wanted or not monitor.watched.target.is_at(wanted[name].target)
        ]
        await asyncio.gather(*map(self._office.end, ended))  # as long as they can be reached as before
        for name in ended:
            self._office.forget(name)
        for name in self._monitors.keys() - wanted.keys():
            self._monitors.pop(name)[1].cancel()
        step = min(config.monitor.interval, SPREAD) / len(config.databases)
        monitors = {}
        for place, name in enumerate(config.databases):
            if name in self._monitors:
                monitors[name] = self._monitors[name]
                monitors[name][0].reconfigure(wanted[name])
            else:
                monitor = Monitor(wanted[name], delay=(place * step).total_seconds(), told=self._tell)
                monitors[name] = (monitor, self._group.create_task(monitor.run(), name=f"monitor {name}"))
        self._monitors = monitors

    async def _tell(self, monitor: Monitor) -> None:
        if self._office:
            await self._office.observe(monitor)

    async def explain(self, body: bytes) -> dict[str, Any]:
        """What is known of the alerts that Alertmanager tells of, and have it told by every channel.

        Raises ValueError for what is no notification of Alertmanager's, NotLeading where another replica knows.
        """
        said = Notification.parse(body)
        explanation = explain(said, self.statuses(), *self._explaining)
        for alert in explanation.unmatched:
            if alert not in self._unmatched and len(self._unmatched) < MOST_UNMATCHED:
                self._unmatched.add(alert)
                log.warning("alert_unmatched", alert=alert[0], database=alert[1], why=alert[2])
        for monitor, _ in self._monitors.values():
            told = [each for each in explanation.summaries if each.database == monitor.watched.name]
            if self._office and told:
                await self._office.answer(monitor, told)
        return explanation.json()

    def _view(self) -> View:
        channels = self._office.channels if self._office else ()
        return View(self.statuses(), self._loaded, self._loaded_at, channels)
