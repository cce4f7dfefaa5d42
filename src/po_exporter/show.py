"""What a person sees on a terminal: tables and a word for each state. Values from a database are never markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from po_exporter.doctor import Level, Remark
from po_exporter.install.installer import Outcome
from po_exporter.model import CheckResult, Finding, Status, Verdict
from po_exporter.repair.trail import Trail

SHOWN = 10
"""Findings a check that a terminal shows; JSON has all that were kept."""
LONGEST = 60
WIDE = 200

COLOURS = {
    Verdict.OK: "bold green", Verdict.DEGRADED: "bold yellow", Verdict.CRITICAL: "bold red",
    Verdict.UNKNOWN: "bold magenta",
    Level.OK: "green", Level.ADVICE: "yellow", Level.PROBLEM: "bold red", Level.UNKNOWN: "bold magenta",
}  # fmt: skip


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar with the time spent, on a terminal's stderr: a moving one while a database works on one long statement;
    with a ``total``, what is yielded says how many more of it are done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more: bar.advance(task, more)


def show_status(statuses: Sequence[Status]) -> None:
    """Each database: the verdict, the numbers, every check, and the first rows that are wrong."""
    console = terminal()
    for status in statuses:
        result = status.result
        console.print(Text.assemble((status.verdict, COLOURS[status.verdict]), f"  {status.database}"))
        if result is None:
            console.print(Text(status.error or "nothing is known yet"), soft_wrap=True)
            continue
        rate = result.link_rate
        if rate:
            percent = "nothing is eligible" if rate.percent is None else f"{rate.percent:.4g} %"
            console.print(
                f"as of {stamp(result.as_of)}; link rate {percent} ({rate.links:,} of {rate.eligible:,} eligible)"
            )
        if result.known_verdict and result.verdict != result.known_verdict:
            console.print(f"what could be checked says {result.known_verdict}")
        table = Table("check", "priority", "findings", "", box=None, pad_edge=False, header_style="dim")
        for check in result.checks:
            table.add_row(check.name, check.priority or "", *_answer(check))
        console.print(table)
        for check in result.checks:
            if check.findings:
                console.print()
                console.print(Text.assemble((check.name, "bold"), f": {check.help}"))
                console.print(_evidence(check.findings[:SHOWN]))
                more = (check.count or 0) - len(check.findings[:SHOWN])
                if more:
                    console.print(f"and {more:,} more; --format json shows up to monitor.evidence of them", style="dim")


def show_doctor(remarks: Mapping[str, Sequence[Remark]], warnings: Sequence[str]) -> None:
    """What doctor found, database by database."""
    console = terminal()
    for warning in warnings:
        console.print(Text.assemble(("advice", COLOURS[Level.ADVICE]), f"  {warning}"))
    for name, found in remarks.items():
        console.print(Text(name, style="bold"))
        table = Table("", "subject", "", box=None, pad_edge=False, show_header=False)
        for remark in found:
            said = Text(remark.message)
            if remark.action:
                said.append(f"\n-> {remark.action}", style="italic")
            table.add_row(Text(remark.level, style=COLOURS[remark.level]), Text(remark.subject), said)
        console.print(table)


def show_install(database: str, outcome: Outcome) -> None:
    """What install has changed, or why it has not, and what the feed lacks beyond it."""
    console = terminal()
    colour = COLOURS[Level.PROBLEM] if outcome.status == "refused" else COLOURS[Level.OK]
    unchanged = ", nothing was changed" if outcome.status == "refused" else ", all was as wanted already"
    said = unchanged if not outcome.changes else ""
    console.print(Text.assemble((outcome.status, colour), f"  {database}{said}"))
    for line in (*outcome.changes, *outcome.refusals):
        console.print(Text(f"- {line}"), soft_wrap=True)
    for lack in outcome.advice:
        console.print(
            Text.assemble(("advice", COLOURS[Level.ADVICE]), f"  the feed still lacks: {lack}"), soft_wrap=True
        )


def show_trail(trail: Trail) -> None:
    """A position and its orders, with the running quantity."""
    console = terminal()
    word = ("agrees", "bold green") if trail.agrees else ("differs", "bold red")
    console.print(Text.assemble(word, f"  position {trail.id} of {trail.database}"))
    state = "active" if trail.active else "closed" if trail.active is False else "nobody knows whether it is active"
    console.print(
        Text(
            f"{trail.trading_pair or ''} {trail.side or ''} {trail.quantity}, {state}, opened {stamp(trail.opened_at)}"
        )
    )
    if trail.reason:
        console.print(Text(trail.reason))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("filled", "order", "side", "status", "quantity", "running"):
        table.add_column(heading, no_wrap=heading in ("filled", "order"), overflow="fold")
    table.columns[1].min_width = max((len(order.id) for order in trail.orders), default=0)  # to be copied whole
    for order in trail.orders:
        counted = "" if order.filled else "dim"
        cells = (stamp(order.fill_time), order.id, order.side or "", order.status or "", order.filled_quantity or "",
                 order.running_quantity)  # fmt: skip
        table.add_row(*(Text(cell, style=counted) for cell in cells))
    console.print(table)
    console.print(
        Text(f"orders add up to {trail.total or 'nobody knows what'}; the position says {trail.signed_quantity}")
    )


def trail_json(trail: Trail) -> dict[str, object]:
    """A trail under the names that the integration guide uses (``get_position_audit_trail``)."""
    return {
        "database": trail.database,
        "as_of": trail.as_of.isoformat(),
        "position_id": trail.id,
        "trading_pair": trail.trading_pair,
        "account": trail.account,
        "side": trail.side,
        "is_active": trail.active,
        "opened_at": iso(trail.opened_at),
        "closed_at": iso(trail.closed_at),
        "current_quantity": trail.quantity,
        "signed_quantity": trail.signed_quantity,
        "contributing_orders": [
            {
                "order_id": order.id,
                "trading_pair": order.trading_pair,
                "side": order.side,
                "status": order.status,
                "quantity": order.quantity,
                "filled_quantity": order.filled_quantity,
                "average_fill_price": order.average_fill_price,
                "created_at": iso(order.created_at),
                "fill_time": iso(order.fill_time),
                "counted": order.filled,
                "running_quantity": order.running_quantity,
            }
            for order in trail.orders
        ],
        "summary": {
            "order_count": len(trail.orders),
            "total_order_quantity": trail.total,
            "quantity_consistency": trail.agrees,
            "reason": trail.reason,
        },
    }


def terminal() -> Console:
    """Standard output; wide where it is a file or a pipe, so that nothing is folded for a screen that is not there."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _answer(check: CheckResult) -> tuple[Text, Text]:
    if not check.ok:
        return Text("UNKNOWN", style=COLOURS[Verdict.UNKNOWN]), Text(check.error or "")
    if check.count is None:
        return Text(""), Text("answered", style="dim")
    return Text(f"{check.count:,}", style="bold red" if check.count else "green"), Text("")


def _evidence(findings: Sequence[Finding]) -> Table:
    keys = [key for key in findings[0].details if any(finding.details.get(key) is not None for finding in findings)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("since", no_wrap=True)
    table.add_column("id", no_wrap=True, min_width=max(len(finding.id) for finding in findings))  # to be copied whole
    for key in keys:
        table.add_column(key, overflow="fold")
    for finding in findings:
        details = (_cut(finding.details.get(key)) for key in keys)
        table.add_row(stamp(finding.since), Text(finding.id), *details)
    return table


def _cut(value: object) -> Text:
    text = "" if value is None else str(value)
    return Text(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def stamp(time: datetime | None) -> str:
    """A time for a person, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S}Z" if time else "unknown"


def iso(time: datetime | None) -> str | None:
    """A time as ISO 8601."""
    return time.isoformat() if time else None
