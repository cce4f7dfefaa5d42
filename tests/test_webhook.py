"""The webhook: JSON that says everything, signed as the Standard Webhooks specification has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from parts.machine import free_port
from po_exporter.secret import Secret
from po_exporter.tell.channel import Undelivered
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.webhook import Webhook


class Receiver:
    """What was posted, and how the next posts are answered."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.answer = web.Response
        self.url = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.posts.append((dict(request.headers), await request.read()))
        return self.answer()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiving = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiving.take)
    async with TestServer(app) as server:
        receiving.url = str(server.make_url("/hook"))
        yield receiving


@pytest.mark.parametrize("kind", SAMPLES)
async def test_it_says_everything_and_exactly(receiver, kind):
    sample = SAMPLES[kind]
    await Webhook(Secret(receiver.url), None).send(sample, None)
    ((headers, body),) = receiver.posts
    assert headers["Content-Type"] == "application/json"
    assert headers["webhook-id"] == sample.id
    assert "webhook-signature" not in headers
    told = json.loads(body)
    assert told == sample.json()
    assert (told["kind"], told["incident"], told["began"]) == (sample.kind, sample.incident, sample.began.isoformat())
    assert [row["id"] for row in told["rows"]] == [row.id for row in sample.rows]
    assert all(row["details"]["filled_quantity"].endswith("0000000") for row in told["rows"])


@pytest.mark.parametrize(
    ("secret", "key"),
    [("a plain secret", b"a plain secret"), ("whsec_" + base64.b64encode(b"key").decode(), b"key"),
     ("whsecret", b"whsecret")],
)  # fmt: skip
async def test_its_signature_can_be_checked(receiver, secret, key):
    await Webhook(Secret(receiver.url), Secret(secret)).send(SAMPLES["opened"], None)
    ((headers, body),) = receiver.posts
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_\u00e4"])
async def test_a_secret_that_only_looks_like_a_key_signs_nothing(receiver, secret):
    with pytest.raises(Undelivered, match="is no base64"):
        await Webhook(Secret(receiver.url), Secret(secret)).send(SAMPLES["opened"], None)
    assert receiver.posts == []


@pytest.mark.parametrize(
    ("status", "reason", "permanent"),
    [(400, "rejected", True), (404, "rejected", True), (302, "rejected", True), (429, "rate_limited", False),
     (500, "server_error", False), (503, "server_error", False)],
)  # fmt: skip
async def test_what_it_answers_says_whether_to_try_again(receiver, status, reason, permanent):
    receiver.answer = lambda: web.Response(status=status, headers={"Retry-After": "7", "Location": "/elsewhere"})
    with pytest.raises(Undelivered, match=str(status)) as raised:
        await Webhook(Secret(receiver.url), None).send(SAMPLES["opened"], None)
    assert (raised.value.reason, raised.value.permanent) == (reason, permanent)
    assert raised.value.retry_after == (None if permanent else 7.0)
    assert len(receiver.posts) == 1, "it follows nobody elsewhere"


async def test_one_that_nobody_listens_at_is_tried_again_and_its_address_is_not_told():
    url = f"http://127.0.0.1:{free_port()}/secret-path"
    with pytest.raises(Undelivered, match="cannot be reached") as raised:
        await Webhook(Secret(url), None).send(SAMPLES["opened"], None)
    assert (raised.value.reason, raised.value.permanent) == ("unreachable", False)
    assert "secret-path" not in str(raised.value)
