"""A TCP proxy that breaks the wire between the program and what it talks to, as real networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from parts.database import Database

CHUNK = 65_536


class Proxy:
    """Passes bytes on, later or not at all. It works in the test's own event loop: the test must await, not block."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.port = 0
        self.connections = 0
        """How many it has accepted so far."""
        self._delay = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        """The database's owner, through the proxy."""
        return self._through(self.database.dsn)

    @property
    def reader_dsn(self) -> str:
        """The role `po_reader`, through the proxy."""
        return self._through(self.database.reader_dsn)

    def black_hole(self) -> None:
        """Nothing arrives any more, in either direction, and nobody is told: connections stay open."""
        self._open.clear()

    def reset(self) -> None:
        """Every connection ends with RST on both sides, as when a host reboots. New ones are served."""
        for writer in self._writers:
            # A linger time of zero makes close() send RST instead of FIN.
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def latency(self, seconds: float) -> None:
        """Every chunk arrives this much later, in each direction."""
        self._delay = seconds

    def heal(self) -> None:
        """A plain wire again. What was held back arrives now."""
        self._delay = 0.0
        self._open.set()

    def _through(self, dsn: str) -> str:
        return dsn.replace(f":{self.database.server.port}/", f":{self.port}/")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._writers.add(writer)
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.database.server.port)
            ends.append(far_writer)
            self._writers.add(far_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, far_writer))
                both.create_task(self._pass_on(far_reader, writer))
        except* OSError:
            pass  # an end that went away is what this proxy is for; the other end is told below
        finally:
            for end in ends:
                end.close()
                self._writers.discard(end)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(CHUNK):
            await asyncio.sleep(self._delay)
            await self._open.wait()
            sink.write(chunk)
            await sink.drain()
        await self._open.wait()
        sink.close()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def running_proxy(database: Database) -> AsyncIterator[Proxy]:
    """A proxy in front of the server of ``database``, gone with its connections when the context ends."""
    proxy = Proxy(database)
    server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy._end()
