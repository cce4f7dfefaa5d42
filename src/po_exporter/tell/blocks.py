"""A summary as a Slack message, within Slack's limits by construction.

Limits: https://docs.slack.dev/reference/block-kit/blocks. Escaping: https://docs.slack.dev/messaging/formatting-message-text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from po_exporter.tell.summary import Summary
from po_exporter.tell.templates import Templates
from po_exporter.tell.words import headline, printable

Block = dict[str, Any]

TEMPLATE = "slack.j2"
BACKTICK = "\N{MODIFIER LETTER GRAVE ACCENT}"
"""In place of a backtick, which would end the code that an id is set in."""
MOST_HEADER, MOST_SECTION, MOST_FIELDS, MOST_FIELD, MOST_URL, MOST_TEXT = 150, 3000, 10, 2000, 3000, 3000


def escape(text: str) -> str:
    """A value as Slack shows it, in one line, and as nothing else: neither a mention nor a link."""
    shown = printable(text).replace("`", BACKTICK)
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def message(templates: Templates, summary: Summary) -> dict[str, Any]:
    """A message's blocks, and the text for where there are none: a notification on a phone."""
    parts = templates.render(TEMPLATE, summary, escape)
    fields = [fit([line], MOST_FIELD) for line in parts["fields"].splitlines() if line.strip()][:MOST_FIELDS]
    rows = fit(parts["rows"].splitlines(), MOST_SECTION, more=summary.more)
    header = fit([" ".join(parts["header"].split()) or escape(headline(summary))], MOST_HEADER)
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": header, "emoji": False}},
        *([{"type": "section", "fields": [_text(field) for field in fields]}] if fields else []),
        *_section(fit(parts["body"].splitlines(), MOST_SECTION)),
        *_section(rows),
        *_buttons(summary),
    ]
    footer = fit(parts["footer"].splitlines(), MOST_FIELD)
    if footer.strip():
        blocks.append({"type": "context", "elements": [_text(footer)]})
    return {"text": fit([header, *parts["body"].splitlines()], MOST_TEXT), "blocks": blocks}


def fit(lines: Sequence[str], most: int, more: int = 0) -> str:
    """As many whole lines as there is room for, and how many more there are. One line alone is cut, but in no escaped
    character."""
    for kept in range(len(lines), 0, -1):
        left = len(lines) - kept + more
        text = "\n".join([*lines[:kept], *([f"… and {left:,} more"] if left else [])])
        if len(text) <= most:
            return text
    if not lines:
        return ""
    left = len(lines) - 1 + more
    end = f"…\n… and {left:,} more" if left else "…"
    cut = lines[0][: most - len(end)]
    open_at = cut.rfind("&")
    if open_at >= 0 and ";" not in cut[open_at:]:
        cut = cut[:open_at]
    return cut + end


def _text(text: str) -> Block:
    # Verbatim: what looks like a link or the name of a channel stays the text that it is.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _section(text: str) -> list[Block]:
    return [{"type": "section", "text": _text(text)}] if text.strip() else []


def _buttons(summary: Summary) -> list[Block]:
    links = summary.links
    wanted = {"Runbook": links.runbook, "What is wrong now": links.page, "Dashboard": links.dashboard}
    buttons = [
        {"type": "button", "text": {"type": "plain_text", "text": label}, "url": url, "action_id": f"open_{number}"}
        for number, (label, url) in enumerate(wanted.items())
        if url and len(url) <= MOST_URL
    ]
    return [{"type": "actions", "elements": buttons}] if buttons else []
