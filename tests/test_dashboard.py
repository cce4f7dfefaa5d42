"""The Grafana dashboard: Grafana's own types accept it, and a real Prometheus has data for every expression of it.

No Grafana runs here: how it looks is not tested.
"""

from __future__ import annotations

import json
import math
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from jsonschema import Draft7Validator

from alerting import ALERTS, NAMES, ROOT
from feeding import prepare
from parts.grafana import dashboard_schema
from parts.machine import free_port
from parts.prometheus import Metrics
from parts.waiting import until
from po_exporter.expose.dashboard import LEFT_OUT
from po_exporter.expose.metrics import CATALOG
from sidecar import NAME, Sidecar, populate, settings

DASHBOARD: dict[str, Any] = json.loads((ROOT / "dashboards" / "po-exporter.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {(panel["title"], target["refId"]): target["expr"] for panel in PANELS for target in panel["targets"]}
A1 = "00000000-0000-0000-0000-0000000000a1"
B2 = "00000000-0000-0000-0000-0000000000b2"
ANOTHER = """
INSERT INTO orders (id, trading_pair, exchange, side, quantity, status, filled_quantity, created_at)
SELECT gen_random_uuid(), trading_pair, exchange, side, quantity, status, filled_quantity, created_at
FROM orders WHERE position_id IS NULL"""


def filled_in(expr: str) -> str:
    """An expression as Grafana sends it, with everything chosen."""
    return expr.replace("$__rate_interval", "1m").replace("$database", ".*").replace("$job", ".*")


def metrics_of(text: str) -> set[str]:
    """The metrics that an expression names, under the names of the catalog."""
    suffixes = re.compile(r"_(?:bucket|sum|count)$")
    names = {family.name for family in CATALOG}
    found = re.findall(r"\bposition_order_\w+", text)
    return {name if name in names else suffixes.sub("", name) for name in found}


async def test_the_committed_one_is_what_the_command_prints(cli):
    committed = (ROOT / "dashboards" / "po-exporter.json").read_text()
    assert (await cli("dashboards")).stdout == committed, "`make generated` writes it anew"
    in_chart = ROOT / "helm" / "po-exporter" / "files" / "dashboard.json"
    assert in_chart.read_text() == committed, "`make generated` writes it anew"


async def test_thresholds_are_those_of_the_configuration(cli):
    config = {"databases": {"a": {"dsn": "postgresql:///x"}}, "thresholds": {"link_rate": "99.5"}}
    printed = json.loads((await cli("dashboards", config=config)).stdout)
    steps = [
        p["fieldConfig"]["defaults"]["thresholds"]["steps"] for p in printed["panels"] if p["title"] == "Link rate"
    ]
    assert [[step["value"] for step in each] for each in steps] == [[None, 99.5]] * 2


def test_grafanas_own_types_accept_it():
    checked = deepcopy(DASHBOARD)
    # Their target of an annotation is that of Grafana's built-in source; a data source's query stands there, too.
    for name in ("refId", "expr", "legendFormat"):
        del checked["annotations"]["list"][0]["target"][name]
    problems = Draft7Validator(dashboard_schema()).iter_errors(checked)
    assert [f"{'/'.join(map(str, p.absolute_path))}: {p.message[:300]}" for p in problems] == []


def test_grafanas_own_types_would_refuse_a_typo():
    for spoiled in (DASHBOARD | {"titel": "x"}, DASHBOARD | {"time": {"from": 5}}, DASHBOARD | {"graphTooltip": 7}):
        assert list(Draft7Validator(dashboard_schema()).iter_errors(spoiled))


def test_no_two_panels_share_an_id_or_a_place():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: f"{panel['id']}-{panel['title']}")
def test_a_panel_says_what_it_is_and_never_shows_a_zero_for_nothing(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"]
    assert defaults["unit"]
    assert defaults["noValue"] == "UNKNOWN"
    (special,) = [m["options"] for m in defaults["mappings"] if m["type"] == "special"]
    assert (special["match"], special["result"]["text"]) == ("null+nan", "UNKNOWN")
    assert not any("or vector(0)" in target["expr"] for target in panel["targets"])
    assert defaults["custom"].get("spanNulls", False) is False
    for link in panel["links"]:
        assert Path(link["url"]).stem in NAMES


def test_freshness_comes_first():
    assert PANELS[0]["title"] == "Age of what is shown"
    assert [row["title"] for row in DASHBOARD["panels"] if row["type"] == "row"] == [
        "Now", "Links", "Quality", "Latency", "The exporter",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "expr"), EXPRESSIONS.items(), ids=lambda v: "/".join(v) if isinstance(v, tuple) else ""
)
def test_every_expression_is_promql(place, expr):
    promql_parser.parse(filled_in(expr))


def test_every_metric_is_on_it_or_left_out_for_a_reason():
    shown = {name for expr in EXPRESSIONS.values() for name in metrics_of(expr)}
    everything = {family.name for family in CATALOG}
    assert shown <= everything, "no such metrics"
    assert everything - shown == LEFT_OUT.keys()


def test_its_variables_choose_data_source_job_and_database():
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "database"]
    for name in ("job", "database"):
        assert metrics_of(variables[name]["query"]["query"]) <= {family.name for family in CATALOG}
    (annotation,) = DASHBOARD["annotations"]["list"]
    pattern = re.search(r'alertname=~"([^"]+)"', annotation["target"]["expr"])[1]
    assert all(re.fullmatch(pattern, name) for name in NAMES)


