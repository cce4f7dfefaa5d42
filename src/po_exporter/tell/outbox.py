"""What waits to be told, and one courier a channel that carries it: in order for each incident, at least once.

It is in memory: what waits when the process ends is told by the next one, which finds the same things wrong.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

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

ENDS = ("closed", "off", "test", "digest")
"""After these nothing more comes of an incident."""


@dataclass
class Letter:
    """One summary on its way through one channel. ``sent_before``: how many others had been sent at its first try."""

    summary: Summary
    tries: int = 0
    sent_before: int = 0


class Courier:
    """Carries summaries to one channel, one after the other; of one incident in order. One that fails lets those of
    other incidents go first."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._waiting: list[Letter] = []
        self._sending: Letter | None = None
        self._threads: dict[str, object] = {}
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

    def put(self, summary: Summary) -> None:
        """Have it sent, if the channel wants it. Of two changes of one incident that wait, the later alone is told."""
        if not self.channel.wants(summary):
            return
        last = next((each for each in reversed(self._waiting) if each.summary.incident == summary.incident), None)
        if last and last is not self._sending and last.summary.kind == summary.kind == "changed":
            were = {number.label: number.before for number in last.summary.numbers}
            numbers = tuple(replace(number, before=were.get(number.label)) for number in summary.numbers)
            last.summary = replace(summary, before=last.summary.before, numbers=numbers)
            return
        self._waiting.append(Letter(summary))
        if len(self._waiting) > MOST_WAITING:
            oldest = next(letter for letter in self._waiting if letter is not self._sending)
            self._set_aside(oldest, Undelivered("too many summaries are waiting", "overflow"))
        self._something.set()

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        backoff = FIRST_BACKOFF
        while True:
            self._something.clear()
            # Settings may have changed since they were put here.
            self._waiting = [letter for letter in self._waiting if self.channel.wants(letter.summary)]
            letter = self._sending = self._next()
            if letter is None:
                await self._something.wait()
                continue
            started = time.monotonic()
            try:
                await self._send(letter)
            except Undelivered as failure:
                self._returned(letter, failure)
                if not failure.permanent:
                    # Several replicas, or a service that comes back, are not to meet all at once.
                    pause = failure.retry_after or backoff * (1 + random.random()) / 2  # noqa: S311 - no secret
                    backoff = min(2 * backoff, MOST_BACKOFF)
                    await asyncio.sleep(min(pause, MOST_OBEYED))
                    continue
            else:
                backoff = FIRST_BACKOFF
            await asyncio.sleep(max(0.0, self.channel.pace - (time.monotonic() - started)))

    def _next(self) -> Letter | None:
        """Of each incident's first letter, the one that was tried the least."""
        first: dict[str, Letter] = {}
        for letter in self._waiting:
            first.setdefault(letter.summary.incident, letter)
        return min(first.values(), key=lambda letter: letter.tries, default=None)

    def _returned(self, letter: Letter, failure: Undelivered) -> None:
        """It could not be sent."""
        if not letter.tries:
            letter.sent_before = self._sent
        letter.tries += 1
        poison = letter.tries >= POISON_TRIES and self._sent > letter.sent_before
        if failure.permanent or poison or letter.tries >= MOST_TRIES:
            self._set_aside(letter, failure)
        else:
            self._failed(failure)

    async def _send(self, letter: Letter) -> None:
        summary = letter.summary
        thread = await deliver(self.channel, summary, self._threads.get(summary.incident))
        self._waiting.remove(letter)
        self._remember(summary, thread)
        self._sent += 1
        self._last_success = datetime.now(UTC)
        if self._error:
            log.info("channel_back", channel=self.channel.name)
        self._error, self._said = None, set()

    def _remember(self, summary: Summary, thread: object) -> None:
        if summary.kind in ENDS:
            self._threads.pop(summary.incident, None)
        else:
            self._threads[summary.incident] = thread
            while len(self._threads) > MOST_WAITING:  # those of incidents that another replica has taken over
                self._threads.pop(next(iter(self._threads)))

    def _set_aside(self, letter: Letter, failure: Undelivered) -> None:
        self._waiting.remove(letter)
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
