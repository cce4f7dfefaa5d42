"""`trail`: a position, its orders in fill order, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from here import Here, sql
from parts.database import Database

P = "00000000-0000-0000-0000-0000000000a1"
COLUMNS = {
    "orders": "id position_id trading_pair side status quantity filled_quantity created_at updated_at",
    "positions": "id trading_pair side quantity opened_at closed_at is_active",
}


def config(dsn: str, **positions: Any) -> dict[str, Any]:
    """The guide's tables under a schema of our own, with other conventions."""
    columns = {table: {name: name for name in names.split()} for table, names in COLUMNS.items()}
    orders = {
        "table": "orders",
        "columns": columns["orders"],
        "filled_statuses": ["FILLED", "CANCELLED"],
        "complete_statuses": ["FILLED"],
        "buy_sides": ["BUY"],
        "sell_sides": ["SELL"],
    }
    sides = {"quantity": "signed", "long_sides": ["LONG"], "short_sides": ["SHORT"]}
    described = {
        "orders": orders,
        "positions": {"table": "positions", "columns": columns["positions"]} | sides | positions,
    }
    return {"databases": {"trading": {"dsn": dsn, "schema": "ours"}}, "schemas": {"ours": described}}


@pytest.fixture
def po(capsys, monkeypatch, po_exporter) -> Here:
    return Here(capsys, monkeypatch, po_exporter)


def make(
    database: Database, quantity: str, active: str = "true", side: str = "LONG", *, fills: Sequence[tuple[str, str]]
) -> None:
    """One position, and orders (side, filled quantity) a minute apart."""
    sql(database, "TRUNCATE orders, positions")
    sql(
        database,
        f"INSERT INTO positions (id, trading_pair, side, quantity, is_active)"
        f" VALUES ('{P}', 'BTC/USD', '{side}', {quantity}, {active})",
    )
    for place, (order_side, filled) in enumerate(fills):
        sql(
            database,
            "INSERT INTO orders (position_id, trading_pair, side, quantity, status, filled_quantity, created_at)"
            f" VALUES ('{P}', 'BTC/USD', '{order_side}', 5, 'FILLED', {filled},"
            f" timestamp '2026-01-27 02:00' + {place} * interval '1 min')",
        )


