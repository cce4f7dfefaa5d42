"""Which filled orders wait for their link: whose grace has run out before our eyes, and how long linking took.

A column that is touched all the time would keep an order younger than its grace for ever; so an order that a poll of
this process saw filled and unlinked a grace ago counts, whatever its fill time says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import nlargest

from po_exporter.model import LINK_SECONDS, Histogram

LONG_AGO = datetime.min.replace(tzinfo=UTC)
MOST_PENDING = 10_000
"""Orders watched at once; of more, the youngest."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An order that a poll saw filled and unlinked: when it filled, by its own clock, and when we first saw it so."""

    fill_time: datetime | None
    first_seen: datetime


@dataclass
class LinkWatch:
    """The orders whose link is waited for, and the seconds that it took those that got one."""

    seconds: Histogram = field(default_factory=lambda: Histogram.empty(LINK_SECONDS))
    _pending: dict[str, Pending] = field(default_factory=dict)

    def waited(self, as_of: datetime, grace: timedelta) -> list[str]:
        """Ids first seen filled and unlinked at least a grace ago."""
        return [key for key, pending in self._pending.items() if pending.first_seen <= as_of - grace]

    @property
    def ids(self) -> list[str]:
        """The ids of all that are waited for."""
        return list(self._pending)

    def take(self, as_of: datetime, unlinked: Iterable[tuple[str, datetime | None]], known: Mapping[str, bool]) -> None:
        """Take in what one poll saw: orders filled and unlinked, and for each of ``ids`` that still counts, whether it
        is linked now.

        A link is timed from the fill to the poll that saw it; where the fill time is unknown, not at all.
        """
        for key, linked in known.items():
            start = self._pending[key].fill_time if linked and key in self._pending else None
            if start is not None:
                self.seconds = self.seconds.observe(max(0.0, (as_of - start).total_seconds()))
        before = self._pending
        pending = {key: before[key] for key, linked in known.items() if not linked and key in before}
        for key, fill_time in unlinked:
            pending.setdefault(key, Pending(fill_time, as_of))
        youngest = nlargest(MOST_PENDING, pending.items(), key=lambda item: item[1].fill_time or LONG_AGO)
        self._pending = dict(youngest)

    def forget(self) -> None:
        """Wait for nothing any more: the orders are others now, or are called otherwise."""
        self._pending = {}
