"""``python -m bench``: measure a full check, a window poll, the other exporters and what changes, side by side."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from bench import incremental, measure, report, report_changes, server
from bench.dataset import Dataset
from bench.peers import available_peers


@click.command()
@click.option("--orders", default=2_000_000, show_default=True, help="Orders in the table, rounded down to 800s.")
@click.option("--repetitions", default=5, show_default=True, type=click.IntRange(1), help="Measured polls of each.")
@click.option("--polls", default=100, show_default=True, type=click.IntRange(2), help="Full polls of the long run.")
@click.option(
    "--part",
    type=click.Choice(["all", "scan", "changes"]),
    default="all",
    show_default=True,
    help="The polls of everything, the polls of what changed (beside one round of the others), or both.",
)
@click.option("--seconds", default=30.0, show_default=True, help="Of order lives at each rate.")
@click.option("--bad-rows", default=100, show_default=True, help="Bad rows that are waited for.")
@click.option("--pairs", default=6, show_default=True, help="Of runs of the trading path, with the feed and without.")
@click.option("--keep", is_flag=True, help="Leave the tables for another run within a few hours.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--write", is_flag=True, help="Write the result into docs/performance.md.")
@click.option("--machine", default=report.machine, help="The machine in words.", show_default="its size")
def main(  # noqa: PLR0913, PLR0917  an option each
    orders: int, repetitions: int, polls: int, part: str, seconds: float, bad_rows: int, pairs: int,
    keep: bool, form: str, write: bool, machine: str,  # noqa: FBT001
) -> None:  # fmt: skip
    """Exit status: 0 when all agree on the counts, 1 when not, 2 for usage; a missed target does not change it."""
    try:
        dataset = Dataset.of(orders)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--orders") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as for Ctrl-C
    notes = Console(stderr=True)
    peers, left_out = available_peers()
    if left_out and os.environ.get("CI") == "true":
        raise click.ClickException("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    place = server.cache_directory() / (f"server-{dataset.orders}" if keep else f"server-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as files, server.running(place, keep=keep) as running:
            changes = incremental.Plan(dataset, repetitions, seconds, bad_rows, pairs)
            plan = measure.Plan(
                dataset, peers, repetitions, polls if part != "changes" else 0, Path(files),
                changes if part != "scan" else None,
            )  # fmt: skip
            result = asyncio.run(measure.run(running, plan, lambda text: notes.print(text, style="dim")))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # a party that fell over, a full disk
        raise click.ClickException(str(error)) from None
    result.left_out = left_out
    if result.changes:
        report_changes.remember(result)
    if form == "json":
        found = report.as_json(result) if part != "changes" else {}
        print(json.dumps(found | (report_changes.as_json(result) if result.changes else {}), indent=2))
        for line in result.disagreements:
            notes.print(line, style="red")
    else:
        console = Console(width=None if sys.stdout.isatty() else 140)
        if part != "changes":
            report.show(result, console)
        if result.changes:
            report_changes.show(result, console)
    if write:
        if part != "changes":
            report.write(result, machine)
        if result.changes:
            report_changes.write(result, machine)
        notes.print(f"written: {report.PAGE}", style="dim")
    sys.exit(1 if result.disagreements else 0)


if __name__ == "__main__":
    main()
