"""The loop of one database: when it is asked, what is known of it now, and how it comes back after an outage."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from po_exporter.database.catalog import Catalog
from po_exporter.database.schema import Presenter
from po_exporter.database.session import Session
from po_exporter.errors import DatabaseError, DeadlinePassed, Missing, NoRight
from po_exporter.model import CheckResult, FeedStatus, Mode, Result, Status
from po_exporter.watch.answer import Question
from po_exporter.watch.incremental import Incremental
from po_exporter.watch.lease import Candidate
from po_exporter.watch.poll import Outcome, Poller
from po_exporter.watch.tally import Tally, unanswered
from po_exporter.watch.watched import Watched, wider

log = structlog.get_logger()

FIRST_BACKOFF = 1.0
"""Seconds to the next try after the first failure; doubled at each, up to the interval."""
SHARE = 20
"""A check that looks at everything is asked again after this many times its own duration: 5 % of the time at most."""
SHARE_BESIDE_FEED = 100
"""In incremental mode, a check that cannot be followed is asked in full after this many times its own duration."""
EARLY = 0.1
"""A check counts as due this part of the interval early, so that jitter makes it skip no poll."""
OF_THE_SESSION = (NoRight.reason, Missing.reason)
"""Another session may see what this one does not: after ALTER ROLE ... SET search_path, or DROP and CREATE ROLE."""


class Monitor:
    """Asks one database at its interval and holds what is known of it; all on its own, whatever the others do."""

    def __init__(
        self, watched: Watched, delay: float = 0.0, told: Callable[[Monitor], Awaitable[None]] | None = None
    ) -> None:
        self._delay = delay
        self._told = told
        self._next: Watched | None = None
        self._wake = asyncio.Event()
        self._candidate = Candidate(self._wake.set)
        self._begin(watched)

    def _begin(self, watched: Watched) -> None:
        """Know nothing yet."""
        self._tally = Tally()
        self._results: dict[str, CheckResult] = {}
        self._errors: dict[str, set[str]] = {}
        self._lost_because: set[str] = set()
        self._due: dict[str, float] = {}
        self._said: set[str] = set()
        self._failures_in_a_row = 0
        self._last_duration = 0.0
        self._last_success = 0.0
        self._last_poll: datetime | None = None
        self._mode: Mode = "scan"
        self._drift = 0
        self._poller = Poller(Session(watched.target), watched.mapping, watched.terms)
        self.watched = watched
        self._status = self._blank()
        self._adopt(watched, wider=set())
        self._publish(up=None)

    @property
    def status(self) -> Status:
        """What may be shown now; of one who follows, or has not answered since it took over, nothing that it knew.

        ``ready``: a poll was answered less than three intervals ago, or none is wanted; or the database is followed.
        """
        candidate = self._candidate
        if not candidate.in_office:
            reached, leads = candidate.why is None, candidate.leads
            up = None if reached else False
            return replace(
                self._blank(), leader=leads, up=up, error=candidate.why, ready=reached and not leads,
                cut_off=candidate.cut_off,
            )  # fmt: skip
        interval = max(self.watched.interval.total_seconds(), self._last_duration)
        fresh = time.monotonic() - self._last_success < 3 * interval
        return replace(self._status, ready=not self.watched.polls or bool(self._status.up and fresh))

    def reconfigure(self, watched: Watched) -> None:
        """Go on with other settings from the next poll, which comes at once. What was counted stays counted."""
        self._next = watched
        self._wake.set()

    async def run(self) -> None:
        """Poll until cancelled. The connection is closed, and what runs on the server cancelled, before it ends."""
        try:
            await self._rest(self._delay)
            while True:
                if self._next:
                    await self._switch(self._next)
                watched, started = self.watched, time.monotonic()
                control = watched.control if watched.polls else None
                await self._candidate.stand(control, watched.interval, elects=watched.elects)
                if await self._candidate.lost_office():
                    await self._poller.close()
                    self._begin(watched)
                if watched.polls and self._candidate.leads:
                    self._follow()
                    await self.poll()
                moves = self._next is not None and self._next.target != watched.target
                if self._told and not moves and (self._candidate.in_office or not self._candidate.leads):
                    await self._told(self)
                await self._rest(self._pause(started))
        finally:
            await asyncio.gather(self._poller.close(), self._candidate.close())

    async def poll(self) -> Status:
        """Ask every due check once. Failures are part of the status, not raised."""
        started = time.monotonic()
        follows = self._poller.follows
        due = [q for q in self._questions if q.name in follows or started >= self._due.get(q.name, 0.0)]
        limit = self.watched.terms.limits.poll
        try:
            async with asyncio.timeout(limit.total_seconds()):
                outcome = await self._poller.poll(due)
        except TimeoutError:
            error = DeadlinePassed(f"the poll took longer than monitor.poll_timeout ({limit.total_seconds():g} s)")
            self._lost(due, error, time.monotonic() - started)
        except DatabaseError as error:
            self._lost(due, error, time.monotonic() - started)
        else:
            self._take(due, outcome, started)
        if not self._status.up or any(result.reason in OF_THE_SESSION for result in self._results.values()):
            await self._poller.session.close()
        return self.status

    async def still_wrong(self, check: str, ids: Sequence[str]) -> list[str] | None:
        """Which of these rows a check finds wrong now, however old they are; None where there are too many to tell.

        Raises DatabaseError.
        """
        question = next(question for question in self._questions if question.name == check)
        try:
            async with asyncio.timeout(self.watched.terms.limits.poll.total_seconds()):
                return await self._poller.still_wrong(question, ids)
        except TimeoutError:
            raise DeadlinePassed("asking for the rows of an incident took longer than monitor.poll_timeout") from None

    @property
    def may_tell(self) -> bool:
        """Whether nobody else can lead now, beyond doubt: what is told and written is ours to tell and write."""
        return self._candidate.holds

    async def keep(self, query: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """One statement about what is kept in the database, by its leader alone. Raises DatabaseError."""
        return [dict(row) for row in await self._candidate.ask(query, *arguments)]

    def _blank(self) -> Status:
        watched = self.watched
        return Status(watched.name, watched.interval.total_seconds(), environment=watched.environment)

    async def close(self) -> None:
        """Close the connections; for one who polls by hand."""
        await self._poller.close()

    def _follow(self) -> None:
        """From now on learn what changed, where that is wanted: only a loop is worth a change feed."""
        watched, poller = self.watched, self._poller
        if watched.mode == "scan" or not watched.polls or poller.incremental:
            return
        poller.incremental = Incremental(
            target=watched.feed or watched.target,
            mapping=watched.mapping,
            questions=tuple(q for q in self._questions if q.file.incremental),
            terms=watched.terms,
            interval=watched.interval,
            budget=watched.state_budget,
            watch=poller.watch,
        )

    def _adopt(self, watched: Watched, *, wider: set[str], longer_grace: bool = False) -> None:
        self.watched = watched
        presenter = Presenter(watched.mapping, Catalog({}))
        off = {question.name: presenter.why_off(question.file) for question in watched.questions}
        self._questions = [question for question in watched.questions if off[question.name] is None]
        self.off = {name: why for name, why in off.items() if why}
        self._tally.follow(self._questions, wider=wider, longer_grace=longer_grace)
        names = {question.name for question in self._questions}
        self._results = {name: result for name, result in self._results.items() if name in names}
        self._errors = {name: errors for name, errors in self._errors.items() if name in names}
        self._due = {}
        self._status = replace(
            self._status,
            environment=watched.environment,
            poll_interval=watched.interval.total_seconds(),
            monitored=watched.polls,
            check_names=tuple(question.name for question in self._questions),
        )

    async def _switch(self, watched: Watched) -> None:
        self._next = None
        before, old, known = self.watched, self._poller, self._status
        if old.incremental:  # what it holds was asked under the old settings
            self._drift += old.incremental.drift
            await old.incremental.close()
        if not watched.polls or (watched.target, watched.mapping) != (before.target, before.mapping):
            await old.session.close()
            self._results = {}
        session = old.session if watched.target == before.target else Session(watched.target)
        if (watched.target, watched.mapping) != (before.target, before.mapping):
            old.watch.forget()
        self._poller = Poller(session, watched.mapping, watched.terms, old.watch)
        self._adopt(watched, wider=wider(before, watched), longer_grace=watched.terms.grace > before.terms.grace)
        # What could not be read cannot be read until a poll has shown otherwise.
        up = known.up if watched.polls and (self._results or known.up is False) else None
        self._publish(up=up, error=None if up is None else known.error)

    def _take(self, due: Sequence[Question], outcome: Outcome, started: float) -> None:
        self._last_duration = time.monotonic() - started
        self._mode = outcome.mode
        grace = self.watched.terms.grace
        for question in due:
            answer = outcome.answers[question.name]
            cost = None if isinstance(answer, DatabaseError) or answer.followed else answer.seconds
            interval = self._interval(question, cost)
            if isinstance(answer, DatabaseError):
                self._results[question.name] = self._tally.failed(question, answer, interval)
                self._due[question.name] = 0.0
            else:
                self._results[question.name] = self._tally.answered(question, answer, outcome.as_of, grace, interval)
                self._due[question.name] = started + interval - EARLY * self.watched.interval.total_seconds()
        up = not due or any(self._results[question.name].ok for question in due)
        if not up:  # nothing can be read now, so that older answers are not to be believed either
            self._results = {question.name: self._results[question.name] for question in due}
            self._due = {}
        if self._failures_in_a_row:
            log.info("database_back", database=self.watched.name, polls_missed=self._failures_in_a_row)
        self._failures_in_a_row = 0
        self._lost_because = set()
        self._last_poll = datetime.now(UTC)
        if up:
            self._last_success = time.monotonic()
        self._say_what_changed()
        self._say_once(outcome)
        self._status = replace(self._status, kept=outcome.kept)
        self._publish(up=up, as_of=outcome.as_of)

    def _lost(self, due: Sequence[Question], error: DatabaseError, seconds: float) -> None:
        """The poll as a whole has failed: nothing is known any more, older answers included."""
        self._last_duration = seconds
        for question in due:
            self._tally.failed(question, error, self._interval(question, None))
        self._results, self._due, self._errors = {}, {}, {}
        if str(error) not in self._lost_because:  # a dying server has several sentences, and repeats them in any order
            self._lost_because.add(str(error))
            log.error("database_lost", database=self.watched.name, reason=error.reason, error=str(error))
        self._failures_in_a_row += 1
        self._last_poll = datetime.now(UTC)
        self._publish(up=False, error=str(error))

    def _publish(self, *, up: bool | None, as_of: datetime | None = None, error: str | None = None) -> None:
        """Replace the status whole."""
        before, tally = self._status, self._tally
        why = error or "it has not been asked yet"
        checks = tuple(
            self._results.get(q.name) or unanswered(q, self._interval(q, None), why) for q in self._questions
        )
        moment = as_of or (before.result.as_of if before.result else None)
        result = Result(self.watched.name, moment, self._mode, checks) if self._results and moment else None
        kinds = {(question.file.issue_type, question.priority) for question in self._questions}
        self._status = replace(
            before,
            mode=self._mode,
            feed=self._feed_status(),
            up=up,
            error=error,
            result=result,
            unanswered=() if result else checks,
            last_poll=self._last_poll,
            last_success=as_of if up and as_of else before.last_success,
            check_last_success=dict(tally.last_success),
            check_intervals={q.name: self._shown_interval(q) for q in self._questions},
            asked=dict(tally.asked),
            failures=dict(tally.failures),
            durations=dict(tally.durations),
            issues={kind: count for kind, count in tally.issues.items() if kind in kinds},
            link_seconds=self._poller.watch.seconds,
        )

    def _feed_status(self) -> FeedStatus | None:
        """How the change feed is doing; None where none is wanted."""
        incremental = self._poller.incremental
        if incremental is None:
            return None
        feed, drift = incremental.feed, self._drift + incremental.drift
        if feed is None:
            return FeedStatus(drift, why=incremental.why)
        return FeedStatus(drift, incremental.why, len(feed.pending), incremental.carried, feed.lag_bytes)

    def _say_what_changed(self) -> None:
        """Log a check's failure once, and its return once; not once a poll."""
        for name, result in self._results.items():
            if result.ok:
                if self._errors.pop(name, None):
                    log.info("check_back", database=self.watched.name, check=name)
            elif str(result.error) not in self._errors.setdefault(name, set()):
                self._errors[name].add(str(result.error))
                log.error(
                    "check_failed", database=self.watched.name, check=name, reason=result.reason, error=result.error
                )

    def _say_once(self, outcome: Outcome) -> None:
        """Log what a DBA should know of our rights, when it is first seen and when it changes."""
        remarks = []
        if outcome.may_write:
            remarks.append(("reader_may_write", f"the role may write {' and '.join(outcome.may_write)}; it need not"))
        if outcome.why_unlocked:
            remarks.append(("tables_not_locked", outcome.why_unlocked))
        for event, message in remarks:
            if message not in self._said:
                log.warning(event, database=self.watched.name, message=message)
        self._said = {message for _, message in remarks}

    def _interval(self, question: Question, seconds: float | None) -> float:
        """Seconds between two askings of a check, given how long the last one took."""
        own = self.watched.interval.total_seconds()
        if question.interval is not None:
            return question.interval.total_seconds()
        share = SHARE_BESIDE_FEED if self._poller.follows else SHARE if question.file.scope == "all" else 0
        return max(own, share * (seconds or 0.0))

    def _shown_interval(self, question: Question) -> float:
        result = self._results.get(question.name)
        return max(result.interval if result else self._interval(question, None), self._last_duration)

    def _pause(self, started: float) -> float:
        """Seconds until the next poll. A late one is skipped, not queued; after a failure it comes sooner."""
        interval = self.watched.interval.total_seconds()
        spent = time.monotonic() - started
        if self._failures_in_a_row:
            # What failed slowly (a deadline passed) gets as long a rest: retrying it at once would be a load.
            backoff = min(interval, max(spent, FIRST_BACKOFF * 2 ** min(self._failures_in_a_row - 1, 16)))
            return float(backoff * random.uniform(0.8, 1.2))  # noqa: S311  # jitter, not cryptography
        return interval - spent % interval

    async def _rest(self, seconds: float) -> None:
        """Sleep, unless new settings come."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()
