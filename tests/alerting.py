"""The shipped rules, and what they become when a test has less time than an on-call."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "alerts"
RULES: dict[str, Any] = yaml.safe_load((ALERTS / "position-order.rules.yaml").read_text())
NAMES = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
FACTOR = 60
"""By how much shorter `for` and `keep_firing_for` are in the end-to-end test: a second is a minute."""

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def rule(name: str, check: str | None = None) -> dict[str, Any]:
    """One shipped alert."""
    (found,) = [
        each
        for group in RULES["groups"]
        for each in group["rules"]
        if each.get("alert") == name and (check is None or each["labels"].get("check") == check)
    ]
    return found


def duration(text: str) -> timedelta:
    """What Prometheus means by it; one unit."""
    unit = text.lstrip("0123456789")
    return timedelta(seconds=int(text.removesuffix(unit)) * _UNITS[unit])


def shortened(rules: dict[str, Any]) -> dict[str, Any]:
    """The same rules; every `for` and `keep_firing_for` shorter by FACTOR."""

    def short(rule: dict[str, Any]) -> dict[str, Any]:
        waits = {key: duration(rule[key]) / FACTOR for key in ("for", "keep_firing_for") if key in rule}
        return rule | {key: f"{round(wait.total_seconds() * 1000)}ms" for key, wait in waits.items()}

    return {"groups": [group | {"rules": [short(rule) for rule in group["rules"]]} for group in rules["groups"]]}


def prometheus_config(directory: Path, exporter: str, alertmanager: str, **scrape: Any) -> str:
    """The shipped example, four times a second, with the shipped rules made shorter; ``scrape`` is more of its job."""
    (directory / "rules.yaml").write_text(yaml.safe_dump(shortened(RULES)))
    config = yaml.safe_load((ALERTS / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
    config["rule_files"] = [str(directory / "rules.yaml")]
    for job, url in ((config["scrape_configs"][0], exporter), (config["alerting"]["alertmanagers"][0], alertmanager)):
        job["static_configs"] = [{"targets": [url.removeprefix("http://")]}]
    config["scrape_configs"][0] |= scrape
    return yaml.safe_dump(config)
