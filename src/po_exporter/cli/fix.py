"""fix and reconcile: what would be mended, mending it, taking it back, and the record of it."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import structlog

from po_exporter.cli.ask import fail_on_option, verdict_status, window_of
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
from po_exporter.config import Config
from po_exporter.database.session import Target
from po_exporter.errors import DatabaseError, Refused, Stopped, UsageError
from po_exporter.repair import apply as repair
from po_exporter.repair import record
from po_exporter.repair.apply import Made
from po_exporter.repair.batch import link_all, read_links
from po_exporter.repair.plan import Plan, make_plan
from po_exporter.repair.recalculate import RECALCULATE, look_at, recalculate
from po_exporter.repair.reconcile import Reconciled, reconcile
from po_exporter.wiring import fixer, load, rules_for_fixes, sealing, watched, why_not_written

log = structlog.get_logger()

yes_option = click.option("--yes", is_flag=True, help="Do it without asking.")


@click.group("fix")
def fix_group() -> None:
    """Mend what can be mended without judgement; every change is recorded, and can be undone."""


@fix_group.command()
@config_option
@database_option
@format_option
def plan(config_file: Path | None, database: str | None, output: str) -> int:
    """Show every change that would be made, why it is safe, and what would not be touched, and why. Writes nothing."""
    from po_exporter.show import progress  # noqa: PLC0415  # tables need rich, which the sidecar does without
    from po_exporter.show_fixes import plan_json, show_plans  # noqa: PLC0415  # as above

    settings = load(config_file, os.environ)
    names = chosen(settings, database)
    with progress(f"planning for {', '.join(names)}"):
        plans = asyncio.run(interruptible(_plan_all(settings, names)))
    if output == "json":
        click.echo(json.dumps({"databases": [plan_json(each) for each in plans]}, indent=2, ensure_ascii=False))
    else:
        show_plans(plans)
    return OK


@fix_group.command("apply")
@config_option
@database_option
@format_option
@yes_option
def apply_command(config_file: Path | None, database: str | None, output: str, *, yes: bool) -> int:
    """Make the changes that the plan shows and fix.allow names, after asking."""
    from po_exporter.show_fixes import show_plans  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    name = only(settings, database)
    target, rules = fixer(settings, name), rules_for_fixes(settings, name)
    _not_stopped(settings, name)
    (planned,) = asyncio.run(interruptible(_plan_all(settings, [name])))
    wanted = [change for change in planned.changes if change.made]
    if output == "text":
        show_plans([planned])
    if not wanted:
        return _say(name, None, [], output)
    _agreed(f"Make {'this change' if len(wanted) == 1 else f'these {len(wanted)} changes'} in {name}?", yes=yes)
    work = repair.apply(watched(settings, name), target, rules, wanted, _actor())
    run, made = asyncio.run(interruptible(work))
    return _done(settings, name, run, made, output)


@fix_group.command()
@config_option
@database_option
@format_option
@yes_option
@click.option("--run", metavar="RUN", help="All that one run has changed.")
@click.argument("records", nargs=-1, type=int)
def undo(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None, database: str | None, output: str, run: str | None, records: Sequence[int], *, yes: bool
) -> int:
    """Take changes back, by the numbers of their RECORDS or by --run, where the columns still hold what was written."""
    from po_exporter.show_fixes import show_entries  # noqa: PLC0415  # tables need rich, which the sidecar does without

    if bool(records) == bool(run):
        raise UsageError("give either the numbers of records, or --run; po-exporter fix log shows both.")
    settings = load(config_file, os.environ)
    name = only(settings, database)
    target = fixer(settings, name)
    _not_stopped(settings, name)
    entries = asyncio.run(interruptible(record.find(target, records, run)))
    if output == "text":
        show_entries(entries)
    _agreed(f"Take {'this' if len(entries) == 1 else f'these {len(entries)}'} back in {name}?", yes=yes)
    work = repair.undo(watched(settings, name), target, entries, _actor())
    run_of_undo, made = asyncio.run(interruptible(work))
    return _done(settings, name, run_of_undo, made, output)


@fix_group.command("log")
@config_option
@database_option
@format_option
@click.option("--run", metavar="RUN", help="Those of one run.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="So many at most.")
@click.option("--verify", is_flag=True, help="Calculate the chain of hashes anew, and say where it does not hold.")
def log_command(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None, database: str | None, output: str, run: str | None, limit: int, *, verify: bool
) -> int:
    """Show what was changed, by whom and why; or verify that the record is what was written."""
    from po_exporter.show_fixes import (  # noqa: PLC0415  # tables need rich, which the sidecar does without
        entry_json,
        show_entries,
        show_verification,
        verification_json,
    )

    settings = load(config_file, os.environ)
    name = only(settings, database)
    target = fixer(settings, name)
    if verify:
        found = asyncio.run(interruptible(record.verify(target)))
        if output == "json":
            click.echo(json.dumps({"database": name, **verification_json(found)}, indent=2))
        else:
            show_verification(name, found)
        return FINDINGS if found.broken else OK
    entries = asyncio.run(interruptible(record.read_log(target, run=run, most=limit)))
    if output == "json":
        click.echo(
            json.dumps(
                {"database": name, "records": [entry_json(each) for each in entries]}, indent=2, ensure_ascii=False
            )
        )
    else:
        show_entries(entries)
    return OK


@fix_group.command()
@config_option
@database_option
@format_option
@yes_option
@click.option("--from", "file", type=click.Path(path_type=Path), metavar="FILE",
              help="Many: CSV with the columns order and position, or JSON lines.")  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 10_000), default=100, show_default=True,
              help="So many of a file in one transaction.")  # fmt: skip
@click.argument("order", required=False)
@click.argument("position", required=False)
def link(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None,
    database: str | None,
    output: str,
    *,
    file: Path | None,
    batch: int,
    order: str | None,
    position: str | None,
    yes: bool,
) -> int:
    """Link an ORDER to a POSITION, or each of a file, because you say so."""
    if file and not order:
        return _link_all(config_file, database, output, file, batch, yes=yes)
    if file or not (order and position):
        raise UsageError("give an order and a position, or --from and a file.")
    return _by_hand(config_file, database, output, order, position, yes=yes)


@fix_group.command()
@config_option
@database_option
@format_option
@yes_option
@click.argument("order")
def unlink(config_file: Path | None, database: str | None, output: str, order: str, *, yes: bool) -> int:
    """Take the link of an ORDER away, because you say so."""
    return _by_hand(config_file, database, output, order, None, yes=yes)


@fix_group.command("recalculate")
@config_option
@database_option
@format_option
@yes_option
@click.argument("position")
def recalculate_command(
    config_file: Path | None, database: str | None, output: str, position: str, *, yes: bool
) -> int:
    """Make a POSITION what its orders come to, because you say so: quantity, average entry price, realized result."""
    from po_exporter.show_fixes import show_recalculation  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    name = only(settings, database)
    target, cap = fixer(settings, name), settings.fix.max_quantity
    _not_stopped(settings, name)
    try:
        found = asyncio.run(interruptible(look_at(watched(settings, name), target, position, cap)))
    except Refused as refused:
        return _say(name, None, [Made(RECALCULATE, position, {}, {}, None, str(refused))], output)
    if output == "text":
        show_recalculation(found)
    if not found.after:
        return _say(name, None, [Made(RECALCULATE, found.id, {}, {}, None)], output)
    _agreed(f"Change this position in {name}?", yes=yes)
    work = recalculate(watched(settings, name), target, found, cap, _actor())
    run, made = asyncio.run(interruptible(work))
    return _done(settings, name, run, made, output)


def _by_hand(  # noqa: PLR0913  # what its two commands were given
    config_file: Path | None, database: str | None, output: str, order_id: str, position: str | None, *, yes: bool
) -> int:
    from po_exporter.show_fixes import show_order  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    name = only(settings, database)
    target = fixer(settings, name)
    _not_stopped(settings, name)
    looking = repair.look_at(watched(settings, name), target, order_id, position)
    order, position = asyncio.run(interruptible(looking))
    if output == "text":
        show_order(order, position)
    if order.link == position:
        raise UsageError(f"order {order.id} {f'is linked to {position}' if position else 'has no link'} already.")
    _agreed(f"Change the link of this order in {name}?", yes=yes)
    run, made = asyncio.run(interruptible(repair.link(watched(settings, name), target, order, position, _actor())))
    return _done(settings, name, run, made, output)


@click.command("reconcile")
@config_option
@database_option
@format_option
@fail_on_option
@click.option("--hours-back", type=Positive(), help="The window; default: monitor.window.")
@click.option(
    "--auto-fix", is_flag=True, help="Make what the plan shows and fix.allow names; else only reconcile.auto_fix does."
)
def reconcile_command(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None,
    database: str | None,
    output: str,
    fail_on: str,
    hours_back: float | None,
    *,
    auto_fix: bool,
) -> int:
    """Check, plan, apply what is allowed, check again, and report."""
    from po_exporter.show import progress  # noqa: PLC0415  # tables need rich, which the sidecar does without
    from po_exporter.show_fixes import reconciled_json, show_reconciled  # noqa: PLC0415  # as above

    settings = load(config_file, os.environ)
    names = chosen(settings, database)
    writes = auto_fix or settings.reconcile.auto_fix
    targets = {name: _where(settings, name) if writes else None for name in names}
    with progress(f"reconciling {', '.join(names)}"):
        found = asyncio.run(interruptible(_reconcile_all(settings, targets, hours_back)))
    for name, each in zip(names, found, strict=True):
        if any(made.record for made in each.made):
            _seal(settings, name)
    if output == "json":
        click.echo(json.dumps({"databases": [reconciled_json(each) for each in found]}, indent=2, ensure_ascii=False))
    else:
        show_reconciled(found)
    if any(each.error for each in found):
        return UNKNOWN
    return verdict_status([each.after for each in found], fail_on)


def _where(settings: Config, name: str) -> Target | None:
    """Where to write; nowhere where nobody may, which is said."""
    try:
        return fixer(settings, name)
    except UsageError as error:
        click.echo(f"po-exporter: {error} This only plans.", err=True)
        return None


async def _reconcile_all(
    settings: Config, targets: Mapping[str, Target | None], hours_back: float | None
) -> list[Reconciled]:
    async def one(name: str, target: Target | None) -> Reconciled:
        wanted = replace(watched(settings, name), polls=True)
        if hours_back:
            wanted = replace(wanted, terms=replace(wanted.terms, window=window_of(hours_back)))
        return await reconcile(wanted, rules_for_fixes(settings, name), target, _actor())

    return list(await asyncio.gather(*(one(name, target) for name, target in targets.items())))


def _link_all(  # noqa: PLR0913  # what its command was given
    config_file: Path | None, database: str | None, output: str, file: Path, size: int, *, yes: bool
) -> int:
    from po_exporter.show import progress  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    name = only(settings, database)
    target = fixer(settings, name)
    _not_stopped(settings, name)
    wanted = read_links(file)
    _agreed(f"Link {len(wanted):,} orders in {name}, {size:,} at a time?", yes=yes)
    with progress(f"linking {len(wanted):,} orders", total=len(wanted)) as advance:
        work = link_all(
            watched(settings, name), target, wanted, _actor(), size=size, after=lambda made: advance(len(made))
        )
        run, made = asyncio.run(interruptible(work))
    return _done(settings, name, run, made, output)


async def _plan_all(settings: Config, names: Sequence[str]) -> list[Plan]:
    plans = (make_plan(watched(settings, name), rules_for_fixes(settings, name)) for name in names)
    return list(await asyncio.gather(*plans))


def _not_stopped(settings: Config, name: str) -> None:
    if why := why_not_written(settings, name):
        raise Stopped(f"{why}: nothing is written.")


def _agreed(question: str, *, yes: bool) -> None:
    """Ask whoever sits at the terminal. Raises UsageError where nobody does."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nothing was written: there is no terminal to ask at; say --yes to do it without.")
    click.confirm(question, abort=True, err=True)


def _actor() -> str:
    """Who asks for it."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _done(settings: Config, name: str, run: str, made: list[Made], output: str) -> int:
    """Seal what was written, and say what became of it."""
    _seal(settings, name)
    return _say(name, run, made, output)


def _seal(settings: Config, name: str) -> None:
    try:
        asyncio.run(interruptible(record.seal(sealing(settings, name))))
    except DatabaseError as error:  # it is written, and sealed with what is written next
        log.warning("not_sealed", database=name, error=str(error))


def _say(name: str, run: str | None, made: list[Made], output: str) -> int:
    from po_exporter.show_fixes import made_json, show_made  # noqa: PLC0415  # as above

    if output == "json":
        found: dict[str, Any] = {"database": name, "run": run, "changes": [made_json(each) for each in made]}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show_made(run, made)
    return FINDINGS if any(each.refusal for each in made) else OK
