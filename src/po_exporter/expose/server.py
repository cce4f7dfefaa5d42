"""The HTTP server's life: it listens, renews its certificates, and stops within bounds."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from po_exporter.errors import ConfigError, Fault, UsageError
from po_exporter.expose.access import Access, TokensFile, load_tokens
from po_exporter.expose.routes import Actions, Explain, Routes
from po_exporter.expose.tls import server_context
from po_exporter.expose.view import View

log = structlog.get_logger()

__all__ = ["Listen", "Server", "View"]

# Every bound on a client, in seconds and bytes.
IDLE_SECONDS = 75.0  # a connection that has sent no whole request; longer than Prometheus' usual interval
HANDSHAKE_SECONDS = 10.0
LINGER_SECONDS = 1.0  # for a body that nobody asked for
STOP_SECONDS = 0.5  # for answers under way when the server stops
MAX_LINE = MAX_HEADER = 8 * 1024


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the server listens and who may ask. ``port`` 0 takes a free one."""

    host: str
    port: int
    cert_file: Path | None = None
    key_file: Path | None = None
    client_ca_file: Path | None = None
    tokens_file: Path | None = None
    external_url: str | None = None
    reload: bool = False


class Server:
    """Answers from the view that ``view()`` gives at that moment; ``reload()`` loads the configuration again, and
    ``explain()`` says what is known of alerts."""

    def __init__(
        self,
        listen: Listen,
        view: Callable[[], View],
        reload: Callable[[], Awaitable[None]],
        explain: Explain | None = None,
    ) -> None:
        """Opens nothing yet. ``reload`` raises ConfigError with what is wrong, and leaves the old one in use."""
        self._listen = listen
        self._view = view
        self._reload = reload
        self._explain = explain
        self._runner: web.AppRunner | None = None
        self._listening: list[asyncio.Server] = []
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listens. Raises ConfigError (tokens, certificates) or UsageError (address) when it cannot."""
        await self.change(self._listen)

    async def change(self, listen: Listen) -> None:
        """Listens and answers as ``listen`` says from now on. Raises like ``start``, and then goes on as before.

        Answers under way, that to a reload among them, are still given by the old rules. An address that stays is
        kept open all the while.
        """
        context = _tls_context(listen)
        runner = self._runner_for(listen)
        await runner.setup()
        stays = self._listening and (listen.host, listen.port) == (self._listen.host, self._listen.port)
        try:
            listening = await self._take_over(runner, context) if stays else [await _listen(runner, context, listen)]
        except OSError as error:
            await runner.cleanup()
            raise UsageError(f"Cannot listen on {listen.host}:{listen.port}: {_why_not(error)}.") from None
        old, self._runner = self._runner, runner
        self._replace(listening)
        self._listen = listen
        if old:
            task = asyncio.create_task(old.cleanup())
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def reload_certificates(self) -> None:
        """Uses what the certificate files hold now, for new connections. Raises ConfigError, and keeps the old ones."""
        context = _tls_context(self._listen)
        if context and self._runner:
            self._replace(await self._take_over(self._runner, context))

    async def stop(self) -> None:
        """Stops listening, gives answers under way a few seconds, and closes every connection."""
        self._replace([])
        if self._runner:
            await self._runner.cleanup()
            self._runner = None
        await asyncio.gather(*self._leaving)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if not self._listening:
            return self._listen.port
        return int(self._listening[0].sockets[0].getsockname()[1])

    def _runner_for(self, listen: Listen) -> web.AppRunner:
        tokens = TokensFile(listen.tokens_file) if listen.tokens_file else None
        # Without tokens nothing that changes state exists.
        actions = Actions(self._reload if listen.reload else None, self._explain) if tokens else Actions()
        routes = Routes(
            self._view, Access(tokens), actions, guarded=tokens is not None, external_url=listen.external_url
        )
        return web.AppRunner(
            routes.application(),
            access_log=None,
            logger=_defects(),
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            shutdown_timeout=STOP_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEADER,
        )

    async def _take_over(self, runner: web.AppRunner, context: ssl.SSLContext | None) -> list[asyncio.Server]:
        """Listens at the same address, through descriptors of its own, so that no connection is turned away.

        A context that is in use can be given more authorities, but none can be taken from it: hence a new listener.
        """
        sockets = [each.dup() for listening in self._listening for each in listening.sockets]
        return [await _listen(runner, context, self._listen, existing) for existing in sockets]

    def _replace(self, listening: list[asyncio.Server]) -> None:
        old, self._listening = self._listening, listening
        for each in old:
            each.close()


class _Defects(logging.Handler):
    """Hands on what went wrong inside us. A client that sends nonsense has had its answer, and fills no log."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, HttpProcessingError):
            trace = "".join(traceback.format_exception(error)) if error else None
            log.error("request_failed", message=record.getMessage(), traceback=trace)


def _defects() -> logging.Logger:
    logger = logging.Logger("po_exporter.expose", level=logging.WARNING)
    logger.addHandler(_Defects())
    return logger


async def _listen(
    runner: web.AppRunner, context: ssl.SSLContext | None, listen: Listen, existing: socket.socket | None = None
) -> asyncio.Server:
    if runner.server is None:
        raise RuntimeError("the runner has not been set up")
    loop = asyncio.get_running_loop()
    handshake = HANDSHAKE_SECONDS if context else None
    if existing:
        return await loop.create_server(runner.server, sock=existing, ssl=context, ssl_handshake_timeout=handshake)
    host = listen.host or None  # every address of the machine
    return await loop.create_server(runner.server, host, listen.port, ssl=context, ssl_handshake_timeout=handshake)


def faults_of(listen: Listen) -> list[Fault]:
    """What is wrong with the files that the server would read, before it is started."""
    faults: list[Fault] = []
    for attempt in (lambda: _tls_context(listen), lambda: listen.tokens_file and load_tokens(listen.tokens_file)):
        try:
            attempt()
        except ConfigError as error:
            faults += error.faults
    return faults


def _tls_context(listen: Listen) -> ssl.SSLContext | None:
    if listen.cert_file and listen.key_file:
        return server_context(listen.cert_file, listen.key_file, listen.client_ca_file)
    if listen.cert_file or listen.key_file or listen.client_ca_file:
        raise ConfigError([Fault("server.tls", "needs both cert_file and key_file.")])
    return None


def _why_not(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses that port"
    if error.errno == errno.EACCES:
        return "the port needs more rights than this user has"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return error.strerror or str(error)
