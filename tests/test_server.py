"""The HTTP server, over real sockets, with canned Status values behind it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from structlog.testing import capture_logs

from factory import NAMES, answer, failed, finding, link_rate, status, unreadable, view
from parts.certificates import Authority
from parts.prometheus import Metrics
from parts.waiting import until
from po_exporter.errors import ConfigError, DatabaseError, Fault, UsageError
from po_exporter.expose import server as server_module
from po_exporter.expose.server import Listen, Server
from po_exporter.expose.view import View

DOCS = Path(__file__).parents[1] / "docs" / "http.md"
TOKENS = """\
metrics metrics.read s3cret-of-metrics
oncall positions.read s3cret-of-oncall
admin admin.reconcile s3cret-of-admin
"""
LISTEN = Listen("127.0.0.1", 0)
WRONG = answer("unlinked_filled_order", finding(1, trading_pair="BTC/USD"), finding(2, trading_pair="BTC/USD"))


@dataclass
class Sidecar:
    """A running server, what it shows, and who asks."""

    server: Server
    http: aiohttp.ClientSession
    view: View
    reloads: list[Exception | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    async def get(self, path: str, method: str = "GET", **options: Any) -> tuple[aiohttp.ClientResponse, bytes]:
        async with self.http.request(method, self.url + path, **options) as response:
            return response, await response.read()

    async def json(self, path: str, **options: Any) -> tuple[int, Any]:
        response, body = await self.get(path, **options)
        assert response.content_type == "application/json"
        return response.status, json.loads(body)


@asynccontextmanager
async def running(shown: View, listen: Listen = LISTEN) -> AsyncIterator[Sidecar]:
    sidecar: Sidecar

    async def reload() -> None:
        if sidecar.reloads and (error := sidecar.reloads.pop(0)):
            raise error
        sidecar.view = replace(sidecar.view, version="reloaded")

    async def explain(_: bytes) -> dict[str, Any]:
        return {"summaries": [], "unmatched": []}

    server = Server(listen, lambda: sidecar.view, reload, explain)
    # auto_decompress off: what came over the wire is what is looked at
    async with aiohttp.ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"}) as http:
        sidecar = Sidecar(server, http, shown)
        await server.start()
        try:
            yield sidecar
        finally:
            await server.stop()


@pytest.fixture
async def sidecar() -> AsyncIterator[Sidecar]:
    async with running(view(status(link_rate(1200, 1198), WRONG))) as started:
        yield started


@pytest.fixture
def guarded(tmp_path) -> Listen:
    (tmp_path / "tokens").write_text(TOKENS)
    return replace(LISTEN, tokens_file=tmp_path / "tokens", reload=True)


def bearer(name: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer s3cret-of-{name}"}}


def basic(token: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{token}".encode()).decode()


# --- /metrics


async def test_metrics_are_text_by_default(sidecar):
    response, body = await sidecar.get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert Metrics.parse(body.decode()).value("position_order_unlinked_filled_orders", database="trading") == 2


# What Prometheus 2 and 3 send.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize("accept", [PROMETHEUS_2, PROMETHEUS_3, "application/openmetrics-text"])
async def test_metrics_are_openmetrics_where_asked_for(sidecar, accept):
    response, body = await sidecar.get("/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert body.endswith(b"# EOF\n")
    assert list(parse_openmetrics(body.decode()))


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/html",
        "",
        "text/plain;q=1,application/openmetrics-text;q=0.5",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=2.0.0,text/plain;q=0.1",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=much",
        ";;,=;q",
    ],
)
async def test_metrics_are_text_where_openmetrics_is_not_preferred(sidecar, accept):
    response, _ = await sidecar.get("/metrics", headers={"Accept": accept})
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_metrics_are_compressed_where_that_is_accepted(sidecar):
    _, plain = await sidecar.get("/metrics")
    response, body = await sidecar.get("/metrics", headers={"Accept-Encoding": "deflate, gzip;q=0.5"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == plain
    response, body = await sidecar.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in response.headers
    assert body == plain


async def test_each_scrape_shows_what_is_known_then(sidecar):
    await sidecar.get("/metrics")
    sidecar.view = view(unreadable())
    told = Metrics.parse((await sidecar.get("/metrics"))[1].decode())
    assert told.value("position_order_up", database="trading") == 0
    assert told.value("position_order_unlinked_filled_orders", database="trading") is None


async def test_a_real_prometheus_reads_it(sidecar, prometheus):
    scraper = await prometheus(
        "scrape_configs: [{job_name: sidecar, scrape_interval: 250ms, scrape_timeout: 250ms, "
        f"static_configs: [{{targets: ['127.0.0.1:{sidecar.server.port}']}}]}}]"
    )
    query = "(position_order_links_total / position_order_eligible_orders_total) * 100"
    answered = await until(lambda: scraper.query(query))
    assert float(answered[0]["value"][1]) == pytest.approx(100 * 1198 / 1200)


# --- the probes


async def test_healthy_whatever_the_database_does(sidecar):
    sidecar.view = view(unreadable())
    response, _ = await sidecar.get("/-/healthy")
    assert response.status == 200


async def test_ready_once_every_database_is(sidecar):
    sidecar.view = view(
        status(database="a"),
        status(database="b", leader=False, up=None, result=None),
        status(database="off", monitored=False, ready=False),
    )
    assert (await sidecar.get("/-/ready"))[0].status == 200


@pytest.mark.parametrize(
    ("waiting", "why"),
    [
        (unreadable("desk"), "desk: Cannot connect to db:5432: connection refused."),
        (status(database="desk", up=None, result=None, ready=False), "desk: its first poll has not ended yet"),
        (status(database="desk", up=False, ready=False), "desk: no check was answered in its last poll"),
        (status(database="desk", ready=False), "desk: it has no result younger than three intervals"),
    ],
)
async def test_not_ready_says_which_and_why(sidecar, waiting, why):
    sidecar.view = view(status(database="fine"), waiting)
    response, body = await sidecar.get("/-/ready")
    assert (response.status, body.decode()) == (503, why + "\n")


# --- the API


async def test_status_is_what_check_prints_and_how_the_watching_goes(sidecar):
    code, told = await sidecar.json("/api/v1/status")
    assert code == 200
    assert {key: told[key] for key in ("database", "as_of", "mode", "verdict", "known_verdict", "error")} == {
        "database": "trading",
        "as_of": "2026-01-27T02:00:00.123456+00:00",
        "mode": "scan",
        "verdict": "CRITICAL",
        "known_verdict": "CRITICAL",
        "error": None,
    }
    assert told["metrics"] == {
        "eligible_orders": 1200,
        "links": 1198,
        "link_rate": 100 * 1198 / 1200,
        "unlinked_filled_orders": 2,
        "orphaned_references": 0,
        "quantity_mismatches": 0,
    }
    checks = {check["name"]: check for check in told["checks"]}
    assert checks.keys() == set(NAMES)
    unlinked = checks["unlinked_filled_order"]
    assert [row["id"] for row in unlinked["findings"]] == [each.id for each in WRONG.findings]
    assert unlinked["findings"][0]["details"] == {"trading_pair": "BTC/USD"}
    assert {
        key: unlinked[key] for key in ("issue_type", "priority", "ok", "error", "count", "truncated", "seconds")
    } == {
        "issue_type": "UNLINKED_FILLED_ORDER",
        "priority": "high",
        "ok": True,
        "error": None,
        "count": 2,
        "truncated": False,
        "seconds": 0.012,
    }
    rate = checks["link_rate"]
    assert (rate["issue_type"], rate["count"], rate["findings"]) == (None, None, [])
    assert (told["up"], told["ready"], told["last_success"]) == (True, True, told["as_of"])


async def test_what_failed_is_null_and_never_zero(sidecar):
    sidecar.view = view(status(failed("quantity_mismatch", "permission denied"), failed("link_rate"), WRONG))
    _, told = await sidecar.json("/api/v1/status")
    assert (told["verdict"], told["known_verdict"]) == ("UNKNOWN", "CRITICAL")
    assert told["metrics"] == {
        "eligible_orders": None,
        "links": None,
        "link_rate": None,
        "unlinked_filled_orders": 2,
        "orphaned_references": 0,
        "quantity_mismatches": None,
    }
    check = next(check for check in told["checks"] if check["name"] == "quantity_mismatch")
    assert (check["ok"], check["error"], check["count"], check["as_of"]) == (False, "permission denied", None, None)
    _, told = await sidecar.json("/api/v1/findings?check=quantity_mismatch")
    assert told["findings"] is None


async def test_of_a_database_that_cannot_be_read_nothing_is_claimed(sidecar):
    sidecar.view = view(unreadable())
    code, told = await sidecar.json("/api/v1/status")
    assert code == 200
    assert (told["verdict"], told["known_verdict"], told["as_of"], told["up"]) == ("UNKNOWN", None, None, False)
    assert set(told["metrics"].values()) == {None}
    assert {(check["ok"], check["count"], check["error"]) for check in told["checks"]} == {
        (False, None, "Cannot connect to db:5432: connection refused.")
    }
    assert (await sidecar.json("/api/v1/findings"))[1]["findings"] is None


async def test_findings_are_the_rows_that_are_wrong(sidecar):
    _, told = await sidecar.json("/api/v1/findings")
    assert [(row["check"], row["id"]) for row in told["findings"]] == [
        ("unlinked_filled_order", each.id) for each in WRONG.findings
    ]
    _, told = await sidecar.json("/api/v1/findings?check=unlinked_filled_order")
    assert [check["name"] for check in told["checks"]] == ["unlinked_filled_order"]
    assert len(told["findings"]) == 2
    _, told = await sidecar.json("/api/v1/findings?check=quantity_mismatch")
    assert told["findings"] == []
    assert (await sidecar.json("/api/v1/findings?check=nonsense"))[0] == 404


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/findings"])
async def test_with_several_databases_one_has_to_be_named(sidecar, path):
    sidecar.view = view(status(database="spot"), status(database="desk é/&", environment=None))
    code, told = await sidecar.json(path)
    assert code == 400
    assert "spot" in told["error"]
    assert "desk é/&" in told["error"]
    code, told = await sidecar.json(path, params={"database": "desk é/&"})
    assert (code, told["database"]) == (200, "desk é/&")
    code, told = await sidecar.json(path, params={"database": "nonsense"})
    assert (code, list(told)) == (404, ["error"])
    assert (await sidecar.json(path + "?database=spot&database=spot"))[0] == 400


@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/findings"])
async def test_a_follower_shows_no_rows(sidecar, path):
    sidecar.view = view(status(WRONG, leader=False))
    assert await sidecar.json(path) == (503, {"error": "follower"})


async def test_the_page_is_shown_to_a_person(sidecar):
    response, body = await sidecar.get("/")
    assert (response.status, response.content_type) == (200, "text/html")
    assert WRONG.findings[0].id in body.decode()


# --- every path


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/api/v1/positions/1/trail", "/-/reload", "/favicon.ico"])
async def test_other_paths_are_answered_in_one_sentence(sidecar, path):
    response, body = await sidecar.get(path, method="POST")
    assert response.status == 404
    sentence = json.loads(body)["error"] if path.startswith("/api/") else body.decode().strip()
    assert sentence == "There is nothing here."


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/ready", "/api/v1/status"])
async def test_other_methods_are_refused(sidecar, path):
    response, body = await sidecar.get(path, method="DELETE")
    assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")
    assert b"DELETE is not possible here." in body


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/status"])
async def test_head_answers_like_get_without_a_body(sidecar, path):
    got, body = await sidecar.get(path)
    head, nothing = await sidecar.get(path, method="HEAD")
    assert (head.status, head.headers["Content-Type"], nothing) == (got.status, got.headers["Content-Type"], b"")
    assert int(head.headers["Content-Length"]) == pytest.approx(len(body), abs=20)  # the page tells the time


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/ready", "/api/v1/status", "/nothing"])
async def test_every_answer_is_kept_to_itself(sidecar, path):
    response, _ = await sidecar.get(path)
    headers = response.headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "po-exporter"
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    assert "script-src" not in policy


@pytest.mark.parametrize("path", ["/", "/api/v1/status", "/api/v1/findings"])
async def test_without_tokens_rows_are_for_loopback_alone(sidecar, path):
    assert (await sidecar.get(path))[0].status == 200
    for headers in ({"X-Forwarded-For": "127.0.0.1"}, {"Host": "exporter.example"}):
        response, body = await sidecar.get(path, headers=headers)
        assert response.status == 403
        assert b"server.tokens_file" in body
        assert WRONG.findings[0].id.encode() not in body
        assert (await sidecar.get("/metrics", headers=headers))[0].status == 200


async def raw(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.0\r\n", b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"],
)
async def test_a_request_without_a_host_or_in_the_form_for_proxies_is_not_on_loopback(sidecar, request_line):
    answered = await raw(sidecar.server.port, request_line + b"\r\n")
    assert answered.split(b" ", 2)[1] == b"403"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
async def test_what_is_too_large_or_malformed_is_refused(sidecar, request_bytes):
    assert (await raw(sidecar.server.port, request_bytes)).split(b" ", 2)[1] == b"400"


async def test_nonsense_fills_no_log_and_a_defect_is_told(sidecar):
    with capture_logs() as logs:
        await raw(sidecar.server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n")
    assert logs == []
    sidecar.view = replace(sidecar.view, statuses=(None,))
    with capture_logs() as logs:
        response, body = await sidecar.get("/metrics")
    assert response.status == 500
    assert b"Traceback" not in body
    assert [entry["event"] for entry in logs] == ["request_failed"]
    assert "AttributeError" in logs[0]["traceback"]


async def test_a_connection_that_asks_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.1)
    async with running(view()) as sidecar:
        assert await raw(sidecar.server.port, b"GET / HTTP/1.1\r\nHost: loc") == b""


# --- tokens


@pytest.mark.parametrize(
    ("path", "holder"),
    [("/metrics", "metrics"), ("/", "oncall"), ("/api/v1/status", "oncall"), ("/api/v1/findings", "oncall")],
)
async def test_with_tokens_the_scopes_hold(guarded, path, holder):
    async with running(view(), guarded) as sidecar:
        response, body = await sidecar.get(path)
        assert response.status == 401
        assert [value.split()[0] for value in response.headers.getall("WWW-Authenticate")] == ["Bearer", "Basic"]
        assert (await sidecar.get(path, **bearer("admin")))[0].status == 403
        forwarded = {"headers": {**bearer(holder)["headers"], "X-Forwarded-For": "192.0.2.1", "Host": "example"}}
        assert (await sidecar.get(path, **forwarded))[0].status == 200
        password = basic(f"s3cret-of-{holder}")
        assert (await sidecar.get(path, headers={"Authorization": password}))[0].status == 200
        if path.startswith("/api/"):
            assert list(json.loads(body)) == ["error"]


async def test_with_tokens_the_probes_and_the_description_stay_open(guarded):
    async with running(view(), guarded) as sidecar:
        for path in ("/-/healthy", "/-/ready", "/api/v1/openapi.json"):
            assert (await sidecar.get(path))[0].status == 200


async def test_reload_reloads(guarded):
    async with running(view(), guarded) as sidecar:
        assert (await sidecar.get("/-/reload", **bearer("admin")))[0].status == 405
        assert sidecar.view.version != "reloaded"
        assert (await sidecar.get("/-/reload", method="POST", **bearer("admin")))[0].status == 200
        assert sidecar.view.version == "reloaded"


async def test_reload_is_for_bearers_of_its_scope(guarded):
    async with running(view(), guarded) as sidecar:
        for headers, code in (
            ({}, 401),
            (bearer("oncall")["headers"], 403),
            ({"Authorization": basic("s3cret-of-admin")}, 401),
        ):
            assert (await sidecar.get("/-/reload", method="POST", headers=headers))[0].status == code
        assert sidecar.view.version != "reloaded"


async def test_reload_tells_every_fault(guarded):
    faults = ConfigError([Fault("monitor.interval", "is no duration."), Fault("databases", "is empty.")])
    async with running(view(), guarded) as sidecar:
        sidecar.reloads = [faults, DatabaseError("The database did not answer.")]
        response, body = await sidecar.get("/-/reload", method="POST", **bearer("admin"))
        assert (response.status, body.decode().splitlines()) == (
            400, ["monitor.interval: is no duration.", "databases: is empty."],
        )  # fmt: skip
        assert (await sidecar.get("/-/reload", method="POST", **bearer("admin")))[0].status == 500


@pytest.mark.parametrize("with_tokens", [True, False])
async def test_reload_exists_only_where_it_is_switched_on_behind_tokens(guarded, with_tokens):
    listen = replace(guarded, reload=False) if with_tokens else replace(guarded, tokens_file=None)
    async with running(view(), listen) as sidecar:
        assert (await sidecar.get("/-/reload", method="POST", **bearer("admin")))[0].status == 404


# --- the description


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}


@pytest.mark.parametrize(
    "changes", [{}, {"reload": False}, {"tokens_file": None}], ids=["everything", "no reload", "no tokens"]
)
async def test_the_description_is_of_exactly_what_exists(guarded, changes):
    async with running(view(), replace(guarded, **changes)) as sidecar:
        _, document = await sidecar.json("/api/v1/openapi.json")
        runner = sidecar.server._runner
        assert runner is not None
        routes = {
            (route.resource.canonical, route.method)
            for route in runner.app.router.routes()
            if route.resource and route.method != "HEAD"
        }
        assert operations(document) == routes
        for path, method in routes:
            code = str((await sidecar.get(path, method=method))[0].status)
            described = document["paths"][path][method.lower()]
            assert code in described["responses"]
            assert ("security" in described) == (code == "401")
    text = json.dumps(document)
    assert all(f'"{name}"' in text for name in ("openapi", "info", "servers"))
    for pointer in re.findall(r'"\$ref": "#/([^"]+)"', text):
        place = document
        for part in pointer.split("/"):
            place = place[part]


async def test_the_answers_have_the_fields_that_are_described(sidecar):
    _, document = await sidecar.json("/api/v1/openapi.json")
    schemas = document["components"]["schemas"]
    for shown in (sidecar.view, view(unreadable()), view(status(failed("link_rate"), WRONG))):
        sidecar.view = shown
        _, told = await sidecar.json("/api/v1/status")
        assert told.keys() == schemas["Status"]["properties"].keys() == set(schemas["Status"]["required"])
        assert told["metrics"].keys() == schemas["Status"]["properties"]["metrics"]["properties"].keys()
        assert all(check.keys() == schemas["Check"]["properties"].keys() for check in told["checks"])
        rows = [row for check in told["checks"] for row in check["findings"]]
        assert all(row.keys() == schemas["Finding"]["properties"].keys() for row in rows)
        _, told = await sidecar.json("/api/v1/findings")
        assert told.keys() == schemas["Findings"]["properties"].keys()


@pytest.mark.parametrize("several", [True, False])
async def test_the_description_tells_whether_a_database_has_to_be_named(sidecar, several):
    sidecar.view = view(status(), status(database="desk")) if several else view()
    _, document = await sidecar.json("/api/v1/openapi.json")
    assert document["components"]["parameters"]["database"]["required"] is several


async def test_the_description_names_where_clients_find_it():
    async with running(view(), replace(LISTEN, external_url="https://watch.example/po")) as sidecar:
        _, document = await sidecar.json("/api/v1/openapi.json")
    assert document["servers"] == [{"url": "https://watch.example/po"}]


def test_the_documentation_lists_every_path():
    table = re.findall(r"^\| `(?:GET|POST) ([^`]+)` \|", DOCS.read_text(), re.MULTILINE)
    assert set(table) == {
        "/metrics", "/", "/-/healthy", "/-/ready", "/-/reload",
        "/api/v1/status", "/api/v1/findings", "/api/v1/openapi.json", "/hooks/alertmanager",
    }  # fmt: skip


# --- its life


async def test_a_port_that_is_taken_is_told_in_a_sentence(sidecar):
    second = Server(Listen("127.0.0.1", sidecar.server.port), lambda: sidecar.view, _never)
    with pytest.raises(UsageError, match=f"127.0.0.1:{sidecar.server.port}: another program uses that port"):
        await second.start()


async def test_an_address_of_another_machine_is_told_in_a_sentence():
    with pytest.raises(UsageError, match="no such address"):
        await Server(Listen("192.0.2.1", 0), view, _never).start()


async def _never() -> None:
    raise AssertionError("nobody asked for a reload")


async def test_open_connections_do_not_hold_up_the_stop(monkeypatch, guarded):
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.2)
    async with running(view(), guarded) as sidecar:
        asked = asyncio.Event()

        async def never_ends() -> None:
            asked.set()
            await asyncio.Event().wait()

        sidecar.server._reload = never_ends
        await sidecar.server.change(guarded)  # so that its routes know of it
        port = sidecar.server.port
        idle, half, waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        half[1].write(b"GET /metrics HTTP/1.1\r\nHost: local")
        authorization = b"Authorization: Bearer s3cret-of-admin"
        waiting[1].write(b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\n" + authorization + b"\r\n\r\n")
        async with asyncio.timeout(10):
            await asked.wait()
            await sidecar.server.stop()
            for reader, writer in (idle, half, waiting):
                assert await reader.read() == b""
                writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_change_answers_the_reload_that_asked_for_it(guarded, tmp_path):
    """And the address stays open: a connection that waits in its queue is answered, too."""
    async with running(view(), guarded) as sidecar:
        port = sidecar.server.port
        stricter = replace(guarded, reload=False, tokens_file=tmp_path / "new")
        stricter.tokens_file.write_text("metrics metrics.read another\n")

        async def change() -> None:
            await sidecar.server.change(stricter)

        sidecar.server._reload = change
        await sidecar.server.change(guarded)  # so that its routes know of it
        async with asyncio.timeout(10):
            assert (await sidecar.get("/-/reload", method="POST", **bearer("admin")))[0].status == 200
        assert sidecar.server.port == port
        assert (await sidecar.get("/-/reload", method="POST", **bearer("admin")))[0].status == 404
        assert (await sidecar.get("/metrics", **bearer("metrics")))[0].status == 401


async def test_a_change_that_cannot_be_made_changes_nothing(guarded, sidecar):
    async with running(view(), guarded) as other:
        for wanted, error in (
            (replace(guarded, port=sidecar.server.port), UsageError),
            (replace(guarded, tokens_file=Path("/nonexistent/tokens")), ConfigError),
        ):
            with pytest.raises(error):
                await other.server.change(wanted)
            assert (await other.get("/metrics", **bearer("metrics")))[0].status == 200


async def test_a_change_of_the_address_moves_the_server(sidecar):
    before = sidecar.server.port
    await sidecar.server.change(Listen("localhost", 0))
    assert sidecar.server.port != before
    assert (await sidecar.get("/-/healthy"))[0].status == 200


# --- TLS


@pytest.fixture
def certified(tmp_path) -> tuple[Authority, Listen]:
    authority = Authority(tmp_path, "ours")
    cert, key = authority.issue("localhost")
    return authority, replace(LISTEN, cert_file=cert, key_file=key)


async def fetch_over_tls(port: int, context: ssl.SSLContext) -> tuple[int, str]:
    """The status of /-/healthy and the serial number of the certificate that was shown."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answered = await reader.read()
        if not answered:
            raise ConnectionError("the server hung up, as it does after a handshake that it does not like")
        return int(answered.split(b" ", 2)[1]), writer.get_extra_info("peercert")["serialNumber"]
    finally:
        writer.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_is_at_least_1_2(certified):
    authority, listen = certified
    async with running(view(), listen) as sidecar:
        assert (await fetch_over_tls(sidecar.server.port, authority.client_context()))[0] == 200
        old = authority.client_context()
        old.set_ciphers("ALL:@SECLEVEL=0")  # without this OpenSSL itself would not try
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await fetch_over_tls(sidecar.server.port, old)