CASES = [
    # the convention, the position, its fills, the status, a word of the reason
    ({}, ("2.5",), [("BUY", "1"), ("BUY", "2"), ("SELL", "0.5")], 0, ""),
    ({}, ("2.50000001",), [("BUY", "2.5")], 0, ""),  # the tolerance itself
    ({}, ("2.50000002",), [("BUY", "2.5")], 1, ""),
    ({}, ("-1",), [("SELL", "1")], 0, ""),
    ({}, ("0",), [], 0, ""),
    ({}, ("1",), [], 1, ""),
    ({}, ("NULL",), [("BUY", "1")], 1, "missing"),
    ({}, ("1",), [("HOLD", "1")], 1, "nobody can know"),
    ({}, ("1",), [("BUY", "'NaN'")], 1, "nobody can know"),
    ({}, ("1",), [("BUY", "1"), ("BUY", "NULL"), ("BUY", "0")], 0, ""),
    ({"closed_quantity": "zero"}, ("0", "false"), [("BUY", "1"), ("SELL", "1")], 0, ""),
    ({"closed_quantity": "zero"}, ("0", "false"), [("BUY", "1")], 1, ""),
    ({"closed_quantity": "kept"}, ("7", "false"), [("BUY", "1")], 0, "not compared"),
    ({"closed_quantity": "kept"}, ("7", "false"), [("HOLD", "1")], 0, "not compared"),
    ({"closed_quantity": "kept"}, ("7", "true"), [("BUY", "1")], 1, ""),
    ({"closed_quantity": "kept"}, ("7", "NULL"), [("BUY", "1")], 1, ""),
    ({"closed_quantity": "kept_flat"}, ("7", "false"), [("BUY", "1"), ("SELL", "1")], 0, "net to 0"),
    ({"closed_quantity": "kept_flat"}, ("7", "false"), [("BUY", "7")], 1, "net to 0"),
    ({"closed_quantity": "kept_flat"}, ("7", "false"), [("HOLD", "7")], 1, "nobody can know"),
    ({"closed_quantity": "kept_flat"}, ("7", "true"), [("BUY", "7")], 0, ""),
    ({"quantity": "by_side"}, ("2", "true", "SHORT"), [("SELL", "2")], 0, ""),
    ({"quantity": "by_side"}, ("2", "true", "short "), [("BUY", "2")], 1, ""),
    ({"quantity": "by_side"}, ("-2", "true", "SHORT"), [("SELL", "2")], 1, "negative"),
    ({"quantity": "by_side"}, ("2", "true", "FLAT"), [("BUY", "2")], 1, "side"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_whether_they_agree(case, database, po):
    convention, held, fills, status, reason = case
    make(database, *held, fills=fills)
    finished = po("trail", P, "--format", "json", config=config(database.reader_dsn, **convention))
    assert (finished.status, finished.stderr) == (status, "")
    summary = finished.json["summary"]
    assert summary["quantity_consistency"] == (status == 0)
    assert summary["order_count"] == len(fills)
    assert reason in (summary["reason"] or "")
    said = po("trail", P, config=config(database.reader_dsn, **convention))
    assert said.status == status
    assert said.stdout.startswith("agrees" if status == 0 else "differs")
    assert reason in said.stdout


def test_the_running_quantity_goes_by_fill_time(database, po):
    make(database, "1", fills=[("BUY", "3"), ("SELL", "2.5"), ("BUY", "0.5")])
    sql(database, "UPDATE orders SET updated_at = created_at + interval '1 day' WHERE filled_quantity = 3")
    sql(
        database,
        "INSERT INTO orders (position_id, side, status, filled_quantity) SELECT id, 'BUY', 'NEW', 9 FROM positions",
    )
    found = po("trail", P, "--format", "json", dsn=database.reader_dsn).json
    assert [
        (each["filled_quantity"], each["running_quantity"], each["counted"]) for each in found["contributing_orders"]
    ] == [
        ("2.50000000", "-2.50000000", True),
        ("0.50000000", "-2.00000000", True),
        ("3.00000000", "1.00000000", True),
        ("9.00000000", "1.00000000", False),
    ]
    assert found["summary"]["total_order_quantity"] == "1.00000000"
    assert found["contributing_orders"][2]["fill_time"] == "2026-01-28T02:00:00+00:00"


def test_times_beyond_the_calendar_are_unknown(database, po):
    make(database, "2", fills=[("BUY", "1"), ("BUY", "1")])
    sql(database, "UPDATE positions SET opened_at = '-infinity', closed_at = '20000-01-01'")
    sql(database, "UPDATE orders SET created_at = 'infinity' WHERE created_at = '2026-01-27 02:00'")
    sql(database, "UPDATE orders SET created_at = '0044-03-15 BC' WHERE created_at < 'infinity'")
    found = po("trail", P, "--format", "json", dsn=database.reader_dsn)
    assert found.status == 0, found
    assert (found.json["opened_at"], found.json["closed_at"]) == (None, None)
    assert [each["fill_time"] for each in found.json["contributing_orders"]] == [None, None]
    assert po("trail", P, dsn=database.reader_dsn).status == 0


SPELLINGS = [P.upper(), P.replace("-", ""), f"{{{P}}}", f"urn:uuid:{P}", f"  {P} "]
MALFORMED = ["x", "", " ", "1", P[:-1], f"{P}0", P.replace("a", "g"), f"{P}'--", "\udcff\udcfe", "%s", "$1"]


def test_an_id_may_be_spelt_as_postgresql_takes_it(database, po):
    make(database, "1", fills=[("BUY", "1")])
    for spelling in SPELLINGS:
        assert po("trail", spelling, dsn=database.reader_dsn).status == (2 if spelling.startswith(" ") else 0), spelling


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_id_is_one_sentence(malformed, database, po):
    finished = po("trail", malformed, dsn=database.reader_dsn)
    assert finished.status == 2, finished
    assert finished.stdout == ""
    assert len(finished.stderr.splitlines()) == 1
    assert "uuid" in finished.stderr


def test_an_id_that_names_nothing_is_one_sentence(database, po):
    finished = po("trail", P, dsn=database.reader_dsn)
    assert finished.status == 2
    assert finished.stderr.splitlines() == [f"po-exporter: positions of {database.name} has no position {P}."]


def test_ids_may_be_any_text(database, po):
    sql(
        database,
        "ALTER TABLE positions ALTER COLUMN id TYPE text; ALTER TABLE orders ALTER COLUMN position_id TYPE text",
    )
    make(database, "1", fills=[("BUY", "1")])
    for odd in ("a b", "'; DROP TABLE orders; --", "ü/😀", "%s", "1"):
        literal = odd.replace("'", "''")
        sql(database, f"UPDATE positions SET id = '{literal}'; UPDATE orders SET position_id = '{literal}'")
        finished = po("trail", odd, "--format", "json", dsn=database.reader_dsn)
        assert finished.status == 0, finished
        assert finished.json["position_id"] == odd
    finished = po("trail", "\udcff", dsn=database.reader_dsn)
    assert finished.status == 2, finished
    assert "Traceback" not in finished.stderr


def test_not_being_able_to_find_out_costs_3(database, po):
    make(database, "1", fills=[("BUY", "1")])
    sql(database, "ALTER TABLE orders DROP COLUMN filled_quantity")
    finished = po("trail", P, dsn=database.reader_dsn)
    assert finished.status == 3, finished
    assert "filled_quantity" in finished.stderr
    assert len(finished.stderr.splitlines()) == 1
