"""What a person sees of fixes on a terminal, and a machine as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from po_exporter.expose.api import status_json
from po_exporter.model import Status
from po_exporter.repair.apply import Made, Order
from po_exporter.repair.plan import Change, Plan
from po_exporter.repair.recalculate import Recalculation
from po_exporter.repair.reconcile import Reconciled
from po_exporter.repair.record import Entry, Verification
from po_exporter.show import iso, stamp, terminal

GOOD, BAD, DIM = "bold green", "bold red", "dim"
SHOWN = 100
"""Rows that a terminal shows of one kind; JSON has all."""


def show_plans(plans: Sequence[Plan]) -> None:
    """Each database: what would be made, what is safe and held back, what is not touched, and what no fix mends."""
    console = terminal()
    for plan in plans:
        made = [change for change in plan.changes if change.made]
        held = [change for change in plan.changes if change.held_back]
        refused = [change for change in plan.changes if change.refusal]
        console.print(
            Text.assemble((plan.database, "bold"), f"  as of {stamp(plan.as_of)}: {len(made):,} to be made, "
                          f"{len(held):,} safe but held back, {len(refused):,} not safe"),
            soft_wrap=True,
        )  # fmt: skip
        for title, style, changes in (
            ("would be made", GOOD, made), ("safe, but held back", "yellow", held), ("not touched", DIM, refused),
        ):  # fmt: skip
            if changes:
                console.print(Text(f"\n{title}", style=style))
                console.print(_changes(changes[:SHOWN]))
                if len(changes) > SHOWN:
                    console.print(f"and {len(changes) - SHOWN:,} more; --format json shows all of them", style=DIM)
        for left in plan.left:
            console.print(Text(f"{left.check}: {left.count:,} findings; {left.reason}"), soft_wrap=True)
        for name, why in plan.off:
            console.print(Text(f"{name} is off: {why}", style=DIM), soft_wrap=True)


def plan_json(plan: Plan) -> dict[str, object]:
    """A plan as JSON values."""
    return {
        "database": plan.database,
        "as_of": iso(plan.as_of),
        "changes": [{**asdict(change), "made": change.made} for change in plan.changes],
        "left": [asdict(each) for each in plan.left],
        "off": [{"fix": name, "reason": why} for name, why in plan.off],
    }


def show_made(run: str | None, made: Sequence[Made]) -> None:
    """What came of each change."""
    console = terminal()
    told = [each for each in made if each.record or each.refusal]
    for each in told[:SHOWN]:
        word = (f"record {each.record}", GOOD) if each.record else ("refused", BAD)
        said = each.refusal or _moved(each.before, each.after)
        console.print(Text.assemble(word, f"  {each.fix} {each.id}: {said}"), soft_wrap=True)
    if len(told) > SHOWN:
        console.print(f"and {len(told) - SHOWN:,} more; --format json shows all of them", style=DIM)
    if len(told) < len(made):
        console.print(f"{len(made) - len(told):,} were so already")
    if any(each.record for each in made):
        console.print(
            f"run {run}: the next poll says whether it helped; po-exporter fix undo --run {run} takes it back"
        )
    elif not made:
        console.print("there is nothing to be made")


def made_json(made: Made) -> dict[str, object]:
    """What came of a change, as JSON values."""
    return asdict(made)


def show_reconciled(found: Sequence[Reconciled]) -> None:
    """Each database: what was wrong, what was planned and made, and what is wrong now."""
    console = terminal()
    for each in found:
        console.print(Text(f"{each.before.database} before: {_numbers(each.before)}"), soft_wrap=True)
        if each.plan:
            show_plans([each.plan])
        if each.made:
            show_made(each.run, each.made)
        if each.error:
            console.print(Text.assemble(("not mended", BAD), f"  {each.error}"), soft_wrap=True)
        console.print(Text(f"{each.after.database} after: {_numbers(each.after)}"), soft_wrap=True)


def reconciled_json(each: Reconciled) -> dict[str, object]:
    """The same as JSON values."""
    return {
        "database": each.before.database,
        "before": status_json(each.before),
        "plan": plan_json(each.plan) if each.plan else None,
        "run": each.run,
        "changes": [made_json(made) for made in each.made],
        "after": status_json(each.after),
        "error": each.error,
    }


def _numbers(status: Status) -> str:
    """The verdict, and what was found."""
    if status.result is None:
        return f"{status.verdict}: {status.error or 'nothing is known'}"
    found = [f"{check.count:,} {check.name}" for check in status.result.checks if check.count]
    unknown = [f"{check.name} is not known" for check in status.result.checks if not check.ok]
    return f"{status.verdict}: {', '.join([*found, *unknown]) or 'nothing is wrong'}"


def show_order(order: Order, position: str | None) -> None:
    """An order whose link is to be changed by hand, before and after."""
    console = terminal()
    described = " ".join(part for part in (order.trading_pair, order.side, order.quantity, order.status) if part)
    console.print(Text(f"order {order.id}: {described}"), soft_wrap=True)
    console.print(Text(_moved({"position_id": order.link}, {"position_id": position})), soft_wrap=True)


def show_recalculation(found: Recalculation) -> None:
    """A position before and after."""
    console = terminal()
    console.print(Text(f"position {found.id}: {found.described}; {found.orders:,} orders"), soft_wrap=True)
    console.print(Text(_moved(found.before, found.after) or "it is what its orders come to"), soft_wrap=True)


def show_entries(entries: Sequence[Entry]) -> None:
    """Records, as they were given."""
    console = terminal()
    table = Table(
        "record", "at", "run", "fix", "row", "change", "by", "why", box=None, pad_edge=False, header_style=DIM
    )
    for entry in entries:
        kept = f" (a trigger changed {', '.join(entry.by_trigger)})" if entry.by_trigger else ""
        table.add_row(
            str(entry.id), stamp(entry.at), entry.run, Text(entry.fix), Text(f"{entry.entity} {entry.entity_id}"),
            Text(_moved(entry.before, entry.after) + kept), Text(entry.actor), Text(entry.reason),
        )  # fmt: skip
    console.print(table if entries else "nothing was changed yet")


def entry_json(entry: Entry) -> dict[str, object]:
    """A record as JSON values."""
    return {**asdict(entry), "at": iso(entry.at)}


def show_verification(database: str, found: Verification) -> None:
    """Whether the chain holds."""
    console = terminal()
    if found.broken:
        console.print(Text.assemble(("broken", BAD), f"  {database}: record {found.broken}: {found.why}"))
    else:
        console.print(Text.assemble(("holds", GOOD), f"  {database}: {found.sealed:,} records, as they were written"))
    if found.head:
        console.print(f"its head is {found.head}; who keeps that elsewhere sees whether the newest were cut off")
    if found.unsealed:
        console.print(f"{found.unsealed:,} records are not sealed yet, from record {found.first_unsealed} on")


def verification_json(found: Verification) -> dict[str, object]:
    """The same as JSON values."""
    return asdict(found)


def _changes(changes: Sequence[Change]) -> Table:
    table = Table("fix", "order", "change", "why", box=None, pad_edge=False, header_style=DIM)
    table.columns[1].no_wrap = True  # to be copied whole
    for change in changes:
        why = change.refusal or (f"{change.held_back}; {change.proof}" if change.held_back else change.proof) or ""
        moved = "" if change.refusal else _moved({"position_id": change.link}, {"position_id": change.target})
        table.add_row(change.fix, Text(change.id), Text(moved), Text(why))
    return table


def _moved(before: Mapping[str, str | None], after: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}: {before.get(name) or 'none'} -> {value or 'none'}" for name, value in after.items())
