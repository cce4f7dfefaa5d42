"""What every channel does, and how one says that it could not."""

from __future__ import annotations

import math
from typing import Protocol

from po_exporter.errors import CredentialsUnreadable
from po_exporter.secret import Secret
from po_exporter.tell.summary import Summary

REASONS = ("unreachable", "timeout", "rate_limited", "server_error", "rejected", "overflow", "defect")
"""Why a summary was not taken, in a word: the values of the metric's label."""


class Undelivered(Exception):
    """A summary was not taken: why, in one sentence.

    ``reason`` is one word, for the metric. ``permanent``: trying again is of no use. ``retry_after``: seconds that the
    receiver asked for.
    """

    def __init__(self, message: str, reason: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason, self.permanent, self.retry_after = reason, permanent, retry_after


class Channel(Protocol):
    """One way to tell people. ``pace`` is the least time between two sends, in seconds."""

    name: str
    pace: float

    def wants(self, summary: Summary) -> bool:
        """Whether it is for this channel at all."""
        ...

    async def send(self, summary: Summary, thread: object) -> object:
        """Send one summary.

        ``thread`` is what the last send about the same incident returned, None for the first. Raises Undelivered.
        """
        ...


def reveal(secret: Secret) -> str:
    """A secret as it is now; its file may have changed. Raises Undelivered."""
    try:
        return secret.reveal()
    except CredentialsUnreadable as error:
        raise Undelivered(str(error), "rejected") from None


async def deliver(channel: Channel, summary: Summary, thread: object) -> object:
    """Send by a channel; what it did not foresee is said as well. Raises Undelivered, and nothing else."""
    try:
        return await channel.send(summary, thread)
    except Undelivered:
        raise
    except Exception as error:  # a setting or an answer that a library stumbles over must not end the watching
        # Its text may hold an address or a token.
        raise Undelivered(f"the channel failed by {type(error).__name__}; look at its settings", "defect") from error


def refused(status: int, message: str, retry_after: str | None) -> Undelivered:
    """What an HTTP status other than success means: 429 and 5xx are worth another try, all else is not."""
    if status == 429:
        return Undelivered(message, "rate_limited", retry_after=_seconds(retry_after))
    if status >= 500 or status == 408:
        return Undelivered(message, "server_error", retry_after=_seconds(retry_after))
    return Undelivered(message, "rejected", permanent=True)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds. Its other form, a date, is not one that those whom we send to use."""
    try:
        seconds = float(retry_after) if retry_after else math.nan
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
