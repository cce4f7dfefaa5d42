"""The summary of a day: how a database stands, what opened and closed since the last one, how long links took.

It comes even when all is well: who is used to it notices when it does not come.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim
from pydantic import TypeAdapter

from po_exporter.model import Histogram, Incident, Status
from po_exporter.tell.incidents import Event, Happening, why_unreadable
from po_exporter.tell.summary import Links, Number, Past, Summary, numbers

DIGEST = "digest"
"""In place of a check."""
MOST_PAST = 100
"""Incidents that closed since the last digest and are told one by one."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When, by the clock of a time zone: a cron expression. In the night in which the clock is put forward, what would
    fall into the hour that is left out comes when that is over; in the one in which it is put back, it comes once."""

    expression: str
    timezone: str

    def after(self, now: datetime) -> datetime:
        """The next moment, later than ``now``."""
        return next(CronSim(self.expression, now.astimezone(ZoneInfo(self.timezone))))


@dataclass
class Day:
    """What is remembered from one digest to the next. Kept in the database where it can be: what is added needs a
    default."""

    since: datetime
    opened: int = 0
    closed: int = 0
    past: list[Past] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)


_AS_JSON = TypeAdapter(Day)


class Diary:
    """Remembers one database's day. ``links`` are those that were made before it began."""

    def __init__(self, schedule: Schedule, since: datetime, links: Histogram) -> None:
        self.schedule = schedule
        self._links = links
        self._begin(Day(since))

    def _begin(self, day: Day) -> None:
        self._day = day
        self.due = self.schedule.after(day.since)

    def memory(self) -> str:
        """As JSON, what somebody who goes on later has to know."""
        return _AS_JSON.dump_json(self._day).decode()

    def recall(self, memory: str) -> None:
        """Go on from what another one's ``memory`` says. Raises ValueError."""
        self._begin(_AS_JSON.validate_json(memory))

    def note(self, events: Sequence[Event], at: datetime) -> None:
        """Remember what happened."""
        day = self._day
        for event in events:
            if event.happening == Happening.OPENED:
                day.opened += 1
            elif event.happening != Happening.CHANGED:
                day.closed += event.happening == Happening.CLOSED
                day.past = [*day.past, _past(event.incident, at)][-MOST_PAST:]

    def write(
        self, status: Status, still_open: Sequence[Incident], now: datetime, replica: str, links: Links
    ) -> Summary:
        """The digest, and begin a new day."""
        shown, day = numbers(status), self._day
        made = _since(self._links, status.link_seconds)
        summary = Summary(
            id=secrets.token_hex(8),
            kind="digest",
            incident=f"{DIGEST} {status.database} {now:%Y-%m-%dT%H:%M}",
            database=status.database,
            environment=status.environment,
            check=DIGEST,
            title="",
            issue_type=None,
            priority="low",
            verdict=status.verdict,
            began=day.since,
            at=now,
            numbers=tuple(Number(label, value, day.before.get(label)) for label, value in shown.items()),
            error=why_unreadable(status),
            incidents=(*(_past(incident, None) for incident in still_open), *day.past),
            opened=day.opened,
            closed=day.closed,
            links_made=sum(made.counts),
            links_within=made.within(0.99),
            replica=replica,
            links=links,
        )
        self._begin(Day(now, before={label: value for label, value in shown.items() if value is not None}))
        self._links = status.link_seconds
        return summary


def _past(incident: Incident, ended: datetime | None) -> Past:
    return Past(incident.check.name, incident.check.settled, incident.began, ended)


def _since(before: Histogram, now: Histogram) -> Histogram:
    """What was observed since then; everything, where somebody else has led meanwhile and it began anew."""
    if sum(before.counts) > sum(now.counts):
        return now
    counts = tuple(new - old for old, new in zip(before.counts, now.counts, strict=True))
    return replace(now, counts=counts, sum=now.sum - before.sum)
