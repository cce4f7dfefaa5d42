"""Checks of a user's own, asked of a real server beside ours: what they are told, and what a bad one costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from asking import Asked, ask, watched
from check_files import text
from po_exporter.sql import CheckFileError, load_checks
from po_exporter.watch.monitor import Monitor
from rows import HOUR, NOW, SECOND, Rules, fill, freeze, mapping, move_clock, order, position, uid

pytestmark = pytest.mark.database


@pytest.fixture
def directory(tmp_path):
    checks = tmp_path / "checks"
    checks.mkdir()
    return checks


@pytest.fixture
async def frozen(empty_database):
    await freeze(empty_database)
    return empty_database


async def answers(frozen, directory: Path, rules: Rules | None = None) -> Asked:
    """One poll with all of ours and the user's."""
    rules = rules or Rules()
    return await ask(frozen.reader_dsn, mapping(rules), rules, checks=list(load_checks(directory).values()))


async def test_orders_in_the_window_and_all_orders(frozen, directory):
    (directory / "huge_lately.sql").write_text(text())
    (directory / "huge_ever.sql").write_text(text(scope="all"))
    await fill(
        frozen,
        [
            order(1, None, filled_quantity="1000.5", filled_at=NOW - 5 * SECOND),
            order(2, None, filled_quantity="2000", created_at=NOW - 48 * HOUR, filled_at=NOW - 48 * HOUR),
            order(3, None, filled_quantity="1000"),
        ],
        [],
    )
    asked = await answers(frozen, directory)
    assert asked.ids("huge_lately") == [uid(1)]
    assert asked.ids("huge_ever") == [uid(2), uid(1)]
    found = asked.finding("huge_lately")
    assert (found.since, dict(found.details)) == (NOW - 5 * SECOND, {"found": "1000.5"})
    assert asked.check("huge_ever").issue_type == "HUGE_EVER"
    assert asked.check("huge_ever").priority == "medium"


async def test_positions_and_the_ledger(frozen, directory):
    query = """
      SELECT p.id, p.opened_at AS since, jsonb_build_object('sum', l.quantity::text) AS details
      FROM scoped_positions p JOIN ledger l ON l.position_id = p.id
      WHERE l.quantity > 5 -- nobody holds more than five; that's a rule of the desk"""
    needs = "positions.id positions.opened_at ledger.quantity"
    (directory / "too_large.sql").write_text(text(query, entity="position", needs=needs, settles="true"))
    orders = [*(order(number, 1) for number in range(1, 4)), order(4, 2)]
    await fill(frozen, orders, [position(1, quantity="7.5"), position(2)])
    asked = await answers(frozen, directory)
    assert asked.ids("too_large") == [uid(1)]
    assert asked.finding("too_large").details["sum"] == "7.5"
    assert asked.check("too_large").entity == "position"


async def test_a_check_is_told_the_moment_the_spans_and_its_own_tolerance(frozen, directory):
    query = """
      SELECT o.id, NULL::timestamptz AS since, jsonb_build_object('as_of', :as_of, 'grace', :grace,
        'grace_start', :grace_start, 'window_start', :window_start, 'tolerance', :tolerance::text,
        'text', ':as_of') AS details
      FROM scoped_orders o"""
    (directory / "told.sql").write_text(text(query, tolerance="0.5", needs="orders.id"))
    await fill(frozen, [order(1, None)], [])
    files = load_checks(directory)
    plain = watched(frozen.reader_dsn, mapping(Rules()), checks=list(files.values()))
    questions = tuple(
        replace(q, tolerance=Decimal("0.25") if q.name == "told" else q.tolerance) for q in plain.questions
    )
    monitor = Monitor(replace(plain, questions=questions))
    asked = Asked(await monitor.poll())
    await monitor.close()
    details = dict(asked.finding("told").details)
    assert details == {
        "as_of": "2026-01-27T02:00:00.123456+00:00",
        "grace": "00:00:30",
        "grace_start": "2026-01-27T01:59:30.123456+00:00",
        "window_start": "2026-01-26T02:00:00.123456+00:00",
        "tolerance": "0.25",
        "text": ":as_of",
    }
    assert not asked.errors, "ours kept their own tolerance"


async def test_a_query_may_be_anything_that_is_one_query(frozen, directory):
    queries = {
        "with_a_with": "WITH big AS (SELECT * FROM scoped_orders WHERE filled_quantity > 1)\n"
        "SELECT id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM big",
        "with_a_union": "SELECT id, NULL::timestamptz AS since, NULL::jsonb AS details FROM scoped_orders WHERE false\n"
        "UNION ALL SELECT id, NULL, NULL FROM scoped_orders",
        "with_an_order": "SELECT id, fill_time AS since, '{\"a\": 1}'::json AS details FROM scoped_orders ORDER BY 1;",
        "with_more_columns": "SELECT 1 AS extra, '{}'::jsonb AS details, id, fill_time AS since FROM scoped_orders",
    }
    for name, query in queries.items():
        (directory / f"{name}.sql").write_text(text(query))
    await fill(frozen, [order(1, None), order(2, None)], [])
    asked = await answers(frozen, directory)
    assert {name: asked.ids(name) for name in queries} == {name: [uid(1), uid(2)] for name in queries}
    assert dict(asked.good("with_an_order").findings[0].details) == {"a": 1}


async def test_a_finding_without_details_has_none(frozen, directory):
    query = "SELECT id, NULL::timestamptz AS since, NULL::jsonb AS details FROM scoped_orders"
    (directory / "terse.sql").write_text(text(query))
    await fill(frozen, [order(1, None)], [])
    assert dict((await answers(frozen, directory)).finding("terse").details) == {}


