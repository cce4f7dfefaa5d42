"""What is told of one event: everything that a template or a receiver may use, as plain values without I/O."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from po_exporter.model import Finding, Priority, Status, Verdict
from po_exporter.sql import LINK_RATE
from po_exporter.tell.incidents import UNREADABLE, Event, Happening

Kind = Literal["opened", "changed", "closed", "off", "alert", "test", "digest"]
MOST_ROWS = 20
"""Rows of one summary; how many more there are is said."""
LINK_RATE_PRIORITY: Priority = "medium"
"""It is no finding, and its alert is a warning."""
VERDICTS: dict[Priority, Verdict] = {"high": Verdict.CRITICAL, "medium": Verdict.DEGRADED, "low": Verdict.DEGRADED}
NUMBERS = {
    "unlinked_filled_order": "Unlinked fills",
    "orphaned_position_reference": "Orphaned references",
    "quantity_mismatch": "Quantity mismatches",
}


@dataclass(frozen=True, slots=True)
class Number:
    """One of the numbers of a database, as text, and what it was when the incident was last told of; None where that
    is not known."""

    label: str
    now: str | None
    before: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row that is wrong. ``details`` are texts, exact to the last digit."""

    id: str
    since: datetime | None
    first_seen: datetime
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Past:
    """One incident of a day: its check, how many findings it last had (None for the link rate), and from when to when;
    ``ended`` None: it is open."""

    check: str
    count: int | None
    began: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Links:
    """Where a reader can go on; None where there is no such place."""

    runbook: str | None = None
    page: str | None = None
    dashboard: str | None = None


@dataclass(frozen=True, slots=True)
class AlertSaid:
    """What Alertmanager says: which alert, that it is over or not, and where Alertmanager is."""

    name: str
    resolved: bool
    url: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """What people are told of one event of one incident.

    ``id`` is this telling's own: who gets one twice knows it by that. ``incident`` is the same in all tellings of an
    incident. ``verdict`` is what this incident alone makes of the database. ``began`` is the database's clock at its
    first bad answer, ``at`` at the answer that is told. ``count`` is how many findings there are, ``before`` how many
    there were when it was last told of; both None for the link rate and for a database that cannot be read. ``more``
    findings are not among ``rows``. ``asked_again`` rows were asked for once more at the close, and ``still_wrong`` of
    them are not healed: below the threshold, or out of the window. ``healed``: nothing of it is left; None: nobody can
    tell. ``error`` says why the database cannot be read.

    Of an ``alert``, Alertmanager says that it has been firing since ``began``; everything else is what is known now.

    Of a digest, ``began`` and ``at`` are the ends of its day, ``verdict`` is the database's, and ``check`` is `digest`.
    ``incidents`` are those that are open and those that closed in the course of it; ``opened`` and ``closed`` count
    them. ``links_made`` orders were linked, 99 % of them within ``links_within`` seconds of their fill (None: longer
    than is measured, or none was).
    """

    id: str
    kind: Kind
    incident: str
    database: str
    environment: str | None
    check: str
    title: str
    issue_type: str | None
    priority: str
    verdict: Verdict
    began: datetime
    at: datetime
    count: int | None = None
    before: int | None = None
    flaps: int = 0
    numbers: tuple[Number, ...] = ()
    rows: tuple[Row, ...] = ()
    more: int = 0
    asked_again: int = 0
    still_wrong: tuple[str, ...] = ()
    healed: bool | None = None
    error: str | None = None
    incidents: tuple[Past, ...] = ()
    opened: int = 0
    closed: int = 0
    links_made: int = 0
    links_within: float | None = None
    replica: str = ""
    links: Links = field(default_factory=Links)
    alert: AlertSaid | None = None

    @property
    def ends(self) -> bool:
        """Whether nothing more comes of what it is about."""
        return self.kind in ("closed", "off", "test", "digest") or bool(self.alert and self.alert.resolved)

    @property
    def repeats(self) -> bool:
        """Whether it says only what the one before it said, where there was one: Alertmanager repeats what fires."""
        return self.alert is not None and not self.alert.resolved

    def json(self) -> dict[str, Any]:
        """As JSON values; times in ISO 8601."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def summarise(event: Event, status: Status, *, replica: str, links: Links) -> Summary:
    """The summary of one event."""
    incident, check = event.incident, event.incident.check
    priority = check.priority or LINK_RATE_PRIORITY
    counted = check.count is not None and check.name != UNREADABLE
    closed = event.happening in (Happening.CLOSED, Happening.OFF)
    settled = [finding for finding in check.findings if finding.settled]
    rows = [] if closed else settled[:MOST_ROWS]
    now = status.result.check(check.name) if status.result else None
    count = ((now.settled if now else None) if closed else check.settled) if counted else None
    at = status.last_poll if check.name == UNREADABLE or now is None else now.as_of
    return Summary(
        id=secrets.token_hex(8),
        kind=event.happening.value,
        incident=incident.key,
        database=incident.database,
        environment=status.environment,
        check=check.name,
        title=check.help,
        issue_type=check.issue_type,
        priority=priority,
        verdict=Verdict.UNKNOWN if check.name == UNREADABLE else VERDICTS[priority],
        began=incident.began,
        at=at or status.last_poll or incident.began,
        count=count,
        before=int(event.before) if counted and event.before is not None else None,
        flaps=incident.flaps,
        numbers=tuple(Number(label, value, event.numbers.get(label)) for label, value in numbers(status).items()),
        rows=shown(rows),
        more=0 if closed or not counted else max(0, (check.settled or 0) - len(rows)),
        asked_again=len(incident.ids) if event.happening == Happening.CLOSED and event.still_wrong is not None else 0,
        still_wrong=event.still_wrong or (),
        healed=_healed(event, count) if event.happening == Happening.CLOSED else None,
        error=check.error,
        replica=replica,
        links=links,
    )


def numbers(status: Status) -> dict[str, str | None]:
    """The guide's numbers, as text; None for one that is not known, none for a check that is off."""
    result, names = status.result, status.check_names
    found: dict[str, str | None] = {}
    if LINK_RATE in names:
        rate = result.link_rate if result else None
        found["Link rate"] = str(rate) if rate else None
        found["Eligible orders"] = f"{rate.eligible:,}" if rate else None
    for name, label in NUMBERS.items():
        if name in names:
            count = result.count(name) if result else None
            found[label] = None if count is None else f"{count:,}"
    return found


def _healed(event: Event, count: int | None) -> bool | None:
    """Whether nothing of an incident is left; None where nobody can tell. A link rate has no rows to look at."""
    if event.incident.check.name == UNREADABLE:
        return True
    if event.still_wrong is None:
        return None
    if event.still_wrong or count != 0:
        return False
    return None if event.incident.others else True


def shown(findings: Sequence[Finding]) -> tuple[Row, ...]:
    """Findings as rows: their details as texts."""

    def row(finding: Finding) -> Row:
        details = {str(key): str(value) for key, value in finding.details.items() if value is not None}
        return Row(finding.id, finding.since, finding.first_seen, details)

    return tuple(map(row, findings))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
