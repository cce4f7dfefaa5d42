"""Recomputes what was touched, in one snapshot after another, and holds the answers that follow.

Invalidate and recompute; never apply deltas. What the feed and time name is asked again by index, by the same check
files as a full check, and replaces what was known of it: a key seen twice does no harm, and nothing drifts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg
import structlog

from po_exporter.database.schema import FLOATS, INTEGERS
from po_exporter.sql import LINK_RATE
from po_exporter.watch.answer import Answer, Question, Terms, read_time
from po_exporter.watch.asking import OF_THE_WINDOW, Asking
from po_exporter.watch.audit import Audit, Touched
from po_exporter.watch.changes import Changes
from po_exporter.watch.hot import HotPositions
from po_exporter.watch.links import LONG_AGO, LinkTimer
from po_exporter.watch.state import FINDING_BYTES, TIMED, Difference, Minute, Open, State, after, compare

log = structlog.get_logger()

LARGE_SHARE = 0.05
"""Of the orders: more changes than that in one poll cost more than a full check."""
FEW = 1000
"""Changes that are never too many."""

OPEN = "SELECT * FROM orders WHERE position_id IS NULL AND (in_window OR NOT past_grace)"
TOUCHED = "SELECT * FROM orders WHERE id = ANY(:orders)"
# OFFSET 0 keeps the planner from reading the whole window for each minute instead of that minute by its index.
OF_MINUTES = (
    "SELECT o.* FROM unnest(:minutes) AS m (begins) CROSS JOIN LATERAL"
    " (SELECT * FROM orders WHERE created_raw >= m.begins AND created_raw < m.begins + interval '1 minute' OFFSET 0) o"
)
TIMELESS = "SELECT * FROM orders WHERE created_raw IS NULL OR created_raw = 'infinity'"
FILLED = (
    "orders.id orders.position_id orders.filled orders.in_window orders.past_grace orders.minute orders.fill_time "
    "orders.created_at orders.filled_at"
).split()
COUNTED = (
    "orders.position_id orders.filled orders.in_window orders.past_grace orders.minute orders.minute_start "
    "orders.created_raw positions.id"
).split()
HOSTED = ["orders.id", "orders.position_id", "orders.minute"]


@dataclass
class Recompute:
    """The incremental checks of one database, from one baseline on. ``state`` is None before that."""

    database: str
    questions: Sequence[Question]
    terms: Terms
    budget: int
    timer: LinkTimer
    audit: Audit
    state: State | None = None
    hot: HotPositions = field(default_factory=HotPositions)
    _as_of: datetime = LONG_AGO

    async def answer(self, asking: Asking, questions: Sequence[Question], changes: Changes) -> dict[str, Answer]:
        """What these checks answer in this snapshot, which sees the changes.

        Raises DatabaseError, and can then be asked again with these and later changes.
        """
        started = time.monotonic()
        state = self.state
        names = {question.name for question in questions}
        if state:  # what cannot be asked now is not followed either: it needs a baseline when it is back
            state.findings = {name: known for name, known in state.findings.items() if name in names}
        if (
            state is None
            or not names <= state.followed | state.overflowing
            or changes.truncated
            or asking.snapshot.as_of < self._as_of  # what time has changed, it has changed back
            or self._too_many(asking, len(changes))
        ):
            state = await self._baseline(asking, questions, changes if state else None)
        else:
            touched = await self._touched(asking, state, changes)
            if touched is None:
                state = await self._baseline(asking, questions, changes)
            elif touched:
                await self._recompute(asking, state, questions, touched, changes)
            if self.audit.wants_all:
                state = await self._audit_all(asking, state, questions)
        self.state, self._as_of = state, asking.snapshot.as_of
        for name in state.confine():
            self._say_overflowing(name)
        seconds = time.monotonic() - started
        return {
            name: Answer(seconds, state.link_rate.eligible, link_rate=state.link_rate, followed=True)
            if name == LINK_RATE
            else state.answer(name, seconds, self.terms.evidence, self.terms.identity_budget, _order(asking, q))
            for q in questions
            if (name := q.name) not in state.overflowing
        }

    def _too_many(self, asking: Asking, count: int) -> bool:
        return count > FEW and count > LARGE_SHARE * asking.presenter.catalog.tables["orders"].rows

    async def _baseline(self, asking: Asking, questions: Sequence[Question], changes: Changes | None) -> State:
        """A full check in this snapshot, of which everything is kept that the budget allows.

        ``changes`` is what the feed has timed meanwhile; None where it was not there yet.
        """
        started = time.monotonic()
        await asking.snapshot.workers(allowed=True)
        window = self.terms.window or timedelta()
        state = State(window, self.budget)
        most = max(1, self.budget // FINDING_BYTES // max(1, len(questions)))
        findings = [question for question in questions if question.name != LINK_RATE]
        answers = await asking.ask(findings, evidence=most) if findings else {}
        for name, answer in answers.items():
            if answer.count > most:
                state.overflowing.add(name)
                self._say_overflowing(name)
            else:
                state.take(name, answer, None)
        files = [question.file for question in questions if question.name in TIMED - {LINK_RATE}]
        unlinked, known = await asking.links(files, self.timer.watch.ids, everywhere=True) if files else ([], {})
        self.timer.watch.take(asking.snapshot.as_of, unlinked, known, timed=changes is None)
        rows = await asking.query("incremental/filled.sql", FILLED, {"most": (most + 1, "bigint")}, OPEN)
        if len(rows) > most:
            for name in state.give_up_moments():
                self._say_overflowing(name)
        else:
            state.take_open(self._open(asking.snapshot.as_of, rows), None)
            state.take_minutes(
                _minutes(await asking.query("incremental/minutes.sql", COUNTED, scoped=OF_THE_WINDOW)), None
            )
        for name in state.confine():
            self._say_overflowing(name)
        linked: list[asyncpg.Record] = []
        if changes and changes.linked:
            ids = {"orders": asking.presenter.ids("orders", changes.linked), "most": (len(changes.linked), "bigint")}
            linked = await asking.query("incremental/filled.sql", FILLED, ids, TOUCHED)
        self.hot = await HotPositions.find(asking)
        # Only now, when nothing can fail any more: a link is timed once.
        if changes:
            self.timer.time(linked, changes)
        self.audit.took_all(time.monotonic() - started)
        return state

    async def _touched(self, asking: Asking, state: State, changes: Changes) -> Touched | None:
        """Everything to be looked at again; None where that is too much."""
        presenter = asking.presenter
        checks = {question.name: question.file for question in self.questions}
        orders, positions, minutes = state.due(asking.snapshot.as_of, checks)
        changed, moved = (
            set(presenter.ids(*each)[0]) for each in (("orders", changes.orders), ("positions", changes.positions))
        )
        touched = Touched(orders | changed, positions | moved, minutes | changes.minutes)
        if changes.hosts:
            most = max(FEW, int(LARGE_SHARE * presenter.catalog.tables["orders"].rows))
            more = {"hosts": presenter.ids("positions", changes.hosts), "most": (most + 1, "bigint")}
            rows = await asking.query("incremental/hosted.sql", HOSTED, more)
            if len(rows) > most:
                return None
            touched.orders |= {row["id"] for row in rows}
            touched.minutes |= {row["minute"] for row in rows}
        for column in {name for name, _ in changes.groups}:
            keys = [key for name, key in changes.groups if name == column]
            more = {"keys": (keys, "text[]"), "most": (FEW + len(keys), "bigint")}
            rows = await asking.query(
                "incremental/grouped.sql", ["orders.id", f"orders.{column}"], more,
                f"SELECT * FROM orders WHERE {column} = ANY(:keys)",
            )  # fmt: skip
            if len(rows) == FEW + len(keys):
                self._give_up(state, column)
            touched.orders |= {row["id"] for row in rows}
        if self._too_many(asking, len(touched)):
            return None
        self.audit.remember(touched)
        self.audit.sample(state, self.questions, touched)
        return touched

    def _give_up(self, state: State, column: str) -> None:
        """Too many orders share a value there: what looks at them together is asked by scanning."""
        for question in self.questions:
            if question.file.group == f"orders.{column}":
                state.findings.pop(question.name, None)
                state.overflowing.add(question.name)
                self._say_overflowing(question.name)

    async def _recompute(
        self, asking: Asking, state: State, questions: Sequence[Question], touched: Touched, changes: Changes
    ) -> None:
        """Ask the same checks of what was touched alone, and replace what was known of it."""
        await asking.snapshot.workers(allowed=False)
        presenter = asking.presenter
        ids = {
            "orders": presenter.ids("orders", touched.orders),
            "positions": presenter.ids("positions", touched.positions),
        }
        wanted = [q for q in questions if q.name in state.findings and self._concerns(q, touched)]
        # What is audited is summed up whole: the partial sums are on trial, too.
        sums = await self.hot.renew(asking, touched.positions - touched.audited, changes)
        hot = [(key, total) for key, hours in sums.items() for total in hours.values()]
        ledger = {
            "cold": presenter.ids("positions", touched.positions - sums.keys()),
            "hot": presenter.ids("positions", (key for key, _ in hot)),
            "hot_sums": ([total for _, total in hot], "text[]::numeric[]"),
        }
        answers = await asking.ask(wanted, touched=ids | ledger, evidence=len(touched)) if wanted else {}
        rows: list[asyncpg.Record] = []
        if touched.orders:
            rows = await asking.query(
                "incremental/filled.sql", FILLED, ids | {"most": (len(touched), "bigint")}, TOUCHED
            )
        counted = await self._count(asking, touched.minutes) if LINK_RATE not in state.overflowing else {}
        # Only now, when nothing can fail any more, is what is held replaced.
        self.hot.keep(sums, touched.positions)
        differing: list[Difference] = []
        for question in wanted:
            keys = touched.orders if question.file.entity == "order" else touched.positions
            before = {key: state.findings[question.name][key] for key in keys & state.findings[question.name].keys()}
            state.take(question.name, answers[question.name], keys)
            after = {key: state.findings[question.name][key] for key in keys & state.findings[question.name].keys()}
            if touched.audited:
                differing += [d for d in compare(question.name, before, after) if d.key in touched.audited]
        for key in touched.audited & touched.minutes:
            held, found = state.minutes.get(key), counted.get(key)
            if (held and held[1:]) != (found and found[1:]):
                differing.append(Difference(LINK_RATE, str(key), held, found))
        state.take_minutes(counted, touched.minutes)
        state.take_open(self._open(asking.snapshot.as_of, rows), touched.orders)
        self.timer.time(rows, changes)
        self.timer.follow(asking.snapshot.as_of, rows, touched.orders)
        self.audit.count(differing)

    @staticmethod
    def _concerns(question: Question, touched: Touched) -> bool:
        if question.name == LINK_RATE:
            return False
        return bool(touched.orders if question.file.entity == "order" else touched.positions)

    async def _count(self, asking: Asking, minutes: Collection[str | None]) -> dict[str | None, Minute]:
        counted: dict[str | None, Minute] = {}
        # What is too old for the window counts nowhere; a time zone may shift it by a day at most.
        local = asking.presenter.mapping.orders.timezone != "UTC"
        edge = asking.window_start - timedelta(days=1 if local else 0)
        oldest = edge.isoformat(sep=" ")[:16]
        known = [minute for minute in minutes if minute and (minute >= oldest or len(minute) > len(oldest))]
        if known:
            kind = asking.presenter.column_type("orders", "created_at")
            # What has a zone was written in UTC: minute_of() cuts the zone off.
            texts = [f"{minute}+00" if kind == "timestamp with time zone" else minute for minute in known]
            more = {"minutes": (texts, f"text[]::{kind}[]")}
            counted |= _minutes(await asking.query("incremental/minutes.sql", COUNTED, more, OF_MINUTES))
        if None in minutes:
            counted |= _minutes(await asking.query("incremental/minutes.sql", COUNTED, scoped=TIMELESS))
        return counted

    def _open(self, as_of: datetime, rows: Iterable[asyncpg.Record]) -> dict[str, Open]:
        """Those without a link, with the moment at which time changes what is said of them."""
        found = {}
        for row in rows:
            if row["linked"]:
                continue
            moment = None
            if not row["past_grace"]:
                fill_time, seen = read_time(row["fill_time"]), self.timer.watch.first_seen(row["id"]) or as_of
                moment = after(min(fill_time or seen, seen), self.terms.grace)
            elif row["in_window"]:
                # It is out of the window when the edge has gone by, one microsecond later.
                moment = after(
                    read_time(row["created_at"]), (self.terms.window or timedelta()) + timedelta(microseconds=1)
                )
            else:
                continue
            found[row["id"]] = Open(moment, row["minute"])
        return found

    async def _audit_all(self, asking: Asking, state: State, questions: Sequence[Question]) -> State:
        """A full check of the same snapshot beside what is held; it takes its place."""
        fresh = await self._baseline(asking, questions, Changes())
        differing = [each for each in state.differences(fresh) if each.what not in state.overflowing]
        self.audit.count(differing)
        log.info("audited", database=self.database, differences=len(differing))
        return fresh

    def _say_overflowing(self, name: str) -> None:
        log.warning(
            "state_budget_exceeded",
            database=self.database,
            check=name,
            message="it finds more than monitor.state_budget holds, and counts by scanning until the next baseline",
        )


def _minutes(rows: Iterable[asyncpg.Record]) -> dict[str | None, Minute]:
    return {row["minute"]: Minute(read_time(row["begins"]), row["eligible"], row["links"]) for row in rows}


def _order(asking: Asking, question: Question) -> Callable[[str], int | Decimal | float | str]:
    """How ids of a check's entity are put in order, as the database does it."""
    kind = asking.presenter.id_type(f"{question.file.entity}s")
    if kind == "numeric":
        return Decimal
    return int if kind in INTEGERS else float if kind in FLOATS else str
