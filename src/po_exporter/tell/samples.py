"""Summaries as they could be, for trying a template or a channel without anything being wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from po_exporter.model import Verdict
from po_exporter.tell.incidents import UNREADABLE
from po_exporter.tell.summary import AlertSaid, Kind, Links, Number, Past, Row, Summary

BEGAN = datetime(2026, 1, 27, 2, 0, tzinfo=UTC)
_ROWS = tuple(
    Row(
        f"6b1f2c3d-0000-4000-8000-{number:012d}",
        BEGAN - timedelta(minutes=number),
        BEGAN,
        {"trading_pair": "BTC/USD", "side": "BUY", "status": "FILLED", "filled_quantity": f"0.{number}0000000"},
    )
    for number in range(1, 4)
)
OPENED = Summary(
    id="5d0c1e0f8a7b6c21",
    kind="opened",
    incident="9f86d081884c7d65",
    database="trading",
    environment="production",
    check="unlinked_filled_order",
    title="A filled order of the window names no position.",
    issue_type="UNLINKED_FILLED_ORDER",
    priority="high",
    verdict=Verdict.CRITICAL,
    began=BEGAN,
    at=BEGAN + timedelta(minutes=1),
    count=12,
    numbers=(
        Number("Link rate", "99.00 %"),
        Number("Eligible orders", "1,200"),
        Number("Unlinked fills", "12"),
        Number("Orphaned references", "1"),
        Number("Quantity mismatches", None),
    ),
    rows=_ROWS,
    more=9,
    replica="po-exporter-0",
    links=Links(
        runbook="https://example.com/runbooks/unlinked_filled_order.md",
        page="https://po-exporter.example.com/",
        dashboard="https://grafana.example.com/d/po-exporter?var-database=trading",
    ),
)
SAMPLES: dict[str, Summary] = {
    "opened": OPENED,
    "changed": replace(
        OPENED,
        kind="changed",
        at=BEGAN + timedelta(minutes=9),
        count=31,
        before=12,
        more=28,
        numbers=(Number("Link rate", "97.41 %", "99.00 %"), Number("Unlinked fills", "31", "12")),
    ),
    "closed": replace(
        OPENED,
        kind="closed",
        at=BEGAN + timedelta(minutes=26),
        count=0,
        before=31,
        rows=(),
        more=0,
        asked_again=31,
        healed=True,
        numbers=(Number("Link rate", "100.00 %", "97.41 %"), Number("Unlinked fills", "0", "31")),
    ),
    "still wrong": replace(
        OPENED,
        kind="closed",
        at=BEGAN + timedelta(hours=25),
        count=0,
        before=12,
        rows=(),
        more=0,
        asked_again=12,
        still_wrong=tuple(row.id for row in _ROWS),
        healed=False,
    ),
    "unknown": replace(
        OPENED,
        check=UNREADABLE,
        title="The database cannot be read: nothing is known of its orders and positions.",
        issue_type="DATABASE_UNREADABLE",
        verdict=Verdict.UNKNOWN,
        count=None,
        numbers=(),
        rows=(),
        more=0,
        error="cannot reach the server: Connection refused",
    ),
    "alert": replace(
        OPENED,
        kind="alert",
        incident="4b227777d4dd1fc6",
        alert=AlertSaid("UnlinkedFilledOrdersHigh", resolved=False, url="https://alertmanager.example.com"),
    ),
    "digest": replace(
        OPENED,
        kind="digest",
        incident="digest trading 2026-01-28T07:00",
        check="digest",
        title="",
        issue_type=None,
        priority="low",
        verdict=Verdict.DEGRADED,
        began=BEGAN + timedelta(hours=5),
        at=BEGAN + timedelta(hours=29),
        count=None,
        rows=(),
        more=0,
        incidents=(
            Past("quantity_mismatch", 2, BEGAN + timedelta(hours=20), None),
            Past("unlinked_filled_order", 31, BEGAN + timedelta(hours=6), BEGAN + timedelta(hours=6.5)),
        ),
        opened=2,
        closed=1,
        links_made=18_204,
        links_within=2.5,
        links=replace(OPENED.links, runbook=None),
    ),
    # The one that has nothing that may be missing.
    "off": replace(OPENED, kind="off", environment=None, count=None, rows=(), more=0, replica="", links=Links()),
}
"""By what there is to tell."""


def marked_as_test(database: str, environment: str | None, replica: str, now: datetime, links: Links) -> Summary:
    """One that says it is a test."""
    kind: Kind = "test"
    return replace(
        OPENED, kind=kind, database=database, environment=environment, replica=replica, began=now, at=now, links=links,
        title="This is a test: nothing of it is true, and nothing has to be done.",
    )  # fmt: skip
