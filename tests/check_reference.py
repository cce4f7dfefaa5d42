"""The facts at the head of each page in docs/checks, from the check files. `python tests/check_reference.py` writes
them anew."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from po_exporter.database.catalog import Catalog
from po_exporter.database.schema import Presenter
from po_exporter.expose.metrics import COUNT_GAUGES
from po_exporter.mapping import GAL_FRIDAY, ORDER_COLUMNS, POSITION_COLUMNS, Column, SchemaMapping
from po_exporter.sql import LINK_RATE, CheckFile, load_checks

PAGES = Path(__file__).parents[1] / "docs" / "checks"
_BLOCK = re.compile(r"(<!-- facts -->\n)(.*?)(<!-- end -->)", re.S)
_ACTIVITY = {"positions.is_active", "positions.closed_at"}


def renewed(text: str, check: CheckFile) -> str:
    """The text of a check's page with the facts as its file has them."""
    return _BLOCK.sub(lambda match: f"{match[1]}{facts(check)}{match[3]}", text)


def facts(check: CheckFile) -> str:
    """The table: a line for each thing that the check's file, or its metrics, decide."""
    rows = {
        "Asks": check.help,
        "Issue type": "-" if check.name == LINK_RATE else f"`{check.issue_type}`",
        "Priority": check.priority or "-",
        "Finds": f"{check.entity}s" if check.priority else "-",
        "Scope": check.scope,
        "Settles": "yes" if check.settles else "no",
        "Tolerance": "-" if check.tolerance is None else f"`{check.tolerance:f}`",
        "Off unless mapped": _listed(mapped_or_off(check)),
        "Off when": "-" if check.off_when is None else f"`positions.{check.off_when[0]}` is `{check.off_when[1]}`",
        "Needs": _listed(sorted(check.needs)),
        "Shows where it can": _listed(sorted(check.uses)),
        "Gauges of its own": _listed(COUNT_GAUGES.get(check.name, ())),
    }
    lines = [("Fact", check.name), ("---", "---"), *rows.items()]
    return "".join(f"| {name} | {value} |\n" for name, value in lines)


def mapped_or_off(check: CheckFile) -> list[str]:
    """The columns, of those that a mapping may leave out, without which the check is off."""
    optional = [f"orders.{name}" for name in ORDER_COLUMNS] + [f"positions.{name}" for name in POSITION_COLUMNS]
    always = {"orders.id", "orders.position_id", "orders.side", "orders.status", "orders.filled_quantity",
              "orders.created_at", "positions.id", "positions.quantity"}  # fmt: skip
    found = [name for name in optional if name not in always and _is_off(check, {name})]
    if not _ACTIVITY & set(found) and _is_off(check, _ACTIVITY):
        found.append("positions.is_active or positions.closed_at")
    return found


def _is_off(check: CheckFile, unmapped: set[str]) -> bool:
    return Presenter(_everything_but(unmapped), Catalog({})).why_off(check) is not None


def _everything_but(unmapped: set[str]) -> SchemaMapping:
    orders = {name: Column(name) for name in ORDER_COLUMNS if f"orders.{name}" not in unmapped}
    positions = {name: Column(name) for name in POSITION_COLUMNS if f"positions.{name}" not in unmapped}
    return replace(
        GAL_FRIDAY,
        orders=replace(GAL_FRIDAY.orders, columns=orders),
        positions=replace(GAL_FRIDAY.positions, columns=positions),
    )


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(" or ".join(f"`{name}`" for name in each.split(" or ")) for each in names) or "-"


if __name__ == "__main__":
    for known in load_checks().values():
        page = PAGES / f"{known.name}.md"
        page.write_text(renewed(page.read_text(encoding="utf-8"), known), encoding="utf-8")
