"""The commands: arguments in, exit status out. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import structlog
import yaml
from click.core import ParameterSource

from po_exporter import __version__, config, log
from po_exporter.app import App, load, watched
from po_exporter.config import Config
from po_exporter.database.session import Target
from po_exporter.doctor import Level, examine
from po_exporter.dsn import Dsn
from po_exporter.errors import ConfigError, PoExporterError, UsageError
from po_exporter.expose.api import status_json
from po_exporter.install.installer import install, uninstall
from po_exporter.install.script import printed
from po_exporter.model import Status, Verdict
from po_exporter.repair.trail import read_trail
from po_exporter.secret import Secret
from po_exporter.watch.monitor import Monitor, Watched

T = TypeVar("T")

OK, FINDINGS, UNKNOWN = 0, 1, 3
SEVERITY = ("high", "medium", "low")


def _config_file(context: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    """The file named behind the command, else before it, else by the environment."""
    behind = context.get_parameter_source("config_file") == ParameterSource.COMMANDLINE
    before: Path | None = context.find_root().params.get("config_file")
    return value if behind else before or value


class Positive(click.FloatRange):
    """A number above 0; click by itself takes nan for one."""

    def __init__(self, max: float | None = None) -> None:  # noqa: A002  # click's own word
        super().__init__(min=0, min_open=True, max=max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Fails as click does."""
        number = float(super().convert(value, param, ctx))
        return self.fail(f"{value!r} is not a number.", param, ctx) if math.isnan(number) else number


config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="PO_EXPORTER_CONFIG",
    callback=_config_file,
    help="The YAML file.",
)
format_option = click.option(
    "--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True
)
database_option = click.option("--database", metavar="NAME", help="One of several databases.")


def main() -> NoReturn:
    """Run a command; every error of ours is one sentence and its exit status."""
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        status = done.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        status = 130
    except ConfigError as error:
        for fault in error.faults:
            click.echo(f"po-exporter: {fault}", err=True)
        status = error.exit_status
    except PoExporterError as error:
        click.echo(f"po-exporter: {error}", err=True)
        status = error.exit_status
    except BaseExceptionGroup as group:
        # A defect of ours in one of the app's tasks took the others down: better no answer than one nobody renews.
        structlog.get_logger().error("defect", exc_info=group)
        click.echo(f"po-exporter: stopped by a defect of its own: {group.exceptions[0]!r}", err=True)
        status = UNKNOWN
    except SystemExit:  # click and rich: the reader of our output has gone (`| head`), and with it who would be told
        status = UNKNOWN
    except OSError as error:  # a full disk, say; what was not written is not tried again at exit
        click.echo(f"po-exporter: the result cannot be written: {error.strerror or error}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = UNKNOWN
    sys.exit(status or OK)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="po-exporter")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="The YAML file, for any command.")
def cli(config_file: Path | None) -> None:  # noqa: ARG001  # read by the commands' own --config
    """Tells Prometheus, and the on-call, whether a trading system's orders and positions still agree.

    Exit status: 0 all is well, 1 findings, 2 usage or configuration, 3 it could not find out.
    """
    log.configure()


