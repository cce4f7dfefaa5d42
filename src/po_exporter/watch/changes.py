"""What transactions changed, as keys: the rows and minutes to be looked at again, never what became of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from po_exporter.mapping import Column, SchemaMapping
from po_exporter.sql import CheckFile
from po_exporter.watch.pgoutput import UNCHANGED, Change, Relation, Row, Truncate, Undecodable

Values = Mapping[str, str | None]
"""A row of the stream: column -> the server's text."""

_MINUTE = re.compile(r"\d{4,}-\d\d-\d\d \d\d:\d\d")


def minute_of(text: str | None) -> str | None:
    """The minute of a timestamp as the server writes it, in ISO style; None for NULL, the infinities and years BC."""
    found = _MINUTE.match(text) if text and not text.endswith("BC") else None
    return found.group() if found else None


@dataclass
class Changes:
    """Keys of what changed, as text; several transactions add up.

    ``orders`` by id; ``positions`` by id, their own rows and those that changed orders are or were linked to;
    ``hosts`` those positions among them whose orders look different for it: they came, went, or changed in what a
    check on orders reads; ``minutes`` of ``created_at``, None for NULL, the infinities and years BC; ``hours`` of
    ``created_at`` by position, likewise; ``groups`` the values by which checks look at several orders together, with
    their canonical column.

    For latency alone: when an order was linked (it had no link before), and when it was first filled.
    """

    orders: set[str] = field(default_factory=set)
    positions: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    minutes: set[str | None] = field(default_factory=set)
    hours: set[tuple[str, str | None]] = field(default_factory=set)
    groups: set[tuple[str, str]] = field(default_factory=set)
    truncated: bool = False
    linked: dict[str, datetime] = field(default_factory=dict)
    filled: dict[str, datetime] = field(default_factory=dict)

    def add(self, other: Changes) -> None:
        """Take in the keys of a later transaction."""
        self.orders |= other.orders
        self.positions |= other.positions
        self.hosts |= other.hosts
        self.minutes |= other.minutes
        self.hours |= other.hours
        self.groups |= other.groups
        self.truncated |= other.truncated
        self.linked |= other.linked
        self.filled |= {key: when for key, when in other.filled.items() if key not in self.filled}

    def __len__(self) -> int:
        return len(self.orders) + len(self.positions) + len(self.minutes) + len(self.groups)


@dataclass(frozen=True, slots=True)
class Group:
    """A check that looks at all orders with one value in ``column``, which is called ``name`` with us. What else it
    reads of them: ``reads``."""

    name: str
    column: str
    reads: frozenset[str]

    @classmethod
    def of(cls, check: CheckFile, columns: Mapping[str, Column]) -> Group | None:
        """None where the check has no group, or where its columns are expressions."""
        needed = {name.split(".")[1].rstrip("?") for name in check.needs if name.startswith("orders.")} & columns.keys()
        if check.group is None or any(columns[name].is_sql for name in needed):
            return None
        key = check.group.removeprefix("orders.")
        return cls(key, columns[key].text, frozenset(columns[name].text for name in needed)) if key in needed else None


