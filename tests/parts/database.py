"""One database of a test: made from the template or empty, and dropped afterwards."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from parts.postgres import READER, TEMPLATE, Server

END_OTHERS = r"""
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid();
SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = current_database() \gexec
"""


class Database:
    """A database with an administrator's connection to set it up and look into it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self._connection: asyncpg.Connection | None = None

    @property
    def dsn(self) -> str:
        """Its owner, who is the server's administrator."""
        return self.server.dsn(self.name)

    @property
    def reader_dsn(self) -> str:
        """The role `po_reader`, which may do nothing but read both tables."""
        return self.server.dsn(self.name, READER)

    def create_role(self, *grants: str) -> str:
        """The DSN of a role of this test's own that may log in and has ``grants`` here ("SELECT ON orders")."""
        return self.server.create_role(f"role_{secrets.token_hex(6)}", "a secret", *grants, database=self.name)

    async def execute(self, sql: str, *args: object) -> str:
        """Run one statement with arguments, or several without; the command tag."""
        return await (await self.connection()).execute(sql, *args)

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """All rows of a query."""
        return await (await self.connection()).fetch(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:
        """The first column of the first row; None without a row."""
        return await (await self.connection()).fetchval(sql, *args)

    async def connection(self) -> asyncpg.Connection:
        """The administrator's connection, a new one where the server has ended the last."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.dsn)
        return self._connection

    def end_others(self) -> None:
        """End all other sessions here and what they have prepared: nothing is held by what a test has left."""
        self.server.psql(END_OTHERS, self.name)

    async def close(self) -> None:
        """Let the connection go. A later query opens another."""
        if self._connection is not None:
            await self._connection.close(timeout=5)
            self._connection = None


@asynccontextmanager
async def fresh_database(server: Server, template: str = TEMPLATE) -> AsyncIterator[Database]:
    """A database for one test. A server that the test stopped runs again afterwards."""
    server.start()
    name = f"test_{secrets.token_hex(6)}"
    server.psql(f"CREATE DATABASE {name} TEMPLATE {template}")
    database = Database(server, name)
    try:
        yield database
    finally:
        server.start()
        await database.close()
        server.psql(f"{END_OTHERS}\\connect postgres\nDROP DATABASE {name} WITH (FORCE)", name)
