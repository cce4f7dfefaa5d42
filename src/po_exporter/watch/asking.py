"""Asks in one snapshot: the checks, and what the polls remember between them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from po_exporter import sql
from po_exporter.database.schema import Presenter
from po_exporter.database.session import Snapshot
from po_exporter.sql import CheckFile
from po_exporter.watch.answer import Answer, Question, Terms, read_answer, read_time
from po_exporter.watch.links import MOST_PENDING
from po_exporter.watch.statement import EVERYTHING, Extent, Parameters, compose, compose_query

NOTHING: Parameters = {}
OF_THE_WINDOW = "SELECT * FROM orders WHERE in_window"


@dataclass(frozen=True)
class Asking:
    """One snapshot, with everything that a statement in it is told."""

    snapshot: Snapshot
    presenter: Presenter
    terms: Terms
    waited: Sequence[str]

    async def ask(
        self, questions: Sequence[Question], *, touched: Parameters | None = None, evidence: int | None = None
    ) -> dict[str, Answer]:
        """Ask these checks in one statement, behind a savepoint. Raises DatabaseError.

        ``touched`` has the ids to which the checks are confined; ``evidence`` how many findings are to be shown.
        """
        extent: Extent = "some" if evidence is None else "all" if touched is None else "touched"
        shown: Parameters = {} if evidence is None else {"evidence": (evidence, "bigint")}
        query, arguments = self.statement(questions, extent, {**(touched or {}), **shown})
        async with self.snapshot.savepoint():
            started = time.monotonic()
            rows = await self.snapshot.fetch(query, *arguments)
            seconds = time.monotonic() - started
        return {row["name"]: read_answer(row, seconds) for row in rows}

    def statement(
        self, questions: Sequence[Question], extent: Extent = "some", more: Parameters = NOTHING
    ) -> tuple[str, list[object]]:
        """The one statement that asks these checks, and its arguments."""
        own: dict[str, Parameters] = {
            q.name: {} if q.tolerance is None else {"tolerance": (q.tolerance, "numeric")} for q in questions
        }
        files = [question.file for question in questions]
        parameters = {**self._parameters(), **more}
        return compose(self.presenter, files, parameters, own, extent=extent)

    async def query(
        self, name: str, needed: Iterable[str], more: Parameters = NOTHING, scoped: str = EVERYTHING
    ) -> list[asyncpg.Record]:
        """The rows of one of our own queries over the canonical relations. Raises DatabaseError."""
        query, arguments = compose_query(self.presenter, sql.read(name), needed, {**self._parameters(), **more}, scoped)
        return await self.snapshot.fetch(query, *arguments)

    async def links(
        self, files: Sequence[CheckFile], ids: Sequence[str], *, everywhere: bool
    ) -> tuple[list[tuple[str, datetime | None]], dict[str, bool]]:
        """(id, fill time) of the youngest filled orders without link; for each of ``ids``, whether it is linked."""
        needed = {name for file in files for name in file.needs}
        async with self.snapshot.savepoint():
            most: Parameters = {"pending_limit": (MOST_PENDING, "bigint")}
            rows = await self.query("pending.sql", needed, most, EVERYTHING if everywhere else OF_THE_WINDOW)
            unlinked = [(row["id"], read_time(row["filled"])) for row in rows]
            known: dict[str, bool] = {}
            if ids:
                rows = await self.query("linked.sql", needed, {"pending": self.presenter.ids("orders", ids)})
                known = {row["id"]: row["linked"] for row in rows}
        return unlinked, known

    @property
    def window_start(self) -> datetime:
        """The edge of the window."""
        return _before(self.snapshot.as_of, self.terms.window)

    def _parameters(self) -> dict[str, tuple[object, str]]:
        as_of, terms = self.snapshot.as_of, self.terms
        return self.presenter.parameters | {
            "as_of": (as_of, "timestamptz"),
            "window_start": (self.window_start, "timestamptz"),
            "grace_start": (_before(as_of, terms.grace), "timestamptz"),
            "grace": (terms.grace, "interval"),
            "seen": (list(self.waited), "text[]"),
            "evidence": (terms.evidence, "bigint"),
            "identity_budget": (terms.identity_budget, "bigint"),
        }


def _before(as_of: datetime, span: timedelta | None) -> datetime:
    """``as_of`` less a span; the beginning of time where that is longer than time."""
    try:
        return as_of - (span or timedelta())
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
