"""Incidents of one database: a check being bad over time.

They are made of results alone, without I/O, by the database's clock; by ours where it cannot be read. What is not
known changes nothing: a check without an answer opens, changes and closes no incident.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import TypeAdapter

from po_exporter.model import CheckResult, Incident, Status

UNREADABLE = "database"
"""In place of a check: the incident of a database that cannot be read, which speaks for all its checks."""
MOST_IDS = 1000
"""So many ids of an incident are remembered, to be asked for when it closes."""
REPEAT = timedelta(minutes=15)
"""New rows alone are told of at most this often; a count that moves by the factor at once."""
FLAP_WITHIN = 10
"""A check that is bad again within this many times ``close_after`` answers of its last close is flapping."""
NO_NUMBERS: Mapping[str, str] = {}
MOST_FLAPS = 5
"""Each time, closing takes twice as many good answers: 32 times as many at most."""


class Happening(StrEnum):
    """What there is to tell of an incident."""

    OPENED = "opened"
    CHANGED = "changed"
    CLOSED = "closed"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How many bad answers open an incident, how many good ones close it, by which factor its size has to move to be
    told again, and the threshold of each check (0 where it has none)."""

    open_after: int
    close_after: int
    change_factor: float
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def is_bad(self, check: CheckResult) -> bool:
        """Whether an answer is past the threshold: strictly above it, or for the link rate strictly below."""
        threshold = self.thresholds.get(check.name, 0.0)
        if check.link_rate:
            return (check.link_rate.percent or 0.0) < threshold
        return (check.settled or 0) > threshold

    def moved(self, size: float, told: float) -> bool:
        """Whether a size differs from the one that was told by more than the factor."""
        return size > told * self.change_factor or size * self.change_factor < told


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to an incident. ``still_wrong``: at its close, the rows of it that are not healed, below
    the threshold or out of the window, None where nobody can tell; ``before`` and ``numbers``: its size, and the
    database's numbers by label, when it was last told."""

    happening: Happening
    incident: Incident
    before: float | None = None
    still_wrong: tuple[str, ...] | None = ()
    numbers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Course:
    """What one check went through so far. Kept in the database where it can be: what is added needs a default."""

    as_of: datetime | None = None
    bad: int = 0
    good: int = 0
    began: datetime | None = None
    incident: Incident | None = None
    flaps: int = 0
    since_close: int | None = None
    told: float = 0.0
    told_at: datetime | None = None
    told_ids: tuple[str, ...] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)
    closes: bool = False

    def tell(self, happening: Happening, incident: Incident, numbers: Mapping[str, str], now: datetime) -> Event:
        """People hear of it as it is now."""
        event = Event(happening, incident, self.told if self.incident else None, numbers=self.numbers)
        self.incident, self.told, self.told_at = incident, incident.size, now
        self.told_ids, self.numbers = incident.ids, numbers
        return event

    def lasting(self, sensitivity: Sensitivity) -> Course | None:
        """What of it matters to somebody who goes on later, without what every poll changes; None for nothing."""
        flapping = self.since_close is not None and self.since_close <= FLAP_WITHIN * sensitivity.close_after
        if not (self.incident or self.bad or flapping):
            return None
        incident = self.incident
        if incident:
            check = replace(incident.check, as_of=None, seconds=None, interval=0.0, oldest=None, findings=())
            incident = replace(incident, check=check)
        return replace(
            self, as_of=None, bad=min(self.bad, sensitivity.open_after), incident=incident,
            good=self.good if self.incident or self.bad else 0,
            since_close=self.since_close if flapping else None, flaps=self.flaps if flapping or incident else 0,
        )  # fmt: skip


_AS_JSON = TypeAdapter(Course)


