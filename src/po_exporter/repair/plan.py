"""What would be mended, with the proof that it is safe; and what would not, with the reason. It writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from po_exporter import sql
from po_exporter.database.expressions import with_expressions
from po_exporter.database.schema import Presenter
from po_exporter.database.session import Session, Snapshot
from po_exporter.errors import DeadlinePassed
from po_exporter.repair.rules import Rules
from po_exporter.sql import FixFile
from po_exporter.watch.answer import Question
from po_exporter.watch.asking import Asking
from po_exporter.watch.statement import Parameters
from po_exporter.watch.watched import Watched


@dataclass(frozen=True, slots=True)
class Change:
    """One order whose link a fix is about: what it is, and what it would be. ``refusal``: why it is not safe, None
    where ``proof`` says why it is; ``held_back``: why it is not made although it is."""

    fix: str
    id: str
    link: str | None
    target: str | None
    quantity: str | None
    proof: str | None
    refusal: str | None
    held_back: str | None

    @property
    def made(self) -> bool:
        """Whether it would be made."""
        return self.refusal is None and self.held_back is None


@dataclass(frozen=True, slots=True)
class Left:
    """Findings of a check that no fix mends: how many, the ids of the first, and what there is to do."""

    check: str
    count: int
    ids: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one snapshot: every change that a fix was about, and what is left of what is wrong. ``off``: fixes that
    cannot be planned in this database, and why."""

    database: str
    as_of: datetime
    changes: tuple[Change, ...]
    left: tuple[Left, ...]
    off: tuple[tuple[str, str], ...]


async def make_plan(watched: Watched, rules: Rules) -> Plan:
    """What would be done in one database, and what would not. Raises DatabaseError when it cannot be found out."""
    session, limits = Session(watched.target), watched.terms.limits
    try:
        async with (
            asyncio.timeout(limits.poll.total_seconds()),
            session.snapshot(limits, watched.mapping) as snapshot,
        ):
            asking = await ask_in(snapshot, watched)
            changes, off = await judge(asking, rules)
            lacking = {change.target for change in changes if change.target and not change.refusal}
            left = await _left(asking, watched.questions, len(lacking))
            return Plan(watched.name, snapshot.as_of, changes, left, off)
    except TimeoutError:
        raise DeadlinePassed(
            f"the plan took longer than {limits.poll.total_seconds():g} s (monitor.poll_timeout)"
        ) from None
    finally:
        await session.close()


async def ask_in(snapshot: Snapshot, watched: Watched) -> Asking:
    """Asks in that snapshot, of rows however old they are. Raises DatabaseError."""
    presenter = Presenter(watched.mapping, await with_expressions(snapshot, watched.mapping), unbounded=True)
    return Asking(snapshot, presenter, watched.terms, ())


async def judge(asking: Asking, rules: Rules) -> tuple[tuple[Change, ...], tuple[tuple[str, str], ...]]:
    """Every change that a fix could be about, judged by all its guards; and which fixes have none. Raises DatabaseError
    where a table or a right is missing."""
    changes: list[Change] = []
    made = 0
    off: list[tuple[str, str]] = []
    for fix in sql.load_fixes().values():
        why = _why_off(asking.presenter, fix)
        if why:
            off.append((fix.name, why))
            continue
        guards: Parameters = {
            "quiet_since": (asking.snapshot.as_of - rules.quiet_period, "timestamptz"),
            "tolerance": (rules.tolerance, "numeric"),
        }
        for row in await asking.query(fix.path, fix.needs, guards):
            held_back = None if row["refusal"] else rules.holds_back(fix.name, row["id"], row["quantity"])
            if not (row["refusal"] or held_back):
                made += 1
                held_back = f"fix.max_per_run ({rules.max_per_run}) is reached" if made > rules.max_per_run else None
            proof = None if row["refusal"] else row["proof"]
            changes.append(
                Change(
                    fix.name, row["id"], row["link"], row["target"], row["quantity"], proof, row["refusal"], held_back
                )
            )
    return tuple(changes), tuple(off)


def _why_off(presenter: Presenter, fix: FixFile) -> str | None:
    """Why a fix has no meaning under this mapping. Raises DatabaseError where what it needs is missing."""
    orders = presenter.mapping.orders.columns
    for name in ("id", "position_id"):
        if orders[name].is_sql:
            return f"schemas.{presenter.mapping.name}.orders.columns.{name} is an expression, which cannot be written"
    unmapped = presenter.unmapped(fix.needs)
    if unmapped:
        return unmapped
    obstacle = presenter.obstacle(fix.needs)
    if obstacle:
        raise obstacle
    return None


async def _left(asking: Asking, questions: Sequence[Question], lacking: int) -> tuple[Left, ...]:
    """What is wrong, and mended by no fix of its own; ``lacking`` positions are put right by a link. Raises
    DatabaseError."""
    mended = {name for fix in sql.load_fixes().values() for name in fix.mends} | {sql.LINK_RATE}
    presenter = replace(asking.presenter, unbounded=asking.terms.window is None)
    others = [q for q in questions if q.name not in mended and presenter.why_off(q.file) is None]
    for question in others:
        if obstacle := presenter.obstacle(question.file.needs):
            raise obstacle
    answers = await replace(asking, presenter=presenter).ask(others) if others else {}
    return tuple(
        Left(name, answer.count, tuple(each.id for each in answer.evidence), _why_left(name, lacking))
        for name, answer in answers.items()
        if answer.count
    )


def _why_left(check: str, lacking: int) -> str:
    if check != "quantity_mismatch":
        return "no fix mends it"
    linked = f"the links above would put {lacking:,} right; for others " if lacking else ""
    return f"{linked}no fix mends it: po-exporter trail shows a position's orders, fix recalculate goes by them"
