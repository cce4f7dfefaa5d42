"""Canned Status values, so that what is shown can be tested without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from po_exporter.expose.view import View
from po_exporter.model import (
    CHECK_SECONDS,
    CheckResult,
    Entity,
    Finding,
    Histogram,
    LinkRate,
    Priority,
    Result,
    Status,
)

NOW = datetime(2026, 1, 27, 2, 0, 0, 123456, tzinfo=UTC)

CHECKS: dict[str, tuple[Priority, Entity, str]] = {
    "unlinked_filled_order": ("high", "order", "A filled order in the window that belongs to no position."),
    "aged_unlinked_order": ("high", "order", "A filled order from before the window that belongs to no position."),
    "orphaned_position_reference": ("high", "order", "An order that names a position that does not exist."),
    "unreadable_fill": ("high", "order", "A complete order whose filled quantity makes no sense."),
    "fill_without_filled_status": ("medium", "order", "A fill under a status that is not a filled one."),
    "overfilled_order": ("high", "order", "An order that was filled more than its quantity."),
    "trading_pair_mismatch": ("high", "order", "An order that is linked to a position in another pair."),
    "fill_outside_position": (
        "low",
        "order",
        "An order that was filled before its position opened or after it closed.",
    ),
    "duplicate_exchange_order": ("high", "order", "An order that shares its exchange id with another one."),
    "quantity_mismatch": ("medium", "position", "A position whose quantity differs from the sum of its orders."),
    "position_without_orders": ("medium", "position", "A position that no order links to."),
    "closed_position_not_flat": ("high", "position", "A closed position that still holds a quantity."),
    "duplicate_active_position": ("medium", "position", "An active position beside an older one of its pair."),
}
NAMES = ("link_rate", *CHECKS)


def finding(number: int, **details: object) -> Finding:
    """A finding whose id nobody could take for anything else."""
    moment = NOW - timedelta(minutes=number + 3)
    return Finding(f"5eedf00d-0000-4000-8000-{number:012d}", moment, moment + timedelta(seconds=40), details)


def answer(name: str, *findings: Finding, count: int | None = None, **changes: Any) -> CheckResult:
    """A check's answer; without findings it found nothing wrong."""
    priority, entity, sentence = CHECKS[name]
    oldest = min((each.since for each in findings if each.since), default=None)
    result = CheckResult(
        name=name,
        issue_type=name.upper(),
        priority=priority,
        entity=entity,
        help=sentence,
        ok=True,
        interval=60.0,
        as_of=NOW,
        seconds=0.012,
        count=len(findings) if count is None else count,
        oldest=oldest if "unlinked" in name else None,
        findings=findings,
    )
    return replace(result, **changes)


def link_rate(eligible: int = 1200, links: int = 1200, **changes: Any) -> CheckResult:
    result = CheckResult(
        name="link_rate",
        issue_type=None,
        priority=None,
        entity="order",
        help="How many of the eligible orders are linked.",
        ok=True,
        interval=60.0,
        as_of=NOW,
        seconds=0.012,
        link_rate=LinkRate(eligible, links),
    )
    return replace(result, **changes)


def failed(name: str, error: str = "The statement took longer than 30 seconds.") -> CheckResult:
    """A check that was asked and did not answer."""
    base = link_rate() if name == "link_rate" else answer(name)
    return replace(
        base, ok=False, error=error, reason="statement_timeout", as_of=None, seconds=None, count=None, link_rate=None
    )


def result(*changed: CheckResult, database: str = "trading") -> Result:
    """Every check found nothing wrong, but for those given."""
    by_name = {check.name: check for check in (link_rate(), *(answer(name) for name in CHECKS), *changed)}
    return Result(database, NOW, "scan", tuple(by_name.values()))


def status(*changed: CheckResult, database: str = "trading", **changes: Any) -> Status:
    """A database that was just polled; ``changed`` replaces the checks of the same names."""
    polled = Status(
        database=database,
        poll_interval=60.0,
        up=True,
        result=result(*changed, database=database),
        environment="production",
        last_poll=NOW,
        last_success=NOW,
        check_names=NAMES,
        check_last_success=dict.fromkeys(NAMES, NOW),
        check_intervals=dict.fromkeys(NAMES, 60.0),
        asked=dict.fromkeys(NAMES, 3),
        durations={name: Histogram.empty(CHECK_SECONDS).observe(0.012) for name in NAMES},
        issues={(name.upper(), priority): 0 for name, (priority, _, _) in CHECKS.items()},
        ready=True,
    )
    return replace(polled, **changes)


def unreadable(database: str = "trading", error: str = "Cannot connect to db:5432: connection refused.") -> Status:
    """A database that answered once and can no longer be read."""
    unanswered = tuple(failed(name, error) for name in NAMES)
    earlier = NOW - timedelta(minutes=12)
    return status(
        database=database,
        up=False,
        error=error,
        result=None,
        unanswered=unanswered,
        ready=False,
        last_success=earlier,
    )


def view(*statuses: Status, **changes: Any) -> View:
    shown = View(statuses or (status(),), config_loaded=True, config_loaded_at=NOW, revision="f00dcafe")
    return replace(shown, **changes)
