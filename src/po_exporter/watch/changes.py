"""What transactions changed, as keys: the rows and minutes to be looked at again, never what became of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from po_exporter.database.canonical import derived, sources
from po_exporter.database.schema import ROLES
from po_exporter.mapping import CANONICAL, SchemaMapping
from po_exporter.sql import MARKS, CheckFile
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
    def of(cls, check: CheckFile, mapping: SchemaMapping) -> Group | None:
        """None where the check has no group, or where its columns are expressions."""
        reads = _read(mapping, "orders", {MARKS.sub("", name) for name in check.needs})
        if check.group is None or reads is None:
            return None
        key = check.group.removeprefix("orders.")
        return cls(key, column.text, reads) if (column := mapping.orders.columns.get(key)) else None


@dataclass(frozen=True)
class Columns:
    """Where the keys are: the oids of the two tables, and the names of their columns.

    ``mapped`` are the columns that queries of ours can see at all, by oid; ``position_reads`` are those of positions
    that checks on orders look at, ``order_reads`` those of orders that checks on positions look at, the sum included.
    None: an expression may read any.
    """

    orders: int
    positions: int
    order_id: str
    link: str
    created_at: str
    position_id: str
    mapped: Mapping[int, frozenset[str] | None]
    position_reads: frozenset[str] | None
    order_reads: frozenset[str] | None
    groups: tuple[Group, ...]
    is_filled: Callable[[Values], bool]

    @classmethod
    def of(cls, mapping: SchemaMapping, oids: Mapping[str, int], checks: Sequence[CheckFile]) -> Columns:
        """For a mapping whose key columns are plain. Expressions over positions may read any of its columns."""
        sides, columns = mapping.orders.columns, mapping.positions.columns
        by_orders, by_positions = (
            {name for check in checks if check.entity == entity for name in _named(check)}
            for entity in ("order", "position")
        )
        return cls(
            oids["orders"],
            oids["positions"],
            sides["id"].text,
            sides["position_id"].text,
            sides["created_at"].text,
            columns["id"].text,
            {oids[role]: _read(mapping, role, CANONICAL) for role in ROLES},
            _read(mapping, "positions", by_orders),
            # The sum of a position with many orders is kept by hour of created_at.
            _read(mapping, "orders", {*by_positions, "ledger", "orders.created_at"}),
            tuple(group for check in checks if (group := Group.of(check, mapping))),
            _filled(mapping),
        )

    def collect(self, into: Changes, relation: Relation, change: Change, committed: datetime) -> None:
        """Add the keys of one changed row. Raises Undecodable where the stream does not hold them."""
        if not change.whole:
            raise Undecodable(f"{relation.name} has lost its REPLICA IDENTITY FULL")
        old = _values(relation, change.old)
        new = _values(relation, change.new, old)
        if not _differ(self.mapped.get(relation.oid), old, new):
            return
        rows = [row for row in (old, new) if row is not None]
        try:
            if relation.oid == self.orders:
                into.orders |= {key for row in rows if (key := row[self.order_id]) is not None}
                into.minutes |= {minute_of(row[self.created_at]) for row in rows}
                if _differ(self.order_reads, old, new):
                    for row in rows:
                        if (link := row[self.link]) is not None:
                            minute = minute_of(row[self.created_at])
                            into.positions.add(link)
                            into.hours.add((link, minute[:-3] if minute else None))
                for group in self.groups:
                    if _differ(group.reads, old, new):
                        into.groups |= {(group.name, key) for row in rows if (key := row[group.column])}
                self._time(into, old, new, committed)
            elif relation.oid == self.positions:
                keys = {key for row in rows if (key := row[self.position_id]) is not None}
                into.positions |= keys
                if _differ(self.position_reads, old, new):
                    into.hosts |= keys
        except KeyError as error:
            raise Undecodable(f"{relation.name} has no column {error} any more") from None

    def truncates(self, message: Truncate) -> bool:
        """Whether it empties one of the two tables."""
        return not {self.orders, self.positions}.isdisjoint(message.oids)

    def _time(self, into: Changes, old: Values | None, new: Values | None, committed: datetime) -> None:
        key = new[self.order_id] if new else None
        if new is None or key is None:
            return
        if new[self.link] is not None and (old is None or old[self.link] is None):
            into.linked[key] = committed
        if self.is_filled(new) and not (old and self.is_filled(old)):
            into.filled.setdefault(key, committed)


def _named(check: CheckFile) -> set[str]:
    """What a check may read: which table a name is of, its query's aliases say, and the header where there is one."""
    names = {MARKS.sub("", name) for name in check.needs | check.uses}
    roles = {name.split(".")[0] for name in names} & set(ROLES)
    return names | {f"{role}.{name.split('.')[1]}" for role in roles for name in names if "." in name}


def _read(mapping: SchemaMapping, role: str, names: Iterable[str]) -> frozenset[str] | None:
    """The columns of one table that these canonical columns are made of; None where one is an expression."""
    side = mapping.orders if role == "orders" else mapping.positions
    made_of = sources(derived(mapping, frozenset(), unbounded=False), names)
    keys = {name.split(".")[1] for name in made_of if name.startswith(f"{role}.")}
    read = [side.columns[key] for key in keys & side.columns.keys()]
    return None if any(column.is_sql for column in read) else frozenset(column.text for column in read)


def _differ(columns: frozenset[str] | None, old: Values | None, new: Values | None) -> bool:
    """Whether an update changed one of these columns; anything else changes all of them.

    The stream leaves generated columns out: they may change with columns that nobody reads.
    """
    if columns is None or old is None or new is None or not columns <= old.keys():
        return True
    return any(old[name] != new[name] for name in columns)


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
        said, amount = row.get(status.text), row.get(quantity.text)  # generated ones are not in the stream
        return (
            said is not None
            and said.strip().lower() in words
            and amount is not None
            and not amount.startswith("-")
            and amount.strip("0.") != ""
        )

    return filled
