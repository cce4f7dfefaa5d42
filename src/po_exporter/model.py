"""What a poll learned, as frozen values without I/O: the only thing that metrics, pages and summaries read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal

Priority = Literal["high", "medium", "low"]
Entity = Literal["order", "position"]
Mode = Literal["scan", "incremental"]


class Verdict(StrEnum):
    """What is said of a database, worst last."""

    OK = "OK"
    DEGRADED = "DEGRADED"
    CRITICAL = "CRITICAL"
    UNKNOWN = "UNKNOWN"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of them, UNKNOWN first; OK for none."""
    order = list(Verdict)
    return max(verdicts, key=order.index, default=Verdict.OK)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with one order or position. ``since`` comes from the data and may be unknown; ``first_seen``
    is the database's clock at the first answer of this process that held it; ``settled`` whether it has been there for
    long enough to be told of."""

    id: str
    since: datetime | None
    first_seen: datetime
    details: Mapping[str, object]
    settled: bool = True


@dataclass(frozen=True, slots=True)
class LinkRate:
    """Eligible orders of the window and how many of them are linked to a position that exists."""

    eligible: int
    links: int

    @property
    def percent(self) -> float | None:
        """0 to 100; None when nothing is eligible."""
        return 100 * self.links / self.eligible if self.eligible else None

    def __str__(self) -> str:
        """Two decimals, cut rather than rounded: 100 % is said only of all."""
        if not self.eligible:
            return "nothing eligible"
        hundredths = self.links * 10_000 // self.eligible
        return f"{hundredths // 100}.{hundredths % 100:02d} %"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The latest answer of one enabled check, or why there is none.

    ``as_of`` is the database's clock in the snapshot of that answer; ``seconds`` the duration of the statement it
    came from (shared by the checks asked in it); ``interval`` the seconds after which it is asked again. ``count`` is
    exact, and ``settled`` is how many of them have been there for long enough to be told of; ``findings`` holds the
    first, by ``since`` (unknown last), then id. ``issue_type``, ``priority``, ``count`` and ``settled`` are None for
    ``link_rate``, which has ``link_rate`` instead.
    """

    name: str
    issue_type: str | None
    priority: Priority | None
    entity: Entity
    help: str
    ok: bool
    interval: float
    error: str | None = None
    reason: str | None = None
    as_of: datetime | None = None
    seconds: float | None = None
    count: int | None = None
    settled: int | None = None
    oldest: datetime | None = None
    findings: tuple[Finding, ...] = ()
    link_rate: LinkRate | None = None

    @property
    def truncated(self) -> bool:
        """Whether there are more findings than the evidence shows."""
        return self.count is not None and self.count > len(self.findings)


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of one database: each enabled check's latest answer, with that answer's own ``as_of``."""

    database: str
    as_of: datetime
    mode: Mode
    checks: tuple[CheckResult, ...]

    def check(self, name: str) -> CheckResult | None:
        """The check of that name; None when it is disabled or off for this schema."""
        return next((check for check in self.checks if check.name == name), None)

    def count(self, name: str) -> int | None:
        """The findings of a check; None when that is not known."""
        check = self.check(name)
        return check.count if check and check.ok else None

    @property
    def link_rate(self) -> LinkRate | None:
        """The link rate's parts; None when they are not known."""
        check = self.check("link_rate")
        return check.link_rate if check and check.ok else None

    @property
    def known_verdict(self) -> Verdict | None:
        """What the checks that answered say; None when none did. Thresholds have no part in it."""
        if not any(check.ok for check in self.checks):
            return None
        wrong = {check.priority for check in self.checks if check.ok and check.count}
        return Verdict.CRITICAL if "high" in wrong else Verdict.DEGRADED if wrong else Verdict.OK

    @property
    def verdict(self) -> Verdict:
        """UNKNOWN as soon as one enabled check has no answer."""
        return (all(check.ok for check in self.checks) and self.known_verdict) or Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class Incident:
    """A check being past its threshold over time, in one database.

    ``key`` is its own and no other's; ``began`` the database's clock at its first bad answer; ``check`` its latest bad
    answer; ``size`` how much was wrong in that: so many findings, or percent that are not linked; ``ids`` rows that
    were wrong in the course of it, the latest first, up to a limit; ``others``: more than those were; ``flaps`` how
    often in a row it was bad again soon after it had closed.
    """

    key: str
    database: str
    began: datetime
    check: CheckResult
    size: float
    ids: tuple[str, ...] = ()
    flaps: int = 0
    others: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts by upper bound in seconds; the last count is for what is above every bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float = 0.0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        """One without observations."""
        return cls(bounds, (0,) * (len(bounds) + 1))

    def within(self, quantile: float) -> float | None:
        """The bound below which so large a part of the observations lies; None above every bound, or without any."""
        wanted, seen = quantile * sum(self.counts), 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                return bound if wanted else None
        return None

    def observe(self, value: float) -> Histogram:
        """A new one that holds one observation more."""
        counts = list(self.counts)
        counts[bisect_left(self.bounds, value)] += 1
        return replace(self, counts=tuple(counts), sum=self.sum + value)


LINK_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
CHECK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How the change feed of one database does.

    ``drift`` counts audited keys whose answer differed from a recompute; ``why`` says why it scans, None while it does
    not; ``pending`` transactions wait for a snapshot that sees them, ``carried`` is how often one had to; ``lag_bytes``
    of WAL are decoded again by each reading.
    """

    drift: int = 0
    why: str | None = None
    pending: int = 0
    carried: int = 0
    lag_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that may be shown of one database at one moment; replaced whole after each poll.

    ``up`` is None before the first poll has ended. ``result`` is None when nothing is known: before the first poll,
    and while the database cannot be read; ``unanswered`` then holds every enabled check, without an answer.
    ``poll_interval`` is in seconds, as configured. The totals only grow while the process leads. ``issues`` is by
    (issue type, priority), ``failures`` by (check, reason). ``feed`` is None where only scanning is wanted. ``kept`` is
    the version of the sidecar's own schema there, None where it cannot be used. ``cut_off``: this replica leads
    no more, and led when it last reached the database.
    """

    database: str
    poll_interval: float
    mode: Mode = "scan"
    feed: FeedStatus | None = None
    monitored: bool = True
    leader: bool = True
    cut_off: bool = False
    kept: int | None = None
    up: bool | None = None
    error: str | None = None
    result: Result | None = None
    unanswered: tuple[CheckResult, ...] = ()
    environment: str | None = None
    last_poll: datetime | None = None
    last_success: datetime | None = None
    check_names: tuple[str, ...] = ()
    check_last_success: Mapping[str, datetime] = field(default_factory=dict)
    check_intervals: Mapping[str, float] = field(default_factory=dict)
    asked: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], int] = field(default_factory=dict)
    durations: Mapping[str, Histogram] = field(default_factory=dict)
    issues: Mapping[tuple[str, str], int] = field(default_factory=dict)
    link_seconds: Histogram = field(default_factory=lambda: Histogram.empty(LINK_SECONDS))
    ready: bool = False

    @property
    def verdict(self) -> Verdict:
        """UNKNOWN while there is no result."""
        return self.result.verdict if self.result else Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """How one way to tell people does. ``failures`` is by reason; ``waiting`` summaries are on their way; ``error`` is
    why the last try failed, None where it did not."""

    name: str
    sent: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    last_success: datetime | None = None
    waiting: int = 0
    error: str | None = None
