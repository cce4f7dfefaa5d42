"""Statuses as JSON values: what `check --format json` prints and what the API answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal

from po_exporter.expose.view import LINK_RATE, shown_result
from po_exporter.model import CheckResult, Finding, Result, Status, Verdict

Json = dict[str, object]


def status_json(status: Status) -> Json:
    """One database as `check --format json` prints it. While nothing is known of it, every value is null and every
    check has failed for the same reason."""
    result = shown_result(status)
    checks = result.checks if result else status.unanswered
    return {
        "database": status.database,
        "as_of": time_json(result.as_of) if result else None,
        "mode": status.mode,
        "verdict": str(result.verdict if result else Verdict.UNKNOWN),
        "known_verdict": result.known_verdict if result else None,
        "metrics": _metrics_json(result),
        "checks": [check_json(check) for check in checks],
        "error": status.error,
    }


def watching_json(status: Status) -> Json:
    """How the watching of a database goes: what `/api/v1/status` adds to the object above."""
    return {
        "monitored": status.monitored,
        "up": status.up,
        "ready": status.ready,
        "last_poll": time_json(status.last_poll),
        "last_success": time_json(status.last_success),
        "feed": status.feed and asdict(status.feed),
    }


def findings_json(status: Status, check: str | None) -> Json:
    """The rows that are wrong, of one check or of all. ``findings`` is null where nothing was answered: an empty list
    would say that nothing is wrong."""
    result = shown_result(status)
    asked = [each for each in (result.checks if result else ()) if check in (None, each.name)]
    known = [each for each in asked if each.ok and each.name != LINK_RATE]
    rows = [
        {"check": each.name, "issue_type": each.issue_type, "priority": each.priority, **_finding_json(finding)}
        for each in known
        for finding in each.findings
    ]
    return {
        "database": status.database,
        "as_of": time_json(result.as_of) if result else None,
        "verdict": str(result.verdict if result else Verdict.UNKNOWN),
        "known_verdict": result.known_verdict if result else None,
        "error": status.error,
        "checks": [
            {"name": each.name, "ok": each.ok, "error": each.error, "count": each.count, "truncated": each.truncated}
            for each in asked
        ],
        "findings": rows if known else None,
    }


def check_json(check: CheckResult) -> Json:
    """One check's latest answer, or why it has none."""
    return {
        "name": check.name,
        "issue_type": check.issue_type,
        "priority": check.priority,
        "ok": check.ok,
        "error": check.error,
        "as_of": time_json(check.as_of),
        "count": check.count if check.ok else None,
        "truncated": check.ok and check.truncated,
        "seconds": check.seconds,
        "findings": [_finding_json(finding) for finding in check.findings] if check.ok else [],
    }


def time_json(when: datetime | None) -> str | None:
    """ISO 8601 with offset."""
    return when.isoformat() if when else None


def plain(value: object) -> object:
    """A value from a table as JSON can carry it, exactly: a decimal becomes a string to its last digit."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return time_json(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return str(value)


def _finding_json(finding: Finding) -> Json:
    return {
        "id": finding.id,
        "since": time_json(finding.since),
        "first_seen": time_json(finding.first_seen),
        "details": plain(finding.details),
    }


def _metrics_json(result: Result | None) -> Json:
    rate = result.link_rate if result else None
    return {
        "eligible_orders": rate.eligible if rate else None,
        "links": rate.links if rate else None,
        "link_rate": rate.percent if rate else None,
        "unlinked_filled_orders": result.count("unlinked_filled_order") if result else None,
        "orphaned_references": result.count("orphaned_position_reference") if result else None,
        "quantity_mismatches": result.count("quantity_mismatch") if result else None,
    }
