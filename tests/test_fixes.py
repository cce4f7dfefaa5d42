"""Fixes as a person meets them: planned, made, recorded, taken back; and what is never guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from here import Here, sql
from installing import FIXER, role_of, without_roles
from parts.database import Database
from parts.postgres import Server
from parts.program import Finished

A1, A2 = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
FIRST, LOST, ORPHAN = (f"00000000-0000-0000-0000-0000000000b{n}" for n in (1, 2, 3))
TWINS = [f"00000000-0000-0000-0000-0000000000e{n}" for n in (1, 2)]
GONE = "00000000-0000-0000-0000-0000000000ff"

BOOK = f"""
INSERT INTO positions (id, trading_pair, side, quantity, opened_at)
VALUES ('{A1}', 'BTC/USD', 'LONG', 3.5, now() AT TIME ZONE 'UTC' - interval '2h'),
       ('{A2}', 'ETH/USD', 'LONG', 1, now() AT TIME ZONE 'UTC' - interval '2h');
INSERT INTO orders (id, position_id, trading_pair, exchange, side, quantity, status, filled_quantity, created_at,
                    updated_at)
SELECT id, link, pair, 'kraken', 'BUY', size, 'FILLED', size, at, at
FROM (VALUES ('{FIRST}'::uuid, '{A1}'::uuid, 'BTC/USD', 2.5, 1), ('{LOST}', NULL, 'BTC/USD', 1, 2),
             ('{TWINS[0]}', NULL, 'ETH/USD', 1, 3), ('{TWINS[1]}', NULL, 'ETH/USD', 1, 4),
             ('{ORPHAN}', '{GONE}', 'XRP/USD', 5, 5)) AS o (id, link, pair, size, minute),
     LATERAL (SELECT now() AT TIME ZONE 'UTC' - interval '1h' + minute * interval '1min') AS t (at);
"""
"""One order that is missing in its position, two that could each be the one that is, and one whose position is gone."""


class Desk:
    """A database with that book, and a configuration under which everything may be mended."""

    def __init__(self, database: Database, po: Here, fixer: str) -> None:
        self.database, self._po, self.fixer = database, po, fixer
        self.fix: dict[str, Any] = {"allow": ["unlink_orphan", "link_order"]}
        self.more: dict[str, Any] = {}

    @property
    def config(self) -> dict[str, Any]:
        one = {"dsn": self.database.reader_dsn, "fix_dsn": self.fixer, "environment": "production"}
        return {"databases": {"trading": one}, "monitor": {"grace": "0s"}, "fix": self.fix, **self.more}

    def __call__(self, *args: str, config: dict[str, Any] | None = None) -> Finished:
        return self._po(*args, config=config or self.config)

    def json(self, *args: str, status: int = 0) -> Any:
        finished = self(*args, "--format", "json")
        assert finished.status == status, finished
        return finished.json

    def plan(self) -> dict[str, dict[str, Any]]:
        """By order, what the plan says of it."""
        (found,) = self.json("fix", "plan")["databases"]
        return {change["id"]: change for change in found["changes"]}

    def made(self, *args: str, status: int = 0) -> dict[str, Any]:
        """By order, what came of it."""
        return {change["id"]: change for change in self.json("fix", *args, "--yes", status=status)["changes"]}

    def link(self, order: str) -> str:
        return sql(
            self.database, f"SELECT coalesce(position_id::text, 'none') FROM orders WHERE id = '{order}'"
        ).strip()

    def rows(self) -> str:
        """Both tables, to the last byte."""
        return sql(self.database, "SELECT o FROM orders o ORDER BY id; SELECT p FROM positions p ORDER BY id")

    def do(self, statements: str) -> None:
        sql(self.database, statements)


@pytest.fixture
def roles(server: Server) -> Iterator[None]:
    """The server's roles are as they were, once the database is gone."""
    with without_roles(server):
        yield


