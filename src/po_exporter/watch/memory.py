"""What one process remembers of earlier answers: which findings it has seen, since when, and what it has counted.

Findings are known by a 16-byte hash of their id. Beyond the identity budget only counts are known, and the issues
counter grows by their rise.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import md5

HASH_BYTES = 16


def identity(entity_id: str) -> bytes:
    """How a finding's id is remembered; the database makes the same with ``decode(md5(id), 'hex')``."""
    return md5(entity_id.encode(), usedforsecurity=False).digest()


def split(identities: bytes) -> list[bytes]:
    """The concatenated hashes, one by one."""
    return [identities[at : at + HASH_BYTES] for at in range(0, len(identities), HASH_BYTES)]


@dataclass
class CheckMemory:
    """One check's findings over time, and how many of them were issues.

    A finding is an issue once it has settled: at once, or for a check that ``settles`` when it has been in every answer
    over at least the grace, in two answers at least. What had settled at the first answer was there before us: it is
    seeded and not counted, unless it heals and comes back. Healed and wrong again is an issue again.
    """

    settles: bool
    issues: int = 0
    _accounted: dict[bytes, datetime] = field(default_factory=dict)  # present and settled -> first seen
    _waiting: dict[bytes, datetime] = field(default_factory=dict)  # present and not settled -> first seen
    _held: dict[bytes, datetime] = field(default_factory=dict)  # accounted for before the grace grew
    _held_from: datetime | None = None
    _counts: deque[tuple[datetime, int]] = field(default_factory=deque)  # the answers of the last grace
    _level: int = 0  # how many findings are accounted for, while only counts are known
    _seeding: bool = True

    def seed_next(self) -> None:
        """The next answer looks at more than the last one did: what is new in it was there before."""
        self._seeding = True

    def hold(self) -> None:
        """The grace has grown: what leaves because of that and comes back when it has passed was counted already."""
        self._held, self._held_from = dict(self._accounted), None

    def first_seen(self, key: bytes) -> datetime | None:
        """When an answer first held this finding; None for one that is not known."""
        return self._waiting.get(key) or self._accounted.get(key)

    @property
    def settled(self) -> int:
        """How many findings of the latest answer have settled."""
        return self._level

    def has_settled(self, key: bytes) -> bool:
        """Whether this finding has; while only counts are known, nobody can tell, and all are taken to have."""
        return key in self._accounted or key not in self._waiting

    def answer(self, as_of: datetime, count: int, identities: list[bytes] | None, grace: timedelta) -> None:
        """Take in one answer; ``identities`` is None when there are more than the budget."""
        self._counts.append((as_of, count))
        while len(self._counts) > 2 and self._counts[1][0] <= as_of - grace:
            self._counts.popleft()
        if identities is None:
            self._count_rise(as_of, count, grace)
        else:
            self._count_identities(as_of, identities, grace)
        self._seeding = False
        self._held_from = self._held_from or as_of
        if as_of - self._held_from > grace:
            self._held = {}

    def _count_identities(self, as_of: datetime, identities: list[bytes], grace: timedelta) -> None:
        if self._level > 0 and not self._accounted and not self._waiting:
            # After a time of mere counts nobody knows which ones were counted: all that are present.
            self._accounted = dict.fromkeys(identities, as_of)
        accounted: dict[bytes, datetime] = {}
        waiting: dict[bytes, datetime] = {}
        for key in identities:
            known = self._accounted.get(key) or self._held.get(key)
            first_seen = self._waiting.get(key, as_of)
            if known:
                accounted[key] = known
            elif not self.settles:
                accounted[key] = as_of
                self.issues += not self._seeding
            elif key in self._waiting and as_of - first_seen >= grace:
                accounted[key] = first_seen
                self.issues += 1
            else:
                waiting[key] = first_seen
        self._accounted, self._waiting = accounted, waiting
        self._level = len(accounted)

    def _count_rise(self, as_of: datetime, count: int, grace: timedelta) -> None:
        self._accounted, self._waiting = {}, {}
        if not self.settles:
            self.issues += 0 if self._seeding else max(0, count - self._level)
            self._level = count
        elif len(self._counts) > 1 and self._counts[0][0] <= as_of - grace:
            lasting = min(count for _, count in self._counts)
            self.issues += max(0, lasting - self._level)
            self._level = lasting
