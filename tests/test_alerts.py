"""The alert rules, by promtool, and what a configuration makes of them.

test_alerting_end_to_end.py has them delivered.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from alerting import ALERTS, NAMES, ROOT, RULES, duration, rule
from parts.alertmanager import run_amtool

TESTS = sorted(ALERTS.glob("*.test.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
GUIDES = {
    "PositionOrderLinkRateLow": ("position_order_link_rate < 95", "5m", "warning"),
    "UnlinkedFilledOrdersHigh": ("position_order_unlinked_filled_orders > 10", "2m", "critical"),
    "OrphanedPositionReferences": ("position_order_orphaned_references > 0", "1m", "critical"),
}
EXPECTED = {
    *GUIDES, "PositionOrderIntegrityUnknown", "PositionOrderQuantityMismatch", "PositionOrderUnlinkedTooOld",
    "PositionOrderOpenIssues", "PositionOrderIssuesBurst", "PositionOrderLinkingSlow", "PositionOrderDatabaseDown",
    "PositionOrderCheckStale", "PositionOrderCheckFailing", "PositionOrderExporterDown", "PositionOrderExporterAbsent",
    "PositionOrderNoEligibleOrders", "PositionOrderNotificationsFailing", "PositionOrderConfigReloadFailed",
    "PositionOrderNoLeader", "PositionOrderDrift",
}  # fmt: skip
INTEGRITY = {*GUIDES, "PositionOrderQuantityMismatch", "PositionOrderUnlinkedTooOld", "PositionOrderOpenIssues"}
OWN_CHECK = """-- help: A fee that nobody pays: {{ $value }}.
-- issue_type: NEGATIVE_FEE
-- entity: order
-- priority: low
-- scope: all
-- settles: true
-- needs: orders.id orders.commission
SELECT o.id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM scoped_orders o WHERE o.commission < 0
"""


async def printed(cli, *args, **options):
    finished = await cli("rules", *args, **options)
    assert (finished.status, finished.stderr) == (0, "")
    rules = [rule for group in yaml.safe_load(finished.stdout)["groups"] for rule in group["rules"]]
    return {(rule["alert"], rule["labels"].get("check")): rule for rule in rules if "alert" in rule}


async def test_the_shipped_file_is_what_the_command_prints(cli):
    shipped = (ALERTS / "position-order.rules.yaml").read_text()
    assert (await cli("rules")).stdout == shipped, "`make generated` writes it anew"
    in_chart = ROOT / "helm" / "po-exporter" / "files" / "rules.yaml"
    assert in_chart.read_text() == shipped, "`make generated` writes it anew"


async def test_promtool_finds_nothing_to_say(promtool):
    assert "SUCCESS" in await promtool(
        "check", "rules", "--lint=all", "--lint-fatal", ALERTS / "position-order.rules.yaml"
    )


async def test_promtool_runs_the_rule_tests(promtool):
    assert (await promtool("test", "rules", *TESTS)).count("SUCCESS") == len(TESTS)


def test_every_alert_has_a_rule_test_that_fires_and_one_that_does_not():
    tests = [test for file in TESTS for test in yaml.safe_load(file.read_text())["tests"]]
    asked = [case for test in tests for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in asked if case["exp_alerts"]} == EXPECTED
    assert {case["alertname"] for case in asked if not case["exp_alerts"]} == EXPECTED
    # Missing data: a database whose series end before their time.
    without = {
        t["name"].partition(",")[0] for t in tests if not any("stale" in str(s["values"]) for s in t["input_series"])
    }
    assert without <= {"PositionOrderLinkingSlow"}, "its missing data are buckets that do not move"


def test_the_alerts_are_those_of_the_contract():
    assert NAMES == EXPECTED


@pytest.mark.parametrize("name", GUIDES)
def test_the_guides_three_are_as_they_were(name):
    found = rule(name)
    assert (found["expr"], found["for"], found["labels"]["severity"]) == GUIDES[name]


def test_what_is_about_integrity_outlives_its_series_and_nothing_else_does():
    keep = {r["alert"]: r.get("keep_firing_for") for g in RULES["groups"] for r in g["rules"] if "alert" in r}
    assert {name for name, kept in keep.items() if kept} == INTEGRITY
    assert {keep[name] for name in INTEGRITY} == {"5m"}
    assert "for" not in rule("PositionOrderIntegrityUnknown")


def test_the_unknown_stands_behind_what_it_reads_in_one_group():
    group = [r["alert"] for r in RULES["groups"][0]["rules"]]
    assert {*group[:-1]} == INTEGRITY
    assert group[-1] == "PositionOrderIntegrityUnknown"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_alert_says_what_it_is_and_has_a_runbook(name):
    for found in (r for g in RULES["groups"] for r in g["rules"] if r.get("alert") == name):
        assert found["labels"]["severity"] in {"critical", "warning", "info"}
        assert found["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert found["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md")
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", page, re.M) == [
        "What it means", "See the rows", "What to do", "How to know that it is over",
    ]  # fmt: skip


def test_every_runbook_has_an_alert():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == EXPECTED


async def test_thresholds_and_intervals_are_those_of_the_configuration(cli):
    config = {
        "databases": {"trading": {"dsn": "postgresql:///x"}},
        "monitor": {"interval": "15m", "window": "48h"},
        "thresholds": {"link_rate": "99.5", "unlinked_filled_orders": 0, "quantity_mismatches": 7},
        "checks": {
            "overfilled_order": {"threshold": 3, "priority": "low"},
            "aged_unlinked_order": {"threshold": 500},
            "unreadable_fill": {"enabled": False},
        },
    }
    rules = await printed(cli, "--job", 'a"b', "--runbooks", "https://wiki.example/alerts/", config=config)
    assert rules["PositionOrderLinkRateLow", None]["expr"] == "position_order_link_rate < 99.5"
    assert rules["UnlinkedFilledOrdersHigh", None]["expr"] == "position_order_unlinked_filled_orders > 0"
    assert rules["PositionOrderQuantityMismatch", None]["expr"] == "position_order_quantity_mismatches > 7"
    overfilled = rules["PositionOrderOpenIssues", "overfilled_order"]
    assert overfilled["expr"] == 'position_order_open_issues{issue_type="OVERFILLED_ORDER"} > 3'
    assert overfilled["labels"]["severity"] == "info"
    assert ("PositionOrderOpenIssues", "unreadable_fill") not in rules
    # What settles is to be wrong in several answers.
    assert duration(rules["PositionOrderQuantityMismatch", None]["for"]) == timedelta(minutes=45)
    assert "[1h]" in rules["PositionOrderIssuesBurst", None]["expr"]
    assert "> 172800" in rules["PositionOrderUnlinkedTooOld", None]["expr"]
    assert rules["PositionOrderExporterDown", None]["expr"] == 'up{job="a\\"b"} == 0'
    assert {rule["annotations"]["runbook_url"].rpartition("/")[0] for rule in rules.values()} == {
        "https://wiki.example/alerts"
    }


async def test_a_check_of_ones_own_has_an_alert(cli, promtool, tmp_path):
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "negative_fee.sql").write_text(OWN_CHECK)
    config = {"databases": {"trading": {"dsn": "postgresql:///x"}}, "checks": {"directory": str(tmp_path / "checks")}}
    found = (await printed(cli, config=config))["PositionOrderOpenIssues", "negative_fee"]
    assert found["expr"] == 'position_order_open_issues{issue_type="NEGATIVE_FEE"} > 0'
    assert (found["labels"]["severity"], found["for"]) == ("info", "10m")
    # What somebody wrote into a check's header is no template of Prometheus'.
    rules = tmp_path / "rules.yaml"
    rules.write_text((await cli("rules", config=config)).stdout)
    test = {
        "rule_files": [str(rules)],
        "tests": [{
            "interval": "1m",
            "input_series": [{
                "series": 'position_order_open_issues{database="a", issue_type="NEGATIVE_FEE", priority="low"}',
                "values": "2x20",
            }],
            "alert_rule_test": [{
                "eval_time": "15m", "alertname": "PositionOrderOpenIssues",
                "exp_alerts": [{
                    "exp_labels": {"severity": "info", "check": "negative_fee", "database": "a",
                                   "issue_type": "NEGATIVE_FEE", "priority": "low"},
                    "exp_annotations": {
                        "summary": "Findings of the check negative_fee",
                        "description": "2 findings in a. A fee that nobody pays: { { $value }}.",
                        "runbook_url": found["annotations"]["runbook_url"],
                    },
                }],
            }],
        }],
    }  # fmt: skip
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    assert "SUCCESS" in await promtool("test", "rules", tmp_path / "test.yaml")


async def test_a_faulty_configuration_prints_no_rules(cli):
    finished = await cli("rules", config={"databases": {"a": {"dsn": "postgresql:///x"}}, "threshold": {}})
    assert (finished.status, finished.stdout) == (2, "")
    assert "thresholds" in finished.stderr


async def test_the_examples_for_prometheus_and_alertmanager_are_sound(promtool):
    assert "1 rule files found" in await promtool("check", "config", ALERTS / "prometheus.yaml")
    assert "SUCCESS" in await run_amtool("check-config", ALERTS / "alertmanager.yaml")


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_the_example_routes_by_severity(name):
    severity = next(r for g in RULES["groups"] for r in g["rules"] if r.get("alert") == name)["labels"]["severity"]
    config = f"--config.file={ALERTS / 'alertmanager.yaml'}"
    routed = await run_amtool("config", "routes", "test", config, f"alertname={name}", f"severity={severity}")
    assert (
        routed.splitlines()[-1] == {"critical": "on-call", "warning": "trading-operations", "info": "nobody"}[severity]
    )


def test_the_example_never_silences_what_is_about_integrity():
    rules = yaml.safe_load((ALERTS / "alertmanager.yaml").read_text())["inhibit_rules"]
    targets = [re.fullmatch(r'alertname=~?"(.*)"', each)[1] for r in rules for each in r["target_matchers"]]
    assert targets
    spared = INTEGRITY | {"PositionOrderIntegrityUnknown", "PositionOrderDatabaseDown", "PositionOrderExporterAbsent"}
    assert [name for name in spared for pattern in targets if re.fullmatch(pattern, name)] == []
    assert {name for target in targets for name in target.split("|")} <= EXPECTED


def test_the_folder_has_nothing_else():
    assert {path.name for path in Path(ALERTS).iterdir()} == {
        "position-order.rules.yaml", "position-order.test.yaml", "position-order.week.test.yaml", "prometheus.yaml",
        "alertmanager.yaml",
    }  # fmt: skip
