"""A broken row, the real sidecar, a real Prometheus with the shipped rules, a real Alertmanager with what the
documentation has people write, and Slack's far end: the row arrives there, and so does that it is over."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from alerting import NAMES, ROOT, prometheus_config
from parts.alertmanager import run_amtool, running_alertmanager
from parts.prometheus import Metrics, running_prometheus
from parts.slack import CHANNEL, TOKEN, Message, Slack
from parts.waiting import until
from sidecar import NAME, populate, settings

B2, B3 = (f"00000000-0000-0000-0000-0000000000b{number}" for number in (2, 3))
PAGE = (ROOT / "docs" / "summaries.md").read_text(encoding="utf-8")
DOCUMENTED: dict[str, Any] = yaml.safe_load(re.search(r"<!-- alertmanager -->\n```yaml\n(.*?)```", PAGE, re.S)[1])
SECRETS = {"prometheus": "s3cret-of-prometheus", "alertmanager": "s3cret-of-alertmanager", "oncall": "s3cret-of-oncall"}


@pytest.fixture
def told_by_alertmanager(tmp_path: Path, slack: Slack) -> dict[str, Any]:
    """Settings that leave incidents to Alertmanager; the file of each token has its holder's name."""
    (tmp_path / "tokens").write_text(
        f"prometheus metrics.read {SECRETS['prometheus']}\nalertmanager notify.write {SECRETS['alertmanager']}\n"
        f"oncall positions.read {SECRETS['oncall']}\n"
    )
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(secret)
    return {
        "server": {"tokens_file": str(tmp_path / "tokens")},
        "notify": {"incidents": False, "slack": {"token": TOKEN, "channel": CHANNEL, "api_url": slack.api_url}},
    }


@asynccontextmanager
async def alertmanager_of(url: str, tmp_path: Path, **route: str) -> AsyncIterator[str]:
    """What the documentation says, with this sidecar's address, this token, and without the waiting."""
    config = yaml.safe_load(yaml.safe_dump(DOCUMENTED))
    config["route"] |= {"group_wait": "0s", "group_interval": "100ms", **route}
    (hook,) = config["receivers"][1]["webhook_configs"]
    hook["url"] = hook["url"].replace("http://po-exporter:9843", url)
    hook["http_config"]["authorization"]["credentials_file"] = str(tmp_path / "alertmanager")
    directory = tmp_path / "of-alertmanager"
    directory.mkdir()
    async with running_alertmanager(yaml.safe_dump(config), directory) as running:
        yield running


async def message_about(slack: Slack, *what: str) -> Message:
    """The message of the channel that says all of this, as soon as there is one."""

    def found() -> Message | None:
        return next((each for each in slack.parents if all(text in each.shown for text in what)), None)

    return await until(found, 60, what=lambda: f"{what!r} among {[each.shown for each in slack.parents]}")


async def test_a_broken_row_arrives_by_alertmanager_and_so_does_its_healing(
    database, exporter, slack, tmp_path, told_by_alertmanager
):
    await populate(database)
    running = await exporter(config={**settings(database.reader_dsn), **told_by_alertmanager})
    scrape = {"authorization": {"credentials_file": str(tmp_path / "prometheus")}}
    async with (
        alertmanager_of(running.url, tmp_path) as url,
        running_prometheus(prometheus_config(tmp_path, running.url, url, **scrape), tmp_path),
    ):
        fired = await message_about(slack, "OrphanedPositionReferences fires", B3)
        assert "CRITICAL: OrphanedPositionReferences fires, 1 orphaned_position_reference in trading" in fired.shown
        low = await message_about(slack, "PositionOrderLinkRateLow fires", B2)
        assert "DEGRADED: PositionOrderLinkRateLow fires, link rate 33.33 % in trading" in low.shown
        await database.execute("DELETE FROM orders WHERE id = $1", B3)
        over = await message_about(slack, "OK: OrphanedPositionReferences is resolved, 0 orphaned_position_reference")
        assert over is fired, "the same message, edited"
        (reply,) = await until(lambda: slack.thread(fired), what="a reply in its thread")
        assert "Alertmanager says so since" in reply.shown
    assert slack.mentions == []
    assert slack.refused == []
    # No incident of our own: each message is about an alert.
    assert [each.shown for each in slack.messages if "Alertmanager says so since " not in each.shown] == []


