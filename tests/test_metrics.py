"""What Prometheus is told, by canned Status values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from factory import CHECKS, NAMES, NOW, answer, failed, finding, link_rate, result, status, unreadable, view
from parts.prometheus import Metrics
from po_exporter.errors import DatabaseError
from po_exporter.expose.metrics import CATALOG, encode
from po_exporter.expose.view import View
from po_exporter.model import CHECK_SECONDS, LINK_SECONDS, ChannelStatus, FeedStatus, Finding, Histogram, Result, Status

DOCS = Path(__file__).parents[1] / "docs" / "metrics.md"

# What each check alone speaks for, beyond its open issues.
GAUGES = {
    "link_rate": {
        "position_order_link_rate",
        "position_order_link_ratio",
        "position_order_eligible_orders",
        "position_order_eligible_orders_total",
        "position_order_links",
        "position_order_links_total",
    },
    "unlinked_filled_order": {
        "position_order_unlinked_filled_orders",
        "position_order_unlinked_filled_orders_total",
        "position_order_oldest_unlinked_order_timestamp_seconds",
    },
    "aged_unlinked_order": {"position_order_oldest_unlinked_order_timestamp_seconds"},
    "orphaned_position_reference": {"position_order_orphaned_references"},
    "quantity_mismatch": {"position_order_quantity_mismatches"},
}
ALWAYS = {
    "position_order_exporter_build_info",
    "position_order_exporter_config_last_reload_successful",
    "position_order_exporter_config_last_reload_success_timestamp_seconds",
}

UNLINKED = answer("unlinked_filled_order", finding(1), finding(2))
AGED = answer("aged_unlinked_order", finding(500))


def metrics(*statuses: Status) -> Metrics:
    return Metrics.parse(page(view(*statuses)))


def page(shown: View) -> str:
    return encode(shown, as_openmetrics=False).decode()


def everything() -> View:
    """A view in which every metric has something to say."""
    spoken = status(
        UNLINKED,
        AGED,
        failures={("quantity_mismatch", "permission"): 2},
        link_seconds=Histogram.empty(LINK_SECONDS).observe(3),
        mode="incremental",
        feed=FeedStatus(),
    )
    channel = ChannelStatus("slack", sent=3, failures={"rejected": 1}, last_success=NOW)
    return replace(view(spoken, unreadable("desk")), channels=(channel,))


def test_a_healthy_database_is_told_in_numbers():
    told = metrics(status())
    expected: dict[str, float] = {
        "position_order_link_rate": 100,
        "position_order_link_ratio": 1,
        "position_order_eligible_orders": 1200,
        "position_order_eligible_orders_total": 1200,
        "position_order_links": 1200,
        "position_order_links_total": 1200,
        "position_order_unlinked_filled_orders": 0,
        "position_order_unlinked_filled_orders_total": 0,
        "position_order_orphaned_references": 0,
        "position_order_quantity_mismatches": 0,
        "position_order_up": 1,
        "position_order_last_poll_timestamp_seconds": NOW.timestamp(),
        "position_order_last_success_timestamp_seconds": NOW.timestamp(),
        "position_order_exporter_poll_interval_seconds": 60,
        "position_order_exporter_snapshot_timestamp_seconds": NOW.timestamp(),
        "position_order_exporter_leader": 1,
        "position_order_integration_duration_seconds_count": 0,
    }
    assert {name: told.value(name, database="trading") for name in expected} == expected
    assert told.value("position_order_exporter_mode", database="trading", mode="scan") == 1
    assert told.value("position_order_exporter_mode", database="trading", mode="incremental") == 0


def test_the_feed_is_told_in_numbers():
    told = metrics(status(mode="incremental", feed=FeedStatus(drift=2, pending=3, lag_bytes=4096)))
    assert told.value("position_order_exporter_mode", database="trading", mode="incremental") == 1
    assert told.value("position_order_exporter_feed_pending_transactions", database="trading") == 3
    assert told.value("position_order_exporter_feed_lag_bytes", database="trading") == 4096
    assert told.value("position_order_exporter_drift_total", database="trading") == 2


def test_a_database_that_is_scanned_for_want_of_a_feed_tells_of_no_feed_but_of_drift():
    told = metrics(status(feed=FeedStatus(drift=0, why="wal_level is replica, not logical")))
    assert told.value("position_order_exporter_feed_pending_transactions", database="trading") is None
    assert told.value("position_order_exporter_feed_lag_bytes", database="trading") is None
    assert told.value("position_order_exporter_drift_total", database="trading") == 0
    assert metrics(status()).value("position_order_exporter_drift_total", database="trading") is None


def test_what_is_wrong_is_told_in_numbers():
    told = metrics(status(link_rate(1200, 1188), UNLINKED, answer("quantity_mismatch", finding(3), count=40)))
    assert told.value("position_order_link_rate", database="trading") == 99
    assert told.value("position_order_link_ratio", database="trading") == 0.99
    assert told.value("position_order_unlinked_filled_orders_total", database="trading") == 2
    assert told.value("position_order_quantity_mismatches", database="trading") == 40
    labels = {"database": "trading", "issue_type": "QUANTITY_MISMATCH", "priority": "medium"}
    assert told.value("position_order_open_issues", **labels) == 40


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_without_findings_has_a_zero(name):
    labels = {"database": "trading", "issue_type": name.upper(), "priority": CHECKS[name][0]}
    told = metrics(status())
    assert told.value("position_order_open_issues", **labels) == 0
    assert told.value("position_order_data_quality_issues_total", **labels) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_failed_check_ends_its_own_gauges_and_no_others(name):
    before, after = metrics(status(UNLINKED, AGED)), metrics(status(UNLINKED, AGED, failed(name)))
    gone = before.keys() - after.keys()
    expected = {(gauge, frozenset({("database", "trading")})) for gauge in GAUGES.get(name, set())}
    if name in CHECKS:
        labels = {"database": "trading", "issue_type": name.upper(), "priority": CHECKS[name][0]}
        expected.add(("position_order_open_issues", frozenset(labels.items())))
    assert gone == expected
    assert after.value("position_order_check_success", database="trading", check=name) == 0
    others = [other for other in NAMES if other != name]
    assert {after.value("position_order_check_success", database="trading", check=each) for each in others} == {1}
    assert after.value("position_order_up", database="trading") == 1


def test_an_unreadable_database_has_no_domain_gauge_but_says_so():
    before, after = metrics(status(UNLINKED, AGED)), metrics(unreadable())
    gone = {name for name, _ in before.keys() - after.keys()}
    assert gone == set().union(
        *GAUGES.values(), {"position_order_open_issues", "position_order_exporter_snapshot_timestamp_seconds"}
    )
    assert after.value("position_order_up", database="trading") == 0
    assert {after.value("position_order_check_success", database="trading", check=name) for name in NAMES} == {0}
    assert after.value("position_order_exporter_checks_total", database="trading", check="link_rate") == 3


def test_before_the_first_poll_has_ended_nothing_is_claimed():
    told = metrics(status(up=None, result=None, last_poll=None, last_success=None, check_last_success={}))
    assert told.names().isdisjoint(
        {"position_order_up", "position_order_check_success", "position_order_open_issues"}.union(*GAUGES.values())
    )
    labels = {"database": "trading", "issue_type": "UNLINKED_FILLED_ORDER", "priority": "high"}
    assert told.value("position_order_data_quality_issues_total", **labels) == 0


def test_with_nothing_eligible_the_rate_is_absent_and_its_parts_are_zero():
    told = metrics(status(link_rate(0, 0)))
    assert told.value("position_order_eligible_orders", database="trading") == 0
    assert told.value("position_order_links", database="trading") == 0
    assert told.names().isdisjoint({"position_order_link_rate", "position_order_link_ratio"})


@pytest.mark.parametrize("up", [True, False, None])
def test_a_follower_exposes_only_what_concerns_itself(up):
    told = metrics(status(UNLINKED, leader=False, up=up))
    others = {name for name in told.names() if not name.startswith("position_order_exporter_")}
    assert others == ({"position_order_up"} if up is False else set())
    assert told.value("position_order_exporter_leader", database="trading") == 0
    assert "position_order_exporter_snapshot_timestamp_seconds" not in told.names()


def test_a_database_that_is_not_watched_has_no_series():
    assert metrics(status(monitored=False)).names() == ALWAYS


@pytest.mark.parametrize(
    ("window", "aged", "oldest"),
    [
        (UNLINKED, AGED, AGED.oldest),
        (UNLINKED, answer("aged_unlinked_order"), UNLINKED.oldest),
        (answer("unlinked_filled_order"), answer("aged_unlinked_order"), None),
        (UNLINKED, failed("aged_unlinked_order"), None),
        (failed("unlinked_filled_order"), AGED, None),
    ],
)
def test_the_oldest_unlinked_order_is_known_only_by_both_checks(window, aged, oldest):
    told = metrics(status(window, aged)).value(
        "position_order_oldest_unlinked_order_timestamp_seconds", database="trading"
    )
    assert told == (oldest.timestamp() if oldest else None)


def test_the_oldest_unlinked_order_is_known_by_one_check_where_the_other_is_disabled():
    names = tuple(name for name in NAMES if name != "aged_unlinked_order")
    only = Result("trading", NOW, "scan", (UNLINKED,))
    told = metrics(status(result=only, check_names=names))
    name = "position_order_oldest_unlinked_order_timestamp_seconds"
    assert UNLINKED.oldest is not None
    assert told.value(name, database="trading") == UNLINKED.oldest.timestamp()


def test_a_disabled_check_has_no_series():
    names = tuple(name for name in NAMES if name != "quantity_mismatch")
    shown = status(check_names=names)
    shown = replace(
        shown,
        result=Result("trading", NOW, "scan", tuple(c for c in result().checks if c.name in names)),
        issues={key: count for key, count in shown.issues.items() if key[0] != "QUANTITY_MISMATCH"},
    )
    assert not re.search("quantity_mismatch|QUANTITY_MISMATCH", re.sub("#.*", "", page(view(shown))))


def test_a_check_is_never_expected_more_often_than_polls():
    told = metrics(status(poll_interval=60.0, check_intervals={"link_rate": 10.0, "quantity_mismatch": 240.0}))
    intervals = {
        name: told.value("position_order_check_interval_seconds", database="trading", check=name)
        for name in ("link_rate", "quantity_mismatch")
    }
    assert intervals == {"link_rate": 60, "quantity_mismatch": 240}


def test_counters_and_histograms_carry_what_was_counted():
    seconds = Histogram.empty(LINK_SECONDS).observe(0.1).observe(20).observe(5000)
    told = metrics(
        status(
            issues={("UNLINKED_FILLED_ORDER", "high"): 7},
            failures={("quantity_mismatch", "permission"): 2},
            link_seconds=seconds,
        )
    )
    labels = {"database": "trading", "issue_type": "UNLINKED_FILLED_ORDER", "priority": "high"}
    assert told.value("position_order_data_quality_issues_total", **labels) == 7
    failures = {"database": "trading", "check": "quantity_mismatch", "reason": "permission"}
    assert told.value("position_order_exporter_check_failures_total", **failures) == 2
    name = "position_order_integration_duration_seconds"
    buckets = {le: told.value(f"{name}_bucket", database="trading", le=le) for le in ("0.1", "10.0", "30.0", "+Inf")}
    assert buckets == {"0.1": 1, "10.0": 1, "30.0": 2, "+Inf": 3}
    assert told.value(f"{name}_sum", database="trading") == pytest.approx(5020.1)
    assert (
        told.value("position_order_exporter_check_duration_seconds_count", database="trading", check="link_rate") == 1
    )


def test_the_configuration_and_the_build_are_told():
    told = Metrics.parse(page(view(config_loaded=False, version="1.2.3")))
    assert told.value("position_order_exporter_config_last_reload_successful") == 0
    assert told.value("position_order_exporter_config_last_reload_success_timestamp_seconds") == NOW.timestamp()
    assert told.value("position_order_exporter_build_info", version="1.2.3", revision="f00dcafe") == 1


async def test_promtool_accepts_the_page(promtool):
    assert not await promtool("check", "metrics", stdin=page(everything()))


def test_the_openmetrics_page_holds_the_same_samples():
    families = parse_openmetrics(encode(everything(), as_openmetrics=True).decode())
    samples = {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
    assert samples == Metrics.parse(page(everything()))


def test_the_documentation_lists_every_metric_and_no_other():
    documented = {
        name: (kind, frozenset(re.findall("`([a-z_]+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    }
    assert documented == {family.name: (family.kind, frozenset(family.labels)) for family in CATALOG}


def test_the_documentation_lists_every_reason_of_a_failure():
    listed = re.search("`reason` is one of ([^.]*)[.]", DOCS.read_text())
    assert listed
    assert set(re.findall("`([a-z_]+)`", listed[1])) == {error.reason for error in DatabaseError.__subclasses__()}


def test_every_metric_of_the_catalog_can_be_seen():
    seen = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page(everything()), re.MULTILINE))
    assert seen == {family.name: "gauge" if family.kind == "info" else family.kind for family in CATALOG}


# What any monitor might report. Times and texts are arbitrary; ids are marked, so that they can be looked for.
MARK = "an-id-of-a-row-"
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(NOW.tzinfo))  # noqa: DTZ001
counts = st.integers(0, 10**12)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
findings = st.builds(
    Finding,
    id=texts.map(lambda text: MARK + text),
    since=st.none() | moments,
    first_seen=moments,
    details=st.dictionaries(texts, texts.map(lambda text: MARK + text), max_size=2),
)
histograms = st.lists(st.floats(0, 1e6), max_size=4).map(
    lambda seen: reduce(Histogram.observe, seen, Histogram.empty(CHECK_SECONDS))
)


@st.composite
def statuses(draw: st.DrawFn, database: str) -> Status:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    checks = []
    for name in names:
        found = tuple(draw(st.lists(findings, max_size=2)))
        if draw(st.booleans()):
            checks.append(failed(name, draw(texts)))
        elif name == "link_rate":
            eligible = draw(counts)
            checks.append(link_rate(eligible, draw(st.integers(0, eligible))))
        else:
            checks.append(answer(name, *found, count=len(found) + draw(counts)))
    return Status(
        database=database,
        poll_interval=draw(st.floats(0.1, 1e5)),
        monitored=draw(st.booleans()),
        leader=draw(st.booleans()),
        up=draw(st.none() | st.booleans()),
        error=draw(st.none() | texts),
        result=draw(st.none() | st.just(Result(database, draw(moments), "scan", tuple(checks)))),
        last_poll=draw(st.none() | moments),
        last_success=draw(st.none() | moments),
        check_names=tuple(names),
        check_last_success={name: draw(moments) for name in names if draw(st.booleans())},
        check_intervals={name: draw(st.floats(0.1, 1e6)) for name in names if draw(st.booleans())},
        asked={name: draw(counts) for name in names if draw(st.booleans())},
        failures={(name, reason): draw(counts) for name in names for reason in ("query", "connection")},
        durations={name: draw(histograms) for name in names if draw(st.booleans())},
        issues={(name.upper(), CHECKS[name][0]): draw(counts) for name in names if name in CHECKS},
        link_seconds=draw(histograms),
        ready=draw(st.booleans()),
    )


views = st.lists(texts.filter(bool), unique=True, max_size=3).flatmap(
    lambda names: st.tuples(*(statuses(name) for name in names))
)


@settings(max_examples=60)
@given(views)
def test_whatever_is_known_the_page_is_well_formed_and_holds_no_row(shown):
    anything = View(shown, config_loaded=True, config_loaded_at=NOW)
    text = page(anything)
    told = Metrics.parse(text)
    list(parse_openmetrics(encode(anything, as_openmetrics=True).decode()))
    assert MARK not in text
    for each in shown:
        _assert_no_gauge_without_an_answer(each, told)


def _assert_no_gauge_without_an_answer(shown: Status, told: Mapping[tuple[str, frozenset[tuple[str, str]]], float]):
    polled = shown.result if shown.monitored and shown.leader else None
    answered = {check.name for check in polled.checks if check.ok} if polled else set()
    of_database = [(name, labels) for name, labels in told if ("database", shown.database) in labels]
    silent = set().union(*(gauges for name, gauges in GAUGES.items() if name not in answered))
    if "aged_unlinked_order" not in shown.check_names and "unlinked_filled_order" in answered:
        silent.discard("position_order_oldest_unlinked_order_timestamp_seconds")
    if "unlinked_filled_order" not in shown.check_names and "aged_unlinked_order" in answered:
        silent.discard("position_order_oldest_unlinked_order_timestamp_seconds")
    assert silent.isdisjoint(name for name, _ in of_database)
    issues = {dict(labels)["issue_type"] for name, labels in of_database if name == "position_order_open_issues"}
    assert issues == {name.upper() for name in answered if name != "link_rate"}