@pytest.fixture
def desk(roles: None, database: Database, capsys, monkeypatch, po_exporter) -> Iterator[Desk]:
    po = Here(capsys, monkeypatch, po_exporter)
    fixer = database.create_role()
    one = Desk(database, po, fixer)
    finished = po("install", "--dsn", database.dsn, config={**one.config, "monitor": {"mode": "scan"}})
    assert finished.status == 0, finished
    sql(database, BOOK)
    yield one
    name = role_of(fixer)
    sql(database, f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.mark.database
def test_a_plan_says_what_it_would_do_and_why_and_what_it_would_not_and_writes_nothing(desk):
    before = desk.rows()
    plan = desk.plan()
    assert {order: (change["fix"], change["target"], change["made"]) for order, change in plan.items()} == {
        LOST: ("link_order", A1, True),
        ORPHAN: ("unlink_orphan", None, True),
        TWINS[0]: ("link_order", A2, False),
        TWINS[1]: ("link_order", A2, False),
    }
    assert plan[LOST]["proof"] == (
        f"position {A1} lacks exactly 1.00000000; no other position of BTC/USD was open then, and no other order of it "
        "belongs nowhere"
    )
    assert plan[TWINS[0]]["refusal"] == f"order {TWINS[1]} may belong there as well"
    assert plan[ORPHAN]["proof"] == f"no position has the id {GONE}"
    assert desk.rows() == before
    shown = desk("fix", "plan")
    assert shown.status == 0
    assert "2 to be made, 0 safe but held back, 2 not safe" in shown.stdout
    assert (
        "quantity_mismatch: 2 findings; the links above would put 1 right; for others no fix mends it" in shown.stdout
    )


def test_a_plan_takes_no_right_to_write(desk):
    one = {"dsn": desk.database.reader_dsn}
    finished = desk("fix", "plan", config={"databases": {"trading": one}, "monitor": {"grace": "0s"}})
    assert finished.status == 0
    assert "databases.trading has no environment, so that nothing may be written there" in finished.stdout


@pytest.mark.database
def test_what_was_planned_is_made_and_recorded_and_a_second_run_changes_nothing(desk):
    made = desk.made("apply")
    assert {order: (bool(each["record"]), each["refusal"]) for order, each in made.items()} == {
        ORPHAN: (True, None), LOST: (True, None),
    }  # fmt: skip
    assert (desk.link(LOST), desk.link(ORPHAN)) == (A1, "none")
    assert [desk.link(twin) for twin in TWINS] == ["none", "none"]
    before = desk.rows()
    assert desk.made("apply") == {}
    assert desk.rows() == before
    newest, first = desk.json("fix", "log")["records"]
    assert (newest["fix"], newest["entity_id"]) == ("link_order", LOST)
    assert (newest["before"], newest["after"]) == ({"position_id": None}, {"position_id": A1})
    assert (first["before"], first["after"]) == ({"position_id": GONE}, {"position_id": None})
    assert newest["run"] == first["run"]
    assert newest["reason"].startswith(f"position {A1} lacks exactly")
    verified = desk.json("fix", "log", "--verify")
    assert (verified["sealed"], verified["unsealed"], verified["broken"]) == (2, 0, None)


@pytest.mark.database
def test_what_was_made_is_taken_back_to_the_byte_and_made_again_by_taking_that_back(desk):
    before = desk.rows()
    run = desk.json("fix", "apply", "--yes")["run"]
    after = desk.rows()
    taken_back = desk.made("undo", "--run", run)
    assert all(each["record"] for each in taken_back.values())
    assert desk.rows() == before
    records = [each["id"] for each in desk.json("fix", "log")["records"] if each["undoes"]]
    desk.made("undo", *map(str, records))
    assert desk.rows() == after


def test_what_is_not_what_was_written_is_not_taken_back(desk):
    desk.made("apply")
    desk.do(f"UPDATE orders SET position_id = '{A2}' WHERE id = '{LOST}'")
    log = {each["entity_id"]: each["id"] for each in desk.json("fix", "log")["records"]}
    refused = desk.made("undo", str(log[LOST]), status=1)
    assert refused[LOST]["refusal"] == f"its position_id is {A2} by now, not {A1}"
    assert desk.link(LOST) == A2


@pytest.mark.database
def test_a_trigger_of_theirs_is_recorded_and_not_restored(desk):
    desk.do("""
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.updated_at := '2026-01-01'; RETURN NEW; END $$;
        CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch()""")
    desk.made("apply")
    record = desk.json("fix", "log")["records"][0]
    assert record["by_trigger"]["updated_at"][1] == "2026-01-01T00:00:00"
    desk.made("undo", str(record["id"]))
    assert desk.link(LOST) == "none"
    assert "a trigger changed updated_at" in desk("fix", "log").stdout


def test_a_trigger_that_keeps_the_old_value_is_a_refusal(desk):
    desk.do("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.position_id := OLD.position_id; RETURN NEW; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION refuse()""")
    before = desk.rows()
    made = desk.made("apply", status=1)
    assert "the database keeps NULL as its position_id" in made[LOST]["refusal"]
    assert desk.json("fix", "log")["records"] == []
    assert desk.rows() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"allow": []}, "fix.allow does not name link_order"),
        ({"max_quantity": "0.5"}, "its quantity is above fix.max_quantity (0.5)"),
        ({"max_per_run": 1}, "fix.max_per_run (1) is reached"),
        ({"stop": True}, "fix.stop is set"),
    ],
)
def test_the_configuration_holds_back_what_is_safe(desk, change, why):
    desk.fix |= change
    assert desk.plan()[LOST]["held_back"] == why


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ({"position_order_relationship": {"enabled": False}}, "feature_flags.position_order_relationship is off"),
        (
            {"position_order_auto_linking": {"environments": ["staging"]}},
            "feature_flags.position_order_auto_linking is not for the environment production",
        ),
        (
            {"position_order_auto_linking": {"rollout_percentage": 0}},
            "the rollout is for 0 % of the orders, and this is none of them",
        ),
    ],
)
def test_a_feature_flag_holds_back_what_is_safe(desk, flag, why):
    desk.more = {"feature_flags": flag}
    plan = desk.plan()
    assert plan[LOST]["held_back"] == why
    assert plan[ORPHAN]["made"] == ("position_order_relationship" not in flag)


