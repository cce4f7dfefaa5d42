"""What waits to be told, and one courier a channel that carries it: in order for each incident, at least once.

A letter that is kept in a database is crossed out there after it was sent, and before the next one from there goes:
when a process is killed between the two, at most one a channel is told again. One that is kept nowhere is lost with the
process; the next one finds the same things wrong.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from po_exporter.errors import DatabaseError
from po_exporter.model import ChannelStatus
from po_exporter.tell.channel import REASONS, Channel, Undelivered, deliver
from po_exporter.tell.summary import Summary

log = structlog.get_logger()

MOST_WAITING = 1000
"""Summaries that wait in one channel; beyond it the oldest goes, and is counted."""
POISON_TRIES, MOST_TRIES = 10, 500
"""One that failed so often while others got through is set aside, and counted; so is one that failed for a day."""
FIRST_BACKOFF, MOST_BACKOFF = 1.0, 300.0
"""Seconds to the next try after the first failure, doubled at each."""
MOST_OBEYED = 3600.0
"""Seconds of rest that a receiver may ask for."""
GONE = "there is no such channel"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of trying to send a letter at a time: what to hand to the next about the same incident; or why it could
    not be sent, and whether it will not be tried again."""

    at: datetime
    thread: object = None
    error: str | None = None
    set_aside: bool = False


class Overtaken(Exception):
    """Another replica leads by now."""


class Ledger(Protocol):
    """Where a letter is kept until it was sent."""

    async def tried(self, letter: Letter, outcome: Outcome) -> None:
        """Note what came of a try. Raises DatabaseError, or Overtaken."""
        ...


def at_any_time() -> bool:
    """There is nobody else who could tell of it."""
    return True


@dataclass(eq=False)
class Letter:
    """One summary on its way through one channel.

    It goes only while it ``may_go``: otherwise others may tell of it; one that is ``exempt`` goes in any case. ``rows``
    are its ids in the ``ledger`` that keeps it, several where it stands for others as well. ``sent_before``: how many
    others had been sent at its first try here.
    """

    summary: Summary
    may_go: Callable[[], bool] = at_any_time
    exempt: bool = False
    ledger: Ledger | None = None
    rows: tuple[int, ...] = ()
    tries: int = 0
    sent_before: int | None = None
    outcome: Outcome | None = None

    @property
    def delivered(self) -> bool:
        """Whether it was sent."""
        return self.outcome is not None and self.outcome.error is None

    @property
    def done(self) -> bool:
        """Whether it was sent, or will never be."""
        return self.delivered or bool(self.outcome and self.outcome.set_aside)


def _replaces(new: Summary, old: Summary) -> bool:
    return new.kind == old.kind == "changed" or (new.repeats and old.repeats and new.began == old.began)


