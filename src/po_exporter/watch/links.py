"""Which filled orders wait for their link: whose grace has run out before our eyes, and how long linking took.

A column that is touched all the time would keep an order younger than its grace for ever; so an order that a poll of
this process saw filled and unlinked a grace ago counts, whatever its fill time says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import nlargest

import asyncpg

from po_exporter.model import LINK_SECONDS, Histogram
from po_exporter.watch.answer import read_time
from po_exporter.watch.changes import Changes

LONG_AGO = datetime.min.replace(tzinfo=UTC)
MOST_PENDING = 10_000
"""Orders watched at once; of more, the youngest."""
MOST_FILLS = 100_000
"""Orders whose fill waits for its link, for latency alone; of more, the last."""


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

    def take(
        self,
        as_of: datetime,
        unlinked: Iterable[tuple[str, datetime | None]],
        known: Mapping[str, bool],
        *,
        timed: bool = True,
    ) -> None:
        """Take in what one poll saw: orders filled and unlinked, and for each of ``ids`` that still counts, whether it
        is linked now.

        A link is timed from the fill to the poll that saw it; where the fill time is unknown, or others time it
        (not ``timed``), not at all.
        """
        for key, linked in known.items():
            start = self._pending[key].fill_time if timed and linked and key in self._pending else None
            if start is not None:
                self.observe((as_of - start).total_seconds())
        before = self._pending
        pending = {key: before[key] for key, linked in known.items() if not linked and key in before}
        for key, fill_time in unlinked:
            pending.setdefault(key, Pending(fill_time, as_of))
        self._keep(pending)

    def follow(self, as_of: datetime, touched: Iterable[str], unlinked: Mapping[str, datetime | None]) -> None:
        """Take in what a poll learned of the orders that were touched: which of them are filled and unlinked, and when
        they filled."""
        pending = self._pending
        for key in touched:
            if key not in unlinked:
                pending.pop(key, None)
        for key, fill_time in unlinked.items():
            pending.setdefault(key, Pending(fill_time, as_of))
        self._keep(pending)

    def observe(self, seconds: float) -> None:
        """Time one new link."""
        self.seconds = self.seconds.observe(max(0.0, seconds))

    def first_seen(self, key: str) -> datetime | None:
        """When a poll first saw an order filled and unlinked; None where none did."""
        pending = self._pending.get(key)
        return pending.first_seen if pending else None

    def _keep(self, pending: dict[str, Pending]) -> None:
        if len(pending) > MOST_PENDING:
            pending = dict(nlargest(MOST_PENDING, pending.items(), key=lambda item: item[1].fill_time or LONG_AGO))
        self._pending = pending

    def forget(self) -> None:
        """Wait for nothing any more: the orders are others now, or are called otherwise."""
        self._pending = {}


@dataclass
class LinkTimer:
    """Times every new link by commit times, which the change feed has: from the fill to the link.

    The fill is ``filled_at`` where that is mapped; a fill that was committed before the feed began is unknown, and its
    link not timed.
    """

    watch: LinkWatch
    has_filled_at: bool
    _fills: dict[str, datetime] = field(default_factory=dict)

    def time(self, rows: Sequence[asyncpg.Record], changes: Changes) -> None:
        """Time the new links among these changes; ``rows`` are the filled orders among those that were touched."""
        filled = {row["id"]: read_time(row["filled_at"]) for row in rows if row["linked"]}
        self._fills |= {key: when for key, when in changes.filled.items() if key not in self._fills}
        for key, linked_at in changes.linked.items():
            start = filled.get(key) if self.has_filled_at else self._fills.get(key)
            if key in filled and start is not None:
                self.watch.observe((linked_at - start).total_seconds())
        for key in list(self._fills)[: max(0, len(self._fills) - MOST_FILLS)]:
            del self._fills[key]

    def follow(self, as_of: datetime, rows: Sequence[asyncpg.Record], touched: Collection[str]) -> None:
        """Which of the orders that were touched wait for a link."""
        unlinked = {row["id"]: read_time(row["fill_time"]) for row in rows if not row["linked"]}
        self.watch.follow(as_of, touched, unlinked)
        for key in touched:
            if key not in unlinked:
                self._fills.pop(key, None)
