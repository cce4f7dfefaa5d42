"""What a run says: as a table for a terminal, as JSON, and as a section of docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from bench.dataset import HEADLINES, WINDOW_CHECKS
from bench.measure import FULL, WINDOW, Run
from bench.program import Poll
from bench.server import SETTINGS, VERSION

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
PEERS = ("postgres_exporter", "query-exporter")
HAND = "one query by hand"
LARGEST = 8_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; None is not measured."""

    name: str
    database: float
    wall: float | None = None
    cpu: float | None = None
    rss: float | None = None
    pss: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One promise and what became of it."""

    name: str
    limit: float
    value: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the value is within the limit."""
        return self.value <= self.limit

    def text(self, value: float) -> str:
        """A value with its unit; a small share as one of so many."""
        if self.unit == "x" and self.limit < 0.1:
            return f"1/{number(1 / value)}"
        return f"{number(value)} {self.unit}"


def rows(run: Run) -> list[Row]:
    """Everybody, then what a part of the peers' questions costs."""
    found = []
    for name in run.polls:
        memory = run.memory.get(name)
        found.append(
            Row(
                name,
                run.median(name, lambda poll: poll.work.seconds),
                run.median(name, lambda poll: poll.wall),
                run.median(name, lambda poll: poll.cpu),
                memory.rss if memory else None,
                memory.pss if memory else None,
            )
        )
    for title, checks in (("the window's questions", WINDOW_CHECKS), ("the four headline questions", HEADLINES)):
        found += [Row(f"{name}, {title} alone", run.median(name, _part(checks))) for name in PEERS if name in run.polls]
    return found


def targets(run: Run) -> list[Target]:
    """What the design promises, against what was measured."""
    found = []
    theirs = [run.median(name, lambda poll: poll.work.seconds) for name in PEERS if name in run.polls]
    if theirs:
        ours = run.median(FULL, lambda poll: poll.work.seconds)
        found.append(Target("database time of a full check, of the faster exporter's", 0.55, ours / min(theirs), "x"))
    if run.scrapes:
        name = f"a scrape while a poll runs, 99th percentile of {len(run.scrapes)}"
        found.append(Target(name, 10, 1000 * run.scrape_p99, "ms"))
    found.append(Target(f"memory (RSS) after {run.long_run_polls} scan polls", 70, run.memory[FULL].rss, "MB"))
    found.append(Target("start to first metrics, beyond the first poll", 1, statistics.median(run.ready), "s"))
    return found


def losses(run: Run) -> list[str]:
    """Every figure in which somebody else is better than we are."""
    table = {row.name: row for row in rows(run)}
    full, window = table[FULL], table[WINDOW]
    found = []

    def weigh(text: str, ours: float | None, theirs: float | None, unit: str) -> None:
        if ours is not None and theirs is not None and theirs < ours:
            found.append(f"{text}: {number(ours)} {unit} against {number(theirs)} {unit}.")

    for name in (*PEERS, HAND):
        if name in table:
            weigh(f"Database time of a full check, against {name}", full.database, table[name].database, "s")
            weigh(f"Server CPU of a full check, against {name}", full.cpu, table[name].cpu, "s")
            weigh(f"Duration of a full check, against {name}", full.wall, table[name].wall, "s")
            weigh(f"Memory (RSS), against {name}", full.rss, table[name].rss, "MB")
    for name in PEERS:
        four = table.get(f"{name}, the four headline questions alone")
        recent = table.get(f"{name}, the window's questions alone")
        if four and recent:
            weigh(f"Somebody who needs the four headline questions alone: our full check, against {name}",
                  full.database, four.database, "s")  # fmt: skip
            weigh(f"Database time of a window poll, against {name}", window.database, recent.database, "s")
    return found


def show(run: Run, console: Console) -> None:
    """The tables."""
    table = Table(title=_title(run), title_justify="left")
    table.add_column("asked by")
    for column in ("database time, s", "duration, s", "server CPU, s", "RSS, MB", "PSS, MB"):
        table.add_column(column, justify="right")
    for row in rows(run):
        table.add_row(row.name, *map(number, (row.database, row.wall, row.cpu, row.rss, row.pss)))
    console.print(table)
    goals = Table(title="Targets", title_justify="left")
    for column in ("of", "at most", "measured", ""):
        goals.add_column(column)
    for target in targets(run):
        goals.add_row(
            target.name, target.text(target.limit), target.text(target.value),
            "met" if target.met else "[bold red]missed",
        )  # fmt: skip
    console.print(goals)
    for loss in losses(run):
        console.print(f"[yellow]worse:[/] {loss}")
    for name, why in run.left_out.items():
        console.print(f"[bold yellow]left out:[/] {name}: {why}", markup=True)
    for line in run.disagreements:
        console.print(f"[bold red]disagreement:[/] {line}")
    if not run.disagreements:
        console.print(f"All agree with what is known to be there: {_truth(run)}.")


