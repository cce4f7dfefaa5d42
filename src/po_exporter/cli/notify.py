"""The commands that show a summary, or send one as a test."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from po_exporter.cli.options import (
    OK,
    UNKNOWN,
    config_option,
    database_option,
    format_option,
    interruptible,
    only,
    settings_or_defaults,
)
from po_exporter.errors import UsageError
from po_exporter.model import Verdict
from po_exporter.repair.reconcile import once
from po_exporter.tell.blocks import message
from po_exporter.tell.channel import Channel, Undelivered, deliver
from po_exporter.tell.looks import as_html, as_text
from po_exporter.tell.samples import SAMPLES, marked_as_test
from po_exporter.tell.summary import Summary
from po_exporter.tell.teller import at_once
from po_exporter.tell.templates import Templates
from po_exporter.wiring import channels, load, replica, telling_terms, templates, watched

Forms = Mapping[str, Callable[[], str]]
"""By the name of a form, what writes it."""


@click.group("notify")
def notify_group() -> None:
    """Show a summary, or send one as a test."""


@notify_group.command("preview")
@config_option
@click.option("--format", "output", type=click.Choice(["text", "html", "json"]), default="text", show_default=True)
@click.option("--channel", type=click.Choice(["slack", "email"]), default="slack", show_default=True)
@click.option("--kind", type=click.Choice(list(SAMPLES)), default="opened", show_default=True,
              help="Of the made-up examples, which.")  # fmt: skip
@click.option("--live", is_flag=True, help="Ask the database, and show what would be told of what is wrong there now.")
@database_option
def notify_preview(  # noqa: PLR0913  # click hands every option over
    config_file: Path | None, output: str, channel: str, kind: str, database: str | None, *, live: bool
) -> int:
    """Show how a summary looks in your templates: a made-up example, or what there is to tell now."""
    settings = load(config_file, os.environ) if live else settings_or_defaults(config_file)
    found = templates(settings)
    for fault in found.faults:
        click.echo(f"po-exporter: {fault}; ours is used instead", err=True)
    status = UNKNOWN if found.faults else OK
    told = [SAMPLES[kind]]
    if live:
        wanted = replace(watched(settings, only(settings, database)), polls=True)
        known = asyncio.run(interruptible(once(wanted)))
        told = at_once(known, telling_terms(settings))
        status = UNKNOWN if known.verdict == Verdict.UNKNOWN else status
        if not told:
            click.echo(f"po-exporter: nothing is past its threshold in {wanted.name}: nothing is told.", err=True)
    shown = [(_slack if channel == "slack" else _email)(found, summary)[output]() for summary in told]
    click.echo(f"[{', '.join(shown)}]" if live and output == "json" else "\n\n".join(shown))
    return status


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
    where = telling_terms(settings).where("unlinked_filled_order", name)
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