def test_within_the_quiet_period_nothing_is_touched(desk):
    desk.fix |= {"quiet_period": "2h"}
    plan = desk.plan()
    assert plan[LOST]["refusal"] == "the order was changed within the quiet period"
    assert plan[ORPHAN]["refusal"] == "the order was changed within the quiet period"


def test_no_more_than_so_many_an_hour(desk):
    desk.fix |= {"max_per_hour": 1}
    made = desk.made("apply", status=1)
    assert made[ORPHAN]["record"]
    assert made[LOST]["refusal"] == "fix.max_per_hour (1) is reached"


def test_what_does_not_stay_is_not_tried_for_ever(desk):
    desk.fix |= {"attempts": 2}
    for _ in range(2):
        assert desk.made("apply")[LOST]["record"]
        desk.do(f"UPDATE orders SET position_id = NULL WHERE id = '{LOST}'")
    assert desk.made("apply", status=1)[LOST]["refusal"] == "it was made 2 times before, and did not stay so"


@pytest.mark.database
def test_both_switches_stop_every_write(desk):
    before = desk.rows()
    desk.do("INSERT INTO po_exporter.stop (why) VALUES ('audit')")
    for command in (["apply"], ["link", LOST, A1], ["unlink", FIRST]):
        stopped = desk("fix", *command, "--yes")
        assert stopped.status == 2
        assert "has stopped all writing in po_exporter.stop: audit" in stopped.stderr
    desk.do("DELETE FROM po_exporter.stop")
    desk.fix |= {"stop": True}
    stopped = desk("fix", "apply", "--yes")
    assert (stopped.status, stopped.stderr) == (2, "po-exporter: fix.stop is set: nothing is written.\n")
    assert desk.rows() == before


