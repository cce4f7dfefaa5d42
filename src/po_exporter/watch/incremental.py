"""The incremental mode: exact answers at the cost of what changed, for as long as there is a change feed.

The feed is set up beside the polls, which scan meanwhile. Whatever goes wrong ends it: the poll that notices scans,
and another feed begins with another baseline. Numbers never stop for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from po_exporter import sql
from po_exporter.database.session import Target
from po_exporter.errors import DatabaseError
from po_exporter.mapping import SchemaMapping
from po_exporter.watch.answer import Answer, Question, Terms
from po_exporter.watch.asking import Asking
from po_exporter.watch.audit import Audit
from po_exporter.watch.changes import Changes
from po_exporter.watch.feed import Feed, FeedLost, Visible
from po_exporter.watch.links import LinkTimer, LinkWatch
from po_exporter.watch.readiness import PUBLICATION
from po_exporter.watch.recompute import Recompute

log = structlog.get_logger()

FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 300.0
"""Seconds to the next try of a feed that could not be had; doubled at each."""


@dataclass
class Incremental:
    """Follows one database. Without a feed it answers nothing; ``why`` says what is in its way, None while it does."""

    target: Target
    mapping: SchemaMapping
    questions: Sequence[Question]
    terms: Terms
    interval: timedelta
    budget: int
    watch: LinkWatch
    why: str | None = "the change feed is being set up"
    feed: Feed | None = None
    _audit: Audit = field(init=False)
    _recompute: Recompute = field(init=False)
    _starting: asyncio.Task[Feed] | None = None
    _retry_at: float = 0.0
    _backoff: float = FIRST_BACKOFF
    _unapplied: Changes = field(default_factory=Changes)
    _carried: int = 0

    def __post_init__(self) -> None:
        self._audit = Audit(self.target.name)
        self._begin()

    @property
    def drift(self) -> int:
        """Audited keys whose answer differed from a recompute: stays 0."""
        return self._audit.drift

    @property
    def carried(self) -> int:
        """How often a transaction had to wait for a later snapshot, over all feeds."""
        return self._carried + (self.feed.carried if self.feed else 0)

    @property
    def follows(self) -> frozenset[str]:
        """The checks that the next poll should ask, because the feed answers them or a baseline is due."""
        state = self._recompute.state
        if self.feed and state:
            return frozenset(state.followed)
        starting = self._starting
        stands = self.feed or (starting and starting.done() and not starting.cancelled() and not starting.exception())
        return frozenset(question.name for question in self.questions) if stands else frozenset()

    async def poll(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer]:
        """The answers of those checks that can be followed. Raises DatabaseError for what ends the poll."""
        feed = self._ready()
        if feed is None:
            return {}
        snapshot, wanted = asking.snapshot, [q for q in questions if q.file.incremental and feed.covers(q.file)]
        orders, positions = self.mapping.orders.table, self.mapping.positions.table
        names = (orders.schema, orders.name, positions.schema, positions.name)
        try:
            if snapshot.why_unlocked:
                raise FeedLost(f"the tables cannot be locked: {snapshot.why_unlocked}")
            if snapshot.standby:
                raise FeedLost("the reader is on a standby")
            (mark,) = await snapshot.fetch(sql.read("feed/mark.sql"), *names, PUBLICATION)
            if mark["fingerprint"] != feed.fingerprint:
                raise FeedLost("the tables, the publication or the server are others than they were")
            self._unapplied.add(await feed.read(Visible.parse(mark["visible"])))
            async with snapshot.savepoint():
                answers = await self._recompute.answer(asking, wanted, self._unapplied)
            self._unapplied = Changes()
            if self.why is not None:
                log.info("feed_started", database=self.target.name)
            self.why, self._backoff = None, FIRST_BACKOFF
        except FeedLost as lost:
            await self._lose(str(lost))
        except DatabaseError as error:
            if error.ends_poll:
                raise
            await self._lose(str(error))
        else:
            return answers
        return {}

    async def close(self) -> None:
        """End the feed, and what is being set up."""
        if self._starting:
            self._starting.cancel()
            (stands,) = await asyncio.gather(self._starting, return_exceptions=True)
            if isinstance(stands, Feed):  # no poll has taken it yet
                await stands.close()
            self._starting = None
        if self.feed:
            self._carried += self.feed.carried
            await self.feed.close()
        self.feed = None
        self._begin()

    def _begin(self) -> None:
        """Know nothing: what comes next is a baseline."""
        timer = LinkTimer(self.watch, has_filled_at="filled_at" in self.mapping.orders.columns)
        self._recompute = Recompute(self.target.name, self.questions, self.terms, self.budget, timer, self._audit)
        self._unapplied = Changes()

    def _ready(self) -> Feed | None:
        """The feed, if it stands; else it is being set up beside the polls."""
        if self.feed:
            return self.feed
        if self._starting is None:
            if time.monotonic() >= self._retry_at:
                files = [question.file for question in self.questions]
                feed = Feed(self.target, self.mapping, files, self.interval)
                self._starting = asyncio.create_task(_started(feed), name=f"feed {self.target.name}")
            return None
        if not self._starting.done():
            return None
        starting, self._starting = self._starting, None
        try:
            self.feed = starting.result()
        except FeedLost as lost:
            self._wait(str(lost))
            return None
        self._begin()
        return self.feed

    def _wait(self, why: str) -> None:
        if self.why is None:
            log.warning("feed_lost", database=self.target.name, message=why)
        elif why != self.why:
            log.info("feed_unavailable", database=self.target.name, message=why)
        self.why = why
        self._retry_at = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, LONGEST_BACKOFF)

    async def _lose(self, why: str) -> None:
        """Give the feed up: this poll and the next ones scan, until another stands."""
        await self.close()
        self._wait(why)


async def _started(feed: Feed) -> Feed:
    await feed.start()
    return feed
