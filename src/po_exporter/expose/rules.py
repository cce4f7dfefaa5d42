"""The alert rules of a configuration, for Prometheus 2.42 and newer.

Every alert stands here once.
``alerts/position-order.rules.yaml`` is what ``po-exporter rules`` prints for the defaults.
The first three keep what the users' guide says of them: names, expressions, ``for`` and severity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from textwrap import dedent
from typing import Any

import yaml

from po_exporter.expose.metrics import UNLINKED_CHECKS
from po_exporter.model import Priority

PROJECT = "https://github.com/po-exporter/po-exporter"
RUNBOOKS = f"{PROJECT}/blob/main/docs/runbooks"
JOB = "po-exporter"

SEVERITY: dict[Priority, str] = {"high": "critical", "medium": "warning", "low": "info"}
KEEP = timedelta(minutes=5)
"""How long a firing integrity alert outlives its series: a change of leader or a short outage resolves nothing."""
TOO_OLD = timedelta(hours=1)
"""A fill that has waited for its link for so long is no lag any more."""
SETTLED = timedelta(minutes=10)
"""What a trading API's separate transactions may show for a moment is no alert."""
SLOW = timedelta(seconds=60)
SCRAPED = timedelta(minutes=2)
"""What Prometheus knows is as old as its last scrape: a minute by its default, and one may have failed."""
BURST = 10

HEADER = """\
# Prometheus 2.42 or newer. `po-exporter rules` prints these for a configuration: its thresholds, intervals and checks.
#
# What cannot be known has no series, and an alert whose series end is silent. Therefore the alerts about integrity keep
# firing for a while, and PositionOrderIntegrityUnknown takes over from them at the evaluation at which their question
# can no longer be answered. Keep it in one group with them and behind them: it reads their ALERTS.
"""


@dataclass(frozen=True, slots=True)
class RuledCheck:
    """What the rules need to know of an enabled check. ``priority`` is None for the link rate."""

    name: str
    issue_type: str
    help: str
    priority: Priority | None
    threshold: Decimal
    interval: timedelta | None = None
    settles: bool = False
    runbook: str | None = None


@dataclass(frozen=True, slots=True)
class Ruled:
    """What the rules need to know of a configuration; ``job`` is the scrape job, ``runbooks`` where their pages are."""

    checks: Sequence[RuledCheck]
    interval: timedelta
    window: timedelta
    job: str = JOB
    runbooks: str = RUNBOOKS


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. ``answers`` are the checks that answer its question, if it is about integrity."""

    name: str
    expr: str
    severity: str
    summary: str
    description: str
    wait: timedelta | None = None
    answers: Sequence[str] = ()
    labels: dict[str, str] = field(default_factory=dict)
    runbook: str | None = None

    def rule(self, runbooks: str) -> dict[str, Any]:
        """As it stands in a rule file."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr}
        if self.wait:
            rule["for"] = _duration(self.wait)
        if self.answers:
            rule["keep_firing_for"] = _duration(KEEP)
        rule["labels"] = {"severity": self.severity, **self.labels}
        rule["annotations"] = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": self.runbook or f"{runbooks}/{self.name}.md",
        }
        return rule


def alert_rules(ruled: Ruled) -> dict[str, Any]:
    """The groups of a rule file."""
    integrity = list(_integrity(ruled))
    about = [*integrity, _unknown(integrity)]
    return {
        "groups": [
            {"name": "position_order_integration", "rules": [alert.rule(ruled.runbooks) for alert in about]},
            {
                "name": "position_order_operation",
                "rules": [alert.rule(ruled.runbooks) for alert in _operation(ruled)],
            },
            {
                # A group of its own: it makes the guide's query for the processing time answer, which names no buckets.
                "name": "position_order_latency",
                "rules": [
                    {
                        "record": "position_order_integration_duration_seconds",
                        "expr": "sum by (database, le) "
                        f"(rate(position_order_integration_duration_seconds_bucket[{_range(ruled, 60)}]))",
                    }
                ],
            },
        ]
    }


def answered_by(ruled: Ruled) -> dict[str, tuple[str, ...]]:
    """By alert, the checks that answer its question; none where the alert names its check itself, or has none."""
    integrity = list(_integrity(ruled))
    answers = {alert.name: tuple(alert.answers) for alert in integrity if not alert.labels}
    others = [*integrity, _unknown(integrity), *_operation(ruled)]
    return dict.fromkeys((alert.name for alert in others), ()) | answers


def rules_yaml(ruled: Ruled) -> str:
    """The rule file."""
    return HEADER + yaml.dump(alert_rules(ruled), Dumper=_Dumper, sort_keys=False, width=1000)


