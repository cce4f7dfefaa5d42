"""Slack: what arrives there, within its limits, whatever is in the database and however it answers."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parts.slack import CHANNEL, TOKEN, Slack, fault
from parts.waiting import until
from po_exporter.secret import Secret
from po_exporter.tell import outbox
from po_exporter.tell.blocks import BACKTICK, escape, fit, message
from po_exporter.tell.channel import Channel, Undelivered
from po_exporter.tell.outbox import Courier, Letter
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.slack import Bot, IncomingWebhook
from po_exporter.tell.summary import Links, Number, Row, Summary
from po_exporter.tell.templates import Templates

TEMPLATES = Templates(None, ())
INJECTIONS = (
    "<!channel>",
    "<@U024BE7LH>",
    "<https://evil.example|click here>",
    "& &amp; &lt;!here&gt;",
    "*bold* `code` ~gone~\n> quoted",
    "line\nbreak\ttab \u202e turned round \x00",
    "A" * 10_000,
    "&" * 10_000,
    '"}]}, {"type": "header"}',
    "{{ 7 * 7 }} {% raw %}",
    "",
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing is gained by real pauses between messages and tries."""
    monkeypatch.setattr("po_exporter.tell.slack.PACE", 0.0)
    monkeypatch.setattr(outbox, "FIRST_BACKOFF", 0.01)


def bot(slack: Slack, *, token: str = TOKEN, channel: str = CHANNEL) -> Bot:
    made = Bot(Secret(token), channel, TEMPLATES, slack.api_url)
    made.pace = 0.0
    return made


def hook(slack: Slack, url: str | None = None) -> IncomingWebhook:
    made = IncomingWebhook(Secret(url or slack.webhook_url), TEMPLATES)
    made.pace = 0.0
    return made


@asynccontextmanager
async def carrying(channel: Channel) -> AsyncIterator[Courier]:
    courier = Courier(channel)
    task = asyncio.create_task(courier.run())
    yield courier
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task.exception()


async def until_done(courier: Courier) -> None:
    await until(lambda: not courier.status.waiting, what=lambda: f"all to be sent: {courier.status}")


async def test_an_incident_is_one_message_that_is_edited_with_its_course_in_the_thread(slack):
    async with carrying(bot(slack)) as courier:
        for kind in ("opened", "changed", "closed"):
            courier.put(Letter(SAMPLES[kind]))
            await until_done(courier)
    (parent,) = slack.parents
    assert parent.edits == 2
    assert "Healed: unlinked_filled_order in trading" in parent.shown
    changed, closed = slack.thread(parent)
    assert "31 unlinked_filled_order" in changed.shown
    assert "97.41 % (was 99.00 %)" in changed.shown
    assert "looked at again: 31, none of them wrong." in closed.shown


async def test_a_message_says_what_is_wrong_with_its_rows(slack):
    async with carrying(bot(slack)) as courier:
        courier.put(Letter(SAMPLES["opened"]))
        await until_done(courier)
    shown = slack.parents[0].shown
    for expected in ("CRITICAL: 12 unlinked_filled_order in trading", "Since 2026-01-27 02:00:00 UTC", "and 9 more",
                     "*Quantity mismatches*: UNKNOWN", *(row.id for row in SAMPLES["opened"].rows),
                     "filled quantity 0.10000000", "Runbook", "production", "po-exporter-0"):  # fmt: skip
        assert expected in shown
    (buttons,) = [block for block in slack.parents[0].content["blocks"] if block["type"] == "actions"]
    assert [button["url"] for button in buttons["elements"]] == [
        SAMPLES["opened"].links.runbook, SAMPLES["opened"].links.page, SAMPLES["opened"].links.dashboard,
    ]  # fmt: skip


