"""Checks of a user's own, as SQL files beside ours: what a file may say, what it is told, and what a bad one costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from po_exporter.sql import CheckFile, CheckFileError, load_checks
from po_exporter.watch.monitor import Monitor
from po_exporter.watch.statement import Binder
from rows import HOUR, NOW, SECOND, Asked, Rules, ask, fill, freeze, mapping, move_clock, order, position, uid, watched

OURS = set(load_checks())
HEADER = {
    "help": "A fill that is larger than anything this desk trades.",
    "entity": "order",
    "priority": "medium",
    "scope": "window",
    "needs": "orders.id orders.filled_quantity orders.fill_time",
}
QUERY = """SELECT o.id, o.fill_time AS since, jsonb_build_object('found', o.filled_quantity::text) AS details
FROM scoped_orders o
WHERE o.filled_quantity > 1000"""


def text(query: str = QUERY, **header: str | None) -> str:
    """A check file; a header key of None is left out."""
    lines = [f"-- {key}: {value}" for key, value in (HEADER | header).items() if value is not None]
    return "\n".join([*lines, query, ""])


@pytest.fixture
def directory(tmp_path):
    checks = tmp_path / "checks"
    checks.mkdir()
    return checks


def own(directory: Path) -> list[CheckFile]:
    """The user's checks alone."""
    return [check for name, check in load_checks(directory).items() if name not in OURS]


# What a file may say.


def test_a_file_is_a_check_of_its_name(directory):
    (directory / "huge_fill.sql").write_text(text(tolerance="0.5", settles="true", runbook="https://wiki.example/huge"))
    (directory / "notes.txt").write_text("no check")
    checks = load_checks(directory)
    assert list(checks)[:-1] == list(load_checks()), "ours come first"
    check = checks["huge_fill"]
    assert (check.issue_type, check.entity, check.priority, check.scope) == ("HUGE_FILL", "order", "medium", "window")
    assert (check.settles, check.tolerance) == (True, Decimal("0.5"))
    assert check.runbook == "https://wiki.example/huge"
    assert check.help == HEADER["help"]
    assert {"orders.id", "orders.filled_quantity", "orders.fill_time"} <= check.needs
    assert check.sql == QUERY


def test_a_value_may_go_on_in_the_next_line_and_a_comment_may_follow_the_header(directory):
    lines = [
        "-- help: A sentence",
        "--       in two lines.",
        "-- entity: position",
        "-- priority: low",
        "-- scope: all",
        "-- needs: positions.id,",
        "--        positions.opened_at?",
        "--",
        "-- help: this is for the reader, not for the header",
        "SELECT p.id, p.opened_at AS since, '{}'::jsonb AS details FROM scoped_positions p;",
    ]
    (directory / "lines.sql").write_bytes("\r\n".join(lines).encode())
    (check,) = own(directory)
    assert check.help == "A sentence in two lines."
    assert {"positions.id", "positions.opened_at?"} <= check.needs
    assert check.sql.startswith("SELECT p.id")
    assert not check.sql.endswith(";")


def test_a_directory_without_files_adds_nothing(directory):
    assert set(load_checks(directory)) == OURS