def _integrity(ruled: Ruled) -> Iterator[Alert]:
    """Whether orders and positions agree. Each ends with its series, and says by which checks it is answered."""
    checks = {check.name: check for check in ruled.checks}
    if check := checks.get("link_rate"):
        yield Alert(
            "PositionOrderLinkRateLow",
            f"position_order_link_rate < {check.threshold:f}",
            "warning",
            "Position-Order link rate is below threshold",
            "Only {{ $value }}% of eligible orders are linked to positions",
            timedelta(minutes=5),
            ["link_rate"],
        )
    if check := checks.get("unlinked_filled_order"):
        yield Alert(
            "UnlinkedFilledOrdersHigh",
            f"position_order_unlinked_filled_orders > {check.threshold:f}",
            "critical",
            "High number of unlinked filled orders",
            "{{ $value }} filled orders are not linked to positions",
            timedelta(minutes=2),
            ["unlinked_filled_order"],
        )
    if check := checks.get("orphaned_position_reference"):
        yield Alert(
            "OrphanedPositionReferences",
            f"position_order_orphaned_references > {check.threshold:f}",
            "critical",
            "Orders referencing non-existent positions detected",
            "{{ $value }} orders have invalid position references",
            timedelta(minutes=1),
            ["orphaned_position_reference"],
        )
    if check := checks.get("quantity_mismatch"):
        yield Alert(
            "PositionOrderQuantityMismatch",
            f"position_order_quantity_mismatches > {check.threshold:f}",
            "warning",
            "Positions differ from the sum of their orders",
            "{{ $value }} positions in {{ $labels.database }} are not the sum of their filled orders",
            _patience(ruled, check),
            ["quantity_mismatch"],
        )
    unlinked = [name for name in UNLINKED_CHECKS if name in checks]
    if unlinked:
        yield Alert(
            "PositionOrderUnlinkedTooOld",
            _too_old(ruled, checks.get("aged_unlinked_order")),
            "warning",
            "A filled order has waited for its position for over an hour",
            "The oldest filled order without a link in {{ $labels.database }} filled "
            "{{ $value | humanizeDuration }} ago",
            _at_least(ruled, timedelta(minutes=5)),
            unlinked,
        )
    headlines = {"link_rate", "unlinked_filled_order", "orphaned_position_reference", "quantity_mismatch"}
    for check in ruled.checks:
        if check.priority and check.name not in headlines | {"aged_unlinked_order"}:
            yield Alert(
                "PositionOrderOpenIssues",
                f'position_order_open_issues{{issue_type="{check.issue_type}"}} > {check.threshold:f}',
                SEVERITY[check.priority],
                f"Findings of the check {check.name}",
                "{{ $value }} findings in {{ $labels.database }}. " + check.help.replace("{{", "{ {"),
                _patience(ruled, check),
                [check.name],
                {"check": check.name},
                check.runbook,
            )


def _unknown(integrity: Sequence[Alert]) -> Alert:
    """What takes over from an integrity alert whose question has no answer any more, until it has one again.

    An answer is a check that succeeded. A check that is not there at all although its database was asked, and all
    that was asked answered, was switched off: nobody asks that question any more.
    """
    alerts: dict[str, list[str]] = {}
    for alert in integrity:
        for check in alert.answers if not alert.labels else ():
            alerts.setdefault(check, []).append(alert.name)
    firing = [
        f'label_replace(ALERTS{{alertname=~"{"|".join(names)}", alertstate="firing"}}, "check", "{check}", "", "")'
        for check, names in alerts.items()
    ]
    firing.append('ALERTS{alertname=~"PositionOrderOpenIssues|PositionOrderIntegrityUnknown", alertstate="firing"}')
    were_firing = "\n  or ".join(firing)
    return Alert(
        "PositionOrderIntegrityUnknown",
        f"max by (database, check) (\n  {were_firing}\n)\n"
        + dedent("""\
            unless on (database, check) position_order_check_success == 1
            unless on (database) (
              max by (database) (position_order_up) == 1
              unless on (database) position_order_check_success == 0
            )"""),
        "critical",
        "It is unknown whether what was wrong still is",
        "An alert about {{ $labels.check }} in {{ $labels.database }} was firing, and now nobody can answer its "
        "question: the check has failed, its database cannot be read, or the exporter cannot be asked",
    )


