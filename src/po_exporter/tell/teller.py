"""Tells of one database: from each status to incidents, from what happens to them to summaries, and on to channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from po_exporter.errors import DatabaseError
from po_exporter.model import Incident, Status
from po_exporter.tell.digest import Diary, Schedule
from po_exporter.tell.incidents import UNREADABLE, Event, Happening, Incidents, Sensitivity
from po_exporter.tell.summary import Links, Summary, numbers, summarise

log = structlog.get_logger()

Ask = Callable[[str, Sequence[str]], Awaitable[list[str] | None]]
"""Given a check and ids: which of those rows it finds wrong now, None where that cannot be told."""


@dataclass(frozen=True)
class Terms:
    """What there is to know about what is told. ``links`` by check; ``replica`` names this one; ``digest`` None: there
    is none."""

    sensitivity: Sensitivity
    links: Mapping[str, Links] = field(default_factory=dict)
    replica: str = ""
    digest: Schedule | None = None


class Teller:
    """Tells of one database, as long as its replica leads."""

    def __init__(self, terms: Terms, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.terms = terms
        self._clock = clock
        self._incidents: Incidents | None = None
        self._diary: Diary | None = None
        self._numbers: dict[str, dict[str, str]] = {}

    async def observe(self, status: Status, still_wrong: Ask) -> list[Summary]:
        """What there is to tell of a status. A follower tells nothing, and begins anew when it takes over."""
        if not status.leader or not status.monitored:
            self._incidents, self._diary, self._numbers = None, None, {}
            return []
        if self._incidents is None:
            self._incidents = Incidents(status.database, self.terms.sensitivity)
        self._incidents.sensitivity = self.terms.sensitivity
        events = self._incidents.observe(status)
        # What was good before the database was lost is asked for when it is back.
        due = {} if status.up is False else self._incidents.due_to_close
        for name, ids in due.items():
            try:
                wrong = await still_wrong(name, ids) if ids and name != UNREADABLE else []
            except DatabaseError as error:  # it stays open until somebody can tell
                log.warning("incident_not_closed", database=status.database, check=name, error=str(error))
            else:
                events.append(self._incidents.close(name, wrong))
        told = [self._summarise(event, status) for event in events]
        return told + self._digest(events, status, self._incidents.open)

    def _digest(self, events: Sequence[Event], status: Status, still_open: Sequence[Incident]) -> list[Summary]:
        """The digest, with the first poll after its time."""
        schedule, now = self.terms.digest, self._clock()
        if schedule is None:
            self._diary = None
            return []
        if self._diary is None or self._diary.schedule != schedule:
            self._diary = Diary(schedule, now, status.link_seconds)
        self._diary.note(events, now)
        if now < self._diary.due:
            return []
        return [self._diary.write(status, still_open, now, self.terms.replica, self._page)]

    @property
    def _page(self) -> Links:
        """Where to go on with what has no runbook."""
        return replace(next(iter(self.terms.links.values()), Links()), runbook=None)

    def _summarise(self, event: Event, status: Status) -> Summary:
        key = event.incident.key
        links = self.terms.links.get(event.incident.check.name, self._page)
        before, replica = self._numbers.pop(key, {}), self.terms.replica
        summary = summarise(event, status, before=before, replica=replica, links=links)
        if event.happening in (Happening.OPENED, Happening.CHANGED):
            self._numbers[key] = {label: value for label, value in numbers(status).items() if value is not None}
        return summary
