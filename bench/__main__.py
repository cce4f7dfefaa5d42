"""``python -m bench``: measure a full check, a window poll and the other exporters side by side."""

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

from bench import measure, report, server
from bench.dataset import Dataset
from bench.peers import available_peers


@click.command()
@click.option("--orders", default=2_000_000, show_default=True, help="Orders in the table, rounded down to 800s.")
@click.option("--repetitions", default=5, show_default=True, type=click.IntRange(1), help="Measured polls of each.")
@click.option("--polls", default=100, show_default=True, type=click.IntRange(2), help="Full polls of the long run.")
@click.option("--keep", is_flag=True, help="Leave the tables for another run within a few hours.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--write", is_flag=True, help="Write the result into docs/performance.md.")
@click.option("--machine", default=report.machine, help="The machine in words.", show_default="its size")
def main(orders: int, repetitions: int, polls: int, keep: bool, form: str, write: bool, machine: str) -> None:  # noqa: FBT001, PLR0913, PLR0917  an option each
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
            plan = measure.Plan(dataset, peers, repetitions, polls, Path(files))
            result = asyncio.run(measure.run(running, plan, lambda text: notes.print(text, style="dim")))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:  # a party that fell over, a full disk
        raise click.ClickException(str(error)) from None
    result.left_out = left_out
    if form == "json":
        print(json.dumps(report.as_json(result), indent=2))
        for line in result.disagreements:
            notes.print(line, style="red")
    else:
        report.show(result, Console(width=None if sys.stdout.isatty() else 140))
    if write:
        notes.print(f"written: {report.write(result, machine)}", style="dim")
    sys.exit(1 if result.disagreements else 0)


if __name__ == "__main__":
    main()
