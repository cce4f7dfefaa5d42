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
    over at least the grace, in two answers at least. What the first answer held was there before us: it is seeded and
    never counted, unless it heals and comes back. Healed and wrong again is an issue again.
    """

    settles: bool
    issues: int = 0
    _accounted: dict[bytes, datetime] = field(default_factory=dict)  # present and settled -> first seen
    _waiting: dict[bytes, tuple[datetime, bool]] = field(default_factory=dict)  # not settled -> first seen, seeded
    _counts: deque[tuple[datetime, int]] = field(default_factory=deque)  # the answers of the last grace
    _level: int = 0  # how many findings are accounted for, while only counts are known
    _seeding: bool = True

    def seed_next(self) -> None:
        """The next answer looks at more than the last one did: what is new in it was there before."""
        self._seeding = True

    def first_seen(self, key: bytes) -> datetime | None:
        """When an answer first held this finding; None for one that is not known."""
        waiting = self._waiting.get(key)
        return waiting[0] if waiting else self._accounted.get(key)

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

    def _count_identities(self, as_of: datetime, identities: list[bytes], grace: timedelta) -> None:
        # After a time of mere counts nobody knows which ones were counted: all that are present were, or were seeded.
        seeding = self._seeding or (self._level > 0 and not self._accounted and not self._waiting)
        accounted: dict[bytes, datetime] = {}
        waiting: dict[bytes, tuple[datetime, bool]] = {}
        for key in identities:
            if key in self._accounted:
                accounted[key] = self._accounted[key]
                continue
            seen_before = key in self._waiting
            first_seen, seeded = self._waiting.get(key, (as_of, seeding))
            if not self.settles or (seen_before and as_of - first_seen >= grace):
                accounted[key] = first_seen
                self.issues += not seeded
            else:
                waiting[key] = (first_seen, seeded)
        self._accounted, self._waiting = accounted, waiting
        self._level = len(accounted) + sum(seeded for _, seeded in waiting.values())

    def _count_rise(self, as_of: datetime, count: int, grace: timedelta) -> None:
        self._accounted, self._waiting = {}, {}
        if self._seeding:
            self._level = count
        elif not self.settles:
            self.issues += max(0, count - self._level)
            self._level = count
        elif len(self._counts) > 1 and self._counts[0][0] <= as_of - grace:
            lasting = min(count for _, count in self._counts)
            self.issues += max(0, lasting - self._level)
            self._level = lasting
