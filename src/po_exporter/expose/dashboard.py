"""The Grafana dashboard of a configuration: its thresholds; checks of one's own show by their labels.

``dashboards/po-exporter.json`` is what ``po-exporter dashboards`` prints for the defaults. Missing data is UNKNOWN, in
grey, and never a zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from po_exporter.expose.rules import SLOW, Ruled

Json = dict[str, Any]

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_DATABASE = '{job=~"$job", database=~"$database"}'
OF_JOB = '{job=~"$job"}'
GREY, GREEN, YELLOW, RED, BLUE = "#808080", "green", "yellow", "red", "blue"
COLUMNS = 24

LEFT_OUT = {
    "position_order_link_ratio": "position_order_link_rate says the same",
    "position_order_links_total": "position_order_links says the same",
    "position_order_eligible_orders_total": "position_order_eligible_orders says the same",
    "position_order_unlinked_filled_orders_total": "position_order_unlinked_filled_orders says the same",
}
"""Metrics that no panel shows, and why."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its queries by legend, its width in columns of 24 and what is particular to its type."""

    title: str
    kind: str
    description: str
    queries: Mapping[str, str]
    width: int
    height: int = 8
    unit: str = "short"
    steps: Sequence[tuple[float | None, str]] = ((None, BLUE),)
    values: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    alerts: Sequence[str] = ()
    format: str = "time_series"
    limits: tuple[float | None, float | None] = (None, None)
    decimals: int | None = None

    def json(self, number: int, x: int, y: int, runbooks: str) -> Json:
        """As it stands in a dashboard."""
        low, high = self.limits
        mapped = {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(self.values.items())
        }
        mappings: list[Json] = [{"type": "value", "options": mapped}] if mapped else []
        mappings.append(
            {"type": "special", "options": {"match": "null+nan", "result": {"text": "UNKNOWN", "color": GREY}}}
        )
        defaults: Json = {
            "unit": self.unit,
            "noValue": "UNKNOWN",
            "mappings": mappings,
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": value, "color": color} for value, color in self.steps],
            },
            "color": {"mode": "palette-classic" if self.kind == "timeseries" else "thresholds"},
            "custom": _CUSTOM.get(self.kind, {}),
        }
        optional = {"min": low, "max": high, "decimals": self.decimals}
        defaults |= {name: value for name, value in optional.items() if value is not None}
        instant = self.kind in ("stat", "table")
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": [
                {
                    "refId": chr(ord("A") + place),
                    "datasource": SOURCE,
                    "expr": expr,
                    "legendFormat": legend,
                    "instant": instant,
                    "range": not instant,
                    "format": self.format,
                }
                for place, (legend, expr) in enumerate(self.queries.items())
            ],
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": _OPTIONS[self.kind],
            "links": [_link(f"Runbook: {alert}", f"{runbooks}/{alert}.md") for alert in self.alerts],
        }


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_TOOLTIP = {"mode": "multi", "sort": "desc"}
_OPTIONS: Mapping[str, Json] = {
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
    },
    "timeseries": {"legend": _LEGEND, "tooltip": _TOOLTIP},
    "state-timeline": {
        "showValue": "never",
        "mergeValues": True,
        "alignValue": "left",
        "rowHeight": 0.8,
        "legend": _LEGEND,
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64, "exponent": 0.5, "fill": "blue", "reverse": False},
        "exemplars": {"color": "blue"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "yAxis": {"unit": "s", "reverse": False, "axisPlacement": "left"},
    },
    "table": {"showHeader": True, "cellHeight": "sm", "footer": {"show": False, "reducer": [], "countRows": False}},
}
_CUSTOM: Mapping[str, Json] = {
    "timeseries": {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter",  # a value holds until the next answer
        "lineWidth": 1,
        "fillOpacity": 8,
        "showPoints": "never",
        "spanNulls": False,  # where nothing is known there is no line
    },
    "state-timeline": {"lineWidth": 0, "fillOpacity": 80},
}