@pytest.mark.parametrize(
    ("environment", "flags", "why"),
    [
        (None, {}, "databases.trading has no environment, so that nothing may be written there: nothing is written."),
        ("production", {"enabled": False}, "feature_flags.position_order_relationship is off: nothing is written."),
        (
            "production", {"environments": ["staging"]},
            "feature_flags.position_order_relationship is not for the environment production: nothing is written.",
        ),
    ],
)  # fmt: skip
def test_where_nothing_may_be_written_nothing_is_by_hand_either(desk, environment, flags, why):
    before = desk.rows()
    config = {**desk.config, "feature_flags": {"position_order_relationship": flags}}
    config["databases"]["trading"]["environment"] = environment
    for command in (["apply"], ["link", LOST, A1], ["unlink", FIRST], ["recalculate", A1], ["undo", "1"]):
        refused = desk("fix", *command, "--yes", config=config)
        assert (refused.status, refused.stderr.splitlines()[-1]) == (2, f"po-exporter: {why}")
    assert desk.rows() == before


def test_nothing_is_written_unasked(desk):
    before = desk.rows()
    for command in (["apply"], ["link", LOST, A1], ["unlink", FIRST]):
        asked = desk("fix", *command)
        assert asked.status == 2
        assert "nothing was written: there is no terminal to ask at" in asked.stderr
    assert desk.rows() == before


def test_without_a_role_of_its_own_nothing_is_written(desk):
    config = desk.config
    del config["databases"]["trading"]["fix_dsn"]
    refused = desk("fix", "apply", "--yes", config=config)
    assert refused.status == 2
    assert "databases.trading.fix_dsn is not set" in refused.stderr


def test_without_a_record_nothing_is_written(desk):
    before = desk.rows()
    desk.do("DROP TABLE po_exporter.record CASCADE")
    refused = desk("fix", "apply", "--yes")
    assert refused.status == 3
    assert desk.rows() == before


@pytest.mark.database
def test_a_link_by_hand_is_made_recorded_and_taken_away(desk):
    made = desk.made("link", TWINS[0], A2)
    assert desk.link(TWINS[0]) == A2
    assert desk.made("unlink", TWINS[0])[TWINS[0]]["before"] == {"position_id": A2}
    assert desk.link(TWINS[0]) == "none"
    assert [each["fix"] for each in desk.json("fix", "log")["records"]] == ["unlink", "link"]
    assert made[TWINS[0]]["record"] == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["link", LOST, GONE], f"positions of trading has no position {GONE}."),
        (["link", GONE, A1], f"orders of trading has no order {GONE}."),
        (["link", "nonsense", A1], "'nonsense' is no id of orders, whose ids are of type uuid."),
        (["link", FIRST, A1], f"order {FIRST} is linked to {A1} already."),
        (["unlink", LOST], f"order {LOST} has no link already."),
        (["undo"], "give either the numbers of records, or --run"),
        (["undo", "7"], "there is no record 7"),
        (["undo", "--run", "x"], "there is no run x"),
    ],
)
def test_what_makes_no_sense_by_hand_is_said_in_a_sentence(desk, command, why):
    refused = desk("fix", *command, "--yes")
    assert refused.status == 2
    assert why in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.database
@pytest.mark.parametrize(
    ("tampering", "broken", "why"),
    [
        ("UPDATE po_exporter.record SET reason = 'x' WHERE id = 1", 1, "not what was sealed"),
        ("UPDATE po_exporter.record SET hash = sha256('x') WHERE id = 2", 2, "not what was sealed"),
        ("DELETE FROM po_exporter.record WHERE id = 2", 3, "records before it are missing"),
    ],
)
def test_a_record_that_was_changed_is_named(desk, tampering, broken, why):
    """By a superuser who switches off what keeps everybody else from it."""
    desk.made("apply")
    desk.made("link", TWINS[0], A2)
    desk.do(f"ALTER TABLE po_exporter.record DISABLE TRIGGER keep_record; {tampering}")
    found = desk.json("fix", "log", "--verify", status=1)
    assert found["broken"] == broken
    assert why in found["why"]
    assert f"broken  trading: record {broken}" in desk("fix", "log", "--verify").stdout


