"""The table of values in the chart's README, from values.yaml. `python tests/chart_reference.py` writes it anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "helm" / "po-exporter"
_BLOCK = re.compile(r"(<!-- values -->\n)(.*?)(<!-- end -->)", re.S)
_KEY = re.compile(r"^(?P<indent> *)(?P<key>\w+):")


def renewed(text: str) -> str:
    """The README's text with the table as values.yaml has it."""
    return _BLOCK.sub(lambda match: f"{match[1]}{table()}{match[3]}", text)


def table() -> str:
    """A line a value, in the order of the file, with the comment that stands above it or behind its section."""
    lines = ["| value | default | |\n", "| --- | --- | --- |\n"]
    for section, path, default, comment in _values():
        if section:
            lines.append(f"| **{section}** | | |\n")
        else:
            lines.append(f"| `{path}` | `{json.dumps(default)}` | {comment.replace('|', '&#124;')} |\n")
    return "".join(lines)


def _values() -> Iterator[tuple[str, str, Any, str]]:
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    comment: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# @section "):
            yield stripped.removeprefix("# @section "), "", None, ""
            comment = []
        elif stripped.startswith("# "):
            comment.append(stripped.removeprefix("# "))
        elif match := _KEY.match(line):
            path = [*path[: len(match["indent"]) // 2], match["key"]]
            value = values
            for key in path:
                value = value[key]
            # What has lines of its own below is not a value, but a place for some; what is written in one line is one.
            if not (isinstance(value, dict) and value and line.rstrip().endswith(":")):
                yield "", ".".join(path), value, " ".join(comment)
            comment = []
        else:
            comment = []


if __name__ == "__main__":
    readme = CHART / "README.md"
    readme.write_text(renewed(readme.read_text()))
