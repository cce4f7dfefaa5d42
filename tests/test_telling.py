"""What people hear, from a row in the database to the message: the real sidecar, the real database, Slack's far end."""

from __future__ import annotations

import signal
from typing import Any

from parts.slack import CHANNEL, TOKEN, Message, Slack
from parts.waiting import until
from sidecar import Sidecar, populate, settings

B2 = "00000000-0000-0000-0000-0000000000b2"
A1 = "00000000-0000-0000-0000-0000000000a1"


def config(dsn: str, slack: Slack, **monitor: Any) -> dict[str, Any]:
    """Two answers to open and two to close; nothing else than the orders of the window is told of."""
    notify = {"open_after": 2, "close_after": 2,
              "slack": {"token": TOKEN, "channel": CHANNEL, "api_url": slack.api_url}}  # fmt: skip
    quiet = {name: {"threshold": 1000} for name in ("orphaned_position_reference", "quantity_mismatch",
                                                    "position_without_orders", "aged_unlinked_order")}  # fmt: skip
    checks = {**quiet, "link_rate": {"threshold": 0}, "unlinked_filled_order": {"threshold": 0}}
    return {**settings(dsn, **monitor), "checks": checks, "notify": notify}


async def message_about(slack: Slack, what: str) -> Message:
    """The message of the channel that says so, as soon as there is one."""

    def found() -> Message | None:
        return next((message for message in slack.parents if what in message.shown), None)

    return await until(found, 30, what=lambda: f"{what!r} among {[each.shown for each in slack.parents]}")


async def test_an_unlinked_fill_is_told_with_its_id_and_so_is_that_it_healed(database, exporter, slack):
    await populate(database)
    running = await exporter(config=config(database.reader_dsn, slack))
    opened = await message_about(slack, "CRITICAL: 1 unlinked_filled_order in trading")
    assert B2 in opened.shown
    assert "filled quantity 2.50000000" in opened.shown
    await database.execute("UPDATE orders SET position_id = $1 WHERE id = $2", A1, B2)
    healed = await message_about(slack, "Healed: unlinked_filled_order in trading")
    assert healed is opened, "the same message, edited"
    (reply,) = await until(lambda: slack.thread(opened), what="a reply in its thread")
    assert "looked at again: 1, none of them wrong." in reply.shown

    async def counted() -> bool:
        return (await running.metrics()).value("position_order_exporter_notifications_total", channel="slack") == 2

    await until(counted, what="both to be counted as sent")
    page = await running.metrics()
    assert page.value("position_order_exporter_notification_failures_total", channel="slack", reason="rejected") == 0
    assert page.value("position_order_exporter_notification_last_success_timestamp_seconds", channel="slack")
    assert slack.mentions == []


async def test_what_only_grew_too_old_is_not_called_healed(database, exporter, slack):
    await populate(database)
    running = await exporter(config=config(database.reader_dsn, slack))
    await message_about(slack, "CRITICAL: 1 unlinked_filled_order in trading")
    await database.execute("UPDATE orders SET created_at = created_at - interval '2 days' WHERE id = $1", B2)
    closed = await message_about(slack, "Over: unlinked_filled_order in trading")
    assert "Still wrong (1 of 1)" in closed.shown
    assert B2 in closed.shown
    await Sidecar(running).until_value(1, "open_issues", issue_type="AGED_UNLINKED_ORDER", priority="high")


async def test_a_database_that_cannot_be_read_is_one_incident_and_closes_no_other(database, exporter, slack):
    await populate(database)
    await exporter(config=config(database.reader_dsn, slack))
    opened = await message_about(slack, "CRITICAL: 1 unlinked_filled_order in trading")
    database.server.stop()
    try:
        lost = await message_about(slack, "UNKNOWN: nothing is known")
        assert "It says: " in lost.shown
    finally:
        database.server.start()
    await message_about(slack, "Healed: database in trading")
    assert len(slack.parents) == 2
    assert (opened.edits, slack.thread(opened)) == (0, [])


async def test_a_reload_changes_the_channel_and_loses_nothing(database, exporter, slack, po_exporter):
    await populate(database)
    wanted = config(database.reader_dsn, slack)
    wanted["notify"]["slack"]["token"] = "xoxb-revoked"
    file = po_exporter.config_file(wanted)
    running = await exporter(config=file)

    async def refused() -> bool:
        page = await running.metrics()
        name = "position_order_exporter_notification_failures_total"
        return page.value(name, channel="slack", reason="rejected") == 1

    await until(refused, what="the refusal to be counted")
    assert "invalid_auth" in (await running.get("/")).text
    assert TOKEN not in (await running.get("/")).text


async def test_of_two_replicas_one_tells_and_who_takes_over_tells_what_is_still_open(database, exporter, slack):
    await populate(database)
    replicas = [await exporter(config={**config(database.reader_dsn, slack), "leader": "auto"}) for _ in range(2)]
    await message_about(slack, "CRITICAL: 1 unlinked_filled_order in trading")
    sidecars = [Sidecar(each) for each in replicas]
    (leader,) = [each for each in sidecars if await each.value("exporter_leader") == 1]
    (other,) = [each for each in sidecars if each is not leader]
    await leader.polls(5)
    assert len(slack.messages) == 1
    leader.exporter.signal(signal.SIGKILL)
    await other.until_value(1, "exporter_leader")
    await until(lambda: len(slack.parents) == 2, 30, what="the other one to tell of it, once")
    await other.polls(5)
    assert len(slack.messages) == 2
