"""What Alertmanager says of alerts of ours, and the rows behind them: its webhook in, summaries out.

The webhook: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from po_exporter.errors import NotLeading
from po_exporter.model import CheckResult, Status, Verdict
from po_exporter.tell.incidents import UNREADABLE, unreadable, why_unreadable
from po_exporter.tell.summary import LINK_RATE_PRIORITY, MOST_ROWS, VERDICTS, AlertSaid, Number, Summary, numbers, shown
from po_exporter.tell.teller import Terms

UNLINKED = "unlinked_filled_order"
MOST_ALERTS = 1000
"""Alerts of one notification that are looked at; Alertmanager's groups of ours have a few."""


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("it is outside of the calendar") from None


def _url(text: str) -> str:
    """An address that a reader may follow; empty for any other."""
    return text if re.fullmatch(r"https?://[!-~]{1,2000}", text) else ""


class Alert(BaseModel):
    """One alert of a notification."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    since: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(alias="startsAt")


class Notification(BaseModel):
    """What Alertmanager posts: a group of alerts."""

    version: Literal["4"]
    group: str = Field(alias="groupKey")
    url: Annotated[str, AfterValidator(_url)] = Field("", alias="externalURL")
    alerts: list[Alert]
    truncated: int = Field(0, alias="truncatedAlerts", ge=0)

    @classmethod
    def parse(cls, body: bytes) -> Notification:
        """From JSON. Raises ValueError with a sentence."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the body"
            raise ValueError(
                f"This is no notification of Alertmanager's, version 4: {place}: {first['msg']}."
            ) from None


@dataclass(frozen=True)
class Explanation:
    """What there is to tell, and why there is nothing to tell of the others: (alert, database, reason)."""

    summaries: tuple[Summary, ...]
    unmatched: tuple[tuple[str, str | None, str], ...]

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        names = ("alertname", "database", "reason")
        return {
            "summaries": [summary.json() for summary in self.summaries],
            "unmatched": [dict(zip(names, each, strict=True)) for each in self.unmatched],
        }


def explain(
    said: Notification, statuses: Sequence[Status], questions: Mapping[str, Sequence[str]], terms: Terms
) -> Explanation:
    """What is known of the questions that the alerts are about, one summary for each check and database.

    ``questions`` has the checks that answer each alert of ours, none where the alert itself names one. Raises
    NotLeading where another replica knows.
    """
    known = {status.database: status for status in statuses}
    about: dict[tuple[str, str], list[Alert]] = {}
    unmatched: dict[tuple[str, str | None, str], None] = {}
    for alert in said.alerts[:MOST_ALERTS]:
        name = alert.labels.get("alertname", "")
        database = alert.labels.get("database") or (next(iter(known)) if len(known) == 1 else None)
        status = known.get(database or "")
        if name not in questions:
            unmatched[name, database, "it is no alert of po-exporter's"] = None
        elif status is None or database is None:
            unmatched[name, database, "no such database is watched here" if database else "it names no database"] = None
        elif not status.leader and status.up is not False:  # where nobody can read it, each may say so
            raise NotLeading(f"another replica leads {database}")
        else:
            checks = _checks(alert, questions[name], status)
            if not checks:
                unmatched[name, database, "there are no rows behind it"] = None
            for check in checks:
                about.setdefault((database, check), []).append(alert)
    if (left := len(said.alerts) - MOST_ALERTS) > 0 or said.truncated:
        unmatched["", None, f"{max(left, 0) + said.truncated} more alerts were not looked at"] = None
    return Explanation(
        tuple(_summary(said, alerts, known[database], check, terms) for (database, check), alerts in about.items()),
        tuple(unmatched),
    )


def _checks(alert: Alert, answered_by: Sequence[str], status: Status) -> Sequence[str]:
    """The checks that an alert is about, whether they have an answer or not."""
    if UNREADABLE in answered_by:
        return (UNREADABLE,)
    named, kind = alert.labels.get("check"), alert.labels.get("issue_type")
    known = _answers(status)
    if not known:  # of one that is cut off, nothing is known but the names
        return answered_by or ((named,) if named else ())
    return [
        check.name
        for check in known
        if check.name in answered_by
        or (not answered_by and (check.name == named or (kind and check.issue_type == kind)))
    ]


def _summary(said: Notification, alerts: Sequence[Alert], status: Status, check: str, terms: Terms) -> Summary:
    found = next((each for each in _answers(status) if each.name == check), None)
    answer = found or unreadable(status)
    firing = [alert for alert in alerts if alert.status == "firing"]
    first = min(firing or alerts, key=lambda alert: alert.since)
    key = "\0".join((said.group, status.database, check))
    counted = found is not None and found.ok and found.link_rate is None
    behind = _behind(answer, status)
    rows = shown(behind.findings[:MOST_ROWS]) if behind else ()
    priority = answer.priority or LINK_RATE_PRIORITY
    return Summary(
        id=secrets.token_hex(8),
        kind="alert",
        incident=hashlib.sha256(key.encode(errors="replace")).hexdigest()[:16],
        database=status.database,
        environment=status.environment,
        check=check,
        title=answer.help,
        issue_type=answer.issue_type,
        priority=priority,
        verdict=_verdict(status, found, terms),
        began=first.since,
        at=answer.as_of or status.last_poll or datetime.now(UTC),
        count=answer.count if counted else None,
        numbers=tuple(Number(label, value) for label, value in numbers(status).items()),
        rows=rows,
        more=max(0, (behind.count or 0) - len(rows)) if behind else 0,
        error=answer.error if found else why_unreadable(status),
        replica=terms.replica,
        links=terms.where(check, status.database),
        alert=AlertSaid(first.labels["alertname"], resolved=not firing, url=said.url),
    )


def _answers(status: Status) -> Sequence[CheckResult]:
    """Every check, with its answer or without."""
    return status.result.checks if status.result else status.unanswered


def _behind(answer: CheckResult, status: Status) -> CheckResult | None:
    """The check whose rows are behind an answer: of a link rate, the orders without a link."""
    found = status.result.check(UNLINKED) if answer.link_rate and status.result else answer
    return found if found and found.ok and found.name != UNREADABLE else None


def _verdict(status: Status, check: CheckResult | None, terms: Terms) -> Verdict:
    """What is known of it now, whatever Alertmanager says."""
    if check is None:
        return Verdict.OK if status.up and status.result else Verdict.UNKNOWN
    if not check.ok:
        return Verdict.UNKNOWN
    wrong = terms.sensitivity.is_bad(check) if check.link_rate else bool(check.count)
    return VERDICTS[check.priority or LINK_RATE_PRIORITY] if wrong else Verdict.OK
