"""A database that a change feed can follow, and an incremental mode that is checked at every poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg

from asking import watched
from parts.database import Database
from parts.waiting import until
from po_exporter.database.catalog import quote, quote_table
from po_exporter.database.session import Session, Target
from po_exporter.mapping import GAL_FRIDAY, SchemaMapping
from po_exporter.secret import Secret
from po_exporter.sql import LINK_RATE, CheckFile
from po_exporter.watch.answer import Answer, Question
from po_exporter.watch.asking import Asking
from po_exporter.watch.incremental import Incremental
from po_exporter.watch.poll import Outcome, Poller
from po_exporter.watch.watched import Watched
from rows import Rules

PREPARE = """
ALTER TABLE {orders} REPLICA IDENTITY FULL;
ALTER TABLE {positions} REPLICA IDENTITY FULL;
"""
PUBLISH = "CREATE PUBLICATION po_exporter FOR TABLE {orders}, {positions};"
INDEXES = """
CREATE UNIQUE INDEX ON {orders} ({order_id});
CREATE INDEX ON {orders} ({link});
CREATE INDEX ON {orders} ({created_at});
CREATE UNIQUE INDEX ON {positions} ({position_id});
"""
BUDGET = 64 * 2**20
_open: list[Following] = []


async def prepare(
    database: Database, mapping: SchemaMapping = GAL_FRIDAY, *, indexes: bool = False, publish: bool = True
) -> str:
    """Make the database ready for the feed; the DSN of a role that may replicate and nothing else."""
    orders, positions = mapping.orders, mapping.positions
    names = {"orders": quote_table(orders.table), "positions": quote_table(positions.table)}
    names |= {"order_id": quote(orders.columns["id"].text), "link": quote(orders.columns["position_id"].text)}
    names |= {
        "created_at": quote(orders.columns["created_at"].text),
        "position_id": quote(positions.columns["id"].text),
    }
    await database.execute((PREPARE + (INDEXES if indexes else "") + (PUBLISH if publish else "")).format(**names))
    dsn = database.create_role()
    role = dsn.split("//")[1].split(":")[0]
    await database.execute(f'ALTER ROLE "{role}" REPLICATION')
    return dsn


async def slots(database: Database) -> list[str]:
    """The replication slots of this database."""
    rows = await database.fetch(
        "SELECT slot_name FROM pg_replication_slots WHERE database = $1 ORDER BY slot_name", database.name
    )
    return [row["slot_name"] for row in rows]


@dataclass
class Checked(Incremental):
    """Asks everything again in the same snapshot, in full, after each of its answers. ``wrong`` holds what differed."""

    wrong: list[str] = field(default_factory=list)
    compared: int = 0

    async def poll(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer]:
        found = await super().poll(asking, questions)
        if found:
            asked = [question for question in questions if question.name in found]
            truth = await asking.ask(asked)
            self.compared += 1
            self.wrong += [
                f"poll {self.compared}: {name}: {said(found[name])} is {said(truth[name])} in full"
                for name in found
                if said(found[name]) != said(truth[name])
            ]
        return found


def said(answer: Answer) -> object:
    """Everything of an answer that a user can see."""
    if answer.link_rate:
        return answer.link_rate
    evidence = [(each.id, each.since, each.read()) for each in answer.evidence]
    return answer.count, answer.oldest, sorted(answer.identities or []), evidence


class Following:
    """A poller over one database whose incremental mode is checked at every poll."""

    def __init__(
        self,
        dsn: str,
        feed_dsn: str,
        mapping: SchemaMapping = GAL_FRIDAY,
        rules: Rules | None = None,
        *,
        budget: int = BUDGET,
        kind: type[Checked] = Checked,
        checks: Sequence[CheckFile] | None = None,
    ) -> None:
        self.watched: Watched = watched(dsn, mapping, rules, checks=checks)
        self.poller = Poller(Session(self.watched.target), mapping, self.watched.terms)
        self.poller.incremental = self.incremental = kind(
            target=Target("test", Secret(feed_dsn)),
            mapping=mapping,
            questions=tuple(q for q in self.watched.questions if q.file.incremental),
            terms=self.watched.terms,
            interval=timedelta(seconds=1),
            budget=budget,
            watch=self.poller.watch,
        )
        _open.append(self)

    async def poll(self) -> Outcome:
        """One poll. What it says wrong is in ``incremental.wrong``."""
        return await self.poller.poll(self.watched.questions)

    async def follow(self) -> Outcome:
        """Poll until the feed answers, and that answer."""
        last: list[Outcome] = []

        async def follows() -> bool:
            self.incremental._retry_at = 0.0  # at once, whatever the backoff
            last[:] = [await self.poll()]
            return last[0].mode == "incremental"

        await until(follows, what=lambda: f"the feed to stand: {self.incremental.why}")
        return last[0]

    def counts(self, outcome: Outcome) -> dict[str, int]:
        """What is wrong: each check with findings, and how many."""
        answers = {name: answer for name, answer in outcome.answers.items() if isinstance(answer, Answer)}
        return {name: answer.count for name, answer in answers.items() if answer.count and name != LINK_RATE}

    async def close(self) -> None:
        await self.poller.close()


async def close_all() -> None:
    """Close whatever a test that failed has left open: a database with a slot in it cannot be dropped."""
    while _open:
        await _open.pop().close()


@asynccontextmanager
async def lost_standby(database: Database) -> AsyncIterator[None]:
    """The server waits for a standby that never comes: a commit is in the write-ahead log, and no snapshot sees it."""
    connection = await database.connection()
    await connection.execute("SET synchronous_commit = local")
    database.server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
    try:

        async def waits() -> bool:  # the checkpointer tells the others, a moment later
            stalled = await Stalled.begin(database)
            if await stalled.commit():
                await stalled.let_go()
                return True
            return False

        await until(waits, what="commits to wait for a standby")
        yield
    finally:
        database.server.psql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")

        async def forgotten() -> bool:
            return await database.fetchval("SHOW synchronous_standby_names") == ""

        await until(forgotten, what="the server to forget its standby")
        await database.execute("RESET synchronous_commit")


class Stalled:
    """A transaction of its own connection whose commit waits for a standby."""

    def __init__(self, database: Database, connection: asyncpg.Connection) -> None:
        self._database, self._connection = database, connection
        self._commit: asyncio.Task[str] | None = None

    @classmethod
    async def begin(
        cls, database: Database, statements: str = "SELECT pg_logical_emit_message(true, 'test', '')"
    ) -> Stalled:
        """Begin, and write something."""
        connection = await asyncpg.connect(database.dsn)
        await connection.execute("BEGIN")
        await connection.execute(statements)
        return cls(database, connection)

    @property
    def pid(self) -> int:
        return self._connection.get_server_pid()

    async def commit(self) -> bool:
        """Commit; whether that waits."""
        self._commit = asyncio.create_task(self._connection.execute("COMMIT"))

        async def waits_or_ends() -> bool:
            return self._commit.done() or await self._waits()

        await until(waits_or_ends, what="the commit to wait for a standby, or to end")
        if self._commit.done():
            await self._connection.close()
            return False
        return True

    async def abort(self) -> None:
        """End it without a commit."""
        await self._connection.execute("ROLLBACK")
        await self._connection.close()

    async def let_go(self) -> None:
        """From here on it is visible."""
        await self._database.execute("SELECT pg_cancel_backend($1)", self.pid)
        await self._commit
        await self._connection.close()

    async def _waits(self) -> bool:
        return await self._database.fetchval(
            "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", self.pid
        )
