"""The tests rest on these parts, so the parts are tested, too: programs, pages and waiting."""

from __future__ import annotations

import signal

import pytest

from parts.machine import need
from parts.prometheus import Metrics
from parts.waiting import until


async def test_until_says_what_it_waited_for():
    with pytest.raises(AssertionError, match=r"0\.1 s for rain; the last answer was 0"):
        await until(lambda: 0, timeout=0.1, what="rain")


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_part_fails_under_ci_and_is_skipped_elsewhere(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    # Both are caught: a skip that nobody expected would skip this very test.
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="install it") as raised:
        need(None, "install it")
    assert raised.type is outcome


async def test_a_page_of_metrics_can_be_asked_for_a_value(promtool):
    page = '# TYPE up gauge\nup{database="trading"} 1\nup{database="desk"} 0\n'
    await promtool("check", "metrics", stdin=f"# HELP up Whether.\n{page}")
    metrics = Metrics.parse(page)
    assert metrics.value("up", database="trading") == 1
    assert metrics.value("up") is None
    assert metrics.names() == {"up"}
    with pytest.raises(AssertionError, match="no help text"):
        await promtool("check", "metrics", stdin=page)


async def test_prometheus_answers_a_query(prometheus):
    running = await prometheus("global: {scrape_interval: 1s}\n")
    assert (await running.query("vector(7)"))[0]["value"][1] == "7"
    with pytest.raises(AssertionError, match="parse error"):
        await running.query("(")


async def test_the_browser_shows_a_page(chromium):
    page = await chromium.new_page()
    await page.set_content("<h1>All is well</h1>")
    assert await page.inner_text("h1") == "All is well"


async def test_the_program_runs_in_an_environment_of_its_own(cli, monkeypatch):
    monkeypatch.setenv("PO_EXPORTER_DSN", "postgresql://nobody@127.0.0.1:1/nowhere")
    finished = await cli("config", "show")
    assert finished.status == 2, finished
    assert "nowhere" not in finished.stdout + finished.stderr
    finished = await cli("config", "show", env={"PO_EXPORTER_DSN": "postgresql://reader@127.0.0.1:1/trading"})
    assert finished.status == 0, finished
    assert "trading" in finished.stdout


async def test_the_sidecar_is_asked_and_stopped(exporter, database):
    running = await exporter(env={"PO_EXPORTER_DSN": database.reader_dsn})
    assert (await running.get("/-/healthy")).status == 200

    async def is_up():
        return (await running.metrics()).value("position_order_up", database=database.name) == 1

    await until(is_up, what="the first poll")
    running.signal(signal.SIGTERM)
    assert await running.stop() == 0, running.log