def dashboard(ruled: Ruled) -> Json:
    """The dashboard's JSON model."""
    runbooks = ruled.runbooks
    panels: list[Json] = []
    y = 0
    for title, row in _rows(ruled):
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
             "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}}
        )  # fmt: skip
        x, y, height = 0, y + 1, 0
        for panel in row:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            height = max(height, panel.height)
            panels.append(panel.json(len(panels) + 1, x, y, runbooks))
            x += panel.width
        y += height
    return {
        "uid": "po-exporter",
        "title": "Orders and positions",
        "description": "Whether orders and positions agree, since when not, and whether anybody knows: po-exporter.",
        "tags": ["po-exporter", "trading", "postgres"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "templating": {"list": _variables()},
        "annotations": {"list": [_alerts()]},
        "links": [_link("Runbooks", runbooks)],
        "panels": panels,
    }  # fmt: skip


def _link(title: str, url: str) -> Json:
    return {
        "title": title,
        "type": "link",
        "url": url,
        "icon": "doc",
        "tooltip": "",
        "tags": [],
        "targetBlank": True,
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
    }


def _variables() -> list[Json]:
    def query(name: str, label: str, text: str) -> Json:
        return {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": SOURCE,
            "query": {"query": text, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "options": [],
            "hide": 0,
            "skipUrlSync": False,
        }

    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1,
         "multi": False, "includeAll": False, "options": [], "hide": 0, "skipUrlSync": False},
        query("job", "Job", "label_values(position_order_exporter_build_info, job)"),
        query("database", "Database",
              'label_values(position_order_exporter_poll_interval_seconds{job=~"$job"}, database)'),
    ]  # fmt: skip


def _alerts() -> Json:
    names = "PositionOrder.*|UnlinkedFilledOrdersHigh|OrphanedPositionReferences"
    return {
        "name": "Alerts",
        "type": "dashboard",
        "enable": True,
        "hide": False,
        "iconColor": RED,
        "datasource": SOURCE,
        "target": {
            "refId": "Alerts",
            "expr": f'ALERTS{{alertname=~"{names}", alertstate="firing", database=~"$database|"}}',
            "legendFormat": "{{alertname}} {{database}} {{check}}",
            "limit": 100,
            "matchAny": False,
            "tags": [],
            "type": "tags",
        },
    }


def _of(metric: str) -> str:
    """One line a database, whichever replica says it."""
    return f"max by (database) ({metric}{OF_DATABASE})"


def _known(expr: str) -> str:
    """The same, and not a number for each database of which it is not known: among others, nothing would be missed."""
    return f"{expr} or {_of('position_order_exporter_poll_interval_seconds')} * NaN"