class Courier:
    """Carries summaries to one channel, one after the other; of one incident in order. One that fails lets those of
    other incidents go first."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._waiting: list[Letter] = []
        self._sending: Letter | None = None
        self._threads: dict[str, object] = {}
        self._unrecorded: list[Letter] = []
        self._recording: dict[str, asyncio.Task[None]] = {}
        self._something = asyncio.Event()
        self._sent = 0
        self._failures = Counter(dict.fromkeys(REASONS, 0))
        self._last_success: datetime | None = None
        self._error: str | None = None
        self._said: set[str] = set()

    @property
    def status(self) -> ChannelStatus:
        """How it does."""
        return ChannelStatus(
            self.channel.name, self._sent, dict(self._failures), self._last_success, len(self._waiting), self._error
        )

    def put(self, letter: Letter) -> Letter:
        """Have it sent. Of two changes of one incident that wait, or repeats of an alert, the later alone is told.

        Returns the letter that tells it.
        """
        summary = letter.summary
        twin = next((each for each in self._waiting if letter.rows and each.summary.id == summary.id), None)
        if twin:  # it was written, and read again by who got the lead back
            twin.ledger, twin.rows = letter.ledger, letter.rows
            return twin
        last = next((each for each in reversed(self._waiting) if each.summary.incident == summary.incident), None)
        if last and last is not self._sending and _replaces(summary, last.summary):
            were = {number.label: number.before for number in last.summary.numbers}
            numbers = tuple(replace(number, before=were.get(number.label)) for number in summary.numbers)
            last.summary = replace(summary, before=last.summary.before, numbers=numbers)
            last.rows += letter.rows
            last.ledger = letter.ledger or last.ledger
            return last
        self._waiting.append(letter)
        if len(self._waiting) > MOST_WAITING:
            oldest = next(each for each in self._waiting if each is not self._sending)
            self._set_aside(oldest, Undelivered("too many summaries are waiting", "overflow"))
        self._something.set()
        return letter

    def recall(self, incident: str, thread: object) -> None:
        """The next about this incident goes to where it was told before this process began."""
        self._threads[incident] = thread

    def withdraw(self, database: str, *, exempt: bool = False) -> None:
        """Somebody else tells of this database from now on; also of what is ``exempt``, or not of that."""
        self._waiting = [
            each for each in self._waiting if each.summary.database != database or (each.exempt and not exempt)
        ]
        self._unrecorded = [each for each in self._unrecorded if each.summary.database != database]

    def keep_nothing(self, database: str) -> None:
        """What was to be noted there cannot be noted any more."""
        for letter in (*self._waiting, *self._unrecorded):
            if letter.summary.database == database:
                letter.ledger, letter.rows = None, ()
        self._unrecorded = [each for each in self._unrecorded if each.summary.database != database]

    def stir(self) -> None:
        """What was not possible a while ago may be now."""
        self._something.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            await self._carry(group)

    async def retire(self, running: asyncio.Task[None]) -> None:
        """The channel is gone: what waits for it is set aside, and crossed out where that can be done now."""
        running.cancel()
        await asyncio.wait([running])
        if self._waiting:
            log.warning("channel_removed", channel=self.channel.name, dropped=len(self._waiting))
        for letter in list(self._waiting):
            self._end(letter, Outcome(datetime.now(UTC), error=GONE, set_aside=True))
        async with asyncio.TaskGroup() as group:
            self._record(group)

    async def _carry(self, group: asyncio.TaskGroup) -> None:
        backoff = FIRST_BACKOFF
        while True:
            self._something.clear()
            self._drop_unwanted()
            self._record(group)
            letter = self._sending = self._next()
            if letter is None:
                await self._something.wait()
                continue
            started = time.monotonic()
            pause = 0.0
            try:
                await self._send(letter)
            except Undelivered as failure:
                self._returned(letter, failure)
                if not failure.permanent:
                    # Several replicas, or a service that comes back, are not to meet all at once.
                    pause = failure.retry_after or backoff * (1 + random.random()) / 2  # noqa: S311 - no secret
                    backoff = min(2 * backoff, MOST_BACKOFF)
            else:
                backoff = FIRST_BACKOFF
            self._record(group)
            rest = self.channel.pace - (time.monotonic() - started)
            await asyncio.sleep(max(rest, min(pause, MOST_OBEYED)))

    def _next(self) -> Letter | None:
        """Of each incident's first letter, the one that was tried the least. None goes from where the one before has
        not been crossed out."""
        owing = {letter.summary.database for letter in self._unrecorded}
        first: dict[str, Letter] = {}
        for letter in self._waiting:
            first.setdefault(letter.summary.incident, letter)
        free = [
            each
            for each in first.values()
            if each.exempt or (each.may_go() and not (each.rows and each.summary.database in owing))
        ]
        return min(free, key=lambda letter: letter.tries, default=None)

    def _drop_unwanted(self) -> None:
        """Settings have changed since they were put here."""
        for letter in [each for each in self._waiting if not self.channel.wants(each.summary)]:
            self._end(letter, Outcome(datetime.now(UTC), error="the channel does not want it any more", set_aside=True))

    def _record(self, group: asyncio.TaskGroup) -> None:
        """Note what came of each letter, where it is kept: for each database apart, as one may hang."""
        self._unrecorded = [each for each in self._unrecorded if each.ledger and each.rows]
        for database in dict.fromkeys(letter.summary.database for letter in self._unrecorded):
            if database not in self._recording:
                self._recording[database] = group.create_task(self._record_there(database))

    async def _record_there(self, database: str) -> None:
        """What cannot be noted now is noted later."""
        try:
            while letter := next((each for each in self._unrecorded if each.summary.database == database), None):
                try:
                    if letter.ledger and letter.rows and letter.outcome:
                        await letter.ledger.tried(letter, letter.outcome)
                except Overtaken:
                    log.warning("overtaken", channel=self.channel.name, database=database)
                if letter in self._unrecorded:  # else it was withdrawn meanwhile
                    self._unrecorded.remove(letter)
            self._something.set()
        except DatabaseError as error:
            if str(error) not in self._said:
                self._said.add(str(error))
                log.warning("not_crossed_out", database=database, error=str(error))
        finally:
            del self._recording[database]

    def _returned(self, letter: Letter, failure: Undelivered) -> None:
        """It could not be sent."""
        if letter.sent_before is None:
            letter.sent_before = self._sent
        letter.tries += 1
        poison = letter.tries >= POISON_TRIES and self._sent > letter.sent_before
        if failure.permanent or poison or letter.tries >= MOST_TRIES:
            self._set_aside(letter, failure)
        else:
            letter.outcome = Outcome(datetime.now(UTC), error=str(failure))
            self._unrecorded.append(letter)
            self._failed(failure)

    async def _send(self, letter: Letter) -> None:
        summary = letter.summary
        thread = await deliver(self.channel, summary, self._threads.get(summary.incident))
        self._end(letter, Outcome(datetime.now(UTC), thread))
        self._remember(summary, thread)
        self._sent += 1
        self._last_success = datetime.now(UTC)
        if self._error:
            log.info("channel_back", channel=self.channel.name)
        self._error, self._said = None, set()

    def _remember(self, summary: Summary, thread: object) -> None:
        if summary.ends:
            self._threads.pop(summary.incident, None)
        else:
            self._threads[summary.incident] = thread
            while len(self._threads) > MOST_WAITING:  # those of incidents that another replica has taken over
                self._threads.pop(next(iter(self._threads)))

    def _end(self, letter: Letter, outcome: Outcome) -> None:
        letter.outcome = outcome
        self._waiting = [each for each in self._waiting if each is not letter]  # it may have been withdrawn meanwhile
        self._unrecorded.append(letter)

    def _set_aside(self, letter: Letter, failure: Undelivered) -> None:
        self._end(letter, Outcome(datetime.now(UTC), error=str(failure), set_aside=True))
        self._remember(letter.summary, self._threads.get(letter.summary.incident))
        self._failed(failure)
        log.error(
            "summary_set_aside", channel=self.channel.name, incident=letter.summary.incident, kind=letter.summary.kind,
            database=letter.summary.database, check=letter.summary.check, error=str(failure),
        )  # fmt: skip

    def _failed(self, failure: Undelivered) -> None:
        self._failures[failure.reason] += 1
        self._error = str(failure)
        if str(failure) not in self._said:
            self._said.add(str(failure))
            log.error("channel_failed", channel=self.channel.name, reason=failure.reason, error=str(failure))
