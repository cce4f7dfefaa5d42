"""Hot positions: a sum is kept as partial sums by hour of ``created_at``, and only hours that changed are read again.

Still recomputing, not deltas: an hour is summed up anew from its orders. Reading a million orders at each poll takes a
fifth of a second; an hour of them, a millisecond.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import asyncpg

from po_exporter import sql
from po_exporter.watch.asking import Asking
from po_exporter.watch.changes import Changes
from po_exporter.watch.statement import Parameters

MANY = 10_000
"""Orders of a position from which on its sum is kept by hour."""
MOST_HOURS = 50_000
"""Partial sums that are kept in all; a position that would go beyond is summed up whole."""

NEEDED = "orders.position_id orders.counts orders.contribution orders.minute orders.created_raw".split()
WHOLE = "SELECT * FROM orders WHERE position_id = ANY(:wanted)"
OF_HOURS = (
    "SELECT o.* FROM unnest(:wanted, :begins) AS h (id, begins)"
    " JOIN orders o ON o.position_id = h.id AND o.created_raw >= h.begins"
    " AND o.created_raw < h.begins + interval '1 hour'"
)
TIMELESS = (
    "SELECT * FROM orders WHERE position_id = ANY(:wanted)"
    " AND (created_raw IS NULL OR created_raw < '0001-01-01' OR created_raw = 'infinity')"
)

Hours = dict[str | None, str]
"""Hour -> partial sum, as the server writes it."""


@dataclass
class HotPositions:
    """The partial sums of one database's hot positions. Without ``ids`` it holds nothing and costs nothing."""

    ids: frozenset[str] = frozenset()
    _sums: dict[str, Hours] = field(default_factory=dict)

    @classmethod
    async def find(cls, asking: Asking) -> HotPositions:
        """Those that the planner's statistics show, where the ledger can be read by hour."""
        mapping = asking.presenter.mapping.orders
        rows = await asking.snapshot.fetch(
            sql.read("incremental/hot.sql"),
            mapping.table.schema, mapping.table.name, mapping.columns["position_id"].text,
            mapping.columns["created_at"].text, float(MANY),
        )  # fmt: skip
        return cls(frozenset(asking.presenter.ids("positions", (row["id"] for row in rows))[0]))

    async def renew(self, asking: Asking, positions: Collection[str], changes: Changes) -> dict[str, Hours]:
        """The partial sums of those hot positions, with the changed hours read again. ``keep`` takes them over."""
        hot = self.ids.intersection(positions)
        if not hot:
            return {}
        fresh = {key: dict(self._sums[key]) for key in hot if key in self._sums}
        dirty: dict[str, set[str | None]] = {}
        for position, hour in changes.hours:
            (key,) = asking.presenter.ids("positions", [position])[0]
            if key in fresh:
                dirty.setdefault(key, set()).add(hour)
        for key, hours in dirty.items():
            for hour in hours:
                fresh[key].pop(hour, None)
        pairs = [(key, hour) for key, hours in dirty.items() for hour in hours if hour is not None]
        timeless = [key for key, hours in dirty.items() if None in hours]
        new = hot - fresh.keys()
        rows: list[asyncpg.Record] = []
        if new:
            rows += await asking.query("incremental/hours.sql", NEEDED, _wanted(asking, new), WHOLE)
        if pairs:
            kind = asking.presenter.column_type("orders", "created_at")
            zone = "+00" if kind == "timestamp with time zone" else ""
            begins = ([f"{hour}:00{zone}" for _, hour in pairs], f"text[]::{kind}[]")
            more = {**_wanted(asking, (key for key, _ in pairs)), "begins": begins}
            rows += await asking.query("incremental/hours.sql", NEEDED, more, OF_HOURS)
        if timeless:
            rows += await asking.query("incremental/hours.sql", NEEDED, _wanted(asking, timeless), TIMELESS)
        fresh |= {key: {} for key in new}
        for row in rows:
            fresh[row["id"]][row["hour"]] = row["total"]
        return fresh

    def keep(self, fresh: dict[str, Hours], touched: Collection[str]) -> None:
        """Take over what was renewed; a hot position that was touched and not renewed is forgotten."""
        for key in self.ids.intersection(touched):
            self._sums.pop(key, None)
        self._sums |= fresh
        while sum(map(len, self._sums.values())) > MOST_HOURS:
            largest = max(self._sums, key=lambda key: len(self._sums[key]))
            del self._sums[largest]
            self.ids -= {largest}


def _wanted(asking: Asking, keys: Iterable[str]) -> Parameters:
    return {"wanted": asking.presenter.ids("positions", keys)}