def firing(name: str, **labels: str) -> list[dict[str, Any]]:
    """An alert as Prometheus posts it to Alertmanager."""
    now = datetime.now(UTC)
    return [
        {
            "labels": {"alertname": name, "severity": "critical", "database": NAME, **labels},
            "annotations": {"summary": "<!channel>"},
            "startsAt": now.isoformat(),
            "endsAt": (now + timedelta(hours=1)).isoformat(),
            "generatorURL": "http://prometheus.example:9090/graph?g0.expr=up",
        }
    ]


async def post(url: str, alerts: list[dict[str, Any]]) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{url}/api/v2/alerts", json=alerts) as response:
        assert response.status == 200, await response.text()


async def notifications(url: str, outcome: str) -> float:
    """How many requests Alertmanager has made to the hook, or how many of them have failed."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        page = Metrics.parse(await response.text())
    return page.value(f"alertmanager_notification_requests_{outcome}", integration="webhook") or 0


async def test_what_alertmanager_repeats_edits_the_message(database, exporter, slack, tmp_path, told_by_alertmanager):
    await populate(database)
    running = await exporter(config={**settings(database.reader_dsn), **told_by_alertmanager})
    async with alertmanager_of(running.url, tmp_path, repeat_interval="100ms") as url:
        await post(url, firing("UnlinkedFilledOrdersHigh"))
        fired = await message_about(slack, "CRITICAL: UnlinkedFilledOrdersHigh fires, 1 unlinked_filled_order", B2)
        await database.execute("DELETE FROM orders WHERE id = $1", B2)
        # Alertmanager still says that it fires; we say what we know.
        now = await message_about(slack, "OK: UnlinkedFilledOrdersHigh fires, 0 unlinked_filled_order in trading")
    assert now is fired
    assert (len(slack.messages), slack.mentions) == (1, [])


async def test_alertmanager_comes_again_until_it_finds_the_leader(
    database, exporter, slack, tmp_path, told_by_alertmanager
):
    await populate(database)
    config = {**settings(database.reader_dsn), **told_by_alertmanager, "leader": "auto"}
    replicas = [await exporter(config=config) for _ in range(2)]
    oncall = {"headers": {"Authorization": f"Bearer {SECRETS['oncall']}"}}

    async def statuses() -> list[int] | None:
        found = [(await each.get("/api/v1/status", **oncall)).status for each in replicas]
        return found if sorted(found) == [200, 503] else None

    found = await until(statuses, 30, what="one to lead and one to follow")
    leader, follower = (replicas[found.index(status)] for status in (200, 503))
    async with alertmanager_of(follower.url, tmp_path) as url:
        await post(url, firing("UnlinkedFilledOrdersHigh"))

        async def refused() -> bool:
            return await notifications(url, "failed_total") >= 1

        await until(refused, 30, what="the follower to have refused")
        assert slack.messages == []
        leader.signal(signal.SIGKILL)
        await message_about(slack, "UnlinkedFilledOrdersHigh fires", B2)


async def test_alerts_of_others_are_not_tried_again(database, exporter, slack, tmp_path, told_by_alertmanager):
    running = await exporter(config={**settings(database.reader_dsn), **told_by_alertmanager})
    async with alertmanager_of(running.url, tmp_path) as url:
        await post(url, firing("PositionOrderOfAnotherKind", database="<@U0>"))

        async def asked() -> bool:
            return await notifications(url, "total") >= 1

        await until(asked, 30, what="Alertmanager to have asked")
        assert await notifications(url, "failed_total") == 0
    assert "alert_unmatched" in running.log
    assert slack.messages == []


@pytest.mark.parametrize("name", [*sorted(NAMES), "HostOutOfMemory"])
async def test_what_the_documentation_says_routes_ours_here_and_everything_on(name, tmp_path):
    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(DOCUMENTED))
    config = f"--config.file={tmp_path / 'alertmanager.yml'}"
    routed = (await run_amtool("config", "routes", "test", config, f"alertname={name}")).splitlines()[-1]
    assert routed == ("evidence,on-call" if name in NAMES else "on-call")