async def test_a_webhook_has_a_message_for_each_opening_and_closing(slack):
    async with carrying(hook(slack)) as courier:
        for kind in ("opened", "changed", "closed"):
            courier.put(Letter(SAMPLES[kind]))
            await until_done(courier)
    assert [message.shown.splitlines()[0] for message in slack.messages] == [
        "CRITICAL: 12 unlinked_filled_order in trading", "Healed: unlinked_filled_order in trading",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", SAMPLES)
async def test_every_kind_is_taken(slack, kind):
    async with carrying(bot(slack)) as first, carrying(hook(slack)) as second:
        for courier in (first, second):
            courier.put(Letter(SAMPLES[kind]))
            await until_done(courier)
    assert len(slack.messages) == (1 if kind == "changed" else 2)
    assert slack.refused == []


def poisoned(value: str) -> Summary:
    """A summary in which everything that comes from outside is that value."""
    return replace(
        SAMPLES["opened"], database=value, environment=value, title=value, error=value, replica=value,
        numbers=tuple(Number(value, value, value) for _ in range(30)),
        rows=tuple(Row(value, None, datetime.now(UTC), {value or "key": value}) for _ in range(20)),
        links=Links(runbook=f"https://wiki.example/{value}", page=None),
    )  # fmt: skip


@pytest.mark.parametrize("value", INJECTIONS, ids=range(len(INJECTIONS)))
async def test_values_from_a_table_mention_nobody_and_break_nothing(slack, value):
    async with carrying(bot(slack)) as courier:
        courier.put(Letter(poisoned(value)))
        await until_done(courier)
    assert slack.refused == []
    assert len(slack.messages) == 1
    assert slack.mentions == []
    assert "\u202e" not in slack.messages[0].shown
    if 0 < len(value) < 50 and value.isprintable():
        assert value in slack.messages[0].shown, "it is shown as it is"


anything = st.text(max_size=4000) | st.sampled_from(INJECTIONS)


@given(anything, st.lists(anything, max_size=25), st.lists(anything, max_size=15), st.sampled_from(sorted(SAMPLES)))
def test_the_limits_hold_whatever_is_told(text, ids, labels, kind):
    summary = replace(
        SAMPLES[kind], database=text, title=text, error=text, check=text or "check", still_wrong=tuple(ids),
        rows=tuple(Row(each, None, datetime.now(UTC), {each: text}) for each in ids),
        numbers=tuple(Number(label, text, label) for label in labels),
    )  # fmt: skip
    assert fault(message(TEMPLATES, summary)) is None


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r", categories=["L", "P", "S"]))),
       st.integers(40, 200), st.integers(0, 5))  # fmt: skip
def test_only_whole_lines_are_left_out(lines, most, more):
    escaped = [escape(line) for line in lines]
    told = fit(escaped, most, more)
    assert len(told) <= most
    if not lines:
        assert told == ""
        return
    *kept, last = told.split("\n")
    if last.startswith("… and "):
        assert int(last.split()[2].replace(",", "")) == len(lines) - len(kept) + more
    else:
        kept, last = [*kept, last], ""
        assert len(lines) == len(kept)
    assert kept == escaped[: len(kept)] or len(kept) == 1
    assert lines[0].replace("`", BACKTICK).startswith(html.unescape(kept[0]).removesuffix("…")), (
        "nor is an escaped character cut"
    )


async def test_a_rate_limit_is_obeyed(slack):
    slack.failures = [(429, "ratelimited", {"Retry-After": "1"})]
    async with carrying(bot(slack)) as courier:
        courier.put(Letter(SAMPLES["opened"]))
        await until_done(courier)
    assert len(slack.messages) == 1
    assert (slack.requests, slack.too_early) == (2, 0)
    assert courier.status.failures["rate_limited"] == 1


@pytest.mark.parametrize(
    "failure",
    [
        (500, "oops", {}),
        (503, "down", {}),
        (502, "<h1>Bad gateway</h1>", {}),
        (200, "<h1>Log in</h1>", {}),
        (200, "internal_error", {}),
    ],
)
async def test_what_may_pass_is_tried_again_until_it_does(slack, failure):
    slack.failures = [failure] * 3
    async with carrying(bot(slack)) as courier:
        courier.put(Letter(SAMPLES["opened"]))
        courier.put(Letter(SAMPLES["closed"]))
        await until_done(courier)
    assert (slack.parents[0].edits, len(slack.messages)) == (1, 2)
    assert courier.status.failures["server_error"] == 3
    assert (courier.status.sent, courier.status.error) == (2, None)


