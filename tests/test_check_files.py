"""What a check's file may say, how a fault in it is told, and which of its colons are parameters."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from check_files import HEADER, QUERY, text
from po_exporter.sql import CheckFile, CheckFileError, load_checks
from po_exporter.watch.statement import Binder
from rows import NOW

OURS = set(load_checks())


@pytest.fixture
def directory(tmp_path):
    checks = tmp_path / "checks"
    checks.mkdir()
    return checks


def own(directory: Path) -> list[CheckFile]:
    """The user's checks alone."""
    return [check for name, check in load_checks(directory).items() if name not in OURS]


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
    "a column that the header does not name": ({"huge.sql": text(uses=None, needs="orders.id")}, 5, "do not name it"),
    "a relation that the header does not name": (
        {"huge.sql": text("SELECT o.id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM orders o"
                          " WHERE o.id NOT IN (SELECT l.position_id FROM ledger l)")}, 5, "reads ledger",
    ),
    "the other entity's scope": (
        {"huge.sql": text("SELECT p.id, NULL::timestamptz AS since, '{}'::jsonb AS details FROM scoped_positions p")},
        5, "cannot use scoped_positions",
    ),
    "a name that means something else": ({"database.sql": text()}, None, "summaries are about a database, too"),
    "the name of one of ours": ({"overfilled_order.sql": text()}, None, "overfilled_order is the name of a built-in"),
    "the issue type of one of ours": (
        {"huge.sql": text(issue_type="OVERFILLED_ORDER")}, None, "is the issue type of overfilled_order",
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
