"""Status values -> Prometheus families. Built anew from each view: what is no longer known has no series.

Every metric of this program stands in ``CATALOG``; docs/metrics.md describes the same list, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Literal

from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from po_exporter.expose.view import View, answered, effective_interval, shown_result
from po_exporter.model import ChannelStatus, Histogram, Status

Kind = Literal["gauge", "counter", "histogram", "untyped", "info"]

UNLINKED_CHECKS = ("unlinked_filled_order", "aged_unlinked_order")

# The gauges that are one check's count, by check.
COUNT_GAUGES = {
    "unlinked_filled_order": ("position_order_unlinked_filled_orders", "position_order_unlinked_filled_orders_total"),
    "orphaned_position_reference": ("position_order_orphaned_references",),
    "quantity_mismatch": ("position_order_quantity_mismatches",),
}


@dataclass(frozen=True, slots=True)
class Family:
    """One metric under the name that queries use, with its labels in order."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


DB = ("database",)
CHECK = ("database", "check")
ISSUE = ("database", "issue_type", "priority")

CATALOG = (
    Family("position_order_link_rate", "gauge", DB, "Percentage of eligible orders that are linked to a position."),
    Family("position_order_link_ratio", "gauge", DB, "Share of eligible orders that are linked to a position, 0 to 1."),
    Family("position_order_eligible_orders", "gauge", DB, "Eligible orders in the window."),
    Family("position_order_links", "gauge", DB, "Eligible orders whose link names a position that exists."),
    Family("position_order_unlinked_filled_orders", "gauge", DB, "Eligible orders without a link."),
    Family("position_order_links_total", "untyped", DB, "The same as position_order_links; it can fall."),
    Family(
        "position_order_eligible_orders_total",
        "untyped",
        DB,
        "The same as position_order_eligible_orders; it can fall.",
    ),
    Family(
        "position_order_unlinked_filled_orders_total",
        "untyped",
        DB,
        "The same as position_order_unlinked_filled_orders; it can fall.",
    ),
    Family("position_order_orphaned_references", "gauge", DB, "Orders that name a position that does not exist."),
    Family("position_order_quantity_mismatches", "gauge", DB, "Positions that differ from the sum of their orders."),
    Family("position_order_open_issues", "gauge", ISSUE, "Open findings of each check that was answered."),
    Family("position_order_data_quality_issues_total", "counter", ISSUE, "Findings, each counted when first seen."),
    Family(
        "position_order_oldest_unlinked_order_timestamp_seconds",
        "gauge",
        DB,
        "Fill time of the oldest unlinked order, within the window and before it.",
    ),
    Family(
        "position_order_integration_duration_seconds",
        "histogram",
        DB,
        "Seconds from an order's fill to its link, once for each new link. In incremental mode by commit times; in "
        "scan mode only links that a poll saw missing are observed, to the resolution of the poll.",
    ),
    Family("position_order_up", "gauge", DB, "Whether at least one check was answered in the last poll."),
    Family("position_order_check_success", "gauge", CHECK, "Whether the check's latest attempt was answered."),
    Family("position_order_check_last_success_timestamp_seconds", "gauge", CHECK, "When the check was last answered."),
    Family(
        "position_order_check_interval_seconds",
        "gauge",
        CHECK,
        "Seconds between two answers of the check, or what the last poll took where that was longer.",
    ),
    Family("position_order_last_poll_timestamp_seconds", "gauge", DB, "When the last poll ended."),
    Family(
        "position_order_last_success_timestamp_seconds", "gauge", DB, "When a poll last answered at least one check."
    ),
    Family(
        "position_order_exporter_check_duration_seconds",
        "histogram",
        CHECK,
        "Seconds that the statement took in which the check was asked; checks asked together share it.",
    ),
    Family("position_order_exporter_checks_total", "counter", CHECK, "How often the check was asked."),
    Family(
        "position_order_exporter_check_failures_total", "counter", (*CHECK, "reason"), "How often it had no answer."
    ),
    Family("position_order_exporter_poll_interval_seconds", "gauge", DB, "Seconds between two polls, as configured."),
    Family("position_order_exporter_mode", "gauge", (*DB, "mode"), "1 for the mode in use."),
    Family(
        "position_order_exporter_snapshot_timestamp_seconds",
        "gauge",
        DB,
        "The database's clock when the snapshot behind the latest result was taken.",
    ),
    Family(
        "position_order_exporter_feed_pending_transactions",
        "gauge",
        DB,
        "Transactions that the change feed has seen and the latest snapshot has not. In incremental mode only.",
    ),
    Family(
        "position_order_exporter_feed_lag_bytes",
        "gauge",
        DB,
        "Write-ahead log that each reading of the change feed decodes again. In incremental mode only.",
    ),
    Family(
        "position_order_exporter_drift_total",
        "counter",
        DB,
        "Audited keys whose incremental answer differed from a recompute in the same snapshot: stays 0.",
    ),
    Family("position_order_exporter_leader", "gauge", DB, "Whether this replica polls the database."),
    Family("position_order_exporter_notifications_total", "counter", ("channel",), "Summaries that were sent."),
    Family(
        "position_order_exporter_notification_failures_total",
        "counter",
        ("channel", "reason"),
        "How often a summary could not be sent.",
    ),
    Family(
        "position_order_exporter_notification_last_success_timestamp_seconds",
        "gauge",
        ("channel",),
        "When a summary was last sent.",
    ),
    Family(
        "position_order_exporter_config_last_reload_successful",
        "gauge",
        (),
        "Whether the last attempt to load the configuration succeeded.",
    ),
    Family(
        "position_order_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        (),
        "When the configuration was last loaded successfully.",
    ),
    Family("position_order_exporter_build_info", "info", ("version", "revision"), "What is running."),
)

