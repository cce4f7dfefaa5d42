"""The page for a person: what is wrong now, worst first, without a script."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import jinja2

from po_exporter.expose.api import plain
from po_exporter.expose.view import LINK_RATE, View, shown_result, why_not_ready
from po_exporter.model import CheckResult, Result, Status, Verdict, worst

PAGES = Path(__file__).parent / "pages"
STYLE = (PAGES / "style.css").read_text(encoding="utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

# No script at all, one style, nothing from elsewhere.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

MAX_VALUE = 160  # characters of one value that are shown
MAX_ERROR = 600  # characters of an error
MAX_COLUMNS = 8  # of a check's details; the others share a last one
FIRST_ROWS = 10  # of a check's evidence; the others are folded

WORDS = {**{str(verdict): str(verdict) for verdict in Verdict}, "follows": "Follows", "off": "Not watched"}
# Of the tab's icon; the page has its own for light and dark.
_GREY = "#7b8794"
COLOURS = {"OK": "#17693a", "DEGRADED": "#b26f00", "CRITICAL": "#b3261e"} | dict.fromkeys(
    ("UNKNOWN", "follows", "off"), _GREY
)

# Of the details, what is read first; others follow in the order in which they come.
FIRST_COLUMNS = ("trading_pair", "side", "status", "quantity", "filled_quantity", "expected", "found", "difference")

PRIORITIES = ("high", "medium", "low")


@dataclass(frozen=True, slots=True)
class Table:
    """A check's evidence: one column for each detail that its rows have."""

    columns: tuple[str, ...]
    rest: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One finding, as text."""

    id: str
    since: datetime | None
    first_seen: datetime
    cells: tuple[str | None, ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Section:
    """One database's part of the page. ``state`` is its verdict, 'follows' or 'off'."""

    status: Status
    state: str
    result: Result | None
    stale: bool
    why_not_ready: str

    @property
    def sentence(self) -> str:
        """What the result says."""
        wrong, unknown = self.wrong, self.unknown
        if unknown:
            return f"{_number(len(unknown), 'check has', 'checks have')} no answer."
        if wrong:
            high = sum(check.priority == "high" for check in wrong)
            return f"{_number(len(wrong), 'check', 'checks')} found something wrong, {high or 'none'} of high priority."
        if self.fine:
            return "Orders and positions agree."
        return "No check is enabled that could find something wrong."

    @property
    def known_verdict(self) -> str | None:
        """What those say that were answered, where that is not the verdict itself."""
        said = self.result and self.unknown and (self.wrong or self.fine)
        return str(self.result.known_verdict) if self.result and said else None

    @property
    def unknown(self) -> list[CheckResult]:
        """Checks without an answer."""
        return [check for check in self._checks if not check.ok]

    @property
    def wrong(self) -> list[CheckResult]:
        """Checks that found something, the worst first."""
        found = [check for check in self._checks if check.ok and check.count]
        return sorted(found, key=lambda check: PRIORITIES.index(check.priority or "low"))

    @property
    def fine(self) -> list[CheckResult]:
        """Checks that found nothing wrong; the link rate is among the numbers instead."""
        return [check for check in self._checks if check.ok and not check.count and check.name != LINK_RATE]

    @property
    def numbers(self) -> list[tuple[str, str | None]]:
        """What the guide's four numbers and their parts are; None for one that is not known. A disabled check has
        none."""
        rate = self.result.link_rate if self.result else None
        numbers: list[tuple[str, str | None]] = []
        if LINK_RATE in self._names:
            numbers += [
                ("Link rate", str(rate) if rate else None),
                ("Eligible orders", f"{rate.eligible:,}" if rate else None),
                ("Linked", f"{rate.links:,}" if rate else None),
            ]
        for label, name in (
            ("Unlinked", "unlinked_filled_order"),
            ("Orphaned references", "orphaned_position_reference"),
            ("Quantity mismatches", "quantity_mismatch"),
        ):
            if name in self._names:
                count = self.result.count(name) if self.result else None
                numbers.append((label, None if count is None else f"{count:,}"))
        return numbers

    @property
    def _checks(self) -> tuple[CheckResult, ...]:
        return self.result.checks if self.result else ()

    @property
    def _names(self) -> set[str]:
        return {check.name for check in self._checks}


def render(view: View, now: datetime, *, refresh: bool) -> str:
    """The whole page as HTML. ``refresh`` lets it load itself again at the pace of the polls."""
    sections = sorted((_section(status) for status in view.statuses), key=_worst_first)
    judged = [Verdict(section.state) for section in sections if section.state in list(Verdict)]
    pace = min((status.poll_interval for status in view.statuses), default=60.0)
    template = _environment().get_template("page.html.j2")
    return template.render(
        sections=sections,
        overall=str(worst(judged)) if judged else sections[0].state if sections else "off",
        view=view,
        style=STYLE,
        now=now,
        words=WORDS,
        colours=COLOURS,
        refresh=int(min(max(pace, 30), 300)) if refresh else None,
        table=table,
        first_rows=FIRST_ROWS,
        max_error=MAX_ERROR,
        ago=partial(ago, now=now),
    )


def table(check: CheckResult) -> Table:
    """A check's evidence for the page, in order."""
    found = dict.fromkeys(key for finding in check.findings for key in finding.details)
    if all(finding.details.get("reason") is None for finding in check.findings):
        found.pop("reason", None)  # rows that explain themselves give none
    keys = [key for key in FIRST_COLUMNS if key in found] + [key for key in found if key not in FIRST_COLUMNS]
    columns, others = keys[:MAX_COLUMNS], keys[MAX_COLUMNS:]
    rows = []
    for finding in check.findings:
        details = {str(key): _text(value) for key, value in finding.details.items()}
        rest = ", ".join(f"{key} {details[key]}" for key in others if details.get(key) is not None)
        cells = tuple(details.get(column) for column in columns)
        rows.append(Row(finding.id, finding.since, finding.first_seen, cells, rest))
    return Table(tuple(columns), bool(others), tuple(rows))


def ago(when: datetime, now: datetime) -> str:
    """How long ago, in words; clocks that differ a little do not make it the future."""
    seconds = int(max((now - when).total_seconds(), 0))
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit} ago"
    return f"{_number(seconds, 'second', 'seconds')} ago" if seconds else "just now"


def stamp(when: datetime) -> str:
    """In UTC, to the second; the zone stands beside it."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def legible(text: object, most: int = MAX_VALUE) -> str:
    """A value from a table as it can be shown: cut, and without characters that hide or turn round what is there."""
    whole = str(text)
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in whole[:most])
    return shown if len(whole) <= most else f"{shown}… ({len(whole):,} characters)"


def _section(status: Status) -> Section:
    result = shown_result(status)
    state = "off" if not status.monitored else "follows" if not status.leader else str(status.verdict)
    stale = bool(result and not status.ready)
    return Section(status, state, result, stale, why_not_ready(status))


def _worst_first(section: Section) -> tuple[int, str]:
    order = [*reversed(list(Verdict)), "follows", "off"]
    return order.index(section.state), section.status.database


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _heading(key: str) -> str:
    return legible(key.replace("_", " "))


def _text(value: object) -> str | None:
    """A detail as text; lists and objects as JSON."""
    value = plain(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(legible=legible, stamp=stamp, heading=_heading)
    return environment
