"""The summary as JSON, posted to a program and signed as the Standard Webhooks specification has it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import aiohttp

from po_exporter import __version__
from po_exporter.secret import Secret
from po_exporter.tell.channel import Undelivered, refused, reveal
from po_exporter.tell.summary import Summary

TIMEOUT = 10.0
"""Seconds for the whole exchange."""
PREFIX = "whsec_"
"""Before a secret that is base64, as the specification writes them; any other is taken as it stands."""


class Webhook:
    """Both secrets are read anew for each send, so that the files they come from can change."""

    name = "webhook"
    pace = 0.0

    def __init__(self, url: Secret, secret: Secret | None) -> None:
        self._url, self._secret = url, secret

    def wants(self, summary: Summary) -> bool:  # noqa: ARG002 - a channel's; it takes everything
        """Everything."""
        return True

    async def send(self, summary: Summary, thread: object) -> object:
        """Post it. Raises Undelivered."""
        body = json.dumps(summary.json(), ensure_ascii=False).encode()
        headers = {"content-type": "application/json", "user-agent": f"po-exporter/{__version__}"}
        headers |= signed(summary.id, round(time.time()), body, reveal(self._secret) if self._secret else None)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(reveal(self._url), data=body, headers=headers, allow_redirects=False) as response,
            ):
                if not 200 <= response.status < 300:
                    message = f"the webhook answered {response.status}"
                    raise refused(response.status, message, response.headers.get("retry-after"))
        except TimeoutError:
            raise Undelivered(f"the webhook did not answer within {TIMEOUT:g} s", "timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Undelivered(f"the webhook cannot be reached: {type(error).__name__}", "unreachable") from None
        return thread


def signed(message_id: str, timestamp: int, body: bytes, secret: str | None) -> dict[str, str]:
    """The headers that say which message this is, and, with a secret, that it is ours."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if secret:
        digest = hmac.new(_key(secret), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key(secret: str) -> bytes:
    if secret.startswith(PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except ValueError:
            key = b""
        if not key:
            raise Undelivered(
                f"the webhook's secret begins with {PREFIX}, but is no base64", "rejected", permanent=True
            )
        return key
    return secret.encode()
