"""What a run says of the incremental mode: as tables, as JSON, and as a section of docs/performance.md."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.incremental import A_THOUSAND, Changed, Changes
from bench.measure import FULL, Run
from bench.report import HAND, PEERS, Target, number, put, table_of_targets, versions
from bench.server import SETTINGS, cache_directory
from bench.trading_path import RATE, Leg

SMALL, LARGE = 2_000_000, 8_000_000
SHARES = {SMALL: 1 / 40, LARGE: 1 / 150}
REMEMBERED = 86_400.0  # seconds for which another size's run is fit to be compared with

IDLE = Changed(0)

LEGS: dict[str, Callable[[Leg], float]] = {
    "median duration of a life": lambda leg: leg.latency,
    "CPU of the trading sessions": lambda leg: leg.cpu,
    "CPU of the whole server, our polls included": lambda leg: leg.server_cpu,
    "WAL without images of whole pages": lambda leg: leg.wal,
    "WAL": lambda leg: leg.whole_wal,
}


def _of(run: Run) -> Changes:
    assert run.changes is not None
    return run.changes


def rows(run: Run) -> Iterator[tuple[str, ...]]:
    """(who, database time, of that the feed, duration, server CPU, MB of WAL decoded again), times in ms."""
    changes = _of(run)
    median = changes.median
    for case in changes.followed:
        yield (
            f"po-exporter, {case}", _ms(median(case, lambda f: f.seconds)), _ms(median(case, lambda f: f.feed)),
            _ms(median(case, lambda f: f.poll.wall)), _ms(median(case, lambda f: f.poll.cpu)),
            number(median(case, lambda f: f.lag / 1e6)),
        )  # fmt: skip
    for rate in changes.rates:
        yield (
            f"po-exporter, {rate.rate} order lives a second", _ms(rate.database), _ms(rate.feed),
            _ms(statistics.median(rate.walls)), "", "",
        )  # fmt: skip
    for name in (FULL, *PEERS, HAND):
        if name in run.polls:
            yield (
                name, _ms(run.median(name, lambda p: p.work.seconds)), "", _ms(run.median(name, lambda p: p.wall)),
                _ms(run.median(name, lambda p: p.cpu)), "",
            )  # fmt: skip
    yield "SELECT 1", _ms(changes.trivial_database), "", _ms(changes.trivial_wall), "", ""


def targets(run: Run) -> list[Target]:
    """What the design promises, against what was measured."""
    changes, orders = _of(run), run.dataset.orders
    found = []
    share = next((SHARES[size] for size in sorted(SHARES, reverse=True) if orders >= size), None)
    full = run.median(FULL, lambda p: p.work.seconds)
    for case in changes.followed if share else ():
        if case.orders == A_THOUSAND.orders:
            ours = changes.median(case, lambda f: f.seconds)
            found.append(Target(f"database time after {case}, of a full check's", share or 0, ours / full, "x"))
    other = recall(SMALL) if orders >= LARGE else None
    if other and A_THOUSAND in changes.followed:
        ours = changes.median(A_THOUSAND, lambda f: f.seconds)
        found.append(Target(f"the same, of that of the run with {SMALL:,} orders", 1.5, ours / other, "x"))
    idle = changes.median(IDLE, lambda f: f.seconds) / changes.trivial_database
    found.append(Target("database time of an idle poll, of SELECT 1's", 10, idle, "x"))
    wall = changes.median(IDLE, lambda f: f.poll.wall) / changes.trivial_wall
    found.append(Target("duration of an idle poll, of SELECT 1's", 10, wall, "x"))
    theirs = [run.median(name, lambda p: p.work.seconds) for name in PEERS if name in run.polls]
    if theirs and orders >= LARGE:
        for rate in changes.rates[:1]:
            name = f"database time of a poll at {rate.rate} order lives a second, of the faster exporter's"
            found.append(Target(name, 1 / 150, rate.database / min(theirs), "x"))
    if changes.latencies:
        name = f"commit of a bad row to its metric, 99th percentile of {len(changes.latencies)}"
        found.append(Target(name, 2, changes.latency(0.99), "s"))
    if changes.pairs:
        for name in list(LEGS)[:2]:
            ratio = statistics.median(_ratios(run, name))
            found.append(Target(f"trading path: {name}, of that without", 1.05, ratio, "x"))
    return found


def losses(run: Run) -> list[str]:
    """Every figure in which somebody else, or going without, is better."""
    changes = _of(run)
    found = []
    for case in changes.followed:
        ours = changes.median(case, lambda f: f.seconds)
        for name in (*PEERS, HAND):
            if name in run.polls and run.median(name, lambda p: p.work.seconds) < ours:
                theirs = run.median(name, lambda p: p.work.seconds)
                found.append(f"Database time, {case}, against {name}: {_ms(ours)} ms against {_ms(theirs)} ms.")
    most = max((rate.memory.rss for rate in changes.rates), default=None)
    for name, memory in run.memory.items():
        if name != FULL and most is not None and memory.rss < most:
            found.append(f"Memory (RSS), against {name}: {number(most)} MB against {number(memory.rss)} MB.")
    for name in LEGS:
        ratios = _ratios(run, name)
        if ratios and statistics.median(ratios) > 1:
            found.append(
                f"Trading path, {name}, against going without the feed: {statistics.median(ratios):.3f} x "
                f"({min(ratios):.3f} to {max(ratios):.3f})."
            )
    return found


def facts(run: Run) -> list[str]:
    """What is no row of the table, in sentences."""
    changes = _of(run)
    found = [
        f"{rate.rate} order lives a second: {number(rate.played.rate)} were reached, {rate.polls} polls, each "
        f"{_ms(statistics.median(rate.walls))} ms at the median and {_ms(max(rate.walls))} ms at most; the sidecar "
        f"took {_ms(rate.sidecar_cpu)} ms of CPU a poll and holds {number(rate.memory.rss)} MB (RSS), "
        f"{number(rate.memory.pss)} MB (PSS)."
        for rate in changes.rates
    ]
    if changes.latencies:
        found.append(
            f"From the commit of a bad row to its metric, beside {number(changes.latency_rate)} order lives a second "
            f"and with a poll a second: {number(changes.latency(0.5))} s (p50), {number(changes.latency(0.99))} s "
            f"(p99), {number(max(changes.latencies))} s at most, of {len(changes.latencies)}; the feed was lost "
            f"{changes.feeds_lost} times."
        )
    if changes.pairs:
        least = min(leg.rate for pair in changes.pairs for leg in (pair.without, pair.following))
        ratios = (f"{name} {statistics.median(_ratios(run, name)):.3f} x" for name in LEGS)
        found.append(
            f"Trading path, {len(changes.pairs)} pairs at {RATE} order lives a second ({number(least)} were reached at "
            f"least), medians of the ratios: {', '.join(ratios)}."
        )
    for case in (IDLE, A_THOUSAND):
        if case in changes.parts:
            parts = sorted(changes.parts[case].items(), key=lambda part: -part[1])
            found.append(
                f"Where the database time goes, {case}: "
                + ", ".join(f"{name} {_ms(seconds)} ms" for name, seconds in parts if seconds > 5e-5)
                + "."
            )
    return found


def show(run: Run, console: Console) -> None:
    """The tables."""
    table = Table(title=f"What changed, {run.dataset.orders:,} orders", title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == COLUMNS[0] else "right")
    for row in rows(run):
        table.add_row(*row)
    console.print(table)
    goals = Table(title="Targets", title_justify="left")
    for column in ("of", "at most", "measured", ""):
        goals.add_column(column)
    for t in targets(run):
        goals.add_row(t.name, t.text(t.limit), t.text(t.value), "met" if t.met else "[bold red]missed")
    console.print(goals)
    for fact in facts(run):
        console.print(fact)
    for loss in losses(run):
        console.print(f"[yellow]worse:[/] {loss}")
    for line in run.disagreements:
        console.print(f"[bold red]disagreement:[/] {line}")
    if not run.disagreements:
        console.print("All agree with what is known to be there, after every change.")


def as_json(run: Run) -> dict[str, object]:
    """The same for machines."""
    changes = _of(run)
    return {
        "orders": run.dataset.orders,
        "agreed": not run.disagreements,
        "disagreements": run.disagreements,
        "left_out": run.left_out,
        "changes": {
            "followed": {
                _key(case): {
                    "database_seconds": [f.seconds for f in polls],
                    "feed_seconds": [f.feed for f in polls],
                    "wall_seconds": [f.poll.wall for f in polls],
                    "server_cpu_seconds": [f.poll.cpu for f in polls],
                    "lag_bytes": [f.lag for f in polls],
                    "parts": changes.parts[case],
                }
                for case, polls in changes.followed.items()
            },
            "full_check_seconds": [poll.work.seconds for poll in run.polls[FULL]],
            "trivial": {"database_seconds": changes.trivial_database, "wall_seconds": changes.trivial_wall},
            "rates": [
                {
                    "wanted": rate.rate, "reached": rate.played.rate, "lives": rate.played.lives, "polls": rate.polls,
                    "database_seconds": rate.database, "feed_seconds": rate.feed, "wall_seconds": list(rate.walls),
                    "sidecar_cpu_seconds": rate.sidecar_cpu, "rss_mb": rate.memory.rss, "pss_mb": rate.memory.pss,
                    "parts": rate.parts,
                }
                for rate in changes.rates
            ],
            "latency_seconds": changes.latencies,
            "feeds_lost": changes.feeds_lost,
            "pairs": {name: [pair.ratio(what) for pair in changes.pairs] for name, what in LEGS.items()},
            "legs": [
                {side: {name: what(leg) for name, what in LEGS.items()} | {"rate": leg.rate}}
                for pair in changes.pairs
                for side, leg in (("without", pair.without), ("following", pair.following))
            ],
            "targets": [
                {"of": t.name, "at_most": t.limit, "measured": t.value, "unit": t.unit, "met": t.met}
                for t in targets(run)
            ],
            "losses": losses(run),
        },
    }  # fmt: skip


def write(run: Run, machine: str) -> None:
    """Put this run's section into docs/performance.md."""
    heading = f"## {run.dataset.orders:,} orders: what changed"
    lines = [
        heading,
        "",
        f"{datetime.now(UTC):%Y-%m-%d}. {machine}. {', '.join(versions(run))}. Medians of "
        f"{len(_of(run).followed[IDLE])} polls after each of the changes and of {len(run.polls[FULL])} of the others.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" + "|--:" * (len(COLUMNS) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows(run)),
        *table_of_targets(targets(run)),
        "",
        *(f"- {fact}" for fact in facts(run)),
        "",
        "Where others, or going without, are better:",
        "",
        *([f"- {loss}" for loss in losses(run)] or ["- nowhere in this run"]),
        *(f"- Not measured: {name}: {why}" for name, why in run.left_out.items()),
        "",
    ]
    if run.disagreements:
        lines += ["**The counts differ; this run failed:**", "", *(f"- {line}" for line in run.disagreements)]
    else:
        lines += ["All agree with what is known to be there, after every change."]
    settings = ", ".join(f"`{name}={value}`" for name, value in SETTINGS.items())
    put(heading, "\n".join([*lines, "", f"PostgreSQL's settings: {settings}."]))


