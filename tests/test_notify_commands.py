"""`notify preview` and `notify test`: to see a summary before there is one, and to know that it arrives."""

from __future__ import annotations

import json

import pytest

from parts.machine import free_port
from parts.slack import CHANNEL, TOKEN, fault
from parts.smtp import running_smtp
from po_exporter.tell.samples import SAMPLES
from sidecar import populate

DEAD = "postgresql://po_reader@127.0.0.1:1/gone"
ONE = {"databases": {"trading": {"dsn": "postgresql:///trading", "environment": "production"}}}


@pytest.mark.parametrize("kind", SAMPLES)
async def test_every_kind_can_be_previewed_without_a_configuration(cli, kind):
    shown = await cli("notify", "preview", "--kind", kind)
    assert (shown.status, shown.stderr) == (0, "")
    assert "trading" in shown.stdout.splitlines()[-1]
    content = (await cli("notify", "preview", "--kind", kind, "--format", "json")).json
    assert fault(content) is None
    mail = await cli("notify", "preview", "--channel", "email", "--kind", kind)
    assert mail.stdout.startswith("Subject: [trading] ")


@pytest.mark.parametrize("channel", ["slack", "email"])
async def test_a_preview_is_a_page_on_request(cli, chromium, channel, tmp_path):
    (tmp_path / "page.html").write_text(
        (await cli("notify", "preview", "--channel", channel, "--format", "html")).stdout
    )
    tab = await chromium.new_page()
    await tab.goto((tmp_path / "page.html").as_uri())
    shown = await tab.inner_text("body")
    for expected in ("CRITICAL: 12 unlinked_filled_order in trading", SAMPLES["opened"].rows[0].id, "and 9 more"):
        assert expected in shown


async def test_a_template_of_ones_own_is_previewed_and_its_fault_is_named(cli, tmp_path):
    template = tmp_path / "templates" / "slack.j2"
    template.parent.mkdir()
    config = {**ONE, "notify": {"templates": str(template.parent)}}
    template.write_text('{% extends "builtin/slack.j2" %}{% block header %}Mine: {{ summary.count }}{% endblock %}')
    assert (await cli("notify", "preview", config=config)).stdout.startswith("Mine: 12\n")
    template.write_text('{% extends "builtin/slack.j2" %}\n{% block header %}{{ summary.cuont }}{% endblock %}')
    shown = await cli("notify", "preview", config=config)
    assert shown.status == 3
    assert shown.stderr.startswith(f"po-exporter: {template}:2: ")
    assert "cuont" in shown.stderr
    assert shown.stdout.startswith("CRITICAL: 12 unlinked_filled_order in trading\n")


async def test_what_is_wrong_now_is_previewed(cli, database):
    await populate(database)
    config = {"databases": {"trading": {"dsn": database.reader_dsn}}, "monitor": {"grace": "0s"}}
    shown = await cli("notify", "preview", "--live", config=config)
    assert (shown.status, shown.stderr) == (0, "")
    for expected in (
        "CRITICAL: 1 orphaned_position_reference in trading",
        "00000000-0000-0000-0000-0000000000b3",
        "DEGRADED: 1 position_without_orders in trading",
        "DEGRADED: link rate 33.33 % in trading",
    ):
        assert expected in shown.stdout
    assert "unlinked_filled_order in trading" not in shown.stdout, "the guide's threshold is 10"
    contents = (await cli("notify", "preview", "--live", "--format", "json", config=config)).json
    assert [fault(content) for content in contents] == [None] * len(contents)
    await database.execute("DELETE FROM orders; DELETE FROM positions")
    shown = await cli("notify", "preview", "--live", config=config)
    assert (shown.status, shown.stdout.strip()) == (0, "")
    assert shown.stderr == "po-exporter: nothing is past its threshold in trading: nothing is told.\n"


async def test_a_database_that_cannot_be_read_is_previewed_as_unknown(cli):
    shown = await cli("notify", "preview", "--live", config={"databases": {"trading": {"dsn": DEAD}}})
    assert shown.status == 3
    assert shown.stdout.startswith("UNKNOWN: nothing is known, the database cannot be read, in trading\n")


async def test_a_test_arrives_and_says_that_it_is_one(cli, slack):
    config = {**ONE, "notify": {"slack": {"token": TOKEN, "channel": CHANNEL, "api_url": slack.api_url}}}
    sent = await cli("notify", "test", config=config)
    assert (sent.status, sent.stdout) == (0, "slack: sent\n")
    (message,) = slack.messages
    assert "A test: " in message.shown
    assert "This is a test: nothing of it is true, and nothing has to be done." in message.shown


async def test_a_test_that_does_not_arrive_says_why(cli, slack):
    wanted = {"slack": {"token": "xoxb-revoked", "channel": CHANNEL, "api_url": slack.api_url},
              "webhook": {"url": f"http://127.0.0.1:{free_port()}/hook"}}  # fmt: skip
    sent = await cli("notify", "test", config={**ONE, "notify": wanted})
    assert sent.status == 3
    first, second = sent.stdout.splitlines()
    assert first == "slack: Slack refused the message: invalid_auth"
    assert second.startswith("webhook: the webhook cannot be reached")
    as_json = await cli("notify", "test", "--format", "json", config={**ONE, "notify": wanted})
    assert [each["channel"] for each in json.loads(as_json.stdout)["channels"]] == ["slack", "webhook"]
    assert "xoxb" not in sent.stdout + sent.stderr


async def test_a_test_goes_by_mail_to_whoever_is_named(cli):
    async with running_smtp() as server:
        email = {"host": "127.0.0.1", "port": server.port, "starttls": "off", "from": "po@trading.example"}
        config = {**ONE, "notify": {"email": {**email, "to": {"low": ["desk@trading.example"]}}}}
        sent = await cli("notify", "test", config=config)
        assert (sent.status, sent.stdout) == (0, "email: sent\n")
        assert server.delivered[0].recipients == ["desk@trading.example"]
        assert "A test: " in server.delivered[0].message["Subject"]
        sent = await cli("notify", "test", config={**ONE, "notify": {"email": email}})
        assert (sent.status, sent.stdout) == (3, "email: it has nobody to send it to\n")


async def test_without_a_channel_there_is_nothing_to_test(cli):
    sent = await cli("notify", "test", config=ONE)
    assert (sent.status, sent.stderr) == (
        2,
        "po-exporter: no channel is configured; set notify.slack, notify.email or notify.webhook.\n",
    )
