"""The commands that show a summary, or send one as a test."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from po_exporter.cli.options import OK, UNKNOWN, config_option, format_option, interruptible, settings_or_defaults
from po_exporter.errors import UsageError
from po_exporter.tell.blocks import message
from po_exporter.tell.channel import Channel, Undelivered, deliver
from po_exporter.tell.looks import as_html, as_text
from po_exporter.tell.samples import SAMPLES, marked_as_test
from po_exporter.tell.summary import Links, Summary
from po_exporter.tell.templates import Templates
from po_exporter.wiring import channels, links, load, replica, templates

Forms = Mapping[str, Callable[[], str]]
"""By the name of a form, what writes it."""


@click.group("notify")
def notify_group() -> None:
    """Show a summary, or send one as a test."""


@notify_group.command("preview")
@config_option
@click.option("--format", "output", type=click.Choice(["text", "html", "json"]), default="text", show_default=True)
@click.option("--channel", type=click.Choice(["slack", "email"]), default="slack", show_default=True)
@click.option("--kind", type=click.Choice(list(SAMPLES)), default="opened", show_default=True, help="What is told.")
def notify_preview(config_file: Path | None, output: str, channel: str, kind: str) -> int:
    """Show how a summary looks, with a made-up example and your templates."""
    found = templates(settings_or_defaults(config_file))
    for fault in found.faults:
        click.echo(f"po-exporter: {fault}; ours is used instead", err=True)
    forms = _slack(found, SAMPLES[kind]) if channel == "slack" else _email(found, SAMPLES[kind])
    click.echo(forms[output]())
    return UNKNOWN if found.faults else OK


@notify_group.command("test")
@config_option
@format_option
def notify_test(config_file: Path | None, output: str) -> int:
    """Send a summary that is marked as a test, by every channel that is configured."""
    settings = load(config_file, os.environ)
    found = channels(settings, templates(settings))
    for warning in settings.warnings:
        if "notify" in warning:
            click.echo(f"warning: {warning}", err=True)
    if not found:
        raise UsageError("no channel is configured; set notify.slack, notify.email or notify.webhook.")
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


def _slack(found: Templates, summary: Summary) -> Forms:
    content = message(found, summary)
    return {"text": partial(as_text, content), "html": partial(as_html, content), "json": partial(_json, content)}


def _email(found: Templates, summary: Summary) -> Forms:
    from po_exporter.tell.email import compose  # noqa: PLC0415  # the sidecar does without, unless it sends mail

    mail = compose(found, summary, "po-exporter@example.com", ["oncall@example.com"])
    parts = {"subject": str(mail["Subject"])}
    for name, kind in (("text", "plain"), ("html", "html")):
        body = mail.get_body((kind,))
        parts[name] = str(body.get_content()).rstrip() if body else ""
    text = f"Subject: {parts['subject']}\n\n{parts['text']}"
    return {"text": lambda: text, "html": lambda: parts["html"], "json": partial(_json, parts)}


def _json(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


async def _send_all(found: tuple[Channel, ...], summary: Summary) -> dict[str, str | None]:
    outcomes: dict[str, str | None] = {}
    for channel in found:
        if not channel.wants(summary):
            outcomes[channel.name] = "it has nobody to send it to"
            continue
        try:
            await deliver(channel, summary, None)
        except Undelivered as failure:
            outcomes[channel.name] = str(failure)
        else:
            outcomes[channel.name] = None
    return outcomes
