"""What Alertmanager says is answered, and told, with the rows behind it: never as an all-clear that nobody gave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from installing import without_roles
from keeping import installed
from parts.database import Database
from parts.postgres import Server
from parts.program import Exporter
from parts.slack import Slack
from parts.waiting import until
from po_exporter.errors import NotLeading
from po_exporter.expose.rules import alert_rules
from po_exporter.model import Status
from po_exporter.tell.alertmanager import MOST_ALERTS, Notification, explain
from po_exporter.tell.incidents import Sensitivity
from po_exporter.tell.summary import Summary
from po_exporter.tell.teller import Terms
from po_exporter.tell.words import headline, story
from po_exporter.wiring import load, questions_of_alerts, ruled
from sidecar import NAME, populate
from test_incidents import EPOCH, LOST, UNANSWERED, answer, status
from test_telling import A1, B2, config, message_about

TERMS = Terms(Sensitivity(2, 2, 2.0, {"link_rate": 95.0}), replica="po-exporter-0")
QUESTIONS = {
    "UnlinkedFilledOrdersHigh": ("unlinked_filled_order",),
    "PositionOrderLinkRateLow": ("link_rate",),
    "PositionOrderOpenIssues": (),
    "PositionOrderDatabaseDown": ("database",),
    "PositionOrderExporterDown": (),
}
POLLED = {"unlinked_filled_order": 30, "quantity_mismatch": UNANSWERED, "link_rate": 7}
SINCE = "2026-01-05T08:00:00.5Z"
CALENDARS_ENDS = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z")


def notification(*alerts: dict[str, str], resolved: bool = False, **more: Any) -> bytes:
    """Of alerts with these labels."""
    state = "resolved" if resolved else "firing"
    told = [
        {"status": state, "labels": labels, "annotations": {}, "startsAt": SINCE, "endsAt": "0001-01-01T00:00:00Z",
         "generatorURL": "http://prometheus", "fingerprint": "0"} for labels in alerts
    ]  # fmt: skip
    return json.dumps({"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": state, "receiver": "x",
                       "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {},
                       "externalURL": "http://alertmanager", "alerts": told} | more).encode()  # fmt: skip


def explained(body: bytes, *statuses: Status) -> tuple[list[Summary], list[tuple[Any, ...]]]:
    found = explain(Notification.parse(body), statuses or (status(3, POLLED),), QUESTIONS, TERMS)
    return list(found.summaries), list(found.unmatched)


def alert(name: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "database": NAME, "severity": "critical", **labels}


def test_every_alert_of_ours_leads_to_the_check_that_it_is_about(tmp_path):
    (tmp_path / "po.yaml").write_text("databases: {trading: {dsn: 'postgresql:///trading'}}")
    settings = load(tmp_path / "po.yaml", {})
    questions = questions_of_alerts(settings)
    rules = [rule for group in alert_rules(ruled(settings, "po-exporter", "x"))["groups"] for rule in group["rules"]]
    assert {rule["alert"] for rule in rules if "alert" in rule} == set(questions)
    every = dict.fromkeys(settings.check_files, 1)
    shown = status(3, every)
    for rule in rules:
        if rule.get("keep_firing_for"):  # it is about integrity
            body = notification(alert(rule["alert"], **rule["labels"]))
            found = explain(Notification.parse(body), [shown], questions, TERMS)
            assert found.unmatched == ()
            for summary in found.summaries:
                named = rule["labels"].get("check")
                assert named in (None, summary.check)
                metric = "link_rate" if summary.check == "link_rate" else summary.issue_type.lower()
                words = rule["expr"].lower() + {"UnlinkedFilledOrdersHigh": "unlinked_filled_order",
                                                "OrphanedPositionReferences": "orphaned_position_reference",
                                                "PositionOrderQuantityMismatch": "quantity_mismatch",
                                                "PositionOrderUnlinkedTooOld": "aged_unlinked_order "
                                                "unlinked_filled_order"}.get(rule["alert"], "")  # fmt: skip
                assert metric in words


def test_an_alert_is_told_with_the_rows_behind_it():
    (told,), unmatched = explained(notification(alert("UnlinkedFilledOrdersHigh")))
    assert unmatched == []
    assert headline(told) == "CRITICAL: UnlinkedFilledOrdersHigh fires, 30 unlinked_filled_order in trading"
    assert "Alertmanager says so since 2026-01-05 08:00:00 UTC." in story(told)
    assert [row.id for row in told.rows] == [f"row {number}" for number in range(20)]
    assert (told.more, told.count, told.environment) == (10, 30, None)
    assert told.json()["alert"] == {
        "name": "UnlinkedFilledOrdersHigh", "resolved": False, "url": "http://alertmanager",
    }  # fmt: skip


def test_that_alertmanager_has_resolved_it_does_not_say_that_nothing_is_wrong():
    (told,), _ = explained(notification(alert("UnlinkedFilledOrdersHigh"), resolved=True))
    assert headline(told) == "CRITICAL: UnlinkedFilledOrdersHigh is resolved, 30 unlinked_filled_order in trading"
    assert told.ends
    (told,), _ = explained(
        notification(alert("UnlinkedFilledOrdersHigh"), resolved=True), status(3, {"unlinked_filled_order": 0})
    )
    assert headline(told) == "OK: UnlinkedFilledOrdersHigh is resolved, 0 unlinked_filled_order in trading"


@pytest.mark.parametrize("resolved", [True, False])
def test_what_nobody_knows_is_unknown(resolved):
    body = notification(alert("PositionOrderOpenIssues", check="quantity_mismatch"), resolved=resolved)
    (told,), _ = explained(body)
    assert headline(told).startswith("UNKNOWN: PositionOrderOpenIssues ")
    assert (told.count, told.rows, told.error) == (None, (), "broken")
    for name in ("UnlinkedFilledOrdersHigh", "PositionOrderDatabaseDown"):
        (told,), _ = explained(notification(alert(name), resolved=resolved), status(3, LOST))
        assert headline(told).startswith(f"UNKNOWN: {name} ")
        assert told.error == "cannot reach the server"
    waiting = replace(answer("unlinked_filled_order", UNANSWERED, EPOCH), error="it has not been asked yet")
    fresh = Status(NAME, 60.0, unanswered=(waiting,))
    (told,), _ = explained(notification(alert("UnlinkedFilledOrdersHigh"), resolved=resolved), fresh)
    assert headline(told).startswith("UNKNOWN: UnlinkedFilledOrdersHigh ")
    assert "cannot be read" not in story(told)
    assert "It says: it has not been asked yet." in story(told)


def test_behind_a_link_rate_are_the_orders_without_a_link():
    (told,), _ = explained(notification(alert("PositionOrderLinkRateLow")))
    assert headline(told) == "DEGRADED: PositionOrderLinkRateLow fires, link rate 93.00 % in trading"
    assert (told.count, len(told.rows), told.more) == (None, 20, 10)
    assert story(told).endswith("Without a link, the first 20:")
    (told,), _ = explained(
        notification(alert("PositionOrderLinkRateLow")), status(3, {**POLLED, "unlinked_filled_order": UNANSWERED})
    )
    assert (told.rows, told.more) == ((), 0)


def test_what_is_not_ours_is_answered_as_such():
    summaries, unmatched = explained(
        notification(
            alert("Watchdog"), alert("PositionOrderExporterDown"), alert("UnlinkedFilledOrdersHigh", database="other"),
            {"severity": "none"},
        )
    )  # fmt: skip
    assert summaries == []
    assert unmatched == [
        ("Watchdog", NAME, "it is no alert of po-exporter's"),
        ("PositionOrderExporterDown", NAME, "there are no rows behind it"),
        ("UnlinkedFilledOrdersHigh", "other", "no such database is watched here"),
        ("", NAME, "it is no alert of po-exporter's"),
    ]


def test_the_guides_alerts_need_no_label_where_there_is_one_database():
    (told,), _ = explained(notification({"alertname": "UnlinkedFilledOrdersHigh"}))
    assert told.database == NAME
    two = (status(3, POLLED), Status("desk", 60.0))
    assert explained(notification({"alertname": "UnlinkedFilledOrdersHigh"}), *two)[1] == [
        ("UnlinkedFilledOrdersHigh", None, "it names no database")
    ]


def test_one_group_is_one_message_a_check_and_the_same_when_it_is_repeated():
    both = notification(*[alert("UnlinkedFilledOrdersHigh", severity=each) for each in "ab"])
    (first,), _ = explained(both)
    (again,), _ = explained(both)
    (other,), _ = explained(notification(alert("UnlinkedFilledOrdersHigh"), groupKey="another"))
    assert first.incident == again.incident != other.incident
    assert first.id != again.id


def test_what_is_lost_while_it_fires_is_the_same_message_still():
    body = notification(alert("UnlinkedFilledOrdersHigh"))
    (known,), _ = explained(body)
    (lost,), _ = explained(body, replace(status(3, LOST), unanswered=status(3, POLLED).result.checks))
    cut_off = Status(NAME, 60.0, leader=False, up=False, error="cannot reach the server")
    (unseen,), _ = explained(body, cut_off)
    assert known.incident == lost.incident == unseen.incident
    assert (unseen.check, unseen.verdict, unseen.error) == (
        "unlinked_filled_order", "UNKNOWN", "cannot reach the server",
    )  # fmt: skip


def test_a_follower_does_not_answer():
    with pytest.raises(NotLeading):
        explained(notification(alert("UnlinkedFilledOrdersHigh")), Status(NAME, 60.0, leader=False))


def test_more_alerts_than_are_looked_at_are_said():
    labels = [alert("UnlinkedFilledOrdersHigh", place=str(number)) for number in range(MOST_ALERTS + 2)]
    (_,), unmatched = explained(notification(*labels, truncatedAlerts=3))
    assert unmatched == [("", None, "5 more alerts were not looked at")]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
alerts = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["firing", "resolved", "?"]),
        "startsAt": st.sampled_from([SINCE, *CALENDARS_ENDS]) | anything,
        "labels": st.dictionaries(
            st.sampled_from(["alertname", "database", "check"]), st.sampled_from([*QUESTIONS, NAME]) | st.text()
        ),
    },
)
shaped = st.fixed_dictionaries(
    {"version": st.sampled_from(["4", "4", "4", "3", 4]), "groupKey": st.text()},
    optional={
        "externalURL": st.text(),
        "truncatedAlerts": st.integers() | anything,
        "alerts": st.lists(alerts),
    },
)


@given(st.binary() | (anything | shaped).map(lambda value: json.dumps(value).encode()))
def test_whatever_is_posted_is_answered_or_refused_with_a_sentence(body):
    with suppress(ValueError):
        said = Notification.parse(body)
        json.dumps(explain(said, [status(3, POLLED)], QUESTIONS, TERMS).json(), allow_nan=False)


TOKEN = "s3cret-of-alertmanager"


@pytest.fixture
async def hooked(database: Database, exporter, slack: Slack, tmp_path) -> Exporter:
    """A sidecar with tokens over a database with a fill that is not linked; its own incidents are not told."""
    await populate(database)
    (tmp_path / "tokens").write_text(
        f"am notify.write {TOKEN}\nreader positions.read,metrics.read s3cret-of-a-reader\n"
    )
    wanted = config(database.reader_dsn, slack)
    wanted["notify"]["incidents"] = False
    wanted["server"] = {"tokens_file": str(tmp_path / "tokens")}
    running = await exporter(config=wanted)
    ready = {"headers": {"Authorization": "Bearer s3cret-of-a-reader"}}

    async def polled() -> bool:
        return (await running.get("/-/ready")).status == 200

    await until(polled, what="a first result")
    assert (await running.get("/metrics", **ready)).status == 200
    return running


async def post(exporter: Exporter, body: bytes, token: str | None = TOKEN) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await exporter.request("POST", "/hooks/alertmanager", data=body, headers=headers)


async def test_it_is_answered_and_told_and_repeats_are_not(hooked, slack, database):
    body = notification(alert("UnlinkedFilledOrdersHigh"))
    answer = (await post(hooked, body)).json
    (summary,) = answer["summaries"]
    assert ([row["id"] for row in summary["rows"]], answer["unmatched"]) == ([B2], [])
    message = await message_about(slack, "CRITICAL: UnlinkedFilledOrdersHigh fires, 1 unlinked_filled_order in trading")
    assert B2 in message.shown
    await post(hooked, body)
    await until(lambda: message.edits == 1, what="the message to be brought up to date")
    await database.execute("UPDATE orders SET position_id = $1 WHERE id = $2", A1, B2)

    async def linked() -> bool:
        answer = (await post(hooked, body)).json
        return answer["summaries"][0]["count"] == 0

    await until(linked, what="the poll that sees the link")
    await post(hooked, notification(alert("UnlinkedFilledOrdersHigh"), resolved=True))
    assert await message_about(slack, "OK: UnlinkedFilledOrdersHigh is resolved, 0 unlinked") is message
    await until(lambda: slack.thread(message), what="that it is resolved, in its thread")
    assert len(slack.messages) == 2, "nobody is told twice, and no incident of our own"


async def test_names_from_outside_mention_nobody(hooked, slack):
    body = notification(
        alert("UnlinkedFilledOrdersHigh"), alert("<!channel>\x00`*"), groupKey="\x00<!here>",
        externalURL="javascript:alert(1)",
    )  # fmt: skip
    answer = (await post(hooked, body)).json
    assert [each["alertname"] for each in answer["unmatched"]] == ["<!channel>\x00`*"]
    await message_about(slack, "UnlinkedFilledOrdersHigh fires")
    assert slack.mentions == []
    assert slack.refused == []
    assert "javascript" not in json.dumps(slack.messages[0].content)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "no notification"),
        (b"{", 400, "no notification"),
        (b"[]", 400, "no notification"),
        (notification(version="3"), 400, "version"),
        (notification({"alertname": 7}), 400, "alertname"),  # type: ignore[dict-item]
        (notification(alert("A" * 2_000_000)), 413, ""),
    ],
)
async def test_what_is_no_notification_is_refused(hooked, slack, body, status, said):
    answer = await post(hooked, body)
    assert answer.status == status
    assert said in answer.json["error"]
    assert slack.requests == 0


async def test_a_large_one_is_taken(hooked):
    assert (await post(hooked, notification(alert("UnlinkedFilledOrdersHigh", more="x" * 500_000)))).status == 200


async def test_who_may_not_is_refused(hooked):
    body = notification(alert("UnlinkedFilledOrdersHigh"))
    assert (await post(hooked, body, None)).status == 401
    assert (await post(hooked, body, "wrong")).status == 401
    assert (await post(hooked, body, "s3cret-of-a-reader")).status == 403
    basic = {"Authorization": aiohttp.encode_basic_auth("am", TOKEN)}
    assert (await hooked.request("POST", "/hooks/alertmanager", data=body, headers=basic)).status == 401
    assert (await hooked.get("/hooks/alertmanager", headers={"Authorization": f"Bearer {TOKEN}"})).status == 405


async def test_without_tokens_there_is_no_such_path(database, exporter, slack):
    running = await exporter(config=config(database.reader_dsn, slack))
    assert (await post(running, notification(alert("UnlinkedFilledOrdersHigh")))).status == 404
    described = (await running.get("/api/v1/openapi.json")).json
    assert "/hooks/alertmanager" not in described["paths"]


async def test_a_follower_is_asked_again_later(hooked, database, exporter, slack, tmp_path):
    wanted = {**config(database.reader_dsn, slack), "server": {"tokens_file": str(tmp_path / "tokens")}}
    running = await exporter(config=wanted)
    headers = {"Authorization": "Bearer s3cret-of-a-reader"}

    async def follows() -> bool:
        return (await running.get("/api/v1/findings", headers=headers)).status == 503

    await until(follows, what="it to follow")
    answer = await post(running, notification(alert("UnlinkedFilledOrdersHigh")))
    assert (answer.status, answer.json) == (503, {"error": "follower"})


async def test_of_a_database_that_nobody_can_read_a_follower_says_so_too(hooked, database, exporter, slack, tmp_path):
    wanted = {**config(database.reader_dsn, slack), "server": {"tokens_file": str(tmp_path / "tokens")}}
    wanted["notify"]["incidents"] = False
    follower = await exporter(config=wanted)
    body = notification(alert("PositionOrderDatabaseDown"))

    async def answered(status: int) -> bool:
        return (await post(follower, body)).status == status

    await until(lambda: answered(503), what="it to follow")
    database.server.stop("immediate")
    try:
        await until(lambda: answered(200), 30, what="it to say that the database is gone")
        await message_about(slack, "UNKNOWN: PositionOrderDatabaseDown fires, and nobody knows of database in trading")
    finally:
        database.server.start()


@pytest.fixture
def roles(server: Server) -> Iterator[None]:
    """The server's roles are as they were, afterwards."""
    with without_roles(server):
        yield


async def test_what_is_told_for_alertmanager_is_kept_like_everything_else(roles, database, exporter, slack, tmp_path):
    await installed(database)
    await populate(database)
    (tmp_path / "tokens").write_text(f"am notify.write {TOKEN}\n")
    slack.down = True
    wanted = config(database.reader_dsn, slack)
    wanted["notify"]["incidents"] = False
    wanted["server"] = {"tokens_file": str(tmp_path / "tokens")}
    running = await exporter(config=wanted)

    async def written() -> bool:
        await post(running, notification(alert("UnlinkedFilledOrdersHigh")))
        return bool(
            await database.fetchval("SELECT count(*) FROM po_exporter.outbox WHERE summary ->> 'kind' = 'alert'")
        )

    await until(written, what="it to be written")
    slack.down = False
    await message_about(slack, "UnlinkedFilledOrdersHigh fires")
