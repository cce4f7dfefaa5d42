"""How a Slack message looks, for who has none at hand: on a terminal, and as a page for a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A summary, as in Slack</title>
<style>
body {{ margin: 2rem; font: 15px/1.47 Lato, "Helvetica Neue", Arial, sans-serif; color: #1d1c1d; background: #fff }}
main {{ max-width: 44rem; border: 1px solid #ddd; border-radius: 8px; padding: 1rem 1.25rem }}
h1 {{ font-size: 18px; margin: 0 0 .75rem }}
.fields {{ display: grid; grid-template-columns: 1fr 1fr; gap: .25rem 1rem }}
.section, .fields, .actions {{ margin: .6rem 0; overflow-wrap: anywhere }}
.context {{ font-size: 12px; color: #616061; margin-top: .6rem }}
.actions a {{ display: inline-block; border: 1px solid #bbb; border-radius: 4px; padding: .3rem .75rem;
  margin-right: .5rem; color: inherit; text-decoration: none; font-weight: 700; font-size: 13px }}
code {{ font: 12px Menlo, Consolas, monospace; color: #c01343; background: #f7f7f8; border: 1px solid #ddd;
  border-radius: 3px; padding: 1px 3px }}
</style></head><body><main>
{body}
</main></body></html>
"""


def as_text(content: Mapping[str, Any]) -> str:
    """A message as plain text: what a reader sees, without colour and buttons."""
    lines: list[str] = []
    for block in content["blocks"]:
        if block["type"] == "actions":
            lines += [f"[{button['text']['text']}] {button['url']}" for button in block["elements"]]
        else:
            lines += _texts(block)
        lines.append("")
    return html.unescape("\n".join(lines)).rstrip()


def as_html(content: Mapping[str, Any]) -> str:
    """A message as a page of its own; it looks like Slack, but is not Slack's."""
    return PAGE.format(body="\n".join(_block(block) for block in content["blocks"]))


def _block(block: Mapping[str, Any]) -> str:
    match block["type"]:
        case "header":
            return f"<h1>{block['text']['text']}</h1>"
        case "actions":
            links = (
                f'<a href="{html.escape(button["url"])}">{html.escape(button["text"]["text"])}</a>'
                for button in block["elements"]
            )
            return f'<div class="actions">{"".join(links)}</div>'
        case kind:
            name = "fields" if "fields" in block else kind
            return f'<div class="{name}">{"".join(f"<div>{_mrkdwn(text)}</div>" for text in _texts(block))}</div>'


def _texts(block: Mapping[str, Any]) -> Iterator[str]:
    for text in [block["text"]] if "text" in block else block.get("fields") or block["elements"]:
        yield text["text"]


def _mrkdwn(text: str) -> str:
    """Its marks as HTML. What is between them is escaped already: Slack's three characters are HTML's, too."""
    text = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", text)
    text = re.sub(r"(?m)(^|\s)\*([^*\n]+)\*", r"\1<b>\2</b>", text)
    return text.replace("\n", "<br>\n")
