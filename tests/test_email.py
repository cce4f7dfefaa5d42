"""E-mail: what arrives at a real SMTP server, over which connection, and what of it can be trusted."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parts.certificates import Authority
from parts.machine import free_port
from parts.smtp import PASSWORD, USER, MailServer, running_smtp
from po_exporter.secret import Secret
from po_exporter.tell.channel import Undelivered
from po_exporter.tell.email import Email, Server, compose
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.summary import Number, Row
from po_exporter.tell.templates import Templates

TEMPLATES = Templates(None, ())
SENDER = "po-exporter@trading.example"
TO = {"high": ("oncall@trading.example", "risk@trading.example"), "medium": (), "low": ()}
ENDS = ("\n", "\r\n", "\r", "\x0b", "\x85", "\u2028")


def channel(server: MailServer, **more: Any) -> Email:
    wanted = {"host": "127.0.0.1", "port": server.port, "starttls": "off", **more}
    return Email(Server(**wanted), SENDER, TO, TEMPLATES)


async def test_it_arrives_as_text_and_html_from_whom_and_to_whom_it_should():
    async with running_smtp() as server:
        await channel(server).send(SAMPLES["opened"], None)
    (mail,) = server.delivered
    assert (mail.sender, mail.recipients) == (SENDER, list(TO["high"]))
    assert mail.message["To"] == ", ".join(TO["high"])
    assert mail.message["Subject"] == "[trading] CRITICAL: 12 unlinked_filled_order in trading"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    assert [part.get_content_type() for part in mail.message.iter_parts()] == ["text/plain", "text/html"]
    for kind in ("plain", "html"):
        body = mail.body(kind)
        for row in SAMPLES["opened"].rows:
            assert row.id in body
        for expected in ("Since 2026-01-27 02:00:00 UTC", "UNKNOWN", "and 9 more", SAMPLES["opened"].links.runbook,
                         "filled quantity 0.10000000", "production"):  # fmt: skip
            assert expected in body, kind


async def test_an_incident_is_one_thread():
    async with running_smtp() as server:
        for kind in ("opened", "changed", "closed"):
            await channel(server).send(SAMPLES[kind] if kind == "opened" else replace(SAMPLES[kind], id=kind), None)
    first, *others = [mail.message for mail in server.delivered]
    ids = {message["Message-ID"] for message in (first, *others)}
    assert len(ids) == 3
    assert "References" not in first
    assert [message["References"] for message in others] == [first["Message-ID"]] * 2
    assert [message["In-Reply-To"] for message in others] == [first["Message-ID"]] * 2


async def test_what_alertmanager_repeats_is_no_second_mail():
    firing = SAMPLES["alert"]
    resolved = replace(firing, alert=replace(firing.alert, resolved=True))
    async with running_smtp() as server:
        thread = None
        for each in (firing, firing, resolved):
            thread = await channel(server).send(each, thread)
    told = [mail.message["Subject"] for mail in server.delivered]
    assert told == [
        "[trading] CRITICAL: UnlinkedFilledOrdersHigh fires, 12 unlinked_filled_order in trading",
        "[trading] CRITICAL: UnlinkedFilledOrdersHigh is resolved, 12 unlinked_filled_order in trading",
    ]


def test_it_is_for_those_who_are_named_for_its_priority():
    wanted = Email(Server("h", 25, "off"), SENDER, TO, TEMPLATES)
    assert wanted.wants(SAMPLES["opened"])
    assert not wanted.wants(replace(SAMPLES["opened"], priority="low"))


async def test_starttls_is_required_unless_told_otherwise(tmp_path):
    authority = Authority(tmp_path, "ours")
    async with running_smtp(authority, authenticates=True) as server:
        login = {"username": USER, "password": Secret(PASSWORD), "ca_file": authority.cert_file}
        await channel(server, starttls="required", **login).send(SAMPLES["opened"], None)
        await channel(server, starttls="optional", **login).send(SAMPLES["closed"], None)
    assert [(mail.encrypted, mail.authenticated) for mail in server.delivered] == [(True, True)] * 2
    async with running_smtp() as server:
        with pytest.raises(Undelivered, match="STARTTLS") as raised:
            await channel(server, starttls="required").send(SAMPLES["opened"], None)
        assert raised.value.reason == "unreachable"
        assert server.delivered == []
        await channel(server, starttls="optional").send(SAMPLES["opened"], None)
    assert [mail.encrypted for mail in server.delivered] == [False]


async def test_on_its_own_port_tls_is_spoken_from_the_first_byte(tmp_path, monkeypatch):
    authority = Authority(tmp_path, "ours")
    async with running_smtp(authority, implicit=True) as server:
        monkeypatch.setattr("po_exporter.tell.email.IMPLICIT_TLS", server.port)
        await channel(server, starttls="required", ca_file=authority.cert_file).send(SAMPLES["opened"], None)
    assert len(server.delivered) == 1


async def test_a_server_that_nobody_vouches_for_gets_neither_mail_nor_password(tmp_path):
    async with running_smtp(Authority(tmp_path, "theirs"), authenticates=True) as server:
        mine = Authority(tmp_path, "mine").cert_file
        for ca_file in (mine, None):
            wanted = channel(server, starttls="required", ca_file=ca_file, username=USER, password=Secret(PASSWORD))
            with pytest.raises(Undelivered, match="certificate verify failed") as raised:
                await wanted.send(SAMPLES["opened"], None)
            assert raised.value.reason == "unreachable"
    assert server.delivered == []


async def test_a_wrong_password_is_said_and_not_repeated(tmp_path):
    authority = Authority(tmp_path, "ours")
    async with running_smtp(authority, authenticates=True) as server:
        wanted = channel(server, starttls="required", ca_file=authority.cert_file, username=USER,
                         password=Secret("not the password"))  # fmt: skip
        with pytest.raises(Undelivered, match="535") as raised:
            await wanted.send(SAMPLES["opened"], None)
    assert (raised.value.reason, raised.value.permanent) == ("rejected", True)
    assert "not the password" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "reason", "permanent"),
    [("452 4.2.2 mailbox full, come back later", "server_error", False),
     ("552 5.2.2 mailbox full", "rejected", True), ("421 going down", "server_error", False)],
)  # fmt: skip
async def test_what_the_server_answers_says_whether_to_try_again(answer, reason, permanent):
    async with running_smtp() as server:
        server.answer = answer
        with pytest.raises(Undelivered, match=answer[:3]) as raised:
            await channel(server).send(SAMPLES["opened"], None)
    assert (raised.value.reason, raised.value.permanent) == (reason, permanent)


async def test_one_recipient_that_is_refused_is_named_and_the_others_have_it_once():
    async with running_smtp() as server:
        server.refusing = {"risk@trading.example": "552 5.2.2 mailbox full"}
        with pytest.raises(Undelivered, match=r"refused risk@trading.example \(552\)") as raised:
            await channel(server).send(SAMPLES["opened"], None)
        assert raised.value.permanent, "sent again, the others would have it twice"
        assert [mail.recipients for mail in server.delivered] == [["oncall@trading.example"]]
        server.refusing = dict.fromkeys(TO["high"], "450 greylisted")
        with pytest.raises(Undelivered, match="450") as raised:
            await channel(server).send(SAMPLES["opened"], None)
        assert not raised.value.permanent
    async with running_smtp() as server:
        server.refusing = dict.fromkeys(TO["high"], "550 no such user")
        with pytest.raises(Undelivered, match="550") as raised:
            await channel(server).send(SAMPLES["opened"], None)
        assert raised.value.permanent


async def test_a_server_that_is_not_there_is_tried_again():
    nobody = MailServer(port=free_port())
    with pytest.raises(Undelivered, match="cannot be used") as raised:
        await channel(nobody).send(SAMPLES["opened"], None)
    assert (raised.value.reason, raised.value.permanent) == ("unreachable", False)


async def test_a_server_that_says_nothing_holds_it_up_for_a_while_only(monkeypatch):
    monkeypatch.setattr("po_exporter.tell.email.TIMEOUT", 0.2)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(Undelivered, match="in time") as raised:
        await channel(MailServer(port=port)).send(SAMPLES["opened"], None)
    assert (raised.value.reason, raised.value.permanent) == ("timeout", False)
    silent.close()


injected = st.builds("".join, st.lists(st.sampled_from([*ENDS, "Bcc: evil@example.com", "<script>", "&", '"', "a"])))


@given(st.text(max_size=300) | injected)
def test_a_value_adds_no_header_and_no_markup(value):
    summary = replace(
        SAMPLES["opened"], database=value, environment=value, check=value, title=value, error=value, replica=value,
        numbers=(Number(value, value, value),), rows=(Row(value, None, datetime.now(UTC), {value: value}),),
        still_wrong=(value,),
    )  # fmt: skip
    message = compose(TEMPLATES, summary, SENDER, TO["high"])
    names = [name for name, _ in message.items()]
    assert sorted(names) == sorted(
        ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Priority", "MIME-Version", "Content-Type"]
    )
    head = message.as_bytes().split(b"\n\n")[0].decode("ascii")
    assert not re.search(r"(?m)^Bcc:", head)
    page = message.get_body(("html",)).get_content()
    assert "<script>" not in page
    plain = compose(TEMPLATES, SAMPLES["opened"], SENDER, TO["high"]).get_body(("html",)).get_content()
    assert set(re.findall(r"<(/?\w+)", page)) <= set(re.findall(r"<(/?\w+)", plain)), "no element that is not ours"


@pytest.mark.parametrize("kind", SAMPLES)
async def test_it_reads_well_in_a_browser(kind, chromium, tmp_path):
    """Nothing is wider than a narrow window, and nothing is asked of anybody."""
    page = tmp_path / "mail.html"
    message = compose(TEMPLATES, SAMPLES[kind], SENDER, TO["high"])
    page.write_text(message.get_body(("html",)).get_content())
    tab = await chromium.new_page(viewport={"width": 380, "height": 800})
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    await tab.goto(Path(page).as_uri())
    assert asked == [page.as_uri()]
    assert await tab.evaluate("document.documentElement.scrollWidth") <= 380
    assert SAMPLES[kind].database in await tab.inner_text("h1")
