"""One connection to one database: opened when it is needed, given up when it is of no more use, and never left behind.

A transaction here is a snapshot: REPEATABLE READ, READ ONLY, with every deadline set inside it before anything takes
the snapshot. ``SET LOCAL`` and not startup parameters, because a transaction pooler may drop or mix those up. One that
writes is READ COMMITTED instead: what it looks at again, it sees as it is by then.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import asyncpg

from po_exporter import sql
from po_exporter.database.catalog import Catalog, quote_table
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.dsn import Dsn
from po_exporter.errors import (
    CredentialsUnreadable,
    DatabaseError,
    LockTimeout,
    QueryFailed,
    StatementTimeout,
    Unreachable,
)
from po_exporter.mapping import SchemaMapping
from po_exporter.secret import Secret

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to stand, where the DSN names no connect_timeout."""
GOODBYE_TIMEOUT = 1.0
"""Seconds that closing may take; it includes the cancellation of what still runs on the server."""
CLIENT_CHECK = timedelta(milliseconds=500)
"""How often the server looks, while a statement runs, whether we are still there: a request to cancel can come too
early and be lost, and a process that is killed sends none."""
IDLE_IN_TRANSACTION = timedelta(seconds=10)
"""The server ends a session that freezes inside a snapshot; between two statements we need milliseconds."""
OLDEST_SERVER = 14


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"  # generic only in its stubs


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database is, and who we are there. Both secrets are read again at each connect."""

    name: str
    dsn: Secret
    password: Secret | None = None

    @property
    def user(self) -> str:
        """Who logs in there. Raises CredentialsUnreadable."""
        try:
            return Dsn.parse(self.dsn.reveal()).user
        except ValueError as error:
            raise CredentialsUnreadable(f"databases.{self.name}.dsn: {error}") from None

    def is_at(self, other: Target) -> bool:
        """Whether it is the same database at the same address, whoever logs in there, and how."""
        try:
            return Dsn.parse(self.dsn.reveal()).place == Dsn.parse(other.dsn.reveal()).place
        except (ValueError, CredentialsUnreadable):
            return self.dsn == other.dsn


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one statement, one wait for a lock and a whole poll may take."""

    statement: timedelta
    lock: timedelta
    poll: timedelta


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of the database. ``as_of`` is its clock at the query that took the snapshot.

    ``why_unlocked`` says why the tables are not locked, where that is for another reason than time; else it is None.
    ``kept`` is the version of the sidecar's own schema, None where there is none that could be written.
    """

    connection: Connection
    as_of: datetime
    standby: bool
    kept: int | None
    catalog: Catalog
    why_unlocked: str | None
    started: float
    limits: Limits

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of one query. Raises DatabaseError; the snapshot is then of no more use outside a savepoint."""
        try:
            return await self.connection.fetch(query, *arguments)
        except DRIVER_ERRORS as error:
            raise translate(error) from None

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What fails inside, unless it ends the session, leaves the snapshot as it was."""
        await _execute(self.connection, "SAVEPOINT apart")
        try:
            yield
        except DatabaseError as error:
            if not error.ends_poll:
                await _execute(self.connection, "ROLLBACK TO SAVEPOINT apart")
            raise
        await _execute(self.connection, "RELEASE SAVEPOINT apart")

    async def allow(self, longest: timedelta) -> None:
        """Set the statement timeout for what comes next."""
        await _execute(self.connection, f"SET LOCAL statement_timeout = {_milliseconds(longest)}")

    async def workers(self, *, allowed: bool) -> None:
        """Whether parallel workers may help from here on. Starting them takes longer than what few rows take."""
        await _execute(
            self.connection, f"SET LOCAL max_parallel_workers_per_gather {'TO DEFAULT' if allowed else '= 0'}"
        )

    @property
    def remaining(self) -> timedelta:
        """What is left of the poll's time."""
        return self.limits.poll - timedelta(seconds=time.monotonic() - self.started)