FAULTS = {
    "an unknown key, with the one that was meant": (
        {"huge.sql": text(priorety="high")}, 6, "did you mean 'priority'?",
    ),
    "a key that resembles none": ({"huge.sql": text(colour="red")}, 6, "unknown key 'colour'"),
    "no help": ({"huge.sql": text(help=None)}, 1, "-- help:"),
    "no entity": ({"huge.sql": text(entity=None)}, 1, "-- entity:"),
    "no priority": ({"huge.sql": text(priority=None)}, 1, "-- priority:"),
    "no scope": ({"huge.sql": text(scope=None)}, 1, "-- scope:"),
    "a key twice": ({"huge.sql": "-- help: one\n" + text()}, 2, "twice"),
    "an entity that is none": ({"huge.sql": text(entity="trade")}, 2, "order, position"),
    "a priority that is none": ({"huge.sql": text(priority="urgent")}, 3, "high, medium, low"),
    "a scope that is none": ({"huge.sql": text(scope="today")}, 4, "window, all"),
    "settles, but how": ({"huge.sql": text(settles="soon")}, 6, "true, false"),
    "a tolerance that is no number": ({"huge.sql": text(tolerance="a bit")}, 6, "'a bit'"),
    "a column that is not canonical": (
        {"huge.sql": text(needs="orders.filed_quantity")}, 5, "did you mean 'orders.filled_quantity'?",
    ),
    "a relation that is not canonical": ({"huge.sql": text(needs="trades.id")}, 5, "'trades.id'"),
    "the name of one of ours": ({"overfilled_order.sql": text()}, None, "overfilled_order is the name of a built-in check"),
    "the issue type of one of ours": (
        {"huge.sql": text(issue_type="OVERFILLED_ORDER")}, None, "OVERFILLED_ORDER is the issue type of overfilled_order",
    ),
    "the issue type of another": (
        {"a.sql": text(issue_type="HUGE"), "huge.sql": text()}, None, "HUGE is the issue type of a",
    ),
    "a name with capitals": ({"Huge.sql": text()}, None, "rename the file"),
    "a name with a dash": ({"huge-fill.sql": text()}, None, "rename the file"),
    "an empty file": ({"huge.sql": ""}, None, ""),
    "a header without a query": ({"huge.sql": text("")}, None, "no query"),
    "a header and comments": ({"huge.sql": text("-- to be written\n")}, None, "no query"),
    "not UTF-8": ({"huge.sql": text(help="Gr\xf6\xdfe").encode("latin-1")}, None, "cannot be read as text"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_used_says_where_and_why(directory, fault):
    files, line, words = FAULTS[fault]
    for name, content in files.items():
        (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckFileError) as caught:
        load_checks(directory)
    assert caught.value.path.endswith(list(files)[-1])
    assert words in str(caught.value)
    if line is not None:
        assert caught.value.line == line


def test_a_directory_that_is_not_there(directory):
    with pytest.raises(CheckFileError, match="is not a directory"):
        load_checks(directory / "elsewhere")


def test_a_byte_order_mark_is_no_part_of_the_header(directory):
    (directory / "huge.sql").write_text(text(), encoding="utf-8-sig")
    (check,) = own(directory)
    assert check.help == HEADER["help"]


RESERVED = ["order", "select", "end", "user", "orders", "positions", "ledger", "window_orders", "result"]


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.database
async def test_a_name_that_means_something_in_sql_is_refused_or_works(frozen, directory, name):
    """Never is a file accepted only to fail at every poll."""
    (directory / f"{name}.sql").write_text(text())
    try:
        checks = load_checks(directory)
    except CheckFileError as error:
        assert name in str(error)
        return
    asked = await ask(frozen.reader_dsn, mapping(Rules()), checks=list(checks.values()))
    assert not asked.errors
    assert asked.count(name) == 0


# Parameters: `:name` becomes `$1`, and nothing else does.


PARAMETERS = {"as_of": (NOW, "timestamptz"), "tolerance": (Decimal("0.1"), "numeric")}
LEFT_ALONE = {
    "a string": "SELECT ':as_of'",
    "a string with a quote in it": "SELECT 'it''s :as_of'",
    "a string with a backslash at its end": r"SELECT '\', 'x :as_of'",
    "a cast": "SELECT x::as_of, y :: tolerance",
    "a quoted name": 'SELECT "a:as_of"',
    "a quoted name with quotes in it": 'SELECT "a"":as_of"',
    "a line comment": "SELECT 1 -- since :as_of, don't\n",
    "a block comment": "SELECT /* :as_of\n don't */ 1",
    "a block comment in another": "SELECT /* a /* b */ :as_of */ 1",
    "a dollar quote": "SELECT $$ :as_of ' $$",
    "a named dollar quote": "SELECT $q$ :as_of $$ :as_of $q$",
    "an escape string": r"SELECT E'it\'s :as_of'",
    "an array slice": "SELECT legs[1:2], legs[lo:hi]",
    "a parameter that is not known": "SELECT :unknown",
    "capitals": "SELECT :AS_OF",
    "an assignment": "SELECT f(a := as_of)",
}


@pytest.mark.parametrize("place", LEFT_ALONE)
def test_what_only_looks_like_a_parameter_is_left_alone(place):
    binder = Binder()
    assert binder.bind(LEFT_ALONE[place], PARAMETERS) == LEFT_ALONE[place]
    assert binder.arguments == []


BOUND = {
    "alone": ("SELECT :as_of", "SELECT $1::timestamptz"),
    "after a bracket": ("SELECT (:as_of)", "SELECT ($1::timestamptz)"),
    "with a cast": ("SELECT :as_of::date", "SELECT $1::timestamptz::date"),
    "after a cast": ("SELECT x::numeric>:tolerance", "SELECT x::numeric>$1::numeric"),
    "twice, one argument": ("SELECT :as_of, :as_of", "SELECT $1::timestamptz, $1::timestamptz"),
    "two": (":tolerance, :as_of", "$1::numeric, $2::timestamptz"),
    "after a comment with a quote": ("-- don't\nSELECT :as_of", "-- don't\nSELECT $1::timestamptz"),
    "after a string": ("SELECT 'it''s', :as_of", "SELECT 'it''s', $1::timestamptz"),
    "after an empty string": ("SELECT '', :as_of, ''", "SELECT '', $1::timestamptz, ''"),
    "after an escape string": (r"SELECT E'\'', :as_of, ''", r"SELECT E'\'', $1::timestamptz, ''"),
    "after a dollar quote": ("SELECT $$'$$, :as_of", "SELECT $$'$$, $1::timestamptz"),
    "as an array's bound, with spaces": ("SELECT legs[1 : 2], :as_of", "SELECT legs[1 : 2], $1::timestamptz"),
}


@pytest.mark.parametrize("place", BOUND)
def test_a_parameter_is_bound(place):
    query, wanted = BOUND[place]
    binder = Binder()
    assert binder.bind(query, PARAMETERS) == wanted
    assert [type(each) for each in binder.arguments] == [type(PARAMETERS[name][0]) for name in _order(query)]


def _order(query: str) -> list[str]:
    return sorted((name for name in PARAMETERS if f":{name}" in query), key=lambda name: query.index(f":{name}"))


def test_each_check_has_its_own_tolerance():
    binder = Binder()
    one = binder.bind("x > :tolerance", {"tolerance": (Decimal(1), "numeric")}, "one")
    two = binder.bind("x > :tolerance", {"tolerance": (Decimal(2), "numeric")}, "two")
    assert (one, two, binder.arguments) == ("x > $1::numeric", "x > $2::numeric", [Decimal(1), Decimal(2)])


# Asked of a database.


@pytest.fixture
async def frozen(empty_database):
    await freeze(empty_database)
    return empty_database


async def answers(frozen, directory: Path, rules: Rules | None = None) -> Asked:
    """One poll with all of ours and the user's."""
    rules = rules or Rules()
    return await ask(frozen.reader_dsn, mapping(rules), rules, checks=list(load_checks(directory).values()))


@pytest.mark.database
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


@pytest.mark.database
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


@pytest.mark.database
async def test_a_check_is_told_the_moment_the_spans_and_its_own_tolerance(frozen, directory):
    query = """
      SELECT o.id, NULL::timestamptz AS since, jsonb_build_object('as_of', :as_of, 'grace', :grace,
        'grace_start', :grace_start, 'window_start', :window_start, 'tolerance', :tolerance::text, 'text', ':as_of') AS details
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


@pytest.mark.database
async def test_a_query_may_be_anything_that_is_one_query(frozen, directory):
    queries = {
        "with_a_with": "WITH big AS (SELECT * FROM scoped_orders WHERE filled_quantity > 1)\n"
        "SELECT id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM big",
        "with_a_union": "SELECT id, NULL::timestamptz AS since, NULL::jsonb AS details FROM scoped_orders WHERE false\n"
        "UNION ALL SELECT id, NULL, NULL FROM scoped_orders",
        "with_an_order": "SELECT id, fill_time AS since, '{\"a\": 1}'::json AS details FROM scoped_orders ORDER BY id DESC;",
        "with_more_columns": "SELECT 1 AS extra, '{}'::jsonb AS details, id, fill_time AS since FROM scoped_orders",
    }
    for name, query in queries.items():
        (directory / f"{name}.sql").write_text(text(query))
    await fill(frozen, [order(1, None), order(2, None)], [])
    asked = await answers(frozen, directory)
    assert {name: asked.ids(name) for name in queries} == dict.fromkeys(queries, [uid(1), uid(2)])
    assert dict(asked.good("with_an_order").findings[0].details) == {"a": 1}


@pytest.mark.database
async def test_a_finding_without_details_has_none(frozen, directory):
    query = "SELECT id, NULL::timestamptz AS since, NULL::jsonb AS details FROM scoped_orders"
    (directory / "terse.sql").write_text(text(query))
    await fill(frozen, [order(1, None)], [])
    assert dict((await answers(frozen, directory)).finding("terse").details) == {}


COSTLY = {
    "is no SQL": ("SELECT FROM WHERE", "syntax error"),
    "names a column that is not canonical": (
        "SELECT o.id, o.fill_time AS since, '{}'::jsonb AS details FROM scoped_orders o WHERE o.venue = ''", "venue",
    ),
    "names a canonical column that it does not say it needs": (
        "SELECT o.id, o.fill_time AS since, '{}'::jsonb AS details FROM scoped_orders o WHERE o.commission > 1", "commission",
    ),
    "names a table that is not there": (
        "SELECT id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM trades", 'relation "trades" does not exist',
    ),
    "returns other columns": ("SELECT o.id, o.fill_time FROM scoped_orders o", "since"),
    "returns a number for a time": ("SELECT o.id, 1 AS since, '{}'::jsonb AS details FROM scoped_orders o", "isfinite"),
    "returns details that are no JSON": ("SELECT o.id, o.fill_time AS since, 'x' AS details FROM scoped_orders o", "json"),
    "divides by zero": (
        "SELECT o.id, o.fill_time AS since, '{}'::jsonb AS details FROM scoped_orders o WHERE 1 / (o.filled_quantity - 2.5) > 0",
        "division by zero",
    ),
    "uses a tolerance that it does not have": (
        "SELECT o.id, o.fill_time AS since, '{}'::jsonb AS details FROM scoped_orders o WHERE o.filled_quantity > :tolerance",
        "syntax error",
    ),
    "ends its parenthesis": ("SELECT id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM scoped_orders) AS x --", ""),
    "is two statements": (
        "SELECT id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM scoped_orders; DELETE FROM orders", "syntax error",
    ),
    "writes": (
        "WITH gone AS (DELETE FROM public.orders RETURNING id) SELECT id, NULL::timestamptz AS since, '{}'::jsonb AS details"
        " FROM gone",
        "",
    ),
    "may not read what it reads": (
        "SELECT o.id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM public.secrets o", "permission denied",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", COSTLY)
@pytest.mark.database
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


@pytest.mark.database
async def test_a_check_is_off_where_the_schema_has_no_such_column(frozen, directory):
    (directory / "fees.sql").write_text(
        text(needs="orders.id orders.commission orders.fill_time orders.filled_quantity")
    )
    asked = await answers(frozen, directory)
    assert "schemas.plain.orders.columns.commission is not mapped" in asked.off["fees"]
    assert "fees" not in asked.names
    assert not asked.errors


@pytest.mark.database
async def test_one_order_in_two_findings_of_a_check_is_evidence_within_its_bound(frozen, directory):
    query = "SELECT o.id, o.fill_time AS since, '{}'::jsonb AS details FROM scoped_orders o, generate_series(1, 3)"
    (directory / "thrice.sql").write_text(text(query))
    await fill(frozen, [order(number, None) for number in range(1, 11)], [])
    asked = await ask(frozen.reader_dsn, mapping(Rules()), checks=list(load_checks(directory).values()), evidence=5)
    found = asked.good("thrice")
    assert len(found.findings) <= 5


@pytest.mark.parametrize("settles", ["true", "false"])
@pytest.mark.database
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
