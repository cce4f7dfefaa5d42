"""What a check is asked, under which terms, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import asyncpg

from po_exporter.database.session import Limits
from po_exporter.model import LinkRate, Priority
from po_exporter.sql import LINK_RATE, CheckFile
from po_exporter.watch.memory import split

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """One enabled check with its settings."""

    file: CheckFile
    priority: Priority | None
    tolerance: Decimal | None = None
    interval: timedelta | None = None

    @property
    def name(self) -> str:
        """The check's name."""
        return self.file.name


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms all checks of a database are asked. ``window`` None: everything is in the window."""

    window: timedelta | None
    grace: timedelta
    limits: Limits
    evidence: int
    identity_budget: int


class Evidence(NamedTuple):
    """A finding as the database tells it; ``details`` is JSON. ``entered``: when its row came into the window, where
    the check looks at that."""

    id: str
    since: datetime | None
    details: str
    entered: datetime | None = None

    def read(self) -> Mapping[str, object]:
        """The details. A decimal of the database stays what it is, to the last digit."""
        found: dict[str, object] = json.loads(self.details, parse_float=str)
        return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What one check answered. ``identities`` is None beyond the identity budget; ``evidence`` is in order.

    ``followed`` says that the incremental mode answered, at the cost of what changed.
    """

    seconds: float
    count: int
    oldest: datetime | None = None
    identities: list[bytes] | None = None
    evidence: tuple[Evidence, ...] = ()
    link_rate: LinkRate | None = None
    followed: bool = False


def read_answer(row: asyncpg.Record, seconds: float) -> Answer:
    """One row of the statement that watch/statement.py composes."""
    if row["name"] == LINK_RATE:
        rate = LinkRate(eligible=row["count"], links=int(row["evidence"]))
        return Answer(seconds, rate.eligible, link_rate=rate)
    identities = row["identities"] if row["count"] else b""
    return Answer(
        seconds=seconds,
        count=row["count"],
        oldest=read_time(row["oldest"]),
        identities=None if identities is None else split(identities),
        evidence=tuple(
            Evidence(key, read_time(since), details or "{}", read_time(entered))
            for key, since, details, entered in json.loads(row["evidence"] or "[]")
        ),
    )


def read_time(epoch: str | None) -> datetime | None:
    """Seconds since 1970, as the database writes them, as a time; None for what is unknown or beyond the calendar."""
    try:
        return EPOCH + timedelta(microseconds=int(Decimal(epoch) * 1_000_000)) if epoch else None
    except (OverflowError, InvalidOperation):
        return None