async def test_prometheus_has_data_for_every_expression(database, exporter, prometheus, slack):
    """In scan and in incremental mode, with a check that fails, links that are made, and somebody who is told."""
    await populate(database)
    await database.execute(ANOTHER)
    config = settings(database.reader_dsn, mode="auto", statement_timeout="1s")
    config["databases"][NAME]["feed_dsn"] = await prepare(database)
    config["notify"] = {"slack": {"webhook_url": slack.webhook_url}}
    sidecar = Sidecar(await exporter(config=config))
    scrape = yaml.safe_load((ALERTS / "prometheus.yaml").read_text())
    scrape["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
    scrape["scrape_configs"][0]["static_configs"] = [{"targets": [sidecar.exporter.url.removeprefix("http://")]}]
    running = await prometheus(yaml.safe_dump({key: scrape[key] for key in ("global", "scrape_configs")}))
    await sidecar.until_value(1, "exporter_mode", mode="incremental")
    await sidecar.until_value(2, "unlinked_filled_orders")

    async def missing() -> set[tuple[str, str]]:
        return {place for place, expr in EXPRESSIONS.items() if not await running.query(filled_in(expr))}

    async def all_but(*wanted: str) -> bool:
        return {title for title, _ in await missing()} <= set(wanted)

    # As long as nothing has failed, there is no series of failures; all else has data.
    await until(lambda: all_but("Checks asked, and failed"), what="data for every expression")
    await database.execute("ALTER TABLE orders RENAME COLUMN quantity TO amount")
    await sidecar.until_failing("overfilled_order")
    await database.execute("ALTER TABLE orders RENAME COLUMN amount TO quantity")
    await database.execute("UPDATE orders SET position_id = $1 WHERE id = $2", A1, B2)
    await until(all_but, what="data for every expression")
    # And what is on the page of the sidecar is what the dashboard knows of.
    page: Metrics = await sidecar.exporter.metrics()
    assert {metrics_of(name).pop() for name in page.names()} <= {family.name for family in CATALOG}


async def test_a_tile_says_of_which_database_nothing_is_known(database, exporter, prometheus):
    await populate(database)
    config = settings(database.reader_dsn)
    config["databases"]["gone"] = {"dsn": f"postgresql://po_reader@127.0.0.1:{free_port()}/gone"}
    sidecar = Sidecar(await exporter(config=config))
    running = await prometheus(yaml.safe_dump({
        "global": {"scrape_interval": "250ms"},
        "scrape_configs": [{"job_name": "po-exporter", "static_configs": [
            {"targets": [sidecar.exporter.url.removeprefix("http://")]}]}],
    }))  # fmt: skip
    tiles = [panel for panel in PANELS if panel["type"] == "stat"][:6]

    async def shown() -> dict[str, dict[str, float]]:
        answers = {}
        for tile in tiles:
            found = await running.query(filled_in(tile["targets"][0]["expr"]))
            answers[tile["title"]] = {each["metric"]["database"]: float(each["value"][1]) for each in found}
        return answers

    async def complete() -> dict[str, dict[str, float]] | None:
        answers = await shown()
        known = all(NAME in each and not math.isnan(each[NAME]) for each in answers.values())
        return answers if known and answers["Database"].get("gone") == 0 else None

    answers = await until(complete, what="every tile to know of one of the two")
    assert all(math.isnan(each["gone"]) for title, each in answers.items() if title != "Database")
