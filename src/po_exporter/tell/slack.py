"""Slack, by a bot or by an incoming webhook.

Errors: https://docs.slack.dev/reference/methods/chat.postMessage. Rates: https://docs.slack.dev/apis/web-api/rate-limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse
from slack_sdk.webhook.async_client import AsyncWebhookClient

from po_exporter.secret import Secret
from po_exporter.tell.blocks import message
from po_exporter.tell.channel import Undelivered, refused, reveal
from po_exporter.tell.summary import Summary
from po_exporter.tell.templates import Templates

TIMEOUT = 10
"""Seconds for one exchange."""
PACE = 1.0
"""Seconds between two messages: Slack takes one a second in a channel."""
PASSING = frozenset({"ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"})
"""Errors by which Slack says that it is worth another try."""
GONE = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found",
                  "channel_not_found", "is_archived", "not_in_channel"})  # fmt: skip
"""Errors by which it says that the message to be edited is not there, or not where we post now."""


class Bot:
    """One message an incident, edited in place, with what changed as replies in its thread."""

    name = "slack"
    pace = PACE

    def __init__(self, token: Secret, channel: str, templates: Templates, api_url: str) -> None:
        self._token, self._channel, self._templates, self._api_url = token, channel, templates, api_url

    def wants(self, summary: Summary) -> bool:  # noqa: ARG002 - a channel's; it takes everything
        """Everything."""
        return True

    async def send(self, summary: Summary, thread: object) -> object:
        """Post, or edit and reply. ``thread`` is (channel id, ts, since when). Raises Undelivered."""
        content, began = message(self._templates, summary), summary.began.isoformat()
        # A list, where it was kept as JSON. An alert that fires anew is another one, and pings.
        if isinstance(thread, list | tuple) and not (summary.repeats and thread[2] != began):
            channel, ts, _ = thread
            try:
                await self._call("chat.update", channel=channel, ts=ts, **content)
                if not summary.repeats:
                    await self._call("chat.postMessage", channel=channel, thread_ts=ts, **content)
            except SlackApiError as error:
                if _said(error) not in GONE:
                    raise _undelivered(error) from None
            else:
                return thread
        try:
            posted = await self._call("chat.postMessage", channel=self._channel, **content)
        except SlackApiError as error:
            raise _undelivered(error) from None
        return posted["channel"], posted["ts"], began

    async def _call(self, method: str, **body: Any) -> Mapping[str, Any]:
        """One call. Raises SlackApiError where Slack refuses it, Undelivered where it cannot be had at all."""
        client = AsyncWebClient(reveal(self._token), base_url=self._api_url, timeout=TIMEOUT, retry_handlers=[])
        try:
            answer = await client.api_call(method, json={**body, "unfurl_links": False, "unfurl_media": False})
        except TimeoutError:
            raise Undelivered(f"Slack did not answer within {TIMEOUT} s", "timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Undelivered(f"Slack cannot be reached: {type(error).__name__}", "unreachable") from None
        return {"channel": answer.get("channel"), "ts": answer.get("ts")}


class IncomingWebhook:
    """A message for each opening and each closing; it can edit none."""

    name = "slack"
    pace = PACE

    def __init__(self, url: Secret, templates: Templates) -> None:
        self._url, self._templates = url, templates

    def wants(self, summary: Summary) -> bool:
        """What changes between opening and closing would only be noise, where no thread can take it."""
        return summary.kind != "changed"

    async def send(self, summary: Summary, thread: object) -> object:
        """Post it; not what Alertmanager repeats. Raises Undelivered."""
        if summary.repeats and thread == summary.began.isoformat():
            return thread
        client = AsyncWebhookClient(reveal(self._url), timeout=TIMEOUT, retry_handlers=[])
        try:
            answer = await client.send_dict(message(self._templates, summary))
        except TimeoutError:
            raise Undelivered(f"Slack did not answer within {TIMEOUT} s", "timeout") from None
        except (aiohttp.ClientError, OSError, SlackClientError) as error:
            raise Undelivered(f"Slack cannot be reached: {type(error).__name__}", "unreachable") from None
        if answer.status_code != 200:
            said = f"Slack's webhook answered {answer.status_code} {_word(answer.body)}".rstrip()
            raise refused(answer.status_code, said, _header(answer.headers, "retry-after"))
        return summary.began.isoformat()


def _undelivered(error: SlackApiError) -> Undelivered:
    response = error.response
    # What is no JSON, such as the page of a proxy, comes as aiohttp's own response.
    status = response.status_code if isinstance(response, AsyncSlackResponse) else response.status
    said = _said(error) or f"status {status}"
    message = f"Slack refused the message: {said}"
    if status == 200 and _said(error) and said not in PASSING:
        return Undelivered(message, "rejected", permanent=True)
    status = 429 if said == "ratelimited" else 503 if status == 200 else status
    return refused(status, message, _header(response.headers, "retry-after"))


def _said(error: SlackApiError) -> str:
    """Slack's own word for what is wrong; empty where it said none."""
    return _word(error.response.get("error")) if isinstance(error.response, AsyncSlackResponse) else ""


def _header(headers: Mapping[str, Any], name: str) -> str | None:
    return next((str(value) for key, value in headers.items() if key.lower() == name), None)


def _word(text: object) -> str:
    """What a server says of itself, short and in one line."""
    return "".join(each for each in str(text or "")[:80] if each.isprintable())
