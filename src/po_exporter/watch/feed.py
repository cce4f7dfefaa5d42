"""The change feed: a temporary logical replication slot, read over plain SQL on a connection of its own.

Each rule here was paid for: a slot does not know what a snapshot sees, so that the keys of a transaction wait until the
poll's snapshot sees it; the poll takes its snapshot first, then writes a barrier and reads; and whatever goes wrong
ends the slot, so that a new baseline follows.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from po_exporter import sql
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.session import Connection, Session, Target
from po_exporter.errors import DatabaseError, NoRight, StatementTimeout, Unreachable
from po_exporter.mapping import SchemaMapping
from po_exporter.sql import CheckFile
from po_exporter.watch.changes import Changes, Columns
from po_exporter.watch.pgoutput import Begin, Change, Commit, Relation, Truncate, Undecodable, decode
from po_exporter.watch.readiness import PUBLICATION, Facts, lacks

log = structlog.get_logger()

START_TIMEOUT = timedelta(seconds=60)
"""For the slot, which waits for every transaction that is writing, and then for the last of those to become visible."""
READ_TIMEOUT = timedelta(seconds=5)
"""The poll's own session idles meanwhile, in a transaction: the server ends it soon after (IDLE_IN_TRANSACTION)."""
LEAST_IDLE = timedelta(seconds=60)
"""The server ends a feed that has not been read for this long, or three intervals: a frozen process keeps no WAL."""
NUDGE_FROM = 2**20
"""Bytes that a reading decodes again beyond which the server is asked to help."""
OLDER_NUDGE_FROM, NUDGE_EVERY, NUDGE_TIMEOUT = 8 * 2**20, 60.0, timedelta(seconds=1)
"""Before PostgreSQL 16 that takes a connection of its own: from more bytes on, so many seconds apart."""
ROWS_A_FETCH = 1000
MOST_KEYS = 200_000
"""Beyond this a full check costs less than what the keys take: the slot is dropped, and a baseline follows."""


ENDED = "the feed's session was ended"


class FeedLost(Exception):
    """There is no feed, or no more: why, in one sentence."""


@dataclass(frozen=True, slots=True)
class Visible:
    """What a snapshot sees, as pg_current_snapshot() has it: 64-bit transaction ids."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Visible:
        """From ``xmin:xmax:xip,xip``."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(xid) for xid in running.split(",") if xid))

    def sees(self, xid: int) -> bool:
        """Whether the transaction with these low 32 bits is seen; of all that end so, the nearest is meant."""
        distance = (xid - self.xmax) & 0xFFFFFFFF
        whole = self.xmax + (distance - 2**32 if distance >= 2**31 else distance)
        return whole < self.xmax and whole not in self.running


@dataclass(frozen=True, slots=True)
class Transaction:
    """One that was decoded."""

    xid: int
    changes: Changes