class Incidents:
    """Those of one database. ``observe`` is given every status; what it says is due to close is closed by ``close``."""

    def __init__(self, database: str, sensitivity: Sensitivity) -> None:
        self.database, self.sensitivity = database, sensitivity
        self._courses: dict[str, Course] = {}
        self._last_poll: datetime | None = None

    @property
    def open(self) -> tuple[Incident, ...]:
        """Those that are open, the oldest first."""
        found = [course.incident for course in self._courses.values() if course.incident]
        return tuple(sorted(found, key=lambda incident: incident.began))

    @property
    def due_to_close(self) -> dict[str, tuple[str, ...]]:
        """By check, the rows that are to be asked for once more before its incident closes."""
        return {name: course.incident.ids for name, course in self._courses.items()
                if course.incident and course.closes}  # fmt: skip

    @property
    def unreadable(self) -> bool:
        """Whether people have been told that the database cannot be read."""
        course = self._courses.get(UNREADABLE)
        return bool(course and course.incident)

    def memory(self) -> dict[str, str]:
        """By check, as JSON, what somebody who goes on later has to know."""
        lasting = {name: course.lasting(self.sensitivity) for name, course in self._courses.items()}
        return {name: _AS_JSON.dump_json(course).decode() for name, course in lasting.items() if course}

    def recall(self, name: str, state: str) -> None:
        """Go on from what another one's ``memory`` says; what is known here already is newer. Raises ValueError."""
        course = _AS_JSON.validate_json(state)
        self._courses.setdefault(name, course)

    def forget_checks(self) -> None:
        """Somebody else may go on with these; whether the database can be read, everybody sees for himself."""
        self._courses = {name: course for name, course in self._courses.items() if name == UNREADABLE}

    def observe(self, status: Status, numbers: Mapping[str, str] = NO_NUMBERS) -> list[Event]:
        """Take in what a poll learned. The same status twice, or the same answer, counts once."""
        events = [event for name in list(self._courses) if (event := self._turned_off(name, status))]
        if status.up is None or status.last_poll is None or status.last_poll == self._last_poll:
            return events
        self._last_poll = status.last_poll
        lost = unreadable(status)
        checks = [lost] if status.up is False or not status.result else [lost, *status.result.checks]
        return events + [event for check in checks if (event := self._answered(check, numbers))]

    def off(self) -> list[Event]:
        """The database is not watched any more: all that is open is off."""
        left = [course for course in self._courses.values() if course.incident]
        self._courses = {}
        return [Event(Happening.OFF, c.incident, c.told, numbers=c.numbers) for c in left if c.incident]

    def close(self, name: str, still_wrong: Collection[str] | None) -> Event:
        """Close an incident, its rows having been asked for."""
        course = self._courses[name]
        if course.incident is None:
            raise ValueError(f"no incident of {name} is open")
        wrong = None if still_wrong is None else tuple(still_wrong)
        event = Event(Happening.CLOSED, course.incident, course.told, wrong, course.numbers)
        self._courses[name] = Course(as_of=course.as_of, flaps=course.flaps, since_close=0)
        return event

    def _turned_off(self, name: str, status: Status) -> Event | None:
        if name == UNREADABLE or name in status.check_names:
            return None
        course = self._courses.pop(name)
        return Event(Happening.OFF, course.incident, course.told, numbers=course.numbers) if course.incident else None

    def _answered(self, check: CheckResult, numbers: Mapping[str, str]) -> Event | None:
        course = self._courses.setdefault(check.name, Course())
        if not check.ok or check.as_of is None or check.as_of == course.as_of:
            return None
        if check.link_rate and not check.link_rate.eligible:  # no rate is neither good nor bad
            return None
        course.as_of = now = check.as_of
        if course.since_close is not None:
            course.since_close += 1
        if not self.sensitivity.is_bad(check):
            self._is_good(course)
            return None
        course.good, course.closes = 0, False
        course.bad += 1
        course.began = course.began or now
        if course.incident:
            return self._is_bad_still(course, course.incident, check, numbers, now)
        if course.bad >= self.sensitivity.open_after:
            return self._opens(course, check, course.began, numbers, now)
        return None

    def _is_good(self, course: Course) -> None:
        course.good += 1
        if course.incident:
            course.closes = course.good >= self.sensitivity.close_after * 2**course.flaps
        elif course.good >= self.sensitivity.close_after:
            course.bad, course.began = 0, None

    def _opens(
        self, course: Course, check: CheckResult, began: datetime, numbers: Mapping[str, str], now: datetime
    ) -> Event:
        recent = course.since_close is not None and course.since_close <= FLAP_WITHIN * self.sensitivity.close_after
        course.flaps = min(course.flaps + 1, MOST_FLAPS) if recent else 0
        ids = _ids(check)
        others = _has_others(check, ids)
        incident = Incident(secrets.token_hex(8), self.database, began, check, _size(check), ids, course.flaps, others)
        return course.tell(Happening.OPENED, incident, numbers, now)

    def _is_bad_still(
        self, course: Course, incident: Incident, check: CheckResult, numbers: Mapping[str, str], now: datetime
    ) -> Event | None:
        now_wrong = _ids(check)
        ids = tuple(dict.fromkeys((*now_wrong, *incident.ids)))
        others = incident.others or len(ids) > MOST_IDS or _has_others(check, now_wrong)
        course.incident = incident = replace(
            incident, check=check, size=_size(check), ids=ids[:MOST_IDS], others=others
        )
        new = not set(course.told_ids).issuperset(now_wrong)
        waited = course.told_at is not None and now - course.told_at >= REPEAT
        if not self.sensitivity.moved(incident.size, course.told) and not (new and waited):
            return None
        return course.tell(Happening.CHANGED, incident, numbers, now)


def _size(check: CheckResult) -> float:
    """How much is wrong: so many findings, or percent that are not linked."""
    if check.link_rate:
        return 100.0 - (check.link_rate.percent or 0.0)
    return float(check.settled or 0)


def _ids(check: CheckResult) -> tuple[str, ...]:
    return tuple(finding.id for finding in check.findings if finding.settled)[:MOST_IDS]


def _has_others(check: CheckResult, ids: Collection[str]) -> bool:
    """Whether more rows are wrong than these. A link rate has none, and is not healed by any."""
    return not check.link_rate and (check.settled or 0) > len(ids)


def why_unreadable(status: Status) -> str | None:
    """Why the database cannot be read, which may be why its first check has no answer; None where it can."""
    if status.up is not False:
        return None
    checks = status.result.checks if status.result else status.unanswered
    return status.error or next((check.error for check in checks if check.error), None)


def unreadable(status: Status) -> CheckResult:
    """Whether the database can be read, in the form of a check's answer: one finding where it cannot."""
    lost = status.up is False
    return CheckResult(
        name=UNREADABLE,
        issue_type="DATABASE_UNREADABLE",
        priority="high",
        entity="order",
        help="The database cannot be read: nothing is known of its orders and positions.",
        ok=True,
        interval=status.poll_interval,
        error=why_unreadable(status),
        as_of=status.last_poll,
        count=int(lost),
        settled=int(lost),
    )
