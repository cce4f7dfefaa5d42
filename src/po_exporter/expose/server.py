"""The HTTP server's life: it listens, renews its certificates, and stops within bounds."""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from po_exporter.errors import ConfigError, Fault, UsageError
from po_exporter.expose.access import Access, TokensFile
from po_exporter.expose.routes import Routes
from po_exporter.expose.tls import server_context
from po_exporter.expose.view import View

__all__ = ["Listen", "Server", "View"]

# Every bound on a client, in seconds and bytes.
IDLE_SECONDS = 75.0  # a connection that has sent no whole request; longer than Prometheus' usual interval
HANDSHAKE_SECONDS = 10.0
LINGER_SECONDS = 1.0  # for a body that nobody asked for
STOP_SECONDS = 3.0  # for answers under way when the server stops
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
    """Answers from the view that ``view()`` gives at that moment; ``reload()`` loads the configuration again."""

    def __init__(self, listen: Listen, view: Callable[[], View], reload: Callable[[], Awaitable[None]]) -> None:
        """Opens nothing yet. ``reload`` raises ConfigError with what is wrong, and leaves the old one in use."""
        self._listen = listen
        self._view = view
        self._reload = reload
        self._runner: web.AppRunner | None = None
        self._listening: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listens. Raises ConfigError (tokens, certificates) or UsageError (address) when it cannot."""
        listen = self._listen
        context = _tls_context(listen)
        tokens = TokensFile(listen.tokens_file) if listen.tokens_file else None
        # Without tokens nothing that changes state exists.
        reload = self._reload if listen.reload and tokens else None
        routes = Routes(self._view, Access(tokens), reload, guarded=tokens is not None, external_url=listen.external_url)
        self._runner = web.AppRunner(
            routes.application(),
            access_log=None,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            shutdown_timeout=STOP_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEADER,
        )
        await self._runner.setup()
        try:
            self._listening = [await self._serve(context, host=listen.host or None, port=listen.port)]
        except OSError as error:
            await self.stop()
            raise UsageError(f"Cannot listen on {listen.host}:{listen.port}: {_why_not(error)}.") from None

    async def stop(self) -> None:
        """Stops listening, gives answers under way a few seconds, and closes every connection."""
        for listening in self._listening:
            listening.close()
        self._listening = []
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def reload_certificates(self) -> None:
        """Uses what the certificate files hold now, for new connections. Raises ConfigError, and keeps the old ones."""
        context = _tls_context(self._listen)
        if context is None:
            return
        # Authorities can be added to a context that is in use, but not taken away: a new one takes over the same
        # sockets, through descriptors of its own, so that no connection is turned away meanwhile.
        old = self._listening
        self._listening = [await self._serve(context, sock=socket.dup()) for each in old for socket in each.sockets]
        for listening in old:
            listening.close()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if not self._listening:
            return self._listen.port
        return int(self._listening[0].sockets[0].getsockname()[1])

    async def _serve(self, context: ssl.SSLContext | None, **where: object) -> asyncio.Server:
        if self._runner is None or self._runner.server is None:
            raise RuntimeError("the server has not been started")
        handshake = HANDSHAKE_SECONDS if context else None
        loop = asyncio.get_running_loop()
        return await loop.create_server(self._runner.server, ssl=context, ssl_handshake_timeout=handshake, **where)


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