async def test_nothing_is_lost_while_it_is_down(slack):
    slack.down = True
    async with carrying(bot(slack)) as courier:
        for kind in ("opened", "changed", "closed"):
            courier.put(Letter(SAMPLES[kind]))
        other = replace(SAMPLES["opened"], incident="another", check="quantity_mismatch")
        courier.put(Letter(other))
        await until(lambda: slack.requests >= 4, what="some tries")
        assert courier.status.waiting == 4
        assert "cannot be reached" in courier.status.error
        slack.down = False
        await until_done(courier)
    assert courier.status.failures["unreachable"] >= 4
    first, second = sorted(slack.parents, key=lambda parent: "quantity_mismatch" in parent.shown)
    assert "Healed" in first.shown
    assert [reply.shown.splitlines()[0].split(":")[0] for reply in slack.thread(first)] == ["CRITICAL", "Healed"]
    assert slack.thread(second) == []


@pytest.mark.parametrize(
    ("token", "channel", "said"),
    [("xoxb-revoked", CHANNEL, "invalid_auth"), (TOKEN, "#no-such-channel", "channel_not_found")],
)
async def test_what_cannot_be_sent_is_said_and_holds_up_nobody(slack, token, channel, said, capsys):
    async with carrying(bot(slack, token=token, channel=channel)) as courier:
        for number in range(3):
            courier.put(Letter(replace(SAMPLES["opened"], incident=f"incident {number}")))
        await until_done(courier)
        assert said in courier.status.error
        assert token not in courier.status.error
    assert courier.status.failures["rejected"] == 3
    assert slack.requests == 3, "a refusal is not tried again"


async def test_what_alertmanager_repeats_is_told_once_by_a_webhook(slack):
    firing = SAMPLES["alert"]
    async with carrying(hook(slack)) as courier:
        for each in (firing, firing, replace(firing, alert=replace(firing.alert, resolved=True)), firing):
            courier.put(Letter(each))
            await until_done(courier)
    says = ["fires" if "fires" in message.shown else "is resolved" for message in slack.messages]
    assert says == ["fires", "is resolved", "fires"]


async def test_an_alert_that_fires_anew_is_another_message(slack):
    """Also where this replica has not seen the end of the last time."""
    firing = SAMPLES["alert"]
    async with carrying(bot(slack)) as courier:
        for began in (firing.began, firing.began, firing.began + timedelta(hours=3)):
            courier.put(Letter(replace(firing, began=began)))
            await until_done(courier)
    assert [message.edits for message in slack.messages] == [1, 0]


async def test_a_webhook_that_is_gone_is_said(slack):
    async with carrying(hook(slack, f"{slack.url}/services/gone")) as courier:
        courier.put(Letter(SAMPLES["opened"]))
        await until_done(courier)
    assert courier.status.error == "Slack's webhook answered 404 no_service"
    assert courier.status.failures["rejected"] == 1


async def test_a_message_that_somebody_deleted_is_posted_again(slack):
    async with carrying(bot(slack)) as courier:
        courier.put(Letter(SAMPLES["opened"]))
        await until_done(courier)
        slack.messages.clear()
        courier.put(Letter(SAMPLES["changed"]))
        await until_done(courier)
    (parent,) = slack.messages
    assert "now 31 unlinked_filled_order" in parent.shown


async def test_a_token_in_a_file_may_change(slack, tmp_path):
    file = tmp_path / "token"
    file.write_text("xoxb-old")
    channel = Bot(Secret(path=file), CHANNEL, TEMPLATES, slack.api_url)
    with pytest.raises(Undelivered, match="invalid_auth"):
        await channel.send(SAMPLES["opened"], None)
    file.write_text(TOKEN)
    await channel.send(SAMPLES["opened"], None)
    file.unlink()
    with pytest.raises(Undelivered, match="cannot read the secret"):
        await channel.send(SAMPLES["opened"], None)
    assert len(slack.messages) == 1