def test_the_fixer_is_the_one_who_writes(desk):
    desk.do(f"REVOKE {FIXER} FROM {role_of(desk.fixer)}")
    before = desk.rows()
    refused = desk("fix", "apply", "--yes")
    assert refused.status == 3
    assert desk.rows() == before


def test_reconciling_says_what_was_wrong_what_was_made_and_what_is_wrong_now(desk):
    (found,) = desk.json("reconcile", "--auto-fix", status=1)["databases"]

    def counts(when: str) -> dict[str, int]:
        return {check["name"]: check["count"] for check in found[when]["checks"] if check["count"]}

    assert counts("before") == {
        "unlinked_filled_order": 3, "orphaned_position_reference": 1, "quantity_mismatch": 2,
        "position_without_orders": 1,
    }  # fmt: skip
    # The order that names nothing belongs nowhere now, which is what it was all the time.
    assert counts("after") == {"unlinked_filled_order": 3, "quantity_mismatch": 1, "position_without_orders": 1}
    assert {change["id"] for change in found["changes"] if change["record"]} == {LOST, ORPHAN}
    assert found["error"] is None
    shown = desk("reconcile")
    assert shown.status == 1
    rows = "1 position_without_orders, 1 quantity_mismatch, 3 unlinked_filled_order\n"
    assert shown.stdout.startswith(f"trading before: CRITICAL: {rows}")
    assert shown.stdout.endswith(f"trading after: CRITICAL: {rows}")


def test_reconciling_writes_nothing_unless_it_is_told_to(desk):
    before = desk.rows()
    (found,) = desk.json("reconcile", status=1)["databases"]
    assert (found["run"], found["changes"]) == (None, [])
    assert sum(change["made"] for change in found["plan"]["changes"]) == 2
    assert desk("reconcile", "--fail-on", "never").status == 0
    assert desk.rows() == before
    desk.more = {"reconcile": {"auto_fix": True}}
    desk("reconcile")
    assert desk.rows() != before


def test_reconciling_where_nothing_may_be_written_plans(desk):
    """As the guide's own block has it, which sets the switch and no role."""
    before = desk.rows()
    config = desk.config
    del config["databases"]["trading"]["fix_dsn"]
    finished = desk("reconcile", "--auto-fix", config=config)
    assert finished.status == 1
    assert "databases.trading.fix_dsn is not set" in finished.stderr
    assert "would be made" in finished.stdout
    finished = desk("reconcile", "--auto-fix", config={**desk.config, "fix": {"allow": ["link_order"], "stop": True}})
    assert finished.status == 1
    assert "fix.stop is set" in finished.stdout
    assert desk.rows() == before


def test_reconciling_a_database_that_cannot_be_read_is_no_verdict(desk):
    config = desk.config
    config["databases"]["trading"]["dsn"] = "postgresql://po_reader@127.0.0.1:1/gone"
    finished = desk("reconcile", config=config)
    assert finished.status == 3
    assert "trading after: UNKNOWN" in finished.stdout


def test_many_links_come_from_a_file_and_go_on_where_they_were_interrupted(desk, tmp_path):
    file = tmp_path / "links.csv"
    file.write_text(f"order,position\n{LOST},{A1}\n{TWINS[0]},{A2}\n")
    made = desk.made("link", "--from", str(file), "--batch", "1")
    assert all(each["record"] for each in made.values())
    before = desk.rows()
    lines = tmp_path / "links.jsonl"
    rows = [{"order": LOST, "position": A1}, {"order": TWINS[1], "position": A2}, {"order": FIRST, "position": A2},
            {"order": GONE, "position": A1}, {"order": ORPHAN, "position": A1}]  # fmt: skip
    lines.write_text("\n".join(map(json.dumps, rows)))
    made = desk.made("link", "--from", str(lines), status=1)
    assert {order: each["refusal"] for order, each in made.items()} == {
        LOST: None, TWINS[1]: None, FIRST: f"it is linked to {A1}; unlink it first", GONE: "there is no such order",
        ORPHAN: f"it is linked to {GONE}; unlink it first",
    }  # fmt: skip
    assert made[LOST]["record"] is None, "it is so already"
    assert made[TWINS[1]]["record"]
    run = desk.json("fix", "log")["records"][0]["run"]
    desk.made("undo", "--run", run)
    assert desk.rows() == before


