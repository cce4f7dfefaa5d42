"""The commands that ask a database and print what it says: check, doctor, trail."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import click

from po_exporter.cli.options import (
    FINDINGS,
    OK,
    UNKNOWN,
    Positive,
    chosen,
    config_option,
    database_option,
    format_option,
    interruptible,
    only,
)
from po_exporter.database.session import Target
from po_exporter.doctor import Level, Remark, examine, examine_fixes
from po_exporter.errors import UsageError
from po_exporter.expose.api import status_json
from po_exporter.model import Status, Verdict
from po_exporter.repair.reconcile import once
from po_exporter.repair.trail import read_trail
from po_exporter.watch.watched import Watched
from po_exporter.wiring import load, watched

SEVERITY = ("high", "medium", "low")
fail_on_option = click.option(
    "--fail-on", type=click.Choice([*SEVERITY, "never"]), default="high", show_default=True,
    help="The least priority of a finding that makes the exit status 1.",
)  # fmt: skip


@click.command()
@config_option
@database_option
@format_option
@click.option("--hours-back", type=Positive(), help="The window; default: monitor.window.")
@click.option("--historical", is_flag=True, help="Everything is in the window.")
@fail_on_option
def check(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None,
    database: str | None,
    output: str,
    hours_back: float | None,
    fail_on: str,
    *,
    historical: bool,
) -> int:
    """Ask every check once and print what is wrong."""
    from po_exporter.show import progress, show_status  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    # Asked by hand, a database is asked, whatever is said of polls.
    wanted = [replace(watched(settings, name), polls=True) for name in chosen(settings, database)]
    if historical and hours_back:
        raise UsageError("--hours-back and --historical contradict each other; give one of them.")
    if historical:
        wanted = [replace(each, terms=replace(each.terms, window=None)) for each in wanted]
    elif hours_back:
        window = window_of(hours_back)
        wanted = [replace(each, terms=replace(each.terms, window=window)) for each in wanted]
    with progress(f"asking {len(wanted[0].questions)} checks of {', '.join(each.name for each in wanted)}"):
        statuses = asyncio.run(interruptible(_check_all(wanted)))
    if output == "json":
        click.echo(
            json.dumps({"databases": [status_json(status) for status in statuses]}, indent=2, ensure_ascii=False)
        )
    else:
        show_status(statuses)
    return verdict_status(statuses, fail_on)


@click.command()
@config_option
@database_option
@format_option
def doctor(config_file: Path | None, database: str | None, output: str) -> int:
    """Examine each database: is it ready to be watched, and what would help?"""
    from po_exporter.show import show_doctor  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    names = chosen(settings, database)

    async def examine_one(name: str) -> list[Remark]:
        database = settings.databases[name]
        mending = [examine_fixes(Target(name, database.fix_dsn), database.mapping)] if database.fix_dsn else []
        found = await asyncio.gather(examine(watched(settings, name)), *mending)
        return [remark for each in found for remark in each]

    async def examine_all() -> list[list[Remark]]:
        return await asyncio.gather(*map(examine_one, names))

    remarks = dict(zip(names, asyncio.run(interruptible(examine_all())), strict=True))
    if output == "json":
        found = [
            {"database": name, "remarks": [
                {"level": r.level, "subject": r.subject, "message": r.message, "action": r.action} for r in each]}
            for name, each in remarks.items()
        ]  # fmt: skip
        click.echo(json.dumps({"databases": found}, indent=2, ensure_ascii=False))
    else:
        show_doctor(remarks, settings.warnings)
    levels = {remark.level for each in remarks.values() for remark in each}
    return UNKNOWN if Level.UNKNOWN in levels else FINDINGS if Level.PROBLEM in levels else OK


@click.command()
@config_option
@database_option
@format_option
@click.argument("position_id")
def trail(config_file: Path | None, database: str | None, output: str, position_id: str) -> int:
    """Show a position, its orders in fill order, and whether they agree."""
    from po_exporter.show import show_trail, trail_json  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    wanted = watched(settings, only(settings, database))
    tolerance = settings.checks["quantity_mismatch"].tolerance or Decimal(0)
    reading = read_trail(wanted.target, wanted.terms.limits, wanted.mapping, position_id, tolerance)
    found = asyncio.run(interruptible(reading))
    if output == "json":
        click.echo(json.dumps(trail_json(found), indent=2, ensure_ascii=False))
    else:
        show_trail(found)
    return OK if found.agrees else FINDINGS


def window_of(hours: float) -> timedelta:
    """So many hours; no more than the calendar has."""
    return timedelta(hours=min(hours, 24 * 365 * 1000))


async def _check_all(wanted: list[Watched]) -> list[Status]:
    return await asyncio.gather(*(once(each) for each in wanted))


def verdict_status(statuses: list[Status], fail_on: str) -> int:
    """3 wins over 1: not knowing is never reported as a verdict."""
    if any(status.verdict == Verdict.UNKNOWN for status in statuses):
        return UNKNOWN
    grave = SEVERITY[: SEVERITY.index(fail_on) + 1] if fail_on != "never" else ()
    checks = [check for status in statuses if status.result for check in status.result.checks]
    return FINDINGS if any(check.count and check.priority in grave for check in checks) else OK
