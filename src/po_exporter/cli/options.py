"""What several commands share: their options, and which database is meant."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from po_exporter.config import Config
from po_exporter.errors import UsageError
from po_exporter.wiring import load

T = TypeVar("T")

OK, FINDINGS, UNKNOWN = 0, 1, 3
"""Exit statuses; 2, usage or configuration, is an error's own."""


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


def chosen(settings: Config, database: str | None) -> list[str]:
    """The databases that are meant: the one that is named, or all. Raises UsageError."""
    if database is None:
        return list(settings.databases)
    if database not in settings.databases:
        raise UsageError(f"there is no database {database!r}; the configuration has {', '.join(settings.databases)}.")
    return [database]


def only(settings: Config, database: str | None) -> str:
    """The one database that is meant. Raises UsageError where that could be several."""
    names = chosen(settings, database)
    if len(names) > 1:
        raise UsageError(f"there are several databases; name one with --database: {', '.join(names)}.")
    return names[0]


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Work that SIGTERM cancels, as Ctrl-C does, so that nothing of it goes on running on a server."""
    task = asyncio.current_task()
    if task:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def settings_or_defaults(config_file: Path | None) -> Config:
    """The configuration; without one, the defaults."""
    named = config_file or "PO_EXPORTER_DSN" in os.environ or "PO_EXPORTER_DSN_FILE" in os.environ
    return load(config_file, os.environ if named else os.environ | {"PO_EXPORTER_DSN": "postgresql:///trading"})