@dataclass(frozen=True)
class Columns:
    """Where the keys are: the oids of the two tables, and the names of their columns.

    ``mapped`` are the columns that queries of ours can see at all, by oid; None where an expression may read any.
    ``reads`` are the columns of positions that checks on orders look at.
    """

    orders: int
    positions: int
    order_id: str
    link: str
    created_at: str
    position_id: str
    mapped: Mapping[int, frozenset[str] | None]
    reads: frozenset[str]
    groups: tuple[Group, ...]
    is_filled: Callable[[Values], bool]

    @classmethod
    def of(cls, mapping: SchemaMapping, oids: Mapping[str, int], checks: Sequence[CheckFile]) -> Columns:
        """For a mapping whose key columns are plain. Expressions over positions may read any of its columns."""
        sides, columns = mapping.orders.columns, mapping.positions.columns
        wanted = {
            name.split(".")[1].rstrip("?")
            for check in checks
            if check.entity == "order"
            for name in check.needs | check.uses
            if name.startswith("positions.")
        }
        plain = not any(columns[name].is_sql for name in wanted & columns.keys())
        return cls(
            oids["orders"],
            oids["positions"],
            sides["id"].text,
            sides["position_id"].text,
            sides["created_at"].text,
            columns["id"].text,
            {oids["orders"]: _plain(sides), oids["positions"]: _plain(columns)},
            frozenset(columns[name].text for name in wanted & columns.keys()) if plain else frozenset(),
            tuple(group for check in checks if (group := Group.of(check, sides))),
            _filled(mapping),
        )

    def collect(self, into: Changes, relation: Relation, change: Change, committed: datetime) -> None:
        """Add the keys of one changed row. Raises Undecodable where the stream does not hold them."""
        if not change.whole:
            raise Undecodable(f"{relation.name} has lost its REPLICA IDENTITY FULL")
        old = _values(relation, change.old)
        new = _values(relation, change.new, old)
        if old and new and self._looks_the_same(relation, old, new):
            return
        rows = [row for row in (old, new) if row is not None]
        try:
            if relation.oid == self.orders:
                into.orders |= {key for row in rows if (key := row[self.order_id]) is not None}
                into.positions |= {key for row in rows if (key := row[self.link]) is not None}
                for row in rows:
                    minute = minute_of(row[self.created_at])
                    into.minutes.add(minute)
                    if (link := row[self.link]) is not None:
                        into.hours.add((link, minute[:-3] if minute else None))
                for group in self.groups:
                    if old is None or new is None or any(old[column] != new[column] for column in group.reads):
                        into.groups |= {(group.name, key) for row in rows if (key := row[group.column])}
                self._time(into, old, new, committed)
            elif relation.oid == self.positions:
                keys = {key for row in rows if (key := row[self.position_id]) is not None}
                into.positions |= keys
                if old is None or new is None or not self.reads or any(old[c] != new[c] for c in self.reads):
                    into.hosts |= keys
        except KeyError as error:
            raise Undecodable(f"{relation.name} has no column {error} any more") from None

    def truncates(self, message: Truncate) -> bool:
        """Whether it empties one of the two tables."""
        return not {self.orders, self.positions}.isdisjoint(message.oids)

    def _looks_the_same(self, relation: Relation, old: Values, new: Values) -> bool:
        """Whether no query of ours can tell the two apart: a price that moved, a heartbeat, a user's note.

        The stream leaves generated columns out: what they show may change with columns that are not mapped.
        """
        mapped = self.mapped.get(relation.oid)
        return mapped is not None and mapped <= old.keys() and all(old[name] == new[name] for name in mapped)

    def _time(self, into: Changes, old: Values | None, new: Values | None, committed: datetime) -> None:
        key = new[self.order_id] if new else None
        if new is None or key is None:
            return
        if new[self.link] is not None and (old is None or old[self.link] is None):
            into.linked[key] = committed
        if self.is_filled(new) and not (old and self.is_filled(old)):
            into.filled.setdefault(key, committed)


def _plain(columns: Mapping[str, Column]) -> frozenset[str] | None:
    if any(column.is_sql for column in columns.values()):
        return None
    return frozenset(column.text for column in columns.values())


def _values(relation: Relation, row: Row | None, old: Values | None = None) -> Values | None:
    """A row by column; what the stream left out as unchanged is in the old row."""
    if row is None:
        return None
    if len(row) != len(relation.columns):
        raise Undecodable(f"a row of {relation.name} with {len(row)} columns instead of {len(relation.columns)}")
    pairs = zip(relation.columns, row, strict=True)
    return {name: (old or {}).get(name) if value is UNCHANGED else value for name, value in pairs}  # type: ignore[misc]  # UNCHANGED is the only one


def _filled(mapping: SchemaMapping) -> Callable[[Values], bool]:
    """Whether an order of the stream is filled: for its latency, where both columns are plain; else never."""
    status, quantity = mapping.orders.columns["status"], mapping.orders.columns["filled_quantity"]
    if status.is_sql or quantity.is_sql:
        return lambda _: False
    words = {word.strip().lower() for word in mapping.orders.filled_statuses}

    def filled(row: Values) -> bool:
        said, amount = row[status.text], row[quantity.text]
        return (
            said is not None
            and said.strip().lower() in words
            and amount is not None
            and not amount.startswith("-")
            and amount.strip("0.") != ""
        )

    return filled
