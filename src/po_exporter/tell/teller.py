"""What there is to tell of one database: from each status to incidents, from what happens to them to summaries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

import structlog

from po_exporter.errors import DatabaseError
from po_exporter.model import Incident, Status
from po_exporter.tell.digest import DIGEST, Diary, Schedule
from po_exporter.tell.incidents import UNREADABLE, Event, Incidents, Sensitivity
from po_exporter.tell.summary import Links, Summary, numbers, summarise

log = structlog.get_logger()

Ask = Callable[[str, Sequence[str]], Awaitable[list[str] | None]]
"""Given a check and ids: which of those rows it finds wrong now, None where that cannot be told."""


@dataclass(frozen=True)
class Terms:
    """What there is to know about what is told.

    ``runbooks`` by check; ``page`` and ``dashboard`` are addresses of ours and of Grafana's; ``replica`` names this
    one; ``digest`` None: there is none. Without ``incidents``, those are left to Alertmanager.
    """

    sensitivity: Sensitivity
    runbooks: Mapping[str, str] = field(default_factory=dict)
    page: str | None = None
    dashboard: str | None = None
    replica: str = ""
    digest: Schedule | None = None
    incidents: bool = True

    def where(self, check: str, database: str) -> Links:
        """Where to go on with a check."""
        dashboard = self.dashboard
        if dashboard:
            dashboard += ("&" if "?" in dashboard else "?") + urlencode({"var-database": database})
        return Links(self.runbooks.get(check), self.page, dashboard)


class Teller:
    """Tells of one database, as long as its replica leads."""

    def __init__(self, terms: Terms, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.terms = terms
        self._clock = clock
        self._incidents: Incidents | None = None
        self._diary: Diary | None = None
        self._day: str | None = None

    @property
    def unreadable(self) -> bool:
        """Whether people have been told that the database cannot be read, and not yet that it can."""
        return self._incidents is not None and self._incidents.unreadable

    @property
    def open(self) -> frozenset[str]:
        """The keys of the incidents that are open."""
        return frozenset(incident.key for incident in self._incidents.open) if self._incidents else frozenset()

    async def observe(self, status: Status, still_wrong: Ask) -> list[Summary]:
        """What there is to tell of a status."""
        if not status.leader or not status.monitored:
            return self._follow(status)
        incidents = self._incidents = self._incidents or Incidents(status.database, self.terms.sensitivity)
        incidents.sensitivity = self.terms.sensitivity
        events = incidents.observe(status, _known(status))
        # What was good before the database was lost is asked for when it is back.
        due = {} if status.up is False else incidents.due_to_close
        for name, ids in due.items():
            try:
                wrong = await still_wrong(name, ids) if ids and name != UNREADABLE else []
            except DatabaseError as error:  # it stays open until somebody can tell
                log.warning("incident_not_closed", database=status.database, check=name, error=str(error))
            else:
                events.append(incidents.close(name, wrong))
        told = [self.summarise(event, status) for event in events] if self.terms.incidents else []
        return told + self._digest(events, status, incidents.open)

    def _follow(self, status: Status) -> list[Summary]:
        """A follower tells nothing, but that it was cut off from the database while it led, and that it is back."""
        incidents, self._diary, self._day = self._incidents, None, None
        if incidents is None or not status.monitored:
            self._incidents = None
            return []
        incidents.forget_checks()
        events = []
        if not status.cut_off:
            events = [incidents.close(UNREADABLE, ())] if incidents.unreadable else []
            self._incidents = None
        elif status.up is False:  # nothing is polled: each time that this is asked counts as a poll
            events = incidents.observe(replace(status, last_poll=self._clock()))
        return [self.summarise(event, status) for event in events] if self.terms.incidents else []

    def end(self, status: Status) -> list[Summary]:
        """What there is to tell when the database is not watched any more."""
        events = self._incidents.off() if self._incidents and self.terms.incidents else []
        return [self.summarise(event, status) for event in events]

    def memory(self) -> dict[str, str]:
        """By name, as JSON, what somebody who goes on later has to know."""
        known = self._incidents.memory() if self._incidents else {}
        return known | ({DIGEST: self._diary.memory()} if self._diary else {})

    def recall(self, database: str, memory: Mapping[str, str]) -> None:
        """Go on from what another one's ``memory`` says; what is known here already is newer."""
        incidents = self._incidents = self._incidents or Incidents(database, self.terms.sensitivity)
        self._day = memory.get(DIGEST)
        for name in memory.keys() - {DIGEST}:
            try:
                incidents.recall(name, memory[name])
            except ValueError as error:  # of another version of ours: that one begins anew
                log.error("incident_unreadable", database=database, check=name, error=str(error))

    def reset(self) -> None:
        """Somebody else knows better by now."""
        self._incidents, self._diary, self._day = None, None, None

    def _digest(self, events: Sequence[Event], status: Status, still_open: Sequence[Incident]) -> list[Summary]:
        """The digest, with the first poll after its time."""
        schedule, now = self.terms.digest, self._clock()
        if schedule is None:
            self._diary = None
            return []
        if self._diary is None or self._diary.schedule != schedule:
            before, self._day = self._diary.memory() if self._diary else self._day, None
            self._diary = Diary(schedule, now, status.link_seconds)
            if before:
                try:
                    self._diary.recall(before)
                except ValueError as error:  # of another version of ours: the day begins anew
                    log.error("digest_unreadable", database=status.database, error=str(error))
        self._diary.note(events, now)
        if now < self._diary.due:
            return []
        where = self.terms.where(DIGEST, status.database)
        return [self._diary.write(status, still_open, now, self.terms.replica, where)]

    def summarise(self, event: Event, status: Status) -> Summary:
        """What is told of an event."""
        where = self.terms.where(event.incident.check.name, status.database)
        return summarise(event, status, replica=self.terms.replica, links=where)


def at_once(status: Status, terms: Terms) -> list[Summary]:
    """What would be told of a status if it stayed so: as if everything in it had been there for long enough."""
    result = status.result
    if result:
        checks = tuple(
            replace(each, settled=each.count, findings=tuple(replace(row, settled=True) for row in each.findings))
            for each in result.checks
        )
        status = replace(status, result=replace(result, checks=checks))
    teller = Teller(terms)
    incidents = Incidents(status.database, replace(terms.sensitivity, open_after=1))
    return [teller.summarise(event, status) for event in incidents.observe(status)]


def _known(status: Status) -> dict[str, str]:
    """The database's numbers, as far as they are known."""
    return {label: value for label, value in numbers(status).items() if value is not None}
