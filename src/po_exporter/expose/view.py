"""What there is to show at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from po_exporter import __revision__, __version__
from po_exporter.model import ChannelStatus, CheckResult, Result, Status

LINK_RATE = "link_rate"


@dataclass(frozen=True, slots=True)
class View:
    """Every database's status, every channel's, and the state of the configuration: taken anew for each request.

    ``config_loaded`` says whether the last attempt to load the configuration succeeded, ``config_loaded_at`` when one
    last did.
    """

    statuses: tuple[Status, ...]
    config_loaded: bool
    config_loaded_at: datetime
    channels: tuple[ChannelStatus, ...] = ()
    version: str = __version__
    revision: str = __revision__


def shown_result(status: Status) -> Result | None:
    """The result that may be shown of a database; None on a follower, where nothing is polled, or while unknown."""
    return status.result if status.monitored and status.leader else None


def answered(status: Status) -> Iterator[CheckResult]:
    """The checks whose latest answer may be shown."""
    result = shown_result(status)
    return (check for check in (result.checks if result else ()) if check.ok)


def effective_interval(status: Status, check: str) -> float:
    """Seconds between two answers of a check: never less than between two polls, whatever it was set to."""
    return max(status.check_intervals.get(check, 0.0), status.poll_interval)


def why_not_ready(status: Status) -> str:
    """One clause for a person."""
    if status.error:
        return status.error
    if status.up is None:
        return "its first poll has not ended yet"
    if not status.up:
        return "no check was answered in its last poll"
    return "it has no result younger than three intervals"
