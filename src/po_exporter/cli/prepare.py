"""The commands that prepare what is around the sidecar: install, config, rules, dashboards."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path

import click
import yaml

from po_exporter import config, wiring
from po_exporter.cli.options import (
    FINDINGS,
    OK,
    config_option,
    database_option,
    format_option,
    interruptible,
    only,
    settings_or_defaults,
)
from po_exporter.database.session import Target
from po_exporter.dsn import Dsn
from po_exporter.errors import UsageError
from po_exporter.expose.dashboard import dashboard
from po_exporter.expose.rules import JOB, RUNBOOKS, alert_rules, rules_yaml
from po_exporter.install.installer import install, uninstall
from po_exporter.install.script import printed
from po_exporter.secret import Secret
from po_exporter.wiring import load


@click.command("install")
@config_option
@database_option
@format_option
@click.option("--dsn", envvar="PO_EXPORTER_INSTALL_DSN",
              help="Whose rights to use: an owner of both tables, with CREATEROLE. Default: the reader's.")  # fmt: skip
@click.option("--print", "printing", is_flag=True, help="Change nothing; print the SQL for a DBA.")
@click.option("--uninstall", "removing", is_flag=True, help="Take back what install made.")
@click.option("--drop-data", is_flag=True, help="With --uninstall: drop the records of what was changed, too.")
def install_command(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None,
    database: str | None,
    output: str,
    dsn: str | None,
    *,
    printing: bool,
    removing: bool,
    drop_data: bool,
) -> int:
    """Make what the sidecar keeps in a database, its roles, and what its change feed needs; or print the SQL of it."""
    from po_exporter.show import show_install  # noqa: PLC0415  # tables need rich, which the sidecar does without

    if drop_data and not removing:
        raise UsageError("--drop-data goes with --uninstall.")
    settings = load(config_file, os.environ)
    given = settings.databases[only(settings, database)]
    target, wanted = Target(given.name, given.dsn, given.password), wiring.to_install(settings, given.name)
    if dsn:
        try:
            _ = Dsn.parse(dsn).database
        except ValueError as error:
            raise UsageError(f"--dsn: {error}") from None
        target = Target(given.name, Secret(dsn))
    if printing:
        text = asyncio.run(interruptible(printed(target, wanted, removing=removing, drop_data=drop_data)))
        click.echo(json.dumps({"database": given.name, "sql": text}, indent=2) if output == "json" else text)
        return OK
    work = uninstall(target, wanted, drop_data=drop_data) if removing else install(target, wanted)
    outcome = asyncio.run(interruptible(work))
    if output == "json":
        click.echo(json.dumps({"database": given.name} | asdict(outcome), indent=2, ensure_ascii=False))
    else:
        show_install(given.name, outcome)
    return FINDINGS if outcome.status == "refused" else OK


@click.group("config")
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


runbooks_option = click.option(
    "--runbooks", default=RUNBOOKS, metavar="URL", help="Where the pages of docs/runbooks are; default: the project's."
)


@click.command("rules")
@config_option
@click.option("--job", default=JOB, show_default=True, help="The name of the scrape job.")
@runbooks_option
@format_option
def rules(config_file: Path | None, job: str, runbooks: str, output: str) -> None:
    """Print Prometheus' alert rules for the configuration: its thresholds, intervals and checks.

    Without a configuration, those of the defaults.
    """
    ruled = wiring.ruled(settings_or_defaults(config_file), job, runbooks.rstrip("/"))
    click.echo(json.dumps(alert_rules(ruled), indent=2) if output == "json" else rules_yaml(ruled), nl=output == "json")


@click.command("dashboards")
@config_option
@runbooks_option
@click.option("--format", "output", type=click.Choice(["json"]), default="json", help="Grafana's own.")
def dashboards(config_file: Path | None, runbooks: str, output: str) -> None:  # noqa: ARG001  # there is one format
    """Print the Grafana dashboard for the configuration: its thresholds.

    Without a configuration, that of the defaults.
    """
    ruled = wiring.ruled(settings_or_defaults(config_file), JOB, runbooks.rstrip("/"))
    click.echo(json.dumps(dashboard(ruled), indent=2, ensure_ascii=False))
