"""One poll: the due checks asked in one snapshot, together where that works, apart where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from po_exporter.database.catalog import Catalog
from po_exporter.database.expressions import with_expressions
from po_exporter.database.schema import Presenter
from po_exporter.database.session import Session, Snapshot
from po_exporter.errors import DatabaseError, StatementTimeout
from po_exporter.mapping import SchemaMapping
from po_exporter.model import Mode
from po_exporter.watch.answer import Answer, Question, Terms
from po_exporter.watch.asking import Asking
from po_exporter.watch.incremental import Incremental
from po_exporter.watch.links import LinkWatch
from po_exporter.watch.memory import identity

log = structlog.get_logger()

LEAST_TIME = timedelta(milliseconds=100)
"""Less than this left of the poll's time: a check is not begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one poll brought: for each check that was asked, its answer or why there is none. ``kept`` is that of its
    snapshot."""

    as_of: datetime
    why_unlocked: str | None
    may_write: tuple[str, ...]
    answers: Mapping[str, Answer | DatabaseError]
    mode: Mode = "scan"
    kept: int | None = None


@dataclass
class Poller:
    """Asks one database, and remembers how it is best asked. ``incremental`` None: it scans."""

    session: Session
    mapping: SchemaMapping
    terms: Terms
    watch: LinkWatch = field(default_factory=LinkWatch)
    incremental: Incremental | None = None
    apart: set[str] = field(default_factory=set)
    one_by_one: bool = False
    _seconds: dict[str, float] = field(default_factory=dict)
    _tries: int = 0
    _tried: dict[str, int] = field(default_factory=dict)  # which try was a failed check's last
    _catalog: Catalog | None = None
    _links_error: str | None = None

    async def poll(self, due: Sequence[Question]) -> Outcome:
        """Ask these checks in one snapshot. Raises DatabaseError when the poll as a whole has failed."""
        async with self.session.snapshot(self.terms.limits, self.mapping) as snapshot:
            presenter = Presenter(self.mapping, await self._complete(snapshot), unbounded=self.terms.window is None)
            answers: dict[str, Answer | DatabaseError] = {}
            askable = []
            for question in due:
                obstacle = presenter.obstacle(question.file.needs)
                if obstacle:
                    answers[question.name] = obstacle
                else:
                    askable.append(question)
            asking = Asking(snapshot, presenter, self.terms, self.watch.waited(snapshot.as_of, self.terms.grace))
            followed = await self.incremental.poll(asking, askable) if self.incremental else {}
            answers |= followed
            answers |= await self._ask(asking, [q for q in askable if q.name not in followed])
            if not followed:
                await self._look_after_links(asking, askable, answers)
            tables = snapshot.catalog.tables.items()
            return Outcome(
                as_of=snapshot.as_of,
                why_unlocked=snapshot.why_unlocked,
                may_write=tuple(role for role, table in tables if table.may_write),
                answers=answers,
                mode="incremental" if followed else "scan",
                kept=snapshot.kept,
            )

    @property
    def follows(self) -> frozenset[str]:
        """The checks that are answered at every poll, at the cost of what changed."""
        return self.incremental.follows if self.incremental else frozenset()

    async def still_wrong(self, question: Question, ids: Sequence[str]) -> list[str] | None:
        """Which of these rows a check finds wrong now, however old they are; None where there are too many to tell.

        Raises DatabaseError.
        """
        # A check of all ages has its own idea of what is too old for others.
        terms = replace(self.terms, window=None) if question.file.scope == "window" else self.terms
        async with self.session.snapshot(terms.limits, self.mapping) as snapshot:
            presenter = Presenter(self.mapping, await self._complete(snapshot), unbounded=terms.window is None)
            obstacle = presenter.obstacle(question.file.needs)
            if obstacle:
                raise obstacle
            asking = Asking(snapshot, presenter, terms, self.watch.waited(snapshot.as_of, terms.grace))
            if not question.file.incremental:  # it cannot be asked of some rows alone
                identities = (await asking.ask([question]))[question.name].identities
                found = None if identities is None else set(identities)
                return None if found is None else [key for key in ids if identity(key) in found]
            of_orders = question.file.entity == "order"
            touched = {
                "orders": presenter.ids("orders", ids if of_orders else ()),
                "positions": presenter.ids("positions", () if of_orders else ids),
                "cold": presenter.ids("positions", () if of_orders else ids),
                "hot": presenter.ids("positions", ()),
                "hot_sums": ([], "text[]::numeric[]"),
            }
            answer = (await asking.ask([question], touched=touched, evidence=len(ids)))[question.name]
            wrong = {each.id for each in answer.evidence}
            return [key for key in ids if key in wrong]

    async def close(self) -> None:
        """Close every connection; side by side, because each may take its time where the network is cut."""
        feed = [self.incremental.close()] if self.incremental else []
        await asyncio.gather(self.session.close(), *feed)

    async def _ask(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer | DatabaseError]:
        together = [q for q in questions if not self.one_by_one and q.name not in self.apart]
        singly = [q for q in questions if q not in together]
        answers: dict[str, Answer | DatabaseError] = {}
        if together:
            try:
                answers |= await asking.ask(together)
            except StatementTimeout as error:
                self.one_by_one = True
                return dict.fromkeys((q.name for q in questions), error)
            except DatabaseError as error:
                if error.ends_poll:
                    raise
                singly = list(questions)
        # Cheapest first; those that timed out last, the one that has waited longest for another try before the others.
        singly.sort(key=lambda q: (self._tried.get(q.name, 0), q.file.scope == "all", self._seconds.get(q.name, 0.0)))
        for question in singly:
            answers[question.name] = await self._ask_apart(asking, question)
        if self.one_by_one:
            # Together they take what they take apart, or less; with room to spare they are worth another try. All of
            # them count, those that are not due in this poll as well: in some later one they are due together.
            spent = sum(seconds for name, seconds in self._seconds.items() if name not in self.apart)
            self.one_by_one = not self._has_room(spent)
        return answers

    async def _ask_apart(self, asking: Asking, question: Question) -> Answer | DatabaseError:
        limits, left = self.terms.limits, asking.snapshot.remaining - LEAST_TIME
        if left < LEAST_TIME:
            return StatementTimeout("the other checks left no time for it in this poll; see monitor.poll_timeout")
        await asking.snapshot.allow(min(limits.statement, left))
        try:
            answer = (await asking.ask([question]))[question.name]
        except DatabaseError as error:
            if error.ends_poll:
                raise
            self.apart.add(question.name)
            self._tries += 1
            self._tried[question.name] = self._tries
            return error
        self._tried.pop(question.name, None)
        if self._has_room(answer.seconds):
            self.apart.discard(question.name)
        self._seconds[question.name] = answer.seconds
        return answer

    def _has_room(self, seconds: float) -> bool:
        """Whether what takes so long is likely to end before the statement timeout next time, too."""
        return timedelta(seconds=2 * seconds) <= self.terms.limits.statement

    async def _look_after_links(
        self, asking: Asking, questions: Sequence[Question], answers: Mapping[str, Answer | DatabaseError]
    ) -> None:
        """Learn which filled orders wait for a link, where the checks that ask for them were answered."""
        asked = [q.file for q in questions if q.name in ("unlinked_filled_order", "aged_unlinked_order")]
        if not asked or any(isinstance(answers[file.name], DatabaseError) for file in asked):
            return
        everywhere = any(file.scope == "all" for file in asked)
        left = asking.snapshot.remaining - LEAST_TIME
        if left < LEAST_TIME:
            return
        await asking.snapshot.allow(min(self.terms.limits.statement, left))
        try:
            unlinked, known = await asking.links(asked, self.watch.ids, everywhere=everywhere)
        except DatabaseError as error:
            if error.ends_poll:
                raise
            if str(error) != self._links_error:
                log.warning("links_not_followed", database=self.session.target.name, error=str(error))
            self._links_error = str(error)
            if not isinstance(error, StatementTimeout):  # ids of other orders, or of another type: begin anew
                self.watch.forget()
            return
        self._links_error = None
        self.watch.take(asking.snapshot.as_of, unlinked, known)

    async def _complete(self, snapshot: Snapshot) -> Catalog:
        """The catalog with the types of SQL expressions, which are asked for again only when a table has changed."""
        if self._catalog is None or self._catalog.tables != snapshot.catalog.tables:
            catalog = await with_expressions(snapshot, self.mapping)
            self._catalog = catalog if catalog.sound else None
            return catalog
        return self._catalog