def _operation(ruled: Ruled) -> Iterator[Alert]:
    """Whether the watching itself goes well, and what an on-call would like to know beside it."""
    burst, slow, recent = _range(ruled, 15), _range(ruled, 15), _range(ruled, 15)
    yield Alert(
        "PositionOrderIssuesBurst",
        "sum by (database, issue_type, priority) "
        f"(increase(position_order_data_quality_issues_total[{burst}])) > {BURST}",
        "warning",
        "Many new findings in a short time",
        "{{ $value | humanize }} new findings {{ $labels.issue_type }} in {{ $labels.database }} "
        f"within {burst}",
    )
    yield Alert(
        "PositionOrderLinkingSlow",
        dedent(f"""\
            histogram_quantile(
              0.95, sum by (database, le) (rate(position_order_integration_duration_seconds_bucket[{slow}]))
            )
            > on (database) clamp_min(
              2 * max by (database) (position_order_exporter_poll_interval_seconds), {SLOW.total_seconds():g}
            )"""),
        "warning",
        "Linking fills to positions is slow",
        "One of twenty links in {{ $labels.database }} takes longer than {{ $value | humanizeDuration }}",
        timedelta(minutes=10),
    )
    yield Alert(
        "PositionOrderDatabaseDown",
        "max by (database) (position_order_up) == 0",
        "critical",
        "The trading database cannot be read",
        "No check could be asked of {{ $labels.database }}; everything about it is unknown",
        timedelta(minutes=2),
    )
    yield Alert(
        "PositionOrderCheckFailing",
        dedent("""\
            position_order_check_success == 0
            and on (database) max by (database) (position_order_up) == 1"""),
        "warning",
        "A check has no answer",
        "{{ $labels.check }} cannot be answered in {{ $labels.database }}, though others can",
        _at_least(ruled, timedelta(minutes=5)),
    )
    yield Alert(
        "PositionOrderCheckStale",
        dedent(f"""\
            time() - position_order_check_last_success_timestamp_seconds
            > on (database, check) clamp_min(
              3 * max by (database, check) (position_order_check_interval_seconds), {SCRAPED.total_seconds():g}
            )"""),
        "warning",
        "A check's answer is old",
        "{{ $labels.check }} was last answered in {{ $labels.database }} {{ $value | humanizeDuration }} ago",
        timedelta(minutes=5),
    )
    yield Alert(
        "PositionOrderExporterDown",
        f"up{{job={json.dumps(ruled.job, ensure_ascii=False)}}} == 0",
        "warning",
        "A po-exporter does not answer",
        "{{ $labels.instance }} cannot be scraped",
        timedelta(minutes=5),
    )
    yield Alert(
        "PositionOrderExporterAbsent",
        "absent(position_order_exporter_build_info)",
        "critical",
        "Nobody watches orders and positions",
        "No po-exporter can be scraped",
        timedelta(minutes=5),
    )
    yield Alert(
        "PositionOrderNoEligibleOrders",
        dedent("""\
            position_order_eligible_orders == 0
            and on (database) max by (database) (position_order_eligible_orders offset 1w) > 0"""),
        "info",
        "No filled orders, unlike a week ago",
        "Nothing has filled in {{ $labels.database }} within the window, "
        "though there were fills at this hour a week ago",
        timedelta(minutes=30),
    )
    yield Alert(
        "PositionOrderNotificationsFailing",
        dedent(f"""\
            sum by (channel) (increase(position_order_exporter_notification_failures_total[{recent}])) > 0
            unless on (channel)
              max by (channel) (position_order_exporter_notification_last_success_timestamp_seconds) > time() - 300"""),
        "warning",
        "Summaries do not arrive",
        "The channel {{ $labels.channel }} has refused summaries, and has taken none since",
        timedelta(minutes=5),
    )
    yield Alert(
        "PositionOrderConfigReloadFailed",
        "position_order_exporter_config_last_reload_successful == 0",
        "warning",
        "A configuration was refused",
        "{{ $labels.instance }} goes on with its former configuration; its log says what is wrong with the new one",
        timedelta(minutes=1),
    )
    yield Alert(
        "PositionOrderNoLeader",
        "max by (database) (position_order_exporter_leader) == 0",
        "critical",
        "No replica leads",
        "Nobody polls {{ $labels.database }}: every replica only follows",
        timedelta(minutes=5),
    )
    yield Alert(
        "PositionOrderDrift",
        "increase(position_order_exporter_drift_total[1h]) > 0",
        "critical",
        "An incremental answer was wrong",
        "{{ $value | humanize }} audited keys of {{ $labels.database }} differed from a recompute; they were put right",
    )


def _too_old(ruled: Ruled, aged: RuledCheck | None) -> str:
    age = "time() - position_order_oldest_unlinked_order_timestamp_seconds"
    expr = f"{age} > {TOO_OLD.total_seconds():g}"
    if aged is None or aged.threshold == 0:
        return expr
    # So many that are older than the window are put up with.
    return (
        f"{expr}\nunless on (database) (\n"
        f"  {age} > {ruled.window.total_seconds():g}\n"
        f'  and on (database) position_order_open_issues{{issue_type="{aged.issue_type}"}} <= {aged.threshold:f}\n)'
    )


def _patience(ruled: Ruled, check: RuledCheck) -> timedelta:
    """What settles may be wrong in one answer, and right in the next: it is to be wrong in several."""
    interval = max(ruled.interval, check.interval or ruled.interval)
    return max(SETTLED, 3 * interval) if check.settles else _at_least(ruled, timedelta(minutes=1))


def _at_least(ruled: Ruled, wait: timedelta) -> timedelta:
    return max(wait, 2 * ruled.interval)


def _range(ruled: Ruled, minutes: int) -> str:
    """A range that holds several answers."""
    return _duration(max(timedelta(minutes=minutes), 4 * ruled.interval))


def _duration(value: timedelta) -> str:
    """As Prometheus writes it."""
    milliseconds = round(value / timedelta(milliseconds=1))
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines as they are."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # as the library calls it
        """Indent the entries of lists, too."""
        super().increase_indent(flow, indentless=False)


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
