"""A full check, what can be mended, and the check again: what the integration guide calls reconciling."""

from __future__ import annotations

from dataclasses import dataclass

from po_exporter.database.session import Target
from po_exporter.errors import DatabaseError, Stopped
from po_exporter.model import Status
from po_exporter.repair.apply import Made, apply
from po_exporter.repair.plan import Plan, make_plan
from po_exporter.repair.rules import Rules
from po_exporter.watch.monitor import Monitor
from po_exporter.watch.watched import Watched


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Of one database: what was wrong ``before`` and is ``after``, what was planned and ``made`` between. ``error``:
    why it could not be planned or made, None where it was."""

    before: Status
    plan: Plan | None
    run: str | None
    made: tuple[Made, ...]
    after: Status
    error: str | None


async def once(watched: Watched) -> Status:
    """What one poll of a database learns."""
    monitor = Monitor(watched)
    try:
        return await monitor.poll()
    finally:
        await monitor.close()


async def reconcile(watched: Watched, rules: Rules, target: Target | None, actor: str) -> Reconciled:
    """Check, plan, apply what is allowed where there is a ``target`` to write to, and check again."""
    before = await once(watched)
    plan, run, made, error = None, None, list[Made](), None
    try:
        plan = await make_plan(watched, rules)
        wanted = [change for change in plan.changes if change.made]
        if target and wanted:
            run, made = await apply(watched, target, rules, wanted, actor)
    except (DatabaseError, Stopped) as failure:
        error = str(failure)
    return Reconciled(before, plan, run, tuple(made), await once(watched), error)
