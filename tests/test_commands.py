"""The commands as a person or a script meets them: exit statuses, and what is printed where.

They run in this process, which saves a second each; what only a real process shows is at the end.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from here import Here, sql
from parts.database import Database
from parts.program import COMMAND
from sidecar import POPULATION, settings

DEAD = "postgresql://po_reader@127.0.0.1:1/gone"
A1, A2 = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
B2 = "00000000-0000-0000-0000-0000000000b2"


@pytest.fixture
def po(capsys, monkeypatch, po_exporter) -> Here:
    return Here(capsys, monkeypatch, po_exporter)


@pytest.fixture
def filled(database: Database) -> Database:
    sql(database, POPULATION)
    return database


def test_check_prints_the_contracts_object(filled, po):
    sql(filled, f"UPDATE positions SET quantity = 2.00000001 WHERE id = '{A1}'")
    finished = po("check", "--format", "json", dsn=filled.reader_dsn)
    assert (finished.status, finished.stderr) == (1, "")
    (found,) = finished.json["databases"]
    assert found["database"] == filled.name
    assert found["mode"] == "scan"
    assert found["verdict"] == found["known_verdict"] == "CRITICAL"
    assert found["metrics"] == {
        "eligible_orders": 3,
        "links": 1,
        "link_rate": pytest.approx(100 / 3),
        "unlinked_filled_orders": 1,
        "orphaned_references": 1,
        "quantity_mismatches": 2,
    }
    checks = {check["name"]: check for check in found["checks"]}
    assert len(checks) == len(found["checks"]) == 14
    for check in checks.values():
        assert " ".join(check) == "name issue_type priority ok error as_of count truncated seconds findings"
        assert (check["ok"], check["error"], check["truncated"]) == (True, None, False)
        assert check["as_of"] == found["as_of"]
        assert check["seconds"] >= 0
    rate = checks["link_rate"]
    assert (rate["issue_type"], rate["priority"], rate["count"], rate["findings"]) == (None, None, None, [])
    unlinked = checks["unlinked_filled_order"]
    assert (unlinked["issue_type"], unlinked["priority"], unlinked["count"]) == ("UNLINKED_FILLED_ORDER", "high", 1)
    (finding,) = unlinked["findings"]
    assert set(finding) == {"id", "since", "first_seen", "details"}
    assert finding["id"] == B2
    assert finding["details"]["trading_pair"] == "BTC/USD"
    for text in (found["as_of"], finding["since"], finding["first_seen"]):
        assert datetime.fromisoformat(text).utcoffset() == timedelta(0)
    mismatches = checks["quantity_mismatch"]["findings"]
    assert mismatches[0]["details"]["expected"] == "2.50000000", "exact to the last digit, and a string"
    assert mismatches[0]["details"]["found"] == "2.00000001"


def test_ids_and_quantities_of_any_type_are_strings(empty_database, po):
    sql(
        empty_database,
        """
        CREATE TABLE orders (id bigint PRIMARY KEY, position_id bigint, trading_pair text, exchange text, side text,
          quantity float8, status text, exchange_order_id text, filled_quantity float8,
          average_fill_price float8, commission float8, created_at timestamptz DEFAULT now(), updated_at timestamptz);
        CREATE TABLE positions (id bigint PRIMARY KEY, trading_pair text, side text, quantity float8,
          entry_price float8, realized_pnl float8, opened_at timestamptz DEFAULT now(), closed_at timestamptz,
          is_active boolean DEFAULT true);
        GRANT SELECT ON orders, positions TO po_reader;
        INSERT INTO positions (id, trading_pair, side, quantity) VALUES (9007199254740993, 'BTC/USD', 'LONG', 0.1);
        INSERT INTO orders (id, position_id, trading_pair, side, quantity, status, filled_quantity)
        VALUES (-1, 9007199254740993, 'BTC/USD', 'BUY', 0.30000000000000004, 'FILLED', 0.30000000000000004)""",
    )
    finished = po("check", "--format", "json", "--fail-on", "medium", dsn=empty_database.reader_dsn)
    assert finished.status == 1, finished
    checks = {check["name"]: check for check in finished.json["databases"][0]["checks"]}
    (finding,) = checks["quantity_mismatch"]["findings"]
    assert finding["id"] == "9007199254740993"
    assert finding["details"]["expected"] == "0.30000000000000004"
    assert finding["details"]["found"] == "0.1"
    finished = po("trail", "9007199254740993", "--format", "json", dsn=empty_database.reader_dsn)
    assert finished.status == 1, finished
    assert finished.json["current_quantity"] == "0.1"
    assert finished.json["contributing_orders"][0]["order_id"] == "-1"
    for malformed in ("9223372036854775808", "1.0", "1_000x", "x"):
        finished = po("trail", malformed, dsn=empty_database.reader_dsn)
        assert_one_sentence(finished, 2, "bigint")


def test_nothing_eligible_is_no_rate(database, po):
    finished = po("check", "--format", "json", dsn=database.reader_dsn)
    assert finished.status == 0, finished
    (found,) = finished.json["databases"]
    assert found["verdict"] == "OK"
    assert found["metrics"]["link_rate"] is None
    assert found["metrics"]["eligible_orders"] == found["metrics"]["quantity_mismatches"] == 0


LEVELS = {
    # what is done to a healthy population -> the verdict, and the status under each --fail-on
    "UPDATE orders SET position_id = NULL": ("CRITICAL", {"high": 1, "medium": 1, "low": 1, "never": 0}),
    "UPDATE positions SET quantity = 3": ("DEGRADED", {"high": 0, "medium": 1, "low": 1, "never": 0}),
    "UPDATE positions SET closed_at = opened_at": ("DEGRADED", {"high": 0, "medium": 0, "low": 1, "never": 0}),
    "SELECT": ("OK", {"high": 0, "medium": 0, "low": 0, "never": 0}),
}


@pytest.mark.parametrize("done", LEVELS)
def test_the_status_goes_by_the_gravest_finding(done, filled, po):
    sql(
        filled, f"DELETE FROM orders WHERE position_id IS DISTINCT FROM '{A1}'; DELETE FROM positions WHERE id = '{A2}'"
    )
    sql(filled, done)
    verdict, statuses = LEVELS[done]
    finished = {least: po("check", "--fail-on", least, dsn=filled.reader_dsn) for least in statuses}
    assert {least: each.status for least, each in finished.items()} == statuses
    assert all(each.stdout.startswith(verdict) for each in finished.values())
    assert po("check", dsn=filled.reader_dsn).status == statuses["high"]


def test_not_knowing_wins_over_findings(filled, po):
    sql(filled, "ALTER TABLE orders DROP COLUMN exchange_order_id")
    finished = po("check", "--format", "json", dsn=filled.reader_dsn)
    assert finished.status == 3
    (found,) = finished.json["databases"]
    assert (found["verdict"], found["known_verdict"]) == ("UNKNOWN", "CRITICAL")
    (failed,) = [check for check in found["checks"] if not check["ok"]]
    assert failed["name"] == "duplicate_exchange_order"
    assert failed["count"] is None
    assert "exchange_order_id" in failed["error"]
    finished = po("check", "--fail-on", "never", dsn=filled.reader_dsn)
    assert finished.status == 3
    assert "UNKNOWN" in finished.stdout


def test_a_dead_database_hides_no_other(filled, po):
    config = settings(DEAD, filled.reader_dsn)
    finished = po("check", "--format", "json", config=config)
    assert finished.status == 3
    there, gone = finished.json["databases"]
    assert (gone["database"], gone["verdict"], gone["as_of"]) == ("trading", "UNKNOWN", None)
    assert set(gone["metrics"].values()) == {None}
    assert len(gone["checks"]) == 14
    assert {(check["ok"], check["count"]) for check in gone["checks"]} == {(False, None)}
    assert (there["database"], there["verdict"]) == ("desk", "CRITICAL")
    assert there["metrics"]["unlinked_filled_orders"] == 1
    finished = po("check", "--database", "desk", config=config)
    assert finished.status == 1
    assert "UNKNOWN" not in finished.stdout
    finished = po("check", config=config)
    assert finished.status == 3
    assert "UNKNOWN  trading" in finished.stdout
    assert "CRITICAL  desk" in finished.stdout


def test_the_window_is_as_long_as_was_asked_for(filled, po):
    sql(filled, "UPDATE orders SET created_at = created_at - interval '30 days'")

    def unlinked(*args: str) -> int:
        finished = po("check", "--format", "json", *args, dsn=filled.reader_dsn)
        assert finished.status == 1, finished
        return finished.json["databases"][0]["metrics"]["unlinked_filled_orders"]

    assert unlinked() == 0
    assert unlinked("--hours-back", "721.5") == 1
    assert unlinked("--historical") == 1
    assert unlinked("--hours-back", "10000000") == 1
    assert unlinked("--hours-back", "inf") == 1


USAGE = {
    ("check", "--hours-back", "0"): "not in the range",
    ("check", "--hours-back", "nan"): "not a number",
    ("check", "--hours-back", "1", "--historical"): "contradict",
    ("check", "--fail-on", "grave"): "'grave'",
    ("check", "--database", "nope"): "no database 'nope'",
    ("doctor", "--database", "nope"): "no database 'nope'",
    ("trail", A1, "--database", "nope"): "no database 'nope'",
    ("trail", A1): "--database",
    ("trail",): "POSITION_ID",
    ("run", "--listen", "nonsense"): "host:port",
    ("nonsense",): "nonsense",
}


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_a_wrong_command_line_is_said_and_costs_2(args, po):
    finished = po(*args, config=settings(DEAD, DEAD))
    assert finished.status == 2, finished
    assert USAGE[args] in finished.stderr
    assert finished.stdout == ""
    assert "Traceback" not in finished.stderr


def assert_one_sentence(finished, status, *words):
    assert finished.status == status, finished
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1, finished.stderr
    assert finished.stderr.startswith("po-exporter: ")
    assert all(word in finished.stderr for word in words), finished.stderr


CONFIGS = {
    "a directory": lambda tmp_path: tmp_path,
    "a file that is not there": lambda tmp_path: tmp_path / "absent.yaml",
    "bytes": lambda tmp_path: written(tmp_path, b"\xff\xfe\x00\x01"),
    "no mapping": lambda tmp_path: written(tmp_path, b"- trading"),
    "nothing": lambda tmp_path: written(tmp_path, b""),
    "not YAML": lambda tmp_path: written(tmp_path, b"databases: {"),
}


def written(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_configuration_that_cannot_be_used_costs_2(kind, po, tmp_path):
    config = CONFIGS[kind](tmp_path)
    for each in (po("check", config=config), po("run", config=config)):
        assert each.status == 2, each
        assert each.stdout == ""
        assert each.stderr.startswith("po-exporter: ")
        assert "Traceback" not in each.stderr


def test_a_dsn_for_several_databases_costs_2(po):
    finished = po("check", config=settings(DEAD, DEAD), dsn=DEAD)
    assert_one_sentence(finished, 2, "PO_EXPORTER_DSN")


def test_an_address_that_is_taken_costs_2(filled, po):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        finished = po("run", "--listen", listen, dsn=filled.reader_dsn)
    assert (finished.status, finished.stdout) == (2, "")
    assert listen in finished.stderr.splitlines()[-1]


def test_a_server_without_tls_is_named(filled, po):
    finished = po("check", dsn=f"{filled.reader_dsn}?sslmode=require")
    assert finished.status == 3
    assert "rejected SSL" in finished.stdout


PIPED = ("check --format json", "check", "config show")


@pytest.mark.parametrize("command", PIPED)
def test_a_reader_that_goes_away_and_a_full_disk_are_no_findings(command, filled, po_exporter):
    program = " ".join(COMMAND)
    for shell in (f"{program} {command} | true; exit ${{PIPESTATUS[0]}}", f"{program} {command} > /dev/full"):
        done = subprocess.run(
            ["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False,
            env=po_exporter.environment({"PO_EXPORTER_DSN": filled.reader_dsn}),
        )  # fmt: skip
        assert done.returncode == 3, done
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_doctor_tells_advice_from_what_cannot_work(filled, po):
    finished = po("doctor", "--format", "json", dsn=filled.reader_dsn)
    assert (finished.status, finished.stderr) == (0, ""), finished.stdout
    remarks = finished.json["databases"][0]["remarks"]
    assert {remark["level"] for remark in remarks} == {"ok", "advice"}
    assert any("exchange_order_id" in (remark["action"] or "") for remark in remarks)
    sql(filled, "ALTER TABLE orders DROP COLUMN exchange_order_id")
    finished = po("doctor", dsn=filled.reader_dsn)
    assert finished.status == 1
    assert "problem" in finished.stdout
    finished = po("doctor", config=settings(DEAD, filled.reader_dsn))
    assert finished.status == 3
    assert "problem" in finished.stdout, "the other is examined all the same"


async def test_the_sidecar_does_without_the_library_that_draws_tables():
    code = "import sys, po_exporter.cli; sys.exit(any(name.partition('.')[0] == 'rich' for name in sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
