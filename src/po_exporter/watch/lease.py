"""Who leads a database: of several replicas the one that holds a session advisory lock, on a connection of its own.

The server ends a session that it has not heard of for as long as a lease takes, so that a leader that is frozen or cut
off loses the lock; its own clock tells it so before anybody else can have it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeAlias

import asyncpg
import structlog

from po_exporter import sql
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.session import CONNECT_TIMEOUT, Connection, Session, Target
from po_exporter.errors import DatabaseError, QueryFailed, Unreachable

log = structlog.get_logger()

SHORTEST = timedelta(seconds=5)
"""A lease takes one interval, and this at least."""
GHOST_TIMEOUT = 1000
"""Milliseconds that the end of a session of our own may take."""
CARRIED_OVER = 0
"""The term of what was known under other settings: it is kept, if nobody else gets the lead meanwhile."""
Heartbeat: TypeAlias = "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]"  # generic only in its stubs
LONGEST_ASK = 5.0
"""Seconds that one statement may take."""
BEATS = 3
"""Heartbeats a lease: one may be late, or lost, without the lead."""


class Lease:
    """The lead of one database, as far as this replica knows; kept by ``run``. ``changed`` is called when it changes.

    ``term`` counts how often it was gained where somebody else may have had it: what was known before is then old.
    ``why`` is why the database could not be reached at the last heartbeat, None where it was; ``led``: by the last
    heartbeat that was answered, the lead was held.
    """

    def __init__(
        self, target: Target, interval: timedelta, changed: Callable[[], None], *, elects: bool = True
    ) -> None:
        """``elects``: there may be other replicas; without, the lead is taken for held, and there is nothing to run."""
        self.term = 0
        self.why: str | None = None
        self.led = False
        self.known = asyncio.Event()
        self._seconds = max(interval, SHORTEST).total_seconds()
        self._session = Session(target)
        self._changed = changed
        self._held: tuple[Connection, Heartbeat] | None = None
        self._backend: tuple[str, str] | None = None
        self._soon = asyncio.Event()
        self._asking, self._busy = asyncio.Lock(), asyncio.Lock()
        self._until = 0.0
        self._others = False
        self._new_term = True
        self._assumed = not elects

    @property
    def holds(self) -> bool:
        """Whether it has the lock, beyond doubt: nobody else can send or write now."""
        return self._assumed or (
            time.monotonic() < self._until and self._held is not None and not self._held[0].is_closed()
        )

    @property
    def leads(self) -> bool:
        """Whether it is the one to poll: it has the lock, or knows of nobody else who could have it."""
        return self.holds or not (self._others or self._expired)

    @property
    def _expired(self) -> bool:
        """Whether it was silent for too long, frozen or starved: who came meanwhile, nobody knows."""
        return 0 < self._until < time.monotonic()

    async def ask(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """One statement on the session that has the lock, within bounds: the next heartbeat waits for it, and for no
        other.

        Raises DatabaseError, and Unreachable where the lead is not held.
        """
        async with self._asking, self._busy:
            if not self.holds:
                raise Unreachable("the lead is not held")
            connection = self._held[0] if self._held else await self._session.connect()
            longest = min(LONGEST_ASK, self._seconds / BEATS)
            try:
                if self._assumed:
                    return await self._ask_apart(connection, longest, query, *arguments)
                return await connection.fetch(query, *arguments, timeout=longest)
            except DRIVER_ERRORS as error:
                raise translate(error) from None

    async def _ask_apart(
        self, connection: Connection, longest: float, query: str, *arguments: object
    ) -> list[asyncpg.Record]:
        """In a transaction that sets for itself what ``_connect`` sets for a session, as a pooler may be in between."""
        milliseconds, done = round(1000 * longest), False
        try:
            await connection.execute(
                f"BEGIN READ WRITE; SET LOCAL statement_timeout = {milliseconds};"
                f" SET LOCAL lock_timeout = {milliseconds}; SET LOCAL synchronous_commit = local",
                timeout=longest,
            )
            rows = await connection.fetch(query, *arguments, timeout=longest)
            await connection.execute("COMMIT", timeout=longest)
            done = True
            return rows
        finally:
            if not done:
                await self._session.close()

    async def run(self) -> None:
        """Get the lead when it is to be had, and keep it, until cancelled. The connection is closed before it ends."""
        led: bool | None = None
        try:
            while not self._assumed:
                self._soon.clear()
                begun = time.monotonic()
                await self._beat()
                self.known.set()
                if led != self.leads:
                    led = self.leads
                    log.info("leading" if led else "following", database=self._session.target.name)
                    self._changed()
                # From beginning to beginning: a slow wire must not let the lease run out between two heartbeats.
                rest = self._seconds / BEATS - (time.monotonic() - begun)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(rest, 0)):
                        await self._soon.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Give up the lead, and close the connection."""
        self._until, self._held = 0.0, None
        await self._session.close()

    async def _beat(self) -> None:
        self._others |= self._expired
        reused = self._held
        try:
            await self._ask()
        except DatabaseError as error:
            await self.close()
            if reused:  # its end says nothing of the database as it is now
                await self._beat()
                return
            if self.why is None:
                log.warning("lead_unknown", database=self._session.target.name, message=str(error))
            self.why = str(error)

    async def _ask(self) -> None:
        """One heartbeat. Raises DatabaseError."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT + self._seconds):
                held = self._held or await self._connect()
            if held is None:
                return
            # It begins a third of the lease after the last one, so that its end leaves some of the lease.
            async with self._busy:
                row = await held[1].fetchrow(self._session.target.name, timeout=self._seconds / 2)
        except DRIVER_ERRORS as error:
            raise translate(error) from None
        if row is None:  # a query without FROM has one row; the type does not say so
            raise QueryFailed("the heartbeat had no answer")
        self.why, self._held, self.led = None, held, row["leads"]
        self._others = row["others"]
        if not row["leads"]:
            self._until, self._new_term = 0.0, True
        else:
            if self._new_term:
                self.term, self._new_term = self.term + 1, False
            # The server counts from when it heard this, so that its end of it comes later.
            self._until = begun + self._seconds

    async def _connect(self) -> tuple[Connection, Heartbeat] | None:
        """A session of our own, or None where there is a pooler: there is no lead to be had then."""
        connection = await self._session.connect()
        if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
            # A lock, and whatever is set, would be some pooled session's, and stay behind there.
            await self._session.close()
            self._assumed, self.why = True, None
            log.warning(
                "no_leader_lock",
                database=self._session.target.name,
                message="a pooler is in between, so that this is taken for the only replica; set direct_dsn past it",
            )
            return None
        milliseconds, seconds = round(1000 * self._seconds), max(1, round(self._seconds / BEATS))
        settings = {
            "idle_session_timeout": milliseconds,
            "statement_timeout": milliseconds,
            # What is kept is written here; by default a reader's sessions may be read-only.
            "default_transaction_read_only": "off",
            # What people are told does not wait for a standby that is lost.
            "synchronous_commit": "local",
            # Where the network is cut, the server notices by these.
            "tcp_user_timeout": milliseconds,
            "tcp_keepalives_idle": seconds,
            "tcp_keepalives_interval": seconds,
            "tcp_keepalives_count": BEATS,
            "application_name": "'po-exporter leader'",
        }
        await connection.execute("; ".join(f"SET {name} = {value}" for name, value in settings.items()))
        if self._backend:  # our own session before this one, which may not have noticed that we are gone
            await connection.fetch(sql.read("reap.sql"), *([each] for each in self._backend), GHOST_TIMEOUT)
        (session,) = await connection.fetch(sql.read("backend.sql"))
        self._backend = session["pid"], session["backend_start"]
        connection.add_termination_listener(lambda _: self._soon.set())
        return connection, await connection.prepare(sql.read("leader.sql"))


class Candidate:
    """One replica's standing for the lead of a database, whatever becomes of its settings. Without a lease it leads."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lease: Lease | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stands: tuple[Target | None, timedelta, bool] | None = None
        self._term: int | None = None

    @property
    def leads(self) -> bool:
        """Whether it is the one to poll."""
        return self._lease is None or self._lease.leads

    @property
    def why(self) -> str | None:
        """Why the database could not be reached at the last heartbeat; None where it was, or without a lease."""
        return self._lease.why if self._lease else None

    @property
    def in_office(self) -> bool:
        """Whether it leads, and what is known was learned in this term."""
        return self._lease is None or (self._lease.leads and self._term in (None, CARRIED_OVER, self._lease.term))

    @property
    def cut_off(self) -> bool:
        """Whether it leads no more, and led when it last reached the database."""
        lease = self._lease
        return bool(lease and not lease.leads and lease.led)

    @property
    def holds(self) -> bool:
        """Whether nobody else can send or write now, beyond doubt."""
        return self.in_office and (self._lease is None or self._lease.holds)

    async def ask(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """One statement on the connection that has the lead. Raises DatabaseError."""
        if not self.in_office or self._lease is None:
            raise Unreachable("the lead is not held")
        return await self._lease.ask(query, *arguments)

    async def stand(self, control: Target | None, interval: timedelta, *, elects: bool) -> None:
        """Stand for the lead that is held at ``control``, or take it where nobody ``elects``; None: there is none."""
        if self._stands == (control, interval, elects):
            return
        await self.close()
        self._stands = (control, interval, elects)
        if control:
            self._lease = Lease(control, interval, self._changed, elects=elects)
        if control and self._lease and elects:
            self._keeping = asyncio.create_task(self._lease.run(), name=f"lease {control.name}")
            self._keeping.add_done_callback(lambda _: self._changed())
            if self._term is not None:
                self._term = CARRIED_OVER

    async def lost_office(self) -> bool:
        """Whether somebody else leads, or has led since this was asked last: what was known is then to be forgotten."""
        if self._lease is None or self._keeping is None:
            return False
        if self._keeping.done():
            self._keeping.result()  # a defect ends the process; else there is but this replica
        await self._lease.known.wait()
        before, leads = self._term, self._lease.leads
        self._term = self._lease.term if leads else None
        return before not in (None, self._term) and not (before == CARRIED_OVER and leads)

    async def close(self) -> None:
        """Give up the lead."""
        keeping, lease = self._keeping, self._lease
        self._keeping, self._lease = None, None
        if keeping:
            keeping.cancel()
            await asyncio.wait([keeping])
        if lease:
            await lease.close()
