"""A database that a change feed can follow, and an incremental mode that is checked at every poll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from asking import watched
from parts.database import Database
from parts.waiting import until
from po_exporter.database.session import Session, Target
from po_exporter.mapping import GAL_FRIDAY, SchemaMapping
from po_exporter.secret import Secret
from po_exporter.sql import LINK_RATE
from po_exporter.watch.answer import Answer, Question
from po_exporter.watch.asking import Asking
from po_exporter.watch.incremental import Incremental
from po_exporter.watch.monitor import Watched
from po_exporter.watch.poll import Outcome, Poller
from rows import Rules

PREPARE = """
ALTER TABLE orders REPLICA IDENTITY FULL;
ALTER TABLE positions REPLICA IDENTITY FULL;
CREATE PUBLICATION po_exporter FOR TABLE orders, positions;
"""
BUDGET = 64 * 2**20


async def prepare(database: Database) -> str:
    """Make the database ready for the feed; the DSN of a role that may replicate and nothing else."""
    await database.execute(PREPARE)
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
    ) -> None:
        self.watched: Watched = watched(dsn, mapping, rules)
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

    async def poll(self) -> Outcome:
        """One poll. What it says wrong is in ``incremental.wrong``."""
        return await self.poller.poll(self.watched.questions)

    async def follow(self) -> Outcome:
        """Poll until the feed answers, and that answer."""
        last: list[Outcome] = []

        async def follows() -> bool:
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
