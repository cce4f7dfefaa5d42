"""Proves the incremental mode: recomputes some of what it holds although nothing says that it changed, and compares."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from po_exporter.watch.answer import Question
from po_exporter.watch.state import Difference, State

log = structlog.get_logger()
Key = TypeVar("Key", bound="str | None")

SAMPLE_EVERY = 60.0
SAMPLE = 20
"""Ids of each kind that are recomputed so many seconds apart; and MINUTES of the link rate's."""
MINUTES = 2
FULL_EVERY, FULL_SHARE = 3600.0, 200
"""A full check beside what is held: at most once an hour, and no more often than this many times its own duration."""
REMEMBERED = 500
"""Keys that changed lately, from which samples are drawn, too."""
MOST_LOGGED = 5
"""Differences of one poll that are logged one by one."""


@dataclass
class Touched:
    """What one poll looks at again. ``audited`` are those keys among them of which nobody says that they changed."""

    orders: set[str]
    positions: set[str]
    minutes: set[str | None]
    audited: set[str | None] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.orders) + len(self.positions) + len(self.minutes)


@dataclass
class Audit:
    """The audits of one database. ``drift`` counts keys whose answer differed from a recompute; it stays 0."""

    database: str
    drift: int = 0
    _lately: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _sampled: float = 0.0
    _full: float = 0.0
    _full_seconds: float = 0.0

    def took_all(self, seconds: float) -> None:
        """A full check has just been made; it took so long."""
        self._full = self._sampled = time.monotonic()
        self._full_seconds = seconds

    @property
    def wants_all(self) -> bool:
        """Whether it is time for a full check beside what is held."""
        return time.monotonic() > self._full + max(FULL_EVERY, FULL_SHARE * self._full_seconds)

    def remember(self, touched: Touched) -> None:
        """Draw samples from these, too: what changed lately is what an error would be about."""
        self._lately.extend(("order", key) for key in _some(touched.orders, SAMPLE))
        self._lately.extend(("position", key) for key in _some(touched.positions, SAMPLE))

    def sample(self, state: State, questions: Sequence[Question], touched: Touched) -> None:
        """Now and then add some keys of which nobody says that they changed."""
        if time.monotonic() < self._sampled + SAMPLE_EVERY:
            return
        self._sampled = time.monotonic()
        pools = {kind: {key for each, key in self._lately if each == kind} for kind in ("order", "position")}
        for question in questions:
            if question.name in state.findings:
                pools[question.file.entity] |= set(_some(state.findings[question.name].keys(), SAMPLE))
        for kind, ids in (("order", touched.orders), ("position", touched.positions)):
            chosen = set(_some(pools[kind] - ids, SAMPLE))
            touched.audited |= chosen
            ids.update(chosen)
        minutes = set(_some(state.minutes.keys() - touched.minutes, MINUTES))
        touched.audited |= minutes
        touched.minutes |= minutes

    def count(self, differing: Sequence[Difference]) -> None:
        """Take down what differed; what was held has been replaced by what was found."""
        self.drift += len(differing)
        for each in differing[:MOST_LOGGED]:
            log.error(
                "drift", database=self.database, check=each.what, key=each.key, held=str(each.held),
                recomputed=str(each.recomputed),
            )  # fmt: skip


def _some(keys: Collection[Key], count: int) -> list[Key]:
    return random.sample(list(keys), min(count, len(keys)))