@dataclass
class Feed:
    """The feed of one database: started once, read at each poll, closed on the first trouble.

    ``carried`` counts the transactions that had to wait for a later snapshot. ``fingerprint`` is that of the catalogs
    under which its preflight passed; under another one its changes are not to be believed.
    """

    target: Target
    mapping: SchemaMapping
    checks: Sequence[CheckFile]
    interval: timedelta
    pending: list[Transaction] = field(default_factory=list)
    carried: int = 0
    lag_bytes: int = 0
    fingerprint: str | None = None
    _session: Session = field(init=False)
    _slot: str = field(init=False)
    _connection: Connection | None = None
    _columns: Columns | None = None
    _looked_up: set[str] = field(default_factory=set)
    _nudge_at: float = 0.0
    _relations: dict[int, Relation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._session = Session(self.target)
        self._slot = f"po_exporter_{secrets.token_hex(6)}"

    async def start(self) -> None:
        """Make the slot, and wait until every transaction that it may have missed is one that all snapshots see.

        Raises FeedLost with what is lacking, or who holds it up. Takes up to twice START_TIMEOUT.
        """
        async with self._all_or_nothing():
            await self._start()

    async def read(self, visible: Visible) -> Changes:
        """What was committed since the last reading, as far as that snapshot sees it; the rest waits for a later one.

        Raises FeedLost; the slot is then gone.
        """
        async with self._all_or_nothing(), asyncio.timeout(READ_TIMEOUT.total_seconds()):
            connection = self._connection
            if connection is None or connection.is_closed():  # another one would have no slot
                raise FeedLost(ENDED)
            await connection.fetch(sql.read("feed/barrier.sql"))
            await self._read(connection)
            await self._weigh(connection)
        seen = Changes()
        waiting = []
        for transaction in self.pending:
            if visible.sees(transaction.xid):
                seen.add(transaction.changes)
            else:
                waiting.append(transaction)
        self.carried += len(waiting)
        self.pending = waiting
        return seen

    def covers(self, check: CheckFile) -> bool:
        """Whether what the feed yields is enough for a check: its group, if it has one, is looked up by an index."""
        column = check.group and self.mapping.orders.columns.get(check.group.removeprefix("orders."))
        return not check.group or bool(column and column.text in self._looked_up)

    async def close(self) -> None:
        """End the connection, and the slot with it."""
        await self._session.close()

    @asynccontextmanager
    async def _all_or_nothing(self) -> AsyncIterator[None]:
        """Whatever goes wrong inside ends the session, and the slot with it. Known errors become FeedLost."""
        try:
            yield
        except BaseException as error:
            await self.close()
            if isinstance(error, Undecodable):
                raise FeedLost(str(error)) from None
            if isinstance(error, (*DRIVER_ERRORS, DatabaseError)):
                why = translate(error)
                under_way = self._connection is not None and not isinstance(error, TimeoutError)
                ended = under_way and isinstance(why, Unreachable)
                raise FeedLost(f"{ENDED}: {why}" if ended else str(why)) from None
            raise

    async def _start(self) -> None:
        connection = await self._session.connect()
        await self._check(connection)  # before anything is set: a pooler would lend that to others
        idle = max(LEAST_IDLE, 3 * self.interval)
        settings = {
            "statement_timeout": START_TIMEOUT,
            "idle_session_timeout": idle,
            "idle_in_transaction_session_timeout": idle,
        }
        statements = [f"SET {name} = {value // timedelta(milliseconds=1)}" for name, value in settings.items()]
        # The barrier has to be flushed here, and waits for no standby.
        statements += ["SET synchronous_commit = local", "SET datestyle = 'ISO, YMD'", "SET timezone = 'UTC'"]
        # Two floating numbers are the same when their texts are.
        statements += ["SET extra_float_digits = 1", "SET application_name = 'po-exporter feed'"]
        await _execute(connection, "; ".join(statements))
        try:
            await _fetch(connection, "feed/create_slot.sql", self._slot)
        except StatementTimeout:
            blocker = await connection.fetchval(sql.read("feed/blocker.sql"))
            raise FeedLost(f"making the slot waits for {blocker or 'a transaction that has ended by now'}") from None
        except NoRight as error:
            raise FeedLost(f"{error}: ALTER ROLE ... REPLICATION, or what a managed service grants instead") from None
        await self._settle(connection)
        await _execute(connection, f"SET statement_timeout = {READ_TIMEOUT // timedelta(milliseconds=1)}")
        self._connection = connection

    async def _check(self, connection: Connection) -> None:
        orders, positions = self.mapping.orders.table, self.mapping.positions.table
        names = (orders.schema, orders.name, positions.schema, positions.name)
        # Before the preflight: what changes after this, the first poll's own fingerprint shows.
        self.fingerprint = (await _fetch(connection, "feed/mark.sql", *names, PUBLICATION))[0]["fingerprint"]
        (row,) = await _fetch(connection, "feed/ready.sql", *names, PUBLICATION)
        if row["pid"] != connection.get_server_pid():
            raise FeedLost("the feed needs a session of its own: set direct_dsn or feed_dsn past the pooler")
        facts = Facts.parse(dict(row))
        lacking = [str(lack) for lack in lacks(facts, self.mapping)]
        if lacking:
            raise FeedLost("; ".join(lacking))
        oids = {role: int(table["oid"]) for role, table in facts.tables.items()}
        self._columns = Columns.of(self.mapping, oids, self.checks)
        types, indexed = facts.tables["orders"]["types"], facts.tables["orders"]["indexed"] or []
        groups = {group.column for group in self._columns.groups}
        self._looked_up = groups & {name for name in indexed if types[name] in ("text", "character varying")}

    async def _settle(self, connection: Connection) -> None:
        """A transaction that was being committed as the slot was made may be in neither the slot nor a snapshot."""
        ours = (await _fetch(connection, "feed/xid.sql"))[0][0]
        deadline = datetime.now(UTC) + START_TIMEOUT
        pause = 0.01
        while (await _fetch(connection, "feed/xmin.sql"))[0][0] < ours:
            if datetime.now(UTC) > deadline:
                blocker = await connection.fetchval(sql.read("feed/blocker.sql"))
                raise FeedLost(f"the feed waits for {blocker}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    async def _read(self, connection: Connection) -> None:
        """Decode what the slot holds, in bounded pieces, into ``pending``."""
        columns, changes, xid = self._columns, Changes(), 0
        if columns is None:
            raise Undecodable("the feed was not started")
        keys = sum(len(transaction.changes) for transaction in self.pending)
        committed = datetime.min.replace(tzinfo=UTC)
        async with connection.transaction():
            cursor = await connection.cursor(sql.read("feed/read.sql"), self._slot, PUBLICATION)
            while rows := await cursor.fetch(ROWS_A_FETCH):
                for row in rows:
                    match decode(row["data"]):
                        case Begin() as begin:
                            changes, xid, committed = Changes(), begin.xid, begin.committed
                        case Relation() as relation:
                            self._relations[relation.oid] = relation
                        case Change() as change:
                            columns.collect(changes, self._relation(change.oid), change, committed)
                        case Truncate() as truncate:
                            changes.truncated |= columns.truncates(truncate)
                        case Commit():
                            if len(changes) or changes.truncated:  # servers before 15 tell of empty ones, too
                                self.pending.append(Transaction(xid, changes))
                            keys += len(changes)
                            changes = Changes()
                if keys + len(changes) > MOST_KEYS:
                    raise Undecodable(f"more than {MOST_KEYS:,} keys changed at once")

    async def _weigh(self, connection: Connection) -> None:
        """See how much each reading decodes again. It falls by itself where others write much; elsewhere we ask."""
        self.lag_bytes = await connection.fetchval(sql.read("feed/lag.sql"), self._slot) or 0
        if connection.get_server_version().major >= 16:
            if self.lag_bytes >= NUDGE_FROM and await connection.fetchval(sql.read("feed/may_nudge.sql")):
                await connection.fetch(sql.read("feed/nudge.sql"))
            return
        if self.lag_bytes < OLDER_NUDGE_FROM or time.monotonic() < self._nudge_at:
            return
        self._nudge_at = time.monotonic() + NUDGE_EVERY
        # Making a slot has the same effect on older servers. It needs a connection of its own, for a moment.
        helper = Session(self.target)
        try:
            other = await helper.connect()
            await _execute(other, f"SET statement_timeout = {NUDGE_TIMEOUT // timedelta(milliseconds=1)}")
            await _fetch(other, "feed/create_slot.sql", f"{self._slot}_nudge")
        except DatabaseError as error:  # no slot is free, or somebody writes for long: it was worth a try
            log.info("feed_not_nudged", database=self.target.name, message=str(error))
        finally:
            await helper.close()

    def _relation(self, oid: int) -> Relation:
        if oid not in self._relations:
            raise Undecodable(f"a change of a table that was not described before: {oid}")
        return self._relations[oid]


async def _execute(connection: Connection, statements: str) -> None:
    try:
        await connection.execute(statements)
    except DRIVER_ERRORS as error:
        raise translate(error) from None


async def _fetch(connection: Connection, name: str, *arguments: object) -> list[asyncpg.Record]:
    try:
        return await connection.fetch(sql.read(name), *arguments)
    except DRIVER_ERRORS as error:
        raise translate(error) from None
