"""PgBouncer in transaction mode: a session of the client is not a session of the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from parts.database import Database
from parts.machine import free_port, give_away, program, unprivileged, unprivileged_directory
from parts.postgres import ADMIN, PASSWORDS, READER
from parts.waiting import end, until

CONFIG = """
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = scram-sha-256
auth_file = {directory}/users
max_client_conn = 100
default_pool_size = 5
"""


class Pooler:
    """A pooler in front of the server of one test's database."""

    def __init__(self, database: Database, port: int) -> None:
        self.database = database
        self.port = port

    @property
    def dsn(self) -> str:
        """The database's owner, through the pooler."""
        return self._through(self.database.dsn)

    @property
    def reader_dsn(self) -> str:
        """The role `po_reader`, through the pooler."""
        return self._through(self.database.reader_dsn)

    def _through(self, dsn: str) -> str:
        return dsn.replace(f":{self.database.server.port}/", f":{self.port}/")


@asynccontextmanager
async def running_pooler(database: Database) -> AsyncIterator[Pooler]:
    """PgBouncer as a process of its own, gone when the context ends."""
    pgbouncer = program("pgbouncer")
    port = free_port()
    with unprivileged_directory() as directory:
        config, users, log = directory / "pgbouncer.ini", directory / "users", directory / "log"
        config.write_text(CONFIG.format(server_port=database.server.port, port=port, directory=directory))
        users.write_text("".join(f'"{role}" "{PASSWORDS[role]}"\n' for role in (ADMIN, READER)))
        for file in (config, users):
            give_away(file)
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                pgbouncer, config, stdout=output, stderr=output, cwd="/", **unprivileged()
            )

        async def listens() -> bool:
            assert process.returncode is None, f"PgBouncer ended at once: {log.read_text()}"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        try:
            await until(listens, what="PgBouncer to listen")
            yield Pooler(database, port)
        finally:
            await end(process)