def _rows(ruled: Ruled) -> Iterator[tuple[str, list[Panel]]]:
    past = {check.name: float(check.threshold) for check in ruled.checks}
    interval = ruled.interval.total_seconds()

    def above(name: str) -> tuple[tuple[float | None, str], ...]:
        """Red for more than the threshold of a check."""
        return ((None, GREEN), (past.get(name, 0.0) + 1e-9, RED))

    one_of = "{{database}}"
    yield "Now", [
        Panel(
            "Age of what is shown", "stat",
            "How long ago the snapshot behind these numbers was taken. UNKNOWN: there is none that may be believed.",
            {one_of: _known(f"time() - {_of('position_order_exporter_snapshot_timestamp_seconds')}")},
            4, 4, "s", ((None, GREEN), (2 * interval, YELLOW), (3 * interval, RED)),
            alerts=["PositionOrderCheckStale", "PositionOrderIntegrityUnknown"],
        ),
        Panel(
            "Database", "stat", "Whether at least one check was answered in the last poll.",
            {one_of: _of("position_order_up")}, 4, 4, values={"0": ("CANNOT BE READ", RED), "1": ("READ", GREEN)},
            alerts=["PositionOrderDatabaseDown"],
        ),
        Panel(
            "Link rate", "stat", "Eligible orders of the window that are linked to a position.",
            {one_of: _known(_of("position_order_link_rate"))}, 4, 4, "percent",
            ((None, RED), (past.get("link_rate", 95.0), GREEN)), alerts=["PositionOrderLinkRateLow"], decimals=2,
        ),
        Panel(
            "Unlinked fills", "stat", "Eligible orders of the window without a link.",
            {one_of: _known(_of("position_order_unlinked_filled_orders"))}, 4, 4, steps=above("unlinked_filled_order"),
            alerts=["UnlinkedFilledOrdersHigh"],
        ),
        Panel(
            "Orphaned references", "stat", "Orders of any age that name a position that does not exist.",
            {one_of: _known(_of("position_order_orphaned_references"))}, 4, 4,
            steps=above("orphaned_position_reference"), alerts=["OrphanedPositionReferences"],
        ),
        Panel(
            "Quantity mismatches", "stat", "Positions that are not the sum of their filled orders.",
            {one_of: _known(_of("position_order_quantity_mismatches"))}, 4, 4, steps=above("quantity_mismatch"),
            alerts=["PositionOrderQuantityMismatch"],
        ),
    ]  # fmt: skip
    yield "Links", [
        Panel(
            "Link rate", "timeseries", "A gap is a time of which nobody knows.",
            {one_of: _of("position_order_link_rate")}, 8, unit="percent", limits=(None, 100),
            steps=((None, RED), (past.get("link_rate", 95.0), GREEN)), alerts=["PositionOrderLinkRateLow"],
        ),
        Panel(
            "Orders of the window", "timeseries", "Eligible orders, those whose link names a position, those without.",
            {
                "{{database}} eligible": _of("position_order_eligible_orders"),
                "{{database}} linked": _of("position_order_links"),
                "{{database}} unlinked": _of("position_order_unlinked_filled_orders"),
            },
            8, alerts=["UnlinkedFilledOrdersHigh", "PositionOrderNoEligibleOrders"],
        ),
        Panel(
            "Age of the oldest unlinked fill", "timeseries",
            "Within the window and before it. No line: there is none, or one of the two checks has no answer.",
            {one_of: f"time() - {_of('position_order_oldest_unlinked_order_timestamp_seconds')}"}, 8, unit="s",
            alerts=["PositionOrderUnlinkedTooOld"],
        ),
    ]  # fmt: skip
    yield "Quality", [
        Panel(
            "Open findings", "timeseries", "By check. 0 is an answer, too; no line is none.",
            {
                "{{database}} {{issue_type}} ({{priority}})": "max by (database, issue_type, priority) "
                f"(position_order_open_issues{OF_DATABASE})"
            },
            12, alerts=["PositionOrderOpenIssues"],
        ),
        Panel(
            "New findings within an hour", "timeseries",
            "Each counted when first seen; healed and wrong again counts again.",
            {
                "{{database}} {{issue_type}} ({{priority}})": "sum by (database, issue_type, priority) "
                f"(increase(position_order_data_quality_issues_total{OF_DATABASE}[1h]))"
            },
            12, alerts=["PositionOrderIssuesBurst"],
        ),
        Panel(
            "Orphans and mismatches", "timeseries", "The two that the guide counts by themselves.",
            {
                "{{database}} orphaned references": _of("position_order_orphaned_references"),
                "{{database}} quantity mismatches": _of("position_order_quantity_mismatches"),
            },
            12, alerts=["OrphanedPositionReferences", "PositionOrderQuantityMismatch"],
        ),
        Panel(
            "Answers", "state-timeline", "Whether each check was answered at its last attempt.",
            {"{{database}} {{check}}": f"max by (database, check) (position_order_check_success{OF_DATABASE})"},
            12, values={"0": ("no answer", RED), "1": ("answered", GREEN)}, alerts=["PositionOrderCheckFailing"],
        ),
    ]  # fmt: skip
    bucket = f"position_order_integration_duration_seconds_bucket{OF_DATABASE}"
    yield "Latency", [
        Panel(
            "From fill to link", "timeseries",
            "In incremental mode by commit times, of every new link; in scan mode of links that a poll saw missing.",
            {
                f"{{{{database}}}} p{name}": f"histogram_quantile({quantile}, "
                f"sum by (database, le) (rate({bucket}[$__rate_interval])))"
                for name, quantile in (("50", "0.5"), ("95", "0.95"), ("99", "0.99"))
            },
            12, unit="s", steps=((None, GREEN), (SLOW.total_seconds(), RED)), alerts=["PositionOrderLinkingSlow"],
        ),
        Panel(
            "New links by how long they took", "heatmap", "Of all chosen databases.",
            {"{{le}}": f"sum by (le) (increase({bucket}[$__rate_interval]))"}, 12, unit="short", format="heatmap",
        ),
    ]  # fmt: skip
    yield "The exporter", [
        Panel(
            "Mode", "state-timeline", "Which of the two the last poll used.",
            {"{{database}} {{mode}}": f"max by (database, mode) (position_order_exporter_mode{OF_DATABASE})"}, 8,
            values={"0": ("no", GREY), "1": ("in use", GREEN)},
        ),
        Panel(
            "Leader", "state-timeline", "Which replica polls.",
            {"{{database}} {{instance}}": f"position_order_exporter_leader{OF_DATABASE}"}, 8,
            values={"0": ("follows", GREY), "1": ("leads", GREEN)}, alerts=["PositionOrderNoLeader"],
        ),
        Panel(
            "Since the last poll, and the last answer", "timeseries",
            "Each poll that brought an answer moves both; the interval is the line to stay below.",
            {
                "{{database}} poll": f"time() - {_of('position_order_last_poll_timestamp_seconds')}",
                "{{database}} answer": f"time() - {_of('position_order_last_success_timestamp_seconds')}",
                "{{database}} interval": _of("position_order_exporter_poll_interval_seconds"),
            },
            8, unit="s",
        ),
        Panel(
            "Age of each answer, in intervals of its check", "timeseries", "Stale from 3.",
            {
                "{{database}} {{check}}": "(time() - max by (database, check) "
                f"(position_order_check_last_success_timestamp_seconds{OF_DATABASE})) / on (database, check) "
                f"max by (database, check) (position_order_check_interval_seconds{OF_DATABASE})"
            },
            8, steps=((None, GREEN), (3, RED)), alerts=["PositionOrderCheckStale"],
        ),
        Panel(
            "Duration of the checks, p95", "timeseries", "Checks that are asked in one statement share its duration.",
            {
                "{{database}} {{check}}": "histogram_quantile(0.95, sum by (database, check, le) "
                f"(rate(position_order_exporter_check_duration_seconds_bucket{OF_DATABASE}[$__rate_interval])))"
            },
            8, unit="s",
        ),
        Panel(
            "Checks asked, and failed", "timeseries", "A second.",
            {
                "{{database}} asked": f"sum by (database) (rate(position_order_exporter_checks_total{OF_DATABASE}"
                "[$__rate_interval]))",
                "{{database}} {{check}} {{reason}}": "sum by (database, check, reason) "
                f"(rate(position_order_exporter_check_failures_total{OF_DATABASE}[$__rate_interval]))",
            },
            8, unit="ops", alerts=["PositionOrderCheckFailing"],
        ),
        Panel(
            "Change feed", "timeseries", "Transactions that wait for a later snapshot. Incremental mode only.",
            {"{{database}} pending": _of("position_order_exporter_feed_pending_transactions")}, 8,
        ),
        Panel(
            "Write-ahead log that each reading decodes again", "timeseries", "Incremental mode only.",
            {one_of: _of("position_order_exporter_feed_lag_bytes")}, 8, unit="bytes",
        ),
        Panel(
            "Drift", "stat",
            "Audited keys whose incremental answer differed from a recompute; stays 0. UNKNOWN: no feed is wanted.",
            {one_of: _of("position_order_exporter_drift_total")}, 8, steps=((None, GREEN), (1, RED)),
            alerts=["PositionOrderDrift"],
        ),
        Panel(
            "Summaries sent, and failed", "timeseries", "A second. None without a channel.",
            {
                "{{channel}} sent": "sum by (channel) "
                f"(rate(position_order_exporter_notifications_total{OF_JOB}[$__rate_interval]))",
                "{{channel}} {{reason}}": "sum by (channel, reason) "
                f"(rate(position_order_exporter_notification_failures_total{OF_JOB}[$__rate_interval]))",
            },
            16, unit="ops", alerts=["PositionOrderNotificationsFailing"],
        ),
        Panel(
            "Last summary", "stat", "How long ago one was sent. UNKNOWN: none was, since the process started.",
            {
                "{{channel}}": "time() - max by (channel) "
                f"(position_order_exporter_notification_last_success_timestamp_seconds{OF_JOB})"
            },
            8, unit="s",
        ),
        Panel(
            "Configuration", "stat", "Whether the last attempt to load it succeeded, by replica.",
            {"{{instance}}": f"position_order_exporter_config_last_reload_successful{OF_JOB}"}, 8, 4,
            values={"0": ("REFUSED", RED), "1": ("LOADED", GREEN)}, alerts=["PositionOrderConfigReloadFailed"],
        ),
        Panel(
            "Loaded", "stat", "How long ago.",
            {"{{instance}}": f"time() - position_order_exporter_config_last_reload_success_timestamp_seconds{OF_JOB}"},
            8, 4, "s",
        ),
        Panel(
            "Version", "table", "What is running.",
            {"{{version}}": f"position_order_exporter_build_info{OF_JOB}"}, 8, 4, format="table",
            alerts=["PositionOrderExporterDown", "PositionOrderExporterAbsent"],
        ),
    ]  # fmt: skip
