"""Grafana's own types of a dashboard, as a JSON schema that refuses what it does not know."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from parts.machine import need

ROOT = Path(__file__).parents[2]


@cache
def dashboard_schema() -> dict[str, Any]:
    """What `make test` generates from the package @grafana/schema."""
    path = need(ROOT / ".cache" / "grafana" / "dashboard.schema.json", "`make .cache/grafana/dashboard.schema.json`")
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema
