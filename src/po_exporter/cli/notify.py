"""The commands that show a summary, or send one as a test."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from po_exporter.cli.options import OK, UNKNOWN, config_option, format_option, interruptible, settings_or_defaults
from po_exporter.errors import UsageError
from po_exporter.tell.blocks import message
from po_exporter.tell.channel import Channel, Undelivered
from po_exporter.tell.looks import as_html, as_text
from po_exporter.tell.samples import SAMPLES, marked_as_test
from po_exporter.tell.summary import Links, Summary
from po_exporter.wiring import channels, links, load, replica, templates


@click.group("notify")
def notify_group() -> None:
    """Show a summary, or send one as a test."""


@notify_group.command("preview")
@config_option
@click.option("--format", "output", type=click.Choice(["text", "html", "json"]), default="text", show_default=True)
@click.option("--kind", type=click.Choice(list(SAMPLES)), default="opened", show_default=True, help="What is told.")
def notify_preview(config_file: Path | None, output: str, kind: str) -> int:
    """Show how a summary looks in Slack, with a made-up example and your templates."""
    found = templates(settings_or_defaults(config_file))
    for fault in found.faults:
        click.echo(f"po-exporter: {fault}; ours is used instead", err=True)
    content = message(found, SAMPLES[kind])
    forms: dict[str, Callable[[dict[str, Any]], str]] = {
        "text": as_text,
        "html": as_html,
        "json": partial(json.dumps, indent=2, ensure_ascii=False),
    }
    click.echo(forms[output](content))
    return UNKNOWN if found.faults else OK


@notify_group.command("test")
@config_option
@format_option
def notify_test(config_file: Path | None, output: str) -> int:
    """Send a summary that is marked as a test, by every channel that is configured."""
    settings = load(config_file, os.environ)
    found = channels(settings, templates(settings))
    if not found:
        raise UsageError("no channel is configured; set notify.slack or notify.webhook.")
    name, database = next(iter(settings.databases.items()))
    where = links(settings).get("unlinked_filled_order", Links())
    summary = marked_as_test(name, database.environment, replica(), datetime.now(UTC), where)
    failures = asyncio.run(interruptible(_send_all(found, summary)))
    if output == "json":
        click.echo(json.dumps({"channels": [{"channel": name, "error": error} for name, error in failures.items()]}))
    else:
        for channel, error in failures.items():
            click.echo(f"{channel}: {error or 'sent'}")
    return UNKNOWN if any(failures.values()) else OK


async def _send_all(found: tuple[Channel, ...], summary: Summary) -> dict[str, str | None]:
    outcomes: dict[str, str | None] = {}
    for channel in found:
        try:
            await channel.send(summary, None)
        except Undelivered as failure:
            outcomes[channel.name] = str(failure)
        else:
            outcomes[channel.name] = None
    return outcomes
