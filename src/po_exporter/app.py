"""Builds everything from the configuration, runs it, reloads it, stops it."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from po_exporter.config import Config, Database
from po_exporter.config import load as load_settings
from po_exporter.database.session import Limits, Target
from po_exporter.errors import ConfigError, PoExporterError
from po_exporter.expose.rules import Ruled, RuledCheck
from po_exporter.expose.server import Listen, Server, View, faults_of
from po_exporter.model import Status
from po_exporter.watch.answer import Question, Terms
from po_exporter.watch.monitor import Monitor
from po_exporter.watch.watched import Watched

log = structlog.get_logger()

NO_OVERRIDES: Mapping[str, object] = {}
SPREAD = timedelta(seconds=10)
"""First polls of several databases are spread over the interval, or over this where the interval is longer."""


def questions(config: Config) -> tuple[Question, ...]:
    """Every enabled check with its settings."""
    return tuple(
        Question(
            file=file,
            priority=None if file.priority is None else config.checks[name].priority or file.priority,
            tolerance=config.checks[name].tolerance,
            interval=config.checks[name].interval,
        )
        for name, file in config.check_files.items()
        if config.checks[name].enabled
    )


def watched(config: Config, name: str) -> Watched:
    """What one database's monitor needs to know, out of the whole configuration."""
    database, monitor = config.databases[name], config.monitor
    return Watched(
        target=Target(name, database.dsn, database.password),
        environment=database.environment,
        mapping=database.mapping,
        questions=questions(config),
        terms=Terms(
            window=monitor.window,
            grace=monitor.grace,
            limits=Limits(monitor.statement_timeout, monitor.lock_timeout, monitor.poll_timeout),
            evidence=monitor.evidence,
            identity_budget=monitor.identity_budget,
        ),
        interval=monitor.interval,
        polls=config.polls(name),
        mode=monitor.mode,
        feed=_feed_target(name, database),
        control=_direct(name, database) if config.leader == "auto" else None,
        state_budget=int(monitor.state_budget),
    )


def ruled(config: Config, job: str, runbooks: str) -> Ruled:
    """What the alert rules need to know."""
    checks = [
        RuledCheck(
            name=question.name,
            issue_type=question.file.issue_type,
            help=question.file.help,
            priority=question.priority,
            threshold=config.checks[question.name].threshold,
            interval=question.interval,
            settles=question.file.settles,
            runbook=question.file.runbook,
        )
        for question in questions(config)
    ]
    return Ruled(checks, config.monitor.interval, config.monitor.window, job, runbooks)


def _direct(name: str, database: Database) -> Target:
    """Where a session of our own is to be had: past a pooler, if there is one."""
    return Target(name, database.direct_dsn or database.dsn, database.password)


def _feed_target(name: str, database: Database) -> Target:
    """Where the change feed connects: as a role of its own, or where the reader does, past a pooler."""
    return Target(name, database.feed_dsn) if database.feed_dsn else _direct(name, database)


def listen(config: Config) -> Listen:
    """The server's settings."""
    server = config.server
    return Listen(
        host=server.host,
        port=server.port,
        cert_file=server.tls.cert_file,
        key_file=server.tls.key_file,
        client_ca_file=server.tls.client_ca_file,
        tokens_file=server.tokens_file,
        external_url=server.external_url,
        reload=server.reload,
    )


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object] = NO_OVERRIDES) -> Config:
    """The configuration, with the files that only the server reads tried, too. Raises ConfigError."""
    config = load_settings(path, environ, overrides)
    faults = faults_of(listen(config))
    if faults:
        raise ConfigError(faults)
    return config


class App:
    """The sidecar: one monitor a database, one HTTP server. ``load`` reads the configuration anew at each call."""

    def __init__(self, load: Callable[[], Config]) -> None:
        self._load = load
        self._monitors: dict[str, tuple[Monitor, asyncio.Task[None]]] = {}
        self._server: Server | None = None
        self._listen: Listen | None = None
        self._loaded = True
        self._loaded_at = datetime.now(UTC)
        self._group: asyncio.TaskGroup | None = None
        self._reloading = asyncio.Lock()

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
                loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self._reload_quietly()))
                self._follow(config)
                log.info("started", databases=list(config.databases), listen=f"{config.server.host}:{self.port}")
                await stop.wait()
                for _, task in self._monitors.values():
                    task.cancel()
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
            self._follow(config)
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
            server = Server(wanted, self._view, self.reload)
            await server.start()
            self._server = server
        self._listen = wanted

    def _follow(self, config: Config) -> None:
        """Start, change and stop monitors until they are those of the configuration."""
        if self._group is None:
            raise RuntimeError("the app is not running")
        for name in self._monitors.keys() - config.databases.keys():
            _, task = self._monitors.pop(name)
            task.cancel()
        step = min(config.monitor.interval, SPREAD) / len(config.databases)
        monitors = {}
        for place, name in enumerate(config.databases):
            wanted = watched(config, name)
            if name in self._monitors:
                monitors[name] = self._monitors[name]
                monitors[name][0].reconfigure(wanted)
            else:
                monitor = Monitor(wanted, delay=(place * step).total_seconds())
                monitors[name] = (monitor, self._group.create_task(monitor.run(), name=f"monitor {name}"))
        self._monitors = monitors

    def _view(self) -> View:
        return View(statuses=self.statuses(), config_loaded=self._loaded, config_loaded_at=self._loaded_at)