def test_what_ends_in_a_later_transaction_says_what_is_done_before_it(desk, tmp_path):
    desk.do(f"""
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER fail BEFORE UPDATE ON orders FOR EACH ROW WHEN (NEW.id = '{TWINS[0]}')
        EXECUTE FUNCTION fail()""")
    file = tmp_path / "links.csv"
    file.write_text(f"order,position\n{LOST},{A1}\n{TWINS[0]},{A2}\n")
    finished = desk("fix", "link", "--from", str(file), "--batch", "1", "--yes")
    assert finished.status == 3
    assert "1 before line 3 are done" in finished.stderr
    assert (desk.link(LOST), desk.link(TWINS[0])) == (A1, "none")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", ":1: the first line should name the columns order and position."),
        ("order,position\n", None),
        ("order,position\nx\n", ":2: should have an order and a position."),
        (f"order,position\n{LOST},{A1}\n{LOST},{A2}\n", f":3: order {LOST} stands in line 2 already."),
        (f"order,position\n{LOST},{A1}\nnonsense,{A1}\n", "'nonsense' is no id of orders, whose ids are of type uuid."),
        ('{"order": "x"}\n[]\n', ":1: should have an order and a position."),
        ('{"order"\n', ":1: should be a JSON object."),
        (None, "cannot be read: No such file or directory."),
    ],
)
def test_a_file_with_a_fault_is_named_with_its_line_and_nothing_is_written(desk, tmp_path, content, why):
    before = desk.rows()
    file = tmp_path / "links"
    if content is not None:
        file.write_text(content)
    finished = desk("fix", "link", "--from", str(file), "--yes")
    assert finished.status == (2 if why else 0)
    assert (why or "") in finished.stderr
    assert "Traceback" not in finished.stderr
    assert desk.rows() == before


def remarks(desk: Desk, status: int, config: dict[str, Any] | None = None) -> list[str]:
    """What doctor says of fixes."""
    finished = desk("doctor", "--format", "json", config=config)
    assert finished.status == status, finished
    (found,) = finished.json["databases"]
    return [f"{each['level']}: {each['message']}" for each in found["remarks"] if each["subject"] == "fixes"]


@pytest.mark.database
def test_doctor_says_whether_the_role_can_mend(desk):
    role = role_of(desk.fixer)
    assert remarks(desk, 0) == [f"ok: {role} may write what fixes write, and the record of it"]
    desk.do(f"REVOKE {FIXER} FROM {role}")
    (lacks,) = remarks(desk, 1)
    assert lacks.startswith(f"problem: {role} lacks SELECT on both tables, UPDATE of orders.position_id, ")
    assert lacks.endswith("USAGE of the schema po_exporter, INSERT into po_exporter.record")
    config = desk.config
    config["databases"]["trading"]["fix_dsn"] = "postgresql://nobody@127.0.0.1:1/gone"
    assert "problem: fix_dsn cannot connect" in remarks(desk, 1, config)[0]
    del config["databases"]["trading"]["fix_dsn"]
    assert remarks(desk, 0, config) == []


def test_doctor_says_that_there_is_no_place_for_the_record(desk):
    desk.do(f"DROP OWNED BY {FIXER}; DROP SCHEMA po_exporter CASCADE")
    assert (
        remarks(desk, 1)[0] == "problem: there is no schema po_exporter, which has the record: nothing can be written"
    )
