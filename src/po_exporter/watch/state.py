"""What the incremental mode holds between two polls: findings by check and entity, counts by minute, and what time will
change. It holds answers, never deltas: a key that was touched is recomputed, and what was known of it replaced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import nsmallest
from sys import getsizeof
from typing import NamedTuple

from po_exporter.model import LinkRate
from po_exporter.sql import LINK_RATE, CheckFile
from po_exporter.watch.answer import EPOCH, Answer, Evidence
from po_exporter.watch.memory import identity

FINDING_BYTES = 600
"""What a finding takes beside its texts, or an open order: measured with CPython 3.11, rounded up."""
MINUTE = timedelta(minutes=1)
TIMED = frozenset({LINK_RATE, "unlinked_filled_order", "aged_unlinked_order"})
"""The checks whose answers change as filled orders without a link grow old."""


class Known(NamedTuple):
    """A finding, with its identity and the moment after which its row is no longer in the window (None: never)."""

    evidence: Evidence
    identity: bytes
    leaves: datetime | None


class Minute(NamedTuple):
    """The eligible orders whose created_at lies in one minute. ``begins`` is None for NULL and infinity."""

    begins: datetime | None
    eligible: int
    links: int


class Open(NamedTuple):
    """A filled order without a link: when time changes what is said of it, and the minute in which it counts."""

    moment: datetime | None
    minute: str | None


Order = Callable[[str], object]
"""The place of an id among others: integers by value, the rest by code point."""


class Difference(NamedTuple):
    """What was held of a key, and what a recompute of the same snapshot says."""

    what: str
    key: str
    held: object
    recomputed: object


@dataclass
class State:
    """The answers of the incremental checks, by id. ``overflowing`` names the checks that take too much memory: they
    hold nothing here, and are asked by scanning."""

    window: timedelta
    budget: int
    findings: dict[str, dict[str, Known]] = field(default_factory=dict)
    minutes: dict[str | None, Minute] = field(default_factory=dict)
    open: dict[str, Open] = field(default_factory=dict)
    overflowing: set[str] = field(default_factory=set)

    @property
    def followed(self) -> set[str]:
        """The checks whose answers are held."""
        return self.findings.keys() | ({LINK_RATE} - self.overflowing)

    @property
    def size(self) -> int:
        """Bytes that it takes, by estimate."""
        shown = (each.evidence for known in self.findings.values() for each in known.values())
        held = sum(getsizeof(evidence.id) + getsizeof(evidence.details) for evidence in shown)
        count = sum(len(known) for known in self.findings.values()) + len(self.open) + len(self.minutes)
        return held + FINDING_BYTES * count

    def take(self, name: str, answer: Answer, touched: Collection[str] | None) -> None:
        """Replace what a check says of the ids that were touched, or of all (None)."""
        held = {} if touched is None else self.findings[name]
        for key in touched or ():
            held.pop(key, None)
        for each in answer.evidence:
            held[each.id] = Known(each, identity(each.id), after(each.entered, self.window))
        self.findings[name] = held

    def take_minutes(self, counted: Mapping[str | None, Minute], touched: Iterable[str | None] | None) -> None:
        """Replace the counts of the minutes that were touched, or of all (None)."""
        if touched is None:
            self.minutes = {}
        for key in touched or ():
            self.minutes.pop(key, None)
        self.minutes |= counted

    def take_open(self, found: Mapping[str, Open], touched: Collection[str] | None) -> None:
        """Replace what is known of the filled orders without a link that were touched, or of all (None)."""
        if touched is None:
            self.open = {}
        for key in touched or ():
            self.open.pop(key, None)
        self.open |= found

    def due(self, as_of: datetime, checks: Mapping[str, CheckFile]) -> tuple[set[str], set[str], set[str | None]]:
        """What time has changed since the last poll: orders, positions and minutes to be looked at again."""
        orders: set[str] = set()
        positions: set[str] = set()
        minutes: set[str | None] = set()
        for key, waiting in self.open.items():
            if waiting.moment is not None and waiting.moment <= as_of:
                orders.add(key)
                minutes.add(waiting.minute)
        for name, known in self.findings.items():
            if checks[name].scope == "window":
                gone = {key for key, each in known.items() if each.leaves is not None and each.leaves < as_of}
                (orders if checks[name].entity == "order" else positions).update(gone)
        edge = as_of - self.window
        for name_of_minute, minute in list(self.minutes.items()):
            if minute.begins is None:
                continue
            if minute.begins + MINUTE <= edge:
                del self.minutes[name_of_minute]
            elif minute.begins < edge:  # only a part of it is in the window
                minutes.add(name_of_minute)
        return orders, positions, minutes

    def confine(self) -> Iterator[str]:
        """Let go of the largest checks until what is held fits the budget; their names."""
        while self.size > self.budget and self.findings:
            largest = max(self.findings, key=lambda name: len(self.findings[name]))
            if not self.findings[largest]:
                return
            del self.findings[largest]
            self.overflowing.add(largest)
            yield largest
        if self.size > self.budget and self.open:  # nobody knows any more when time changes what is said of these
            yield from self.give_up_moments()

    def give_up_moments(self) -> frozenset[str]:
        """Let go of the open orders, and of all that depends on their moments; the names of those checks."""
        given_up = TIMED - self.overflowing
        self.open, self.minutes = {}, {}
        for name in TIMED:
            self.findings.pop(name, None)
        self.overflowing |= TIMED
        return given_up

    @property
    def link_rate(self) -> LinkRate:
        """The sum of all minutes."""
        return LinkRate(
            sum(minute.eligible for minute in self.minutes.values()),
            sum(minute.links for minute in self.minutes.values()),
        )

    def answer(self, name: str, seconds: float, evidence: int, identity_budget: int, order: Order) -> Answer:
        """What a check answers now, as a scan would."""
        known = self.findings[name].values()
        shown = nsmallest(
            evidence,
            (each.evidence for each in known),
            key=lambda each: (each.since is None, each.since or EPOCH, order(each.id)),
        )
        return Answer(
            seconds=seconds,
            count=len(known),
            oldest=min((each.evidence.since for each in known if each.evidence.since), default=None),
            identities=[each.identity for each in known] if len(known) <= identity_budget else None,
            evidence=tuple(shown),
            followed=True,
        )

    def differences(self, fresh: State) -> Iterator[Difference]:
        """Where a recompute of the same snapshot says something else."""
        for name, known in fresh.findings.items():
            yield from compare(name, self.findings.get(name, {}), known)
        for key in self.minutes.keys() | fresh.minutes.keys():
            held, found = self.minutes.get(key), fresh.minutes.get(key)
            if (held and held[1:]) != (found and found[1:]) and any((held or found or (0, 0, 0))[1:]):
                yield Difference(LINK_RATE, str(key), held, found)


def compare(name: str, held: Mapping[str, Known], found: Mapping[str, Known]) -> Iterator[Difference]:
    """Where two sets of findings of one check differ."""
    for key in held.keys() | found.keys():
        ours, theirs = held.get(key), found.get(key)
        if ours is None or theirs is None or ours.evidence[:3] != theirs.evidence[:3]:
            yield Difference(name, key, ours and ours.evidence, theirs and theirs.evidence)


def after(moment: datetime | None, span: timedelta) -> datetime | None:
    """A moment later; None where the calendar ends before."""
    try:
        return None if moment is None else moment + span
    except OverflowError:
        return None
