"""Real helm, of both majors, and what it renders."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from parts.machine import need

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "po-exporter"
MAJORS = (3, 4)


def helm(major: int, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm to its end."""
    binary = need(ROOT / ".cache" / "helm" / str(major) / "helm", f"`make .cache/helm/{major}/helm`")
    return subprocess.run([binary, *args], capture_output=True, text=True, check=False)


def render(
    major: int, values: Mapping[str, Any] | Path, *args: str, chart: Path = CHART, kubernetes: str = "1.34"
) -> subprocess.CompletedProcess[str]:
    """`helm template` with these values; the release is called `po`, in the namespace `trading`."""
    options = ["--namespace", "trading", "--kube-version", kubernetes, *args]
    if isinstance(values, Path):
        options += ["--values", str(values)]
    else:
        options += [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    return helm(major, "template", "po", chart, *options)


def objects(rendered: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> object; AssertionError with helm's words where it refused."""
    assert rendered.returncode == 0, rendered.stderr
    found = [each for each in yaml.safe_load_all(rendered.stdout) if each]
    named = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(named) == len(found)
    return named