def as_json(run: Run) -> dict[str, object]:
    """The same for machines, with the single values behind the medians."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "orders": run.dataset.orders,
        "positions": run.dataset.positions,
        "versions": versions(run),
        "agreed": not run.disagreements,
        "disagreements": run.disagreements,
        "left_out": run.left_out,
        "truth": run.truth,
        "parties": {
            name: {
                "database_seconds": [poll.work.seconds for poll in polls],
                "wall_seconds": [poll.wall for poll in polls],
                "server_cpu_seconds": [poll.cpu for poll in polls],
                "answers": dict(polls[-1].answers),
                "rss_mb": run.memory[name].rss if name in run.memory else None,
                "pss_mb": run.memory[name].pss if name in run.memory else None,
                "by_question": {
                    check: run.median(name, _part([check])) for check in (*run.truth, "link_rate") if name in PEERS
                },
            }
            for name, polls in run.polls.items()
        },
        "scrape_seconds": {"count": len(run.scrapes), "p99": run.scrape_p99 if run.scrapes else None},
        "long_run_polls": run.long_run_polls,
        "ready_seconds": run.ready,
        "targets": [
            {"of": t.name, "at_most": t.limit, "measured": t.value, "unit": t.unit, "met": t.met} for t in targets(run)
        ],
        "losses": losses(run),
    }


def write(run: Run, machine: str) -> Path:
    """Put this run's section into docs/performance.md in place of an earlier one of the same size."""
    heading = f"## {run.dataset.orders:,} orders"
    return put(heading, _section(heading, run, machine))


def put(heading: str, section: str) -> Path:
    """Put one section into docs/performance.md; by size, what changed after the rest."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    sections = {part.splitlines()[0]: part.strip() for part in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]}
    sections[heading] = section.strip()
    ranked = sorted(sections.items(), key=lambda item: (int(re.sub(r"\D", "", item[0]) or 0), item[0]))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n\n".join([INTRODUCTION.strip(), *(body for _, body in ranked)]) + "\n", encoding="utf-8")
    return PAGE


INTRODUCTION = """
# What it costs

Written by `python -m bench --write`; each section is one run. Compare figures within a section alone: they were
measured on one machine in one run, in turns.

Asked are the thirteen checks and the link rate, of the tables of the built-in schema `gal-friday` with 30 days of
orders in them, a thirtieth of which lie in the window of 24 hours, and with a known number of defects of every kind.
A run in which anybody's counts differ from what is known to be there fails.

- *Database time* is planning and execution as `pg_stat_statements` counts it for the role of each, whatever it
  sends. Parallel workers do not add to it; they add to *server CPU*, the CPU time of the whole server meanwhile.
- *Duration* is a scrape for the exporters that ask when they are scraped. For po-exporter, which answers scrapes from
  memory, it is a poll, from its snapshot to its end.
- *RSS* and *PSS*: po-exporter's after its long run of full polls without rest, the others' after their repetitions.
- The other exporters ask one query a question, written by hand for these very tables (`bench/questions.sql`), and
  return numbers. po-exporter's checks hold for any mapped schema (statuses compared without case, NULLs, time zones)
  and return the ids of what is wrong, too. *One query by hand* (`bench/combined.sql`) is what is left when somebody
  merges those questions for these tables; query-exporter runs it.
- The *four headline questions* are link rate, unlinked orders, orphaned references and quantity mismatches.
- *What changed* is about the incremental mode as one installs it, on the same table and beside the others of the same
  run. Its database time is that of the reader and of the feed's role. So many orders, anywhere in the 30 days, change
  between two polls, each in a transaction of its own. *WAL decoded again* is how far back reading the slot begins.
- An order's *life* is three transactions, which pgbench plays: new; filled in part; filled, linked and booked in its
  position. The *trading path* is lives with publication, REPLICA IDENTITY FULL and a sidecar that polls each second,
  and without all three, in pairs one after the other.
"""


def _section(heading: str, run: Run, machine: str) -> str:
    lines = [
        heading,
        "",
        f"{datetime.now(UTC):%Y-%m-%d}. {machine}. {', '.join(versions(run))}. "
        f"{run.dataset.positions:,} positions. Medians of {len(run.polls[FULL])} repetitions.",
        "",
        "| asked by | database time, s | duration, s | server CPU, s | RSS, MB | PSS, MB |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.name} | " + " | ".join(map(number, (row.database, row.wall, row.cpu, row.rss, row.pss))) + " |"
        for row in rows(run)
    ]
    lines += table_of_targets(targets(run))
    if run.dataset.orders < LARGEST:
        lines += ["", f"The target for memory is meant for {LARGEST:,} orders."]
    lines += ["", "Where others are better:", ""]
    lines += [f"- {loss}" for loss in losses(run)] or ["- nowhere in this run"]
    lines += [f"- Not measured: {name}: {why}" for name, why in run.left_out.items()]
    if run.disagreements:
        lines += ["", "**The counts differ; this run failed:**", "", *(f"- {line}" for line in run.disagreements)]
    else:
        lines += ["", f"All agree with what is known to be there: {_truth(run)}."]
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
    return "\n".join([*lines, "", f"PostgreSQL's settings: {settings}."])


def table_of_targets(found: Iterable[Target]) -> list[str]:
    """The lines of a table, after an empty one."""
    lines = ["", "| target | at most | measured | |", "|---|--:|--:|---|"]
    return lines + [
        f"| {t.name} | {t.text(t.limit)} | {t.text(t.value)} | {'met' if t.met else '**missed**'} |" for t in found
    ]


def machine() -> str:
    """This machine in words, and how busy it is before the benchmark begins."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB of memory, load average before it {load:.2f}"
    )


def _part(checks: Iterable[str]) -> Callable[[Poll], float]:
    marks = [f"/* {check} */" for check in checks]
    return lambda poll: poll.work.of(marks)


def versions(run: Run) -> list[str]:
    """Who took part."""
    ours = f"po-exporter {version('po-exporter')} (Python {platform.python_version()})"
    return [ours, f"PostgreSQL {VERSION.removesuffix('.0')}", *run.products]


def _title(run: Run) -> str:
    return f"{run.dataset.orders:,} orders, {run.dataset.positions:,} positions, medians of {len(run.polls[FULL])}"


def _truth(run: Run) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(run.truth.items()))


def number(value: float | None) -> str:
    """Two or three digits; nothing where it was not measured."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"
