"""Tells of one database: from each status to incidents, from what happens to them to summaries, and on to channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from po_exporter.errors import DatabaseError
from po_exporter.model import Status
from po_exporter.tell.incidents import UNREADABLE, Event, Happening, Incidents, Sensitivity
from po_exporter.tell.summary import Links, Summary, numbers, summarise

log = structlog.get_logger()

Ask = Callable[[str, Sequence[str]], Awaitable[list[str] | None]]
"""Given a check and ids: which of those rows it finds wrong now, None where that cannot be told."""


class Teller:
    """Tells of one database, as long as its replica leads. ``deliver`` takes every summary."""

    def __init__(self, sensitivity: Sensitivity, links: Mapping[str, Links], replica: str) -> None:
        self.sensitivity, self.links, self.replica = sensitivity, links, replica
        self._incidents: Incidents | None = None
        self._numbers: dict[str, dict[str, str]] = {}

    async def observe(self, status: Status, still_wrong: Ask) -> list[Summary]:
        """What there is to tell of a status. A follower tells nothing, and begins anew when it takes over."""
        if not status.leader or not status.monitored:
            self._incidents, self._numbers = None, {}
            return []
        if self._incidents is None:
            self._incidents = Incidents(status.database, self.sensitivity)
        self._incidents.sensitivity = self.sensitivity
        events = self._incidents.observe(status)
        for name, ids in self._incidents.due_to_close.items():
            try:
                wrong = await still_wrong(name, ids) if ids and name != UNREADABLE else []
            except DatabaseError as error:  # it stays open until somebody can tell
                log.warning("incident_not_closed", database=status.database, check=name, error=str(error))
            else:
                events.append(self._incidents.close(name, wrong))
        return [self._summarise(event, status) for event in events]

    def _summarise(self, event: Event, status: Status) -> Summary:
        key = event.incident.key
        links = self.links.get(event.incident.check.name, Links())
        summary = summarise(event, status, before=self._numbers.pop(key, {}), replica=self.replica, links=links)
        if event.happening in (Happening.OPENED, Happening.CHANGED):
            self._numbers[key] = {label: value for label, value in numbers(status).items() if value is not None}
        return summary
