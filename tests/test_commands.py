"""The commands as a person or a script meets them: exit statuses, what is printed where, and no secret, ever."""

from __future__ import annotations

import asyncio
import subprocess
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from parts.program import COMMAND
from sidecar import populate, settings

DEAD = "postgresql://po_reader@127.0.0.1:1/gone"
A1, A2 = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
B2 = "00000000-0000-0000-0000-0000000000b2"


@pytest.fixture
async def filled(database):
    await populate(database)
    return database


def env(database):
    return {"PO_EXPORTER_DSN": database.reader_dsn}


async def test_check_prints_the_contracts_object(filled, cli):
    await filled.execute("UPDATE positions SET quantity = 2.00000001 WHERE id = $1", A1)
    finished = await cli("check", "--format", "json", env=env(filled))
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
        assert set(check) == {"name", "issue_type", "priority", "ok", "error", "as_of", "count", "truncated", "seconds", "findings"}  # fmt: skip
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


async def test_ids_and_quantities_of_any_type_are_strings(empty_database, cli):
    await empty_database.execute("""
        CREATE TABLE orders (id bigint PRIMARY KEY, position_id bigint, trading_pair text, exchange text, side text,
          quantity float8, status text, exchange_order_id text, filled_quantity float8, average_fill_price float8,
          commission float8, created_at timestamptz DEFAULT now(), updated_at timestamptz);
        CREATE TABLE positions (id bigint PRIMARY KEY, trading_pair text, side text, quantity float8, entry_price float8,
          realized_pnl float8, opened_at timestamptz DEFAULT now(), closed_at timestamptz, is_active boolean DEFAULT true);
        GRANT SELECT ON orders, positions TO po_reader;
        INSERT INTO positions (id, trading_pair, side, quantity) VALUES (9007199254740993, 'BTC/USD', 'LONG', 0.1);
        INSERT INTO orders (id, position_id, trading_pair, side, quantity, status, filled_quantity)
        VALUES (-1, 9007199254740993, 'BTC/USD', 'BUY', 0.30000000000000004, 'FILLED', 0.30000000000000004)""")
    finished = await cli("check", "--format", "json", "--fail-on", "medium", env=env(empty_database))
    assert finished.status == 1, finished
    checks = {check["name"]: check for check in finished.json["databases"][0]["checks"]}
    (finding,) = checks["quantity_mismatch"]["findings"]
    assert finding["id"] == "9007199254740993"
    assert finding["details"]["expected"] == "0.30000000000000004"
    assert finding["details"]["found"] == "0.1"
    finished = await cli("trail", "9007199254740993", "--format", "json", env=env(empty_database))
    assert finished.status == 1, finished
    assert finished.json["current_quantity"] == "0.1"
    assert finished.json["contributing_orders"][0]["order_id"] == "-1"
    for malformed in ("9223372036854775808", "1.0", "1_000x", "x"):
        finished = await cli("trail", malformed, env=env(empty_database))
        assert_one_sentence(finished, 2, "bigint")


async def test_nothing_eligible_is_no_rate(database, cli):
    finished = await cli("check", "--format", "json", env=env(database))
    assert finished.status == 0, finished
    (found,) = finished.json["databases"]
    assert found["verdict"] == "OK"
    assert found["metrics"]["link_rate"] is None
    assert found["metrics"]["eligible_orders"] == found["metrics"]["quantity_mismatches"] == 0


LEVELS = {
    # what is wrong -> verdict, and the status for each --fail-on
    "high": ("CRITICAL", {"high": 1, "medium": 1, "low": 1, "never": 0}),
    "medium": ("DEGRADED", {"high": 0, "medium": 1, "low": 1, "never": 0}),
    "low": ("DEGRADED", {"high": 0, "medium": 0, "low": 1, "never": 0}),
    "nothing": ("OK", {"high": 0, "medium": 0, "low": 0, "never": 0}),
}
MADE = {
    "high": "UPDATE orders SET position_id = NULL",
    "medium": "UPDATE positions SET quantity = 3",
    "low": "UPDATE positions SET closed_at = opened_at",
    "nothing": "SELECT 1",
}