_FAMILIES = {family.name: family for family in CATALOG}

# name, label values in the family's order, value
Sample = tuple[str, tuple[str, ...], float | Histogram]


def families(view: View) -> list[Metric]:
    """Every family that has something to say now, in the catalog's order."""
    metrics: dict[str, Metric] = {}
    for family in CATALOG:
        base = family.name.removesuffix("_total") if family.kind == "counter" else family.name.removesuffix("_info")
        metrics[family.name] = Metric(base, family.help, family.kind)
    for name, values, value in _samples(view):
        labels = dict(zip(_FAMILIES[name].labels, values, strict=True))
        if isinstance(value, Histogram):
            _add_histogram(metrics[name], labels, value)
        else:
            metrics[name].add_sample(name, labels, value)
    return [metric for metric in metrics.values() if metric.samples]


def encode(view: View, *, as_openmetrics: bool) -> bytes:
    """The page that a scrape reads."""
    page = _Collected(families(view))
    # Our names need no escaping; saying so spares a walk over every character of every name.
    encoder = openmetrics if as_openmetrics else exposition
    body: bytes = encoder.generate_latest(page, openmetrics.ALLOWUTF8)
    return body


class _Collected:
    """What the encoders of prometheus_client take: something that can be collected."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _samples(view: View) -> Iterator[Sample]:
    for status in view.statuses:
        if status.monitored:
            yield from _exporter_samples(status)
            if status.leader:
                yield from _watching_samples(status)
                yield from _domain_samples(status)
            elif status.up is False:
                yield "position_order_up", (status.database,), 0.0
    for channel in view.channels:
        yield from _channel_samples(channel)
    yield "position_order_exporter_config_last_reload_successful", (), float(view.config_loaded)
    yield (
        "position_order_exporter_config_last_reload_success_timestamp_seconds",
        (),
        view.config_loaded_at.timestamp(),
    )
    yield "position_order_exporter_build_info", (view.version, view.revision), 1.0


def _exporter_samples(status: Status) -> Iterator[Sample]:
    """About the sidecar itself: a follower has these, too."""
    db = status.database
    for check in status.check_names:
        yield "position_order_exporter_checks_total", (db, check), float(status.asked.get(check, 0))
        if check in status.durations:
            yield "position_order_exporter_check_duration_seconds", (db, check), status.durations[check]
    for (check, reason), count in status.failures.items():
        if check in status.check_names:
            yield "position_order_exporter_check_failures_total", (db, check, reason), float(count)
    yield "position_order_exporter_poll_interval_seconds", (db,), status.poll_interval
    for mode in ("scan", "incremental"):
        yield "position_order_exporter_mode", (db, mode), float(status.leader and mode == status.mode)
    if status.feed:
        yield "position_order_exporter_drift_total", (db,), float(status.feed.drift)
        if status.mode == "incremental":
            yield "position_order_exporter_feed_pending_transactions", (db,), float(status.feed.pending)
            yield "position_order_exporter_feed_lag_bytes", (db,), float(status.feed.lag_bytes)
    result = shown_result(status)
    if result:
        yield "position_order_exporter_snapshot_timestamp_seconds", (db,), result.as_of.timestamp()
    yield "position_order_exporter_leader", (db,), float(status.leader)


def _channel_samples(channel: ChannelStatus) -> Iterator[Sample]:
    yield "position_order_exporter_notifications_total", (channel.name,), float(channel.sent)
    for reason, count in channel.failures.items():
        yield "position_order_exporter_notification_failures_total", (channel.name, reason), float(count)
    name = "position_order_exporter_notification_last_success_timestamp_seconds"
    yield from _moment(name, channel.name, channel.last_success)


def _watching_samples(status: Status) -> Iterator[Sample]:
    """How the watching goes, and what was counted so far: it stays while the database cannot be read."""
    db = status.database
    if status.up is not None:
        yield "position_order_up", (db,), float(status.up)
        successful = {check.name for check in answered(status)}
        for check in status.check_names:
            yield "position_order_check_success", (db, check), float(check in successful)
    for check in status.check_names:
        if check in status.check_last_success:
            when = status.check_last_success[check]
            yield "position_order_check_last_success_timestamp_seconds", (db, check), when.timestamp()
        yield "position_order_check_interval_seconds", (db, check), effective_interval(status, check)
    yield from _moment("position_order_last_poll_timestamp_seconds", db, status.last_poll)
    yield from _moment("position_order_last_success_timestamp_seconds", db, status.last_success)
    for (issue_type, priority), count in status.issues.items():
        yield "position_order_data_quality_issues_total", (db, issue_type, priority), float(count)
    yield "position_order_integration_duration_seconds", (db,), status.link_seconds


def _domain_samples(status: Status) -> Iterator[Sample]:
    """What the checks found; only those that were answered have a say."""
    db = status.database
    for check in answered(status):
        if check.link_rate:
            rate = check.link_rate
            for name in ("position_order_eligible_orders", "position_order_eligible_orders_total"):
                yield name, (db,), float(rate.eligible)
            for name in ("position_order_links", "position_order_links_total"):
                yield name, (db,), float(rate.links)
            if rate.percent is not None:
                yield "position_order_link_rate", (db,), rate.percent
                yield "position_order_link_ratio", (db,), rate.links / rate.eligible
        if check.count is not None:
            if check.issue_type and check.priority:
                yield "position_order_open_issues", (db, check.issue_type, check.priority), float(check.count)
            for name in COUNT_GAUGES.get(check.name, ()):
                yield name, (db,), float(check.count)
    yield from _moment("position_order_oldest_unlinked_order_timestamp_seconds", db, _oldest_unlinked(status))


def _oldest_unlinked(status: Status) -> datetime | None:
    """None also when an enabled check that could know of an older one has no answer."""
    asked = {check for check in UNLINKED_CHECKS if check in status.check_names}
    told = {check.name: check.oldest for check in answered(status) if check.name in UNLINKED_CHECKS}
    if not asked <= told.keys():
        return None
    return min((oldest for oldest in told.values() if oldest), default=None)


def _moment(name: str, label: str, when: datetime | None) -> Iterator[Sample]:
    if when is not None:
        yield name, (label,), when.timestamp()


def _add_histogram(metric: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    bounds = (*(str(float(bound)) for bound in histogram.bounds), "+Inf")
    for bound, count in zip(bounds, accumulate(histogram.counts), strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, sum(histogram.counts))
    metric.add_sample(f"{metric.name}_sum", labels, histogram.sum)