def finds(where: str, source: str = "scoped_orders o") -> str:
    """A query that is sound but for what it is told."""
    return f"SELECT o.id, NULL::timestamptz AS since, '{{}}'::jsonb AS details FROM {source} WHERE {where}"


COSTLY = {
    "is no SQL": ("SELECT FROM WHERE", "syntax error"),
    "names a column that is not canonical": (finds("o.venue = ''"), "venue"),
    "names a table that is not there": (finds("true", "trades o"), 'relation "trades" does not exist'),
    "returns other columns": ("SELECT o.id, o.fill_time FROM scoped_orders o", "since"),
    "returns a number for a time": (
        "SELECT o.id, 1 AS since, '{}'::jsonb AS details FROM scoped_orders o",
        "timestamp with time zone",
    ),
    "returns details that are no JSON": (
        "SELECT o.id, o.fill_time AS since, 'x' AS details FROM scoped_orders o",
        "json",
    ),
    "divides by zero": (finds("1 / (o.filled_quantity - 2.5) > 0"), "division by zero"),
    "uses a tolerance that it does not have": (finds("o.filled_quantity > :tolerance"), "syntax error"),
    "ends its parenthesis": (finds("true") + ") AS x --", ""),
    "is two statements": (finds("true") + "; DELETE FROM public.orders", "syntax error"),
    "writes": ("WITH o AS (DELETE FROM public.orders RETURNING id) " + finds("true", "o"), ""),
    "may not read what it reads": (finds("true", "public.secrets o"), "permission denied"),
}


@pytest.mark.parametrize("fault", COSTLY)
async def test_a_bad_query_costs_its_own_check_alone(frozen, directory, fault):
    query, words = COSTLY[fault]
    (directory / "bad.sql").write_text(text(query))
    (directory / "good.sql").write_text(text())
    await frozen.execute("CREATE TABLE public.secrets (id uuid)")
    await fill(frozen, [order(1, None), order(2, None, filled_quantity="5000", quantity="5000")], [])
    monitor = Monitor(
        watched(
            frozen.dsn if fault == "writes" else frozen.reader_dsn,
            mapping(Rules()),
            checks=list(load_checks(directory).values()),
        )
    )
    first = Asked(await monitor.poll())
    assert set(first.errors) == {"bad"}
    assert words in first.errors["bad"]
    assert first.ids("good") == [uid(2)]
    assert first.count("unlinked_filled_order") == 2
    second = Asked(await monitor.poll())
    assert set(second.errors) == {"bad"}, "and at the next poll, too"
    assert second.status.failures["bad", second.check("bad").reason] == 2
    await monitor.close()
    assert await frozen.fetchval("SELECT count(*) FROM public.orders") == 2


async def test_a_check_is_off_where_the_schema_has_no_such_column(frozen, directory):
    (directory / "fees.sql").write_text(
        text(needs="orders.id orders.commission orders.fill_time orders.filled_quantity")
    )
    asked = await answers(frozen, directory)
    assert "schemas.plain.orders.columns.commission is not mapped" in asked.off["fees"]
    assert "fees" not in asked.names
    assert not asked.errors


async def test_one_order_in_two_findings_of_a_check_is_evidence_within_its_bound(frozen, directory):
    query = "SELECT o.id, o.fill_time AS since, '{}'::jsonb AS details FROM scoped_orders o, generate_series(1, 3)"
    (directory / "thrice.sql").write_text(text(query))
    await fill(frozen, [order(number, None) for number in range(1, 11)], [])
    asked = await ask(frozen.reader_dsn, mapping(Rules()), checks=list(load_checks(directory).values()), evidence=5)
    found = asked.good("thrice")
    assert len(found.findings) <= 5


@pytest.mark.parametrize("settles", ["true", "false"])
async def test_what_settles_counts_as_an_issue_after_the_grace(frozen, directory, settles):
    """Findings are the snapshot's truth at once; the issues counter waits where the header says so."""
    (directory / "huge.sql").write_text(text(settles=settles))
    plain = watched(frozen.reader_dsn, mapping(Rules()), checks=list(load_checks(directory).values()))
    monitor = Monitor(plain)
    await monitor.poll()  # what the first answer holds is never counted: here, nothing
    await fill(frozen, [order(1, None, filled_quantity="5000", quantity="5000")], [])
    seen = []
    for later in (timedelta(), timedelta(seconds=29), timedelta(seconds=30)):
        await move_clock(frozen, NOW + later)
        asked = Asked(await monitor.poll())
        seen.append((asked.count("huge"), asked.status.issues["HUGE", "medium"]))
    await monitor.close()
    assert seen == ([(1, 0), (1, 0), (1, 1)] if settles == "true" else [(1, 1), (1, 1), (1, 1)])


RESERVED = ["order", "select", "end", "user", "orders", "positions", "ledger", "window_orders", "result"]


@pytest.mark.parametrize("name", RESERVED)
async def test_a_name_that_means_something_in_sql_is_refused_or_works(frozen, directory, name):
    """Never is a file accepted only to fail at every poll."""
    (directory / f"{name}.sql").write_text(text())
    try:
        checks = load_checks(directory)
    except CheckFileError:
        return
    asked = await ask(frozen.reader_dsn, mapping(Rules()), checks=list(checks.values()))
    assert not asked.errors
    assert asked.count(name) == 0