async def test_a_client_needs_a_certificate_where_an_authority_is_named(certified):
    authority, listen = certified
    async with running(view(), replace(listen, client_ca_file=authority.cert_file)) as sidecar:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await fetch_over_tls(sidecar.server.port, authority.client_context())
        known = authority.client_context(authority.issue("client"))
        assert (await fetch_over_tls(sidecar.server.port, known))[0] == 200


async def test_renewed_certificates_are_used_and_removed_authorities_are_not(certified, tmp_path):
    authority, listen = certified
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.cert_file.read_bytes())
    async with running(view(), replace(listen, client_ca_file=trusted)) as sidecar:
        port = sidecar.server.port
        ours = authority.client_context(authority.issue("client"))
        _, before = await fetch_over_tls(port, ours)
        authority.issue("localhost")
        other = Authority(tmp_path, "other")
        trusted.write_bytes(other.cert_file.read_bytes())
        await sidecar.server.reload_certificates()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await fetch_over_tls(port, ours)
        theirs = authority.client_context(other.issue("client"))
        code, after = await fetch_over_tls(port, theirs)
        assert code == 200
        assert after != before


async def test_unusable_certificates_leave_the_old_ones_in_use(certified):
    authority, listen = certified
    async with running(view(), listen) as sidecar:
        _, before = await fetch_over_tls(sidecar.server.port, authority.client_context())
        listen.cert_file.write_text("nonsense")
        with pytest.raises(ConfigError, match=r"server\.tls\.cert_file"):
            await sidecar.server.reload_certificates()
        assert await fetch_over_tls(sidecar.server.port, authority.client_context()) == (200, before)


async def test_unusable_files_are_named(certified, tmp_path):
    _, listen = certified
    nothing = tmp_path / "nothing.pem"
    for changes, place in (
        ({"cert_file": nothing}, "server.tls.cert_file"),
        ({"key_file": listen.cert_file}, "server.tls.cert_file"),
        ({"key_file": None}, "server.tls"),
        ({"client_ca_file": nothing}, "server.tls.client_ca_file"),
        ({"client_ca_file": listen.key_file}, "server.tls.client_ca_file"),
        ({"cert_file": None, "key_file": None, "client_ca_file": listen.cert_file}, "server.tls"),
    ):
        with pytest.raises(ConfigError) as refused:
            await Server(replace(listen, **changes), view, _never).start()
        assert [fault.place for fault in refused.value.faults] == [place]