def remember(run: Run) -> None:
    """Keep what a run of another size is compared with."""
    changes = _of(run)
    if A_THOUSAND in changes.followed:
        now = datetime.now(UTC).timestamp()
        _file(run.dataset.orders).write_text(json.dumps([now, changes.median(A_THOUSAND, lambda f: f.seconds)]))


def recall(orders: int) -> float | None:
    """Database time after 1,000 changes of a run of that size, if there was one within a day."""
    file = _file(orders)
    if not file.exists():
        return None
    when, seconds = json.loads(file.read_text())
    return float(seconds) if datetime.now(UTC).timestamp() - when < REMEMBERED else None


COLUMNS = (
    "asked by", "database time, ms", "of that the feed, ms", "duration, ms", "server CPU, ms", "WAL decoded again, MB",
)  # fmt: skip


def _key(case: Changed) -> str:
    return f"{case.orders}" if case.what == Changed(0).what else f"{case.orders} {case.what}"


def _file(orders: int) -> Path:
    return cache_directory() / f"changes-{orders}.json"


def _ratios(run: Run, name: str) -> list[float]:
    """Of each pair, one measure with the feed, of that without."""
    return [pair.ratio(LEGS[name]) for pair in _of(run).pairs]


def _ms(seconds: float) -> str:
    return number(1000 * seconds)