@pytest.mark.parametrize("level", LEVELS)
async def test_the_status_goes_by_the_gravest_finding(level, database, cli):
    await populate(database)
    await database.execute("DELETE FROM orders WHERE position_id IS NULL OR position_id::text LIKE '%ff'")
    await database.execute("DELETE FROM positions WHERE quantity = 1")
    await database.execute(MADE[level])
    verdict, statuses = LEVELS[level]
    runs = [cli("check", "--fail-on", least, env=env(database)) for least in statuses]
    finished = [await run for run in runs]
    assert [each.status for each in finished] == list(statuses.values()), finished
    assert all(each.stdout.startswith(verdict) for each in finished)
    default = await cli("check", env=env(database))
    assert default.status == statuses["high"]


async def test_not_knowing_wins_over_findings(filled, cli):
    await filled.execute("ALTER TABLE orders DROP COLUMN exchange_order_id")
    finished = await cli("check", "--format", "json", env=env(filled))
    assert finished.status == 3
    (found,) = finished.json["databases"]
    assert (found["verdict"], found["known_verdict"]) == ("UNKNOWN", "CRITICAL")
    (failed,) = [check for check in found["checks"] if not check["ok"]]
    assert failed["name"] == "duplicate_exchange_order"
    assert failed["count"] is None
    assert "exchange_order_id" in failed["error"]
    finished = await cli("check", "--fail-on", "never", env=env(filled))
    assert finished.status == 3
    assert "UNKNOWN" in finished.stdout


async def test_a_dead_database_hides_no_other(filled, cli):
    config = settings(DEAD, filled.reader_dsn)
    finished = await cli("check", "--format", "json", config=config)
    assert finished.status == 3
    gone, there = finished.json["databases"]
    assert (gone["database"], gone["verdict"], gone["as_of"]) == ("trading", "UNKNOWN", None)
    assert set(gone["metrics"].values()) == {None}
    assert len(gone["checks"]) == 14
    assert {(check["ok"], check["count"]) for check in gone["checks"]} == {(False, None)}
    assert (there["database"], there["verdict"]) == ("desk", "CRITICAL")
    assert there["metrics"]["unlinked_filled_orders"] == 1
    finished = await cli("check", "--database", "desk", config=config)
    assert finished.status == 1
    assert "trading" not in finished.stdout
    finished = await cli("check", config=config)
    assert finished.status == 3
    assert finished.stdout.startswith("UNKNOWN  trading")
    assert "CRITICAL  desk" in finished.stdout


async def test_the_window_is_as_long_as_was_asked_for(filled, cli):
    await filled.execute("UPDATE orders SET created_at = created_at - interval '30 days'")

    async def unlinked(*args: str) -> int:
        finished = await cli("check", "--format", "json", *args, env=env(filled))
        assert finished.status == 1, finished
        return finished.json["databases"][0]["metrics"]["unlinked_filled_orders"]

    assert await unlinked() == 0
    assert await unlinked("--hours-back", "721.5") == 1
    assert await unlinked("--historical") == 1
    assert await unlinked("--hours-back", "10000000") == 1
    assert await unlinked("--hours-back", "inf") == 1


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
async def test_a_wrong_command_line_is_said_and_costs_2(args, cli):
    finished = await cli(*args, config=settings(DEAD, DEAD))
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
async def test_a_configuration_that_cannot_be_used_costs_2(kind, cli, tmp_path):
    config = CONFIGS[kind](tmp_path)
    finished = await asyncio.gather(*(cli(*args, config=config) for args in (["check"], ["run"])))
    for each in finished:
        assert each.status == 2, each
        assert each.stdout == ""
        assert each.stderr.startswith("po-exporter: ")
        assert "Traceback" not in each.stderr


async def test_a_dsn_for_several_databases_costs_2(cli):
    finished = await cli("check", config=settings(DEAD, DEAD), env={"PO_EXPORTER_DSN": DEAD})
    assert_one_sentence(finished, 2, "PO_EXPORTER_DSN")