class Session:
    """One connection at most; not to be used by two tasks at once."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._connection: Connection | None = None
        self._backend: tuple[str, str] | None = None
        self._given_up: list[tuple[str, str]] = []
        self._looks_for_us = True

    @property
    def direct(self) -> bool:
        """Whether the server's session is ours alone: no pooler lends it to others between transactions."""
        return self._backend is not None

    async def connect(self) -> Connection:
        """The connection, opened if there is none. Raises DatabaseError."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        self._connection = None
        try:
            dsn = Dsn.parse(self.target.dsn.reveal())
            password = self.target.password.reveal() if self.target.password else None
            arguments: dict[str, Any] = {"timeout": CONNECT_TIMEOUT, **dsn.connect_arguments(password)}
        except ValueError as error:
            raise CredentialsUnreadable(f"databases.{self.target.name}.dsn: {error}") from None
        try:
            connection: Connection = await asyncpg.connect(**arguments, statement_cache_size=0)
        except DRIVER_ERRORS as error:
            raise translate(error) from None
        except UnicodeError:
            raise Unreachable("cannot reach the server: its name is none that can be looked up") from None
        except (ValueError, LookupError, AttributeError):  # a version or an encoding that nobody has heard of
            raise Unreachable("what answers there is no PostgreSQL server that the driver understands") from None
        self._connection = connection
        if connection.get_server_version().major < OLDEST_SERVER:
            await self.close()
            raise QueryFailed(
                f"the server is PostgreSQL {connection.get_server_version().major}; 14 is the oldest supported"
            )
        if self._given_up:
            pids, starts = zip(*self._given_up, strict=True)
            self._given_up = []
            try:
                await connection.fetch(sql.read("reap.sql"), list(pids), list(starts), 0)
            except DRIVER_ERRORS as error:
                await self.close()
                raise translate(error) from None
        return connection

    @asynccontextmanager
    async def snapshot(
        self, limits: Limits, mapping: SchemaMapping, *, writes: bool = False
    ) -> AsyncIterator[Snapshot]:
        """A snapshot of the mapping's two tables; or a transaction that ``writes``, where each statement has its own.

        Raises DatabaseError. Whatever goes wrong in it, the server is left without our transaction: rolled back, or
        its query cancelled and the connection closed.
        """
        started = time.monotonic()
        reused = self._connection
        connection = await self.connect()
        try:
            try:
                why_unlocked = await self._begin(connection, limits, mapping, writes=writes)
            except Unreachable:
                if connection is not reused:
                    raise
                # Its end went unnoticed since the last snapshot; that says nothing of the database as it is now.
                await self.close()
                connection = await self.connect()
                why_unlocked = await self._begin(connection, limits, mapping, writes=writes)
            orders, positions = mapping.orders.table, mapping.positions.table
            row = await connection.fetchrow(
                sql.read("introspect.sql"), orders.schema, orders.name, positions.schema, positions.name
            )
            if row is None:  # a query without FROM has one row; the type does not say so
                raise QueryFailed("the catalogs gave no answer")
            pid = row["pid"]
            # Through a pooler the server's session belongs to others, too: it is not ours to end.
            direct = pid == connection.get_server_pid() and row["backend_start"]
            self._backend = (str(pid), row["backend_start"].isoformat()) if direct else None
            yield Snapshot(
                connection, row["as_of"], row["standby"], row["kept"], Catalog.parse(row["tables"]), why_unlocked,
                started, limits,
            )  # fmt: skip
            await _execute(connection, "COMMIT")
        except DatabaseError as error:
            await (self.close() if error.ends_poll else self._roll_back(connection))
            raise
        except DRIVER_ERRORS as error:
            ours = translate(error)
            await (self.close() if ours.ends_poll else self._roll_back(connection))
            raise ours from None
        except BaseException:  # cancelled, above all: nothing of ours may go on running on the server
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connection, cancelling on the server what still runs. Bounded in time; never raises."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            await connection.close(timeout=GOODBYE_TIMEOUT)
        except DRIVER_ERRORS:  # it said no goodbye: remember its backend, and end that when we are back
            connection.terminate()
            if self._backend:
                self._given_up.append(self._backend)

    async def _begin(
        self, connection: Connection, limits: Limits, mapping: SchemaMapping, *, writes: bool
    ) -> str | None:
        """Begin, with deadlines, then locks; why there are none, or None."""
        settings = {
            "statement_timeout": _milliseconds(limits.statement),
            "lock_timeout": _milliseconds(limits.lock),
            "idle_in_transaction_session_timeout": _milliseconds(min(IDLE_IN_TRANSACTION, limits.poll)),
            "extra_float_digits": 1,  # the text of a floating number has all its digits
            "jit": "off",  # compiling a poll's statement takes longer than running it
            "application_name": "'po-exporter'",
        }
        if connection.get_server_version().major >= 17:
            # The server's own bound on the whole, should this process freeze; a second later than ours.
            settings["transaction_timeout"] = _milliseconds(limits.poll + timedelta(seconds=1))
        if self._looks_for_us:
            settings["client_connection_check_interval"] = _milliseconds(CLIENT_CHECK)
        isolation = "READ COMMITTED READ WRITE" if writes else "REPEATABLE READ READ ONLY"
        statements = [f"BEGIN ISOLATION LEVEL {isolation}"]
        statements += [f"SET LOCAL {name} = {value}" for name, value in settings.items()]
        statements += ["SAVEPOINT locks"]
        try:
            await _execute(connection, "; ".join(statements))
        except QueryFailed:
            if not self._looks_for_us:
                raise
            self._looks_for_us = False  # a server on Windows cannot
            await _execute(connection, "ROLLBACK")
            return await self._begin(connection, limits, mapping, writes=writes)
        tables = ", ".join(quote_table(table) for table in (mapping.orders.table, mapping.positions.table))
        try:
            # TRUNCATE and rewrites are not MVCC-safe: without this an old snapshot would see an empty table.
            await _execute(connection, f"LOCK TABLE {tables} IN ACCESS SHARE MODE")
        except (LockTimeout, StatementTimeout) as error:
            raise LockTimeout(
                f"{_names(mapping)} stayed locked for longer than monitor.lock_timeout: {error}"
            ) from None
        except DatabaseError as error:
            if error.ends_poll:
                raise
            await _execute(connection, "ROLLBACK TO SAVEPOINT locks")
            return str(error)
        return None

    async def _roll_back(self, connection: Connection) -> None:
        try:
            await connection.execute("ROLLBACK", timeout=GOODBYE_TIMEOUT)
        except DRIVER_ERRORS:
            await self.close()


async def _execute(connection: Connection, statements: str) -> None:
    """Run statements of our own making by the simple protocol, which prepares nothing and takes no snapshot."""
    try:
        await connection.execute(statements)
    except DRIVER_ERRORS as error:
        raise translate(error) from None


def _milliseconds(value: timedelta) -> int:
    """Whole milliseconds for SET, at least one: 0 would mean no limit. PostgreSQL takes 31 bits."""
    return min(max(1, round(value / timedelta(milliseconds=1))), 2**31 - 1)


def _names(mapping: SchemaMapping) -> str:
    return f"{mapping.orders.table} or {mapping.positions.table}"
