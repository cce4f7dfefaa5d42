"""The commands: arguments in, exit status out. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import NoReturn

import click
import structlog

from po_exporter import __version__, log
from po_exporter.cli.ask import check, doctor, trail
from po_exporter.cli.fix import fix_group, reconcile_command
from po_exporter.cli.notify import notify_group
from po_exporter.cli.options import OK, UNKNOWN
from po_exporter.cli.prepare import config_group, dashboards, install_command, rules
from po_exporter.cli.serve import demo, run
from po_exporter.errors import ConfigError, PoExporterError


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


for command in (
    run,
    demo,
    check,
    doctor,
    trail,
    fix_group,
    reconcile_command,
    install_command,
    notify_group,
    config_group,
    rules,
    dashboards,
):
    cli.add_command(command)