SECRET = "Xq7-distinctive"
SECRET_DSNS = {
    "a URI": "postgresql://po_reader:{secret}@{host}/{name}",
    "a parameter of a URI": "postgresql://po_reader@{host}/{name}?password={secret}",
    "keywords": "host=127.0.0.1 port={port} user=po_reader password='{secret}' dbname={name}",
    "an unescaped /": "postgresql://po_reader:{secret}/x@{host}/{name}",
    "an unescaped @": "postgresql://po_reader:{secret}@x@{host}/{name}",
    "an unescaped #": "postgresql://po_reader:#{secret}@{host}/{name}",
    "an unescaped %": "postgresql://po_reader:%{secret}@{host}/{name}",
    "an open quote": "host=127.0.0.1 port={port} user=po_reader dbname={name} password='{secret}",
    "a host that is none": "postgresql://po_reader:{secret}@a..b/{name}",
    "another scheme": "mysql://po_reader:{secret}@{host}/{name}",
}


@pytest.mark.parametrize("form", SECRET_DSNS)
async def test_no_command_prints_a_password(form, filled, cli):
    port = filled.server.port
    dsn = SECRET_DSNS[form].format(secret=SECRET, host=f"127.0.0.1:{port}", port=port, name=filled.name)
    commands = (["check"], ["check", "--format", "json"], ["doctor"], ["trail", A1], ["config", "show"])
    finished = await asyncio.gather(*(cli(*args, env={"PO_EXPORTER_DSN": dsn}) for args in commands))
    finished += [await cli("check", config=settings(dsn))]
    for each in finished:
        assert SECRET not in each.stdout + each.stderr
        assert "Traceback" not in each.stderr
        assert each.status in (0, 2, 3)


async def test_a_password_is_shown_by_no_page_and_no_log(filled, exporter, tmp_path):
    await filled.execute(f"CREATE ROLE {filled.name} LOGIN PASSWORD '{SECRET}'")
    dsn = f"postgresql://{filled.name}:{quote(SECRET)}@127.0.0.1:{filled.server.port}/{filled.name}"
    wrong = dsn.replace(SECRET, f"{SECRET}-wrong")
    missing = tmp_path / "dsn"
    missing.write_text(dsn)
    config = settings(dsn, wrong)
    config["databases"]["third"] = {"dsn_file": str(missing)}
    running = await exporter(config=config)
    missing.write_text(f"garbage {SECRET}")
    for path in ("/", "/metrics", "/api/v1/status?database=trading", "/api/v1/findings?database=desk",
                 "/api/v1/status?database=third", "/-/ready"):  # fmt: skip
        answer = await running.get(path)
        assert SECRET not in answer.text
        assert answer.status in (200, 503)
    assert await running.stop() == 0
    assert SECRET not in running.log
    await filled.execute(f"DROP ROLE {filled.name}")


PIPED = ("check --format json", "check", "doctor", f"trail {A1}", "config show")


@pytest.mark.parametrize("command", PIPED)
async def test_a_reader_that_goes_away_and_a_full_disk_are_no_findings(command, filled, po_exporter):
    program = " ".join(COMMAND)
    for shell in (f"{program} {command} | true; exit ${{PIPESTATUS[0]}}", f"{program} {command} > /dev/full"):
        done = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False,
            env=po_exporter.environment(env(filled)),
        )  # fmt: skip
        assert done.returncode == 3, done
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


async def test_doctor_tells_advice_from_what_cannot_work(filled, cli):
    finished = await cli("doctor", "--format", "json", env=env(filled))
    assert (finished.status, finished.stderr) == (0, "")
    remarks = finished.json["databases"][0]["remarks"]
    assert {remark["level"] for remark in remarks} == {"ok", "advice"}
    assert any("exchange_order_id" in (remark["action"] or "") for remark in remarks)
    await filled.execute("ALTER TABLE orders DROP COLUMN exchange_order_id")
    finished = await cli("doctor", env=env(filled))
    assert finished.status == 1
    assert "problem" in finished.stdout
    finished = await cli("doctor", config=settings(DEAD, filled.reader_dsn))
    assert finished.status == 3
    assert "problem" in finished.stdout, "the other is examined all the same"