@cli.command()
@config_option
@click.option("--listen", metavar="HOST:PORT", help="Overrides server.listen.")
def run(config_file: Path | None, listen: str | None) -> None:
    """Poll, expose, until stopped; SIGHUP reloads the configuration."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    overrides = {"server.listen": listen} if listen else {}
    app = App(lambda: load(config_file, os.environ, overrides))
    asyncio.run(_until_stopped(app.run))


@cli.command()
@config_option
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:9843", show_default=True)
@click.option("--rate", type=Positive(max=1000), default=20.0, show_default=True,
              help="Order lives a second.")  # fmt: skip
@click.option("--duration", type=Positive(), help="Seconds; without it, until Ctrl-C.")
@click.option("--no-faults", is_flag=True, help="Break nothing.")
def demo(config_file: Path | None, listen: str, rate: float, duration: float | None, *, no_faults: bool) -> int:  # noqa: ARG001  # taken everywhere
    """An embedded Postgres, a simulated trading API that breaks and heals links, and the sidecar on top.

    It brings a configuration of its own; another one has no effect.
    """
    from po_exporter.demo import run_demo  # noqa: PLC0415  # the demo is an extra, and nobody else pays for it

    return asyncio.run(run_demo(listen, rate, duration, not no_faults))


@cli.command()
@config_option
@database_option
@format_option
@click.option("--hours-back", type=Positive(), help="The window; default: monitor.window.")
@click.option("--historical", is_flag=True, help="Everything is in the window.")
@click.option("--fail-on", type=click.Choice([*SEVERITY, "never"]), default="high", show_default=True,
              help="The least priority of a finding that makes the exit status 1.")  # fmt: skip
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
    wanted = [replace(watched(settings, name), polls=True) for name in _chosen(settings, database)]
    if historical and hours_back:
        raise UsageError("--hours-back and --historical contradict each other; give one of them.")
    if historical:
        wanted = [replace(each, terms=replace(each.terms, window=None)) for each in wanted]
    elif hours_back:
        window = timedelta(hours=min(hours_back, 24 * 365 * 1000))
        wanted = [replace(each, terms=replace(each.terms, window=window)) for each in wanted]
    with progress(f"asking {len(wanted[0].questions)} checks of {', '.join(each.name for each in wanted)}"):
        statuses = asyncio.run(_interruptible(_check_all(wanted)))
    if output == "json":
        click.echo(
            json.dumps({"databases": [status_json(status) for status in statuses]}, indent=2, ensure_ascii=False)
        )
    else:
        show_status(statuses)
    return _verdict_status(statuses, fail_on)


@cli.command()
@config_option
@database_option
@format_option
def doctor(config_file: Path | None, database: str | None, output: str) -> int:
    """Examine each database: is it ready to be watched, and what would help?"""
    from po_exporter.show import show_doctor  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    names = _chosen(settings, database)

    async def examine_all() -> list[Any]:
        return await asyncio.gather(*(examine(watched(settings, name)) for name in names))

    remarks = dict(zip(names, asyncio.run(_interruptible(examine_all())), strict=True))
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


@cli.command()
@config_option
@database_option
@format_option
@click.argument("position_id")
def trail(config_file: Path | None, database: str | None, output: str, position_id: str) -> int:
    """Show a position, its orders in fill order, and whether they agree."""
    from po_exporter.show import show_trail, trail_json  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    wanted = watched(settings, _only(settings, database))
    tolerance = settings.checks["quantity_mismatch"].tolerance or Decimal(0)
    reading = read_trail(wanted.target, wanted.terms.limits, wanted.mapping, position_id, tolerance)
    found = asyncio.run(_interruptible(reading))
    if output == "json":
        click.echo(json.dumps(trail_json(found), indent=2, ensure_ascii=False))
    else:
        show_trail(found)
    return OK if found.agrees else FINDINGS


@cli.command("install")
@config_option
@database_option
@format_option
@click.option("--dsn", envvar="PO_EXPORTER_INSTALL_DSN",
              help="Whose rights to use: an owner of both tables. Default: the reader's.")  # fmt: skip
@click.option("--print", "printing", is_flag=True, help="Change nothing; print the SQL for a DBA.")
@click.option("--uninstall", "removing", is_flag=True, help="Take back what install made.")
def install_command(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None, database: str | None, output: str, dsn: str | None, *, printing: bool, removing: bool
) -> int:
    """Make what the incremental mode's change feed needs in a database, or print the SQL of it."""
    from po_exporter.show import show_install  # noqa: PLC0415  # tables need rich, which the sidecar does without

    settings = load(config_file, os.environ)
    chosen = settings.databases[_only(settings, database)]
    target = Target(chosen.name, chosen.dsn, chosen.password)
    if dsn:
        try:
            _ = Dsn.parse(dsn).database
        except ValueError as error:
            raise UsageError(f"--dsn: {error}") from None
        target = Target(chosen.name, Secret(dsn))
    if printing:
        text = asyncio.run(_interruptible(printed(target, chosen.mapping, removing=removing)))
        click.echo(json.dumps({"database": chosen.name, "sql": text}, indent=2) if output == "json" else text)
        return OK
    work = uninstall(target, chosen.mapping) if removing else install(target, chosen.mapping)
    outcome = asyncio.run(_interruptible(work))
    if output == "json":
        click.echo(json.dumps({"database": chosen.name} | asdict(outcome), indent=2, ensure_ascii=False))
    else:
        show_install(chosen.name, outcome)
    return FINDINGS if outcome.status == "refused" else OK


@cli.group("config")
def config_group() -> None:
    """Check, show or begin a configuration."""


@config_group.command("check")
@config_option
def config_check(config_file: Path | None) -> None:
    """Say everything that is wrong with the configuration, at once."""
    settings = load(config_file, os.environ)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"The configuration is sound: {len(settings.databases)} database(s), {len(settings.check_files)} checks."
    )


@config_group.command("show")
@config_option
@format_option
def config_show(config_file: Path | None, output: str) -> None:
    """Print the merged configuration, secrets masked."""
    shown = config.masked(load(config_file, os.environ))
    click.echo(
        json.dumps(shown, indent=2) if output == "json" else yaml.safe_dump(shown, sort_keys=False), nl=output == "json"
    )


@config_group.command("example")
@config_option
def config_example(config_file: Path | None) -> None:  # noqa: ARG001  # taken everywhere
    """Print a commented configuration file; it is the same whatever yours says."""
    click.echo(config.example(), nl=False)


def _chosen(settings: Config, database: str | None) -> list[str]:
    if database is None:
        return list(settings.databases)
    if database not in settings.databases:
        raise UsageError(f"there is no database {database!r}; the configuration has {', '.join(settings.databases)}.")
    return [database]


def _only(settings: Config, database: str | None) -> str:
    names = _chosen(settings, database)
    if len(names) > 1:
        raise UsageError(f"there are several databases; name one with --database: {', '.join(names)}.")
    return names[0]


async def _check_all(wanted: list[Watched]) -> list[Status]:
    async def once(each: Watched) -> Status:
        monitor = Monitor(each)
        try:
            return await monitor.poll()
        finally:
            await monitor.close()

    return await asyncio.gather(*(once(each) for each in wanted))


def _verdict_status(statuses: list[Status], fail_on: str) -> int:
    """3 wins over 1: not knowing is never reported as a verdict."""
    if any(status.verdict == Verdict.UNKNOWN for status in statuses):
        return UNKNOWN
    grave = SEVERITY[: SEVERITY.index(fail_on) + 1] if fail_on != "never" else ()
    checks = [check for status in statuses if status.result for check in status.result.checks]
    return FINDINGS if any(check.count and check.priority in grave for check in checks) else OK


async def _until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Work with an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await work(stop)


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Work that SIGTERM cancels, as Ctrl-C does, so that nothing of it goes on running on a server."""
    task = asyncio.current_task()
    if task:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
