"""The integration guide's own block and variables, as its users have them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from config_samples import DSN, ConfigFile
from po_exporter.config import Config

ONE = f"databases: {{t: {{dsn: '{DSN}', environment: production}}}}\n"
BLOCK = f"""{ONE}
position_order_integration:
  enabled: true
  auto_linking: true
  data_quality_monitoring:
    enabled: true
    check_interval_minutes: 15
    alert_threshold: 7
  reconciliation:
    enabled: true
    schedule: "0 3 * * *"  # Daily at 3 AM
    auto_fix_safe_issues: true
"""


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path)


def test_the_block_is_read_as_it_stands(file: ConfigFile) -> None:
    config = file.load(BLOCK)
    assert config.monitor.enabled
    assert config.monitor.interval == timedelta(minutes=15)
    assert config.checks["unlinked_filled_order"].threshold == 7
    assert config.link.enabled
    assert (config.reconcile.enabled, config.reconcile.schedule, config.reconcile.auto_fix) == (True, "0 3 * * *", True)
    assert not config.fix.stop


SAID: list[tuple[str, str, str]] = [
    ("POSITION_ORDER_MONITORING_ENABLED", "monitor.enabled", "False"),
    ("POSITION_ORDER_AUTO_LINKING", "link.enabled", "True"),
    ("POSITION_ORDER_LINK_VERIFICATION", "link.verify", "False"),
    ("POSITION_ORDER_RECONCILIATION_ENABLED", "reconcile.enabled", "True"),
    ("POSITION_ORDER_AUTO_FIX_ENABLED", "reconcile.auto_fix", "True"),
]


def _said(config: Config, path: str) -> str:
    section, key = path.split(".")
    return str(getattr(getattr(config, section), key))


@pytest.mark.parametrize(("name", "path", "value"), SAID)
@pytest.mark.parametrize(
    "spelling", [("true", "false"), ("1", "0"), ("YES", "No"), ("On", "OFF"), ('"True"', "'FALSE'")]
)
def test_a_variable_sets_what_it_says(
    file: ConfigFile, name: str, path: str, value: str, spelling: tuple[str, str]
) -> None:
    written = spelling[0] if value == "True" else spelling[1]
    assert _said(file.load(ONE), path) != value
    assert _said(file.load(ONE, {name: written}), path) == value


def test_the_interval_is_in_seconds_and_wins_over_the_block(file: ConfigFile) -> None:
    name = "POSITION_ORDER_MONITORING_INTERVAL"
    assert file.load(BLOCK, {name: "900  # 15 minutes"}).monitor.interval == timedelta(seconds=900)
    assert file.load(BLOCK, {name: "30"}).monitor.interval == timedelta(seconds=30)
    assert file.load(f"{ONE}monitor: {{interval: 5s}}", {name: "30"}).monitor.interval == timedelta(seconds=30)


def test_off_stops_every_write_and_never_the_watching(file: ConfigFile) -> None:
    for config in (
        file.load(BLOCK.replace("enabled: true\n  auto", "enabled: false\n  auto")),
        file.load(BLOCK, {"POSITION_ORDER_INTEGRATION_ENABLED": "false"}),
        file.load(f"{ONE}link: {{enabled: true}}", {"POSITION_ORDER_INTEGRATION_ENABLED": "0"}),
        file.load(ONE, {"POSITION_ORDER_INTEGRATION_ENABLED": "0", "POSITION_ORDER_AUTO_LINKING": "1"}),
        file.load(ONE, {"POSITION_ORDER_INTEGRATION_ENABLED": "0", "PO_EXPORTER_FIX__STOP": "false"}),
    ):
        assert config.fix.stop
        assert not config.link.enabled
        assert config.polls("t")


def test_on_starts_nothing(file: ConfigFile) -> None:
    config = file.load(f"{ONE}fix: {{stop: true}}", {"POSITION_ORDER_INTEGRATION_ENABLED": "true"})
    assert config.fix.stop
    assert not config.link.enabled


def test_the_variable_turns_a_block_that_is_off_on_again(file: ConfigFile) -> None:
    off = BLOCK.replace("enabled: true\n  auto", "enabled: false\n  auto")
    config = file.load(off, {"POSITION_ORDER_INTEGRATION_ENABLED": "true"})
    assert not config.fix.stop
    assert config.link.enabled


def test_variables_win_over_the_block(file: ConfigFile) -> None:
    assert not file.load(BLOCK, {"POSITION_ORDER_AUTO_LINKING": "false"}).link.enabled
    assert not file.load(BLOCK, {"PO_EXPORTER_LINK__ENABLED": "false"}).link.enabled
    assert file.load(BLOCK, {"PO_EXPORTER_THRESHOLDS__UNLINKED_FILLED_ORDERS": "3"}).checks[
        "unlinked_filled_order"
    ].threshold == 3  # fmt: skip


@pytest.mark.parametrize(
    ("beside", "where"),
    [
        ("monitor: {interval: 60s}", "monitor.interval"),
        ("monitor: {enabled: false}", "monitor.enabled"),
        ("thresholds: {unlinked_filled_orders: 8}", "thresholds.unlinked_filled_orders"),
        ("checks: {unlinked_filled_order: {threshold: 8}}", "checks.unlinked_filled_order.threshold"),
        ("link: {enabled: false}", "link.enabled"),
        ("reconcile: {enabled: false}", "reconcile.enabled"),
        ("reconcile: {schedule: 0 4 * * *}", "reconcile.schedule"),
        ("reconcile: {auto_fix: false}", "reconcile.auto_fix"),
    ],
)
def test_the_block_must_not_say_something_else_than_our_own_key(file: ConfigFile, beside: str, where: str) -> None:
    (fault,) = file.faults(BLOCK + beside)
    assert "says something else than po.yaml:14: " in fault
    assert where in fault


def test_off_in_the_block_must_not_stand_beside_a_key_that_says_on(file: ConfigFile) -> None:
    off = f"{ONE}position_order_integration: {{enabled: false}}\nlink: {{enabled: true}}\n"
    (fault,) = file.faults(off)
    assert fault.startswith(
        "po.yaml:2: position_order_integration.enabled: says something else than po.yaml:3: link.enabled"
    )


def test_the_same_said_twice_is_no_fault(file: ConfigFile) -> None:
    beside = (
        "monitor: {interval: 900}\nthresholds: {unlinked_filled_orders: 7.0}\nreconcile: {schedule: '0  3 * * *'}\n"
    )
    assert file.load(BLOCK + beside).monitor.interval == timedelta(minutes=15)


def test_two_variables_must_not_say_different_things(file: ConfigFile) -> None:
    environ = {"POSITION_ORDER_MONITORING_INTERVAL": "30", "PO_EXPORTER_MONITOR__INTERVAL": "60s"}
    assert file.faults(ONE, environ) == [
        "POSITION_ORDER_MONITORING_INTERVAL: says something else than PO_EXPORTER_MONITOR__INTERVAL; keep one of the "
        "two."
    ]
    assert file.load(ONE, environ | {"PO_EXPORTER_MONITOR__INTERVAL": "30s"}).monitor.interval == timedelta(seconds=30)


def test_what_cannot_be_read_is_told_by_name(file: ConfigFile) -> None:
    assert file.faults(ONE, {"POSITION_ORDER_AUTO_LINKING": "maybe", "POSITION_ORDER_MONITORING_INTERVAL": "soon"}) == [
        "POSITION_ORDER_AUTO_LINKING: should be true or false.",
        "POSITION_ORDER_MONITORING_INTERVAL: should be a duration such as 500ms, 30s, 5m, 24h or 7d; a bare whole "
        "number is seconds.",
    ]
    (fault,) = file.faults(BLOCK.replace("15", "0.5"))
    assert fault.endswith("data_quality_monitoring.check_interval_minutes: should be a whole number.")
    (fault,) = file.faults(BLOCK.replace("alert_threshold", "alert_treshold"))
    assert "Did you mean 'alert_threshold'?" in fault
