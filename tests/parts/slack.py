"""Slack's far end: its Web API and incoming webhooks as documented, with the limits that it enforces.

Limits: https://docs.slack.dev/reference/block-kit. Errors: https://docs.slack.dev/reference/methods/chat.postMessage.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN, CHANNEL, CHANNEL_ID = "xoxb-of-the-tests", "#trading-ops", "C0TRADING"
HOOK = "/services/T0/B0/of-the-tests"
MENTION = re.compile(r"<[!@#][^>]*>|<[^>|\s]+\|?[^>]*>")
"""What Slack turns into a mention or a link: anything between angle brackets that are not escaped."""


@dataclass
class Message:
    """One message in the channel, as it is now."""

    ts: str
    thread_ts: str | None
    content: dict[str, Any]
    edits: int = 0

    @property
    def shown(self) -> str:
        """Everything that a reader sees of it."""
        return html.unescape("\n".join(texts(self.content)))


@dataclass
class Slack:
    """What has been posted, and how the next requests are to be answered: ``failures`` holds (status, error, more
    headers), one for each of the next requests."""

    url: str = ""
    messages: list[Message] = field(default_factory=list)
    failures: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    requests: int = 0
    too_early: int = 0
    """Requests that came before the time that a Retry-After had named."""
    rests_until: float = 0.0
    down: bool = False
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, messages arrive and nobody is told so."""

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    @property
    def webhook_url(self) -> str:
        return f"{self.url}{HOOK}"

    @property
    def parents(self) -> list[Message]:
        """The messages of the channel itself."""
        return [message for message in self.messages if message.thread_ts is None]

    def thread(self, parent: Message) -> list[Message]:
        """The replies to a message."""
        return [message for message in self.messages if message.thread_ts == parent.ts]

    @property
    def mentions(self) -> list[str]:
        """Whoever or whatever was mentioned or linked in any text."""
        return [each for message in self.messages for text in texts(message.content) for each in MENTION.findall(text)]


def texts(content: dict[str, Any]) -> list[str]:
    """Every text of a message, as it was sent."""
    found = []
    for block in content.get("blocks", []):
        parts = [block.get("text"), *block.get("fields", []), *block.get("elements", [])]
        said = [part["text"] for part in parts if part]
        found += [text if isinstance(text, str) else text["text"] for text in said]
    return [*found, content.get("text", "")]


def fault(content: dict[str, Any]) -> str | None:
    """What Slack would have against a message; None where it would take it."""
    if not content.get("text") and not content.get("blocks"):
        return "no_text"
    if len(content.get("text", "")) > 40_000:
        return "msg_too_long"
    blocks = content.get("blocks", [])
    if len(blocks) > 50:
        return "invalid_blocks: more than 50"
    return next((f"invalid_blocks: {why}" for block in blocks if (why := _fault(block))), None)


def _fault(block: dict[str, Any]) -> str | None:  # noqa: PLR0911 - an answer for each kind of block
    match block["type"]:
        case "header":
            return _text_fault(block["text"], 150, plain=True)
        case "section":
            fields = block.get("fields")
            if fields is None:
                return _text_fault(block["text"], 3000)
            if not 1 <= len(fields) <= 10:
                return f"{len(fields)} fields"
            return next((why for each in fields if (why := _text_fault(each, 2000))), None)
        case "context":
            if not 1 <= len(block["elements"]) <= 10:
                return f"{len(block['elements'])} elements"
            return next((why for each in block["elements"] if (why := _text_fault(each, 3000))), None)
        case "actions":
            if not 1 <= len(block["elements"]) <= 25:
                return f"{len(block['elements'])} elements"
            if len({each["action_id"] for each in block["elements"]}) < len(block["elements"]):
                return "an action_id twice"
            return next((why for each in block["elements"] if (why := _button_fault(each))), None)
        case other:
            return f"unknown type {other}"


def _button_fault(button: dict[str, Any]) -> str | None:
    if len(button["url"]) > 3000 or not re.match(r"https?://", button["url"]):
        return "url"
    return _text_fault(button["text"], 75, plain=True)


def _text_fault(text: dict[str, Any], most: int, *, plain: bool = False) -> str | None:
    if text["type"] != ("plain_text" if plain else "mrkdwn"):
        return f"a text of type {text['type']}"
    if not 1 <= len(text["text"]) <= most:
        return f"{len(text['text'])} characters"
    return None


@asynccontextmanager
async def running_slack() -> AsyncIterator[Slack]:
    """Slack on the loopback address."""
    slack = Slack()
    slack.answers.set()

    async def call(request: web.Request) -> web.Response:  # noqa: PLR0911 - one for each thing it refuses
        failure = _begin(request, slack)
        if failure:
            status, error, headers = failure
            if error.startswith("<"):
                return web.Response(status=status, text=error, content_type="text/html", headers=headers)
            return web.json_response({"ok": False, "error": error}, status=status, headers=headers)
        method, content = request.match_info["method"], await request.json()
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _refuse(slack, "invalid_auth")
        known = (CHANNEL_ID,) if method == "chat.update" else (CHANNEL, CHANNEL_ID)
        if content.get("channel") not in known:
            return _refuse(slack, "channel_not_found")
        if why := fault(content):
            return _refuse(slack, why)
        if method == "chat.update":
            message = next((message for message in slack.messages if message.ts == content["ts"]), None)
            if message is None:
                return _refuse(slack, "message_not_found")
            message.content, message.edits = content, message.edits + 1
        else:
            message = Message(f"1700000000.{len(slack.messages):06}", content.get("thread_ts"), content)
            slack.messages.append(message)
        await slack.answers.wait()
        return web.json_response({"ok": True, "channel": CHANNEL_ID, "ts": message.ts})

    async def hook(request: web.Request) -> web.Response:
        failure = _begin(request, slack)
        if failure:
            return web.Response(status=failure[0], text=failure[1], headers=failure[2])
        content = await request.json()
        if request.path != HOOK:
            return web.Response(status=404, text="no_service")
        if why := fault(content):
            slack.refused.append(why)
            return web.Response(status=400, text="invalid_blocks")
        slack.messages.append(Message(f"1700000000.{len(slack.messages):06}", None, content))
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/api/{method}", call)
    app.router.add_post("/services/{where:.*}", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    slack.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield slack
    finally:
        await runner.cleanup()


def _begin(request: web.Request, slack: Slack) -> tuple[int, str, dict[str, str]] | None:
    slack.requests += 1
    slack.too_early += time.monotonic() < slack.rests_until
    if slack.down and request.transport:
        request.transport.abort()
        return 503, "down", {}
    failure = slack.failures.pop(0) if slack.failures else None
    if failure and "Retry-After" in failure[2]:
        slack.rests_until = time.monotonic() + float(failure[2]["Retry-After"])
    return failure


def _refuse(slack: Slack, error: str) -> web.Response:
    slack.refused.append(error)
    return web.json_response({"ok": False, "error": error.split(":", maxsplit=1)[0]})
