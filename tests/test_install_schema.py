"""The schema of what the sidecar keeps and its roles: made, upgraded from each version before, and taken away again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from here import Here, sql
from installing import FIXER, READER, ROLES, catalogs, refused, role_of, without_roles
from parts.database import Database, fresh_database
from parts.postgres import Server
from po_exporter.database.session import Target
from po_exporter.errors import LockTimeout
from po_exporter.install import installer, schema
from po_exporter.install.installer import install, uninstall
from po_exporter.install.wanted import Wanted
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret
from po_exporter.sql import newest_schema

pytestmark = pytest.mark.database

NEWEST = newest_schema()
DEAD = "postgresql://po_reader@127.0.0.1:1/gone"
VERSION = r"""
SELECT substring(obj_description(oid, 'pg_namespace') from '"version": ?(\d+)')::int FROM pg_namespace
WHERE nspname = 'po_exporter'
"""
ROWS = {
    1: """INSERT INTO po_exporter.leader VALUES ('trading', 7, 'one', '2026-01-01');
          INSERT INTO po_exporter.incidents VALUES ('trading', 'link_rate', '{"open": true}');
          INSERT INTO po_exporter.outbox (database, channel, incident, summary)
          VALUES ('trading', 'slack', 'a', '{}')""",
    2: """INSERT INTO po_exporter.record (run, actor, version, fix, entity, entity_id, before, after, reason)
          VALUES ('r', 'a', '1', 'unlink_orphan', 'order', '1', '{}', '{}', 'because'); SELECT po_exporter.seal()""",
}
TABLES = {1: ("leader", "incidents", "outbox"), 2: ("record",)}


@pytest.fixture(autouse=True)
def cleaned(server: Server) -> Iterator[None]:
    with without_roles(server):
        yield


@pytest.fixture
def po(capsys, monkeypatch, po_exporter) -> Here:
    monkeypatch.setattr(installer, "PAUSE", 0.01)
    return Here(capsys, monkeypatch, po_exporter)


@pytest.fixture
async def other(server: Server) -> AsyncIterator[Database]:
    """Another database of the same server."""
    async with fresh_database(server) as fresh:
        yield fresh


@pytest.fixture
def both(database: Database, other: Database) -> tuple[Database, Database]:
    return database, other


@pytest.fixture
def owner(database: Database) -> Iterator[str]:
    """A role that owns both tables, with CREATE on the database and CREATEROLE, and no superuser."""
    dsn = owner_of(database)
    yield dsn
    sql(database, f"REASSIGN OWNED BY {role_of(dsn)} TO postgres; DROP OWNED BY {role_of(dsn)} CASCADE")


def owner_of(database: Database) -> str:
    dsn = database.create_role()
    role = role_of(dsn)
    sql(
        database,
        f"ALTER ROLE {role} CREATEROLE; GRANT CREATE ON DATABASE {database.name} TO {role};"
        f"ALTER TABLE orders OWNER TO {role}; ALTER TABLE positions OWNER TO {role}",
    )
    return dsn


def scanning(dsn: str, **database: str) -> dict[str, Any]:
    return {"databases": {"trading": {"dsn": dsn} | database}, "monitor": {"mode": "scan"}}


def everything(database: Database, version: int) -> list[str]:
    """All rows that are kept."""
    tables = [table for step in range(1, version + 1) for table in TABLES[step]]
    return [sql(database, f"SELECT * FROM po_exporter.{table}") for table in tables]


def roles(database: Database) -> set[str]:
    return set(sql(database, "SELECT rolname FROM pg_roles WHERE rolname ~ '^po_exporter_'").split())


def test_it_makes_what_is_missing_says_so_and_then_changes_nothing(database, po):
    finished = po("install", "--format", "json", config=scanning(database.dsn))
    assert finished.status == 0, finished
    assert finished.json["changes"] == [
        "made the roles po_exporter_admin, po_exporter_reader, po_exporter_fixer and po_exporter_sealer",
        f"made the schema po_exporter, version {NEWEST}",
        "granted SELECT on public.orders and public.positions to po_exporter_reader and po_exporter_fixer",
        "granted UPDATE of position_id of public.orders to po_exporter_fixer",
        "granted UPDATE of quantity, entry_price and realized_pnl of public.positions to po_exporter_fixer",
    ]
    assert finished.json["advice"] == [], "what the feed lacks is of no interest"
    assert sql(database, VERSION) == str(NEWEST)
    before = catalogs(database)
    again = po("install", "--format", "json", config=scanning(database.dsn)).json
    assert (again["status"], again["changes"]) == ("unchanged", [])
    assert catalogs(database) == before
    sql(database, "REVOKE SELECT ON positions FROM po_exporter_reader; REVOKE UPDATE ON orders FROM po_exporter_fixer")
    mended = po("install", "--format", "json", config=scanning(database.dsn)).json
    assert mended["changes"] == [
        "granted SELECT on public.positions to po_exporter_reader",
        "granted UPDATE of position_id of public.orders to po_exporter_fixer",
    ]
    assert catalogs(database) == before


def test_the_steps_are_numbered_without_a_gap_and_each_notes_its_version(database, po, monkeypatch):
    for version in range(1, NEWEST + 1):
        monkeypatch.setattr(schema, "newest_schema", lambda version=version: version)
        assert po("install", config=scanning(database.dsn)).status == 0
        assert sql(database, VERSION) == str(version)


@pytest.mark.parametrize("version", range(1, NEWEST))
@pytest.mark.parametrize("printing", [False, True], ids=["run", "printed"])
def test_an_upgrade_makes_what_a_fresh_install_makes_and_keeps_the_rows(version, printing, both, po, monkeypatch):
    database, other = both
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "newest_schema", lambda: version)
        assert po("install", dsn=database.dsn).status == 0
    assert sql(database, VERSION) == str(version)
    for step in range(1, version + 1):
        sql(database, ROWS[step])
    rows = everything(database, version)
    assert all(rows)
    if printing:
        printed = po("install", "--print", dsn=database.reader_dsn).stdout
        sql(database, printed.split("-- 3.")[0])
        sql(database, "REVOKE po_exporter_reader FROM po_reader")
    else:
        finished = po("install", dsn=database.dsn)
        assert finished.stdout.splitlines()[1:] == [
            f"- brought the schema po_exporter from version {version} to {NEWEST}"
        ]
    assert po("install", dsn=other.dsn).status == 0
    assert catalogs(database) == catalogs(other)
    assert everything(database, version) == rows


def test_a_schema_that_is_newer_is_left_alone_and_said(database, po):
    assert po("install", config=scanning(database.dsn)).status == 0
    newer = f'{{"made_by": "po-exporter install", "version": {NEWEST + 1}}}'
    sql(database, f"COMMENT ON SCHEMA po_exporter IS '{newer}'")
    before = catalogs(database)
    said = po("install", "--format", "json", config=scanning(database.dsn)).json
    assert said["status"] == "unchanged"
    assert said["changes"] == [
        f"left the schema po_exporter as it is: its version {NEWEST + 1} is newer than this program's {NEWEST}"
    ]
    assert catalogs(database) == before
    assert "newer than this program" in refused(po, database, "--uninstall", config=scanning(database.dsn))


@pytest.mark.parametrize("comment", ["NULL", "'mine'", """'{"made_by": "me", "version": 1}'""", "'[1]'",
                                     """'{"made_by": "po-exporter install", "version": "1"}'"""])  # fmt: skip
def test_somebody_elses_schema_is_refused(comment, database, po):
    sql(database, f"CREATE SCHEMA po_exporter; COMMENT ON SCHEMA po_exporter IS {comment}")
    assert "a schema po_exporter already, which install has not made" in refused(po, database)
    before = catalogs(database)
    assert po("install", "--uninstall", dsn=database.dsn).stdout.startswith("unchanged")
    assert catalogs(database) == before


@pytest.mark.parametrize("strong", ["SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS"])
def test_a_strong_role_of_our_name_is_somebody_elses(strong, database, po):
    sql(database, f"CREATE ROLE {READER} {strong}")
    assert f"there is a role {READER} already, with {strong}" in refused(po, database)


def test_a_role_that_is_there_is_taken_as_it_is_and_stays(database, po):
    sql(database, f"CREATE ROLE {FIXER}; COMMENT ON ROLE {FIXER} IS 'of the DBA'")
    before = catalogs(database)
    finished = po("install", dsn=database.dsn)
    assert "made the roles po_exporter_admin, po_exporter_reader and po_exporter_sealer\n" in finished.stdout
    assert po("install", "--uninstall", dsn=database.dsn).status == 0
    assert catalogs(database) == before


WHO = {
    "the reader": ("dsn", READER), "the reader past a pooler": ("direct_dsn", READER), "the fixer": ("fix_dsn", FIXER),
}  # fmt: skip


MEMBERS = """
SELECT string_agg(format('%s of %s', m.rolname, roleid::regrole), ', ')
FROM pg_auth_members JOIN pg_roles m ON m.oid = member WHERE roleid::regrole::text ~ '^po_exporter_'
"""


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("printing", [False, True], ids=["run", "printed"])
def test_the_sidecars_own_roles_are_granted_what_they_need(who, printing, database, po):
    key, group = WHO[who]
    name = """an "odd' $$ {orders} role"""
    quoted = name.replace('"', '""')
    database.server.create_role(quoted, "x")
    dsn = database.server.dsn(database.name, quote(name, safe=""), "x")
    config = scanning(**({"dsn": database.reader_dsn} | {key: dsn}))
    try:
        if printing:
            sql(database, po("install", "--print", config=config).stdout)
            assert "Nothing: all is as wanted" in po("install", "--print", config=config).stdout
        else:
            finished = po("install", "--dsn", database.dsn, config=config)
            assert f"- granted {group} to {name}\n" in finished.stdout
            assert po("install", "--dsn", database.dsn, config=config).stdout.startswith("unchanged")
        expected = {f"{name} of {group}"} | ({f"po_reader of {READER}"} if key != "dsn" else set())
        assert set(sql(database, MEMBERS).split(", ")) == expected
    finally:
        sql(database, f'DROP ROLE "{quoted}"')


def test_nobody_is_granted_anything_who_is_a_superuser_or_missing_or_installs_or_is_a_member_already(database, po):
    missing = database.server.dsn(database.name, "nobody", "x")
    superuser = database.create_role()
    sql(database, f"ALTER ROLE {role_of(superuser)} SUPERUSER")
    for dsn in (database.dsn, superuser, missing, DEAD.replace("po_reader", "postgres")):
        sql(database, "SET search_path = public; " + po("install", "--print", config=scanning(dsn)).stdout)
        assert sql(database, MEMBERS) == ""
        assert po("install", "--uninstall", dsn=database.dsn).status == 0
        finished = po("install", "--dsn", database.dsn, config=scanning(dsn))
        assert finished.stdout.startswith("installed")
        assert f"granted {READER}" not in finished.stdout
        assert sql(database, MEMBERS) == ""
        assert po("install", "--uninstall", dsn=database.dsn).status == 0
    assert po("install", dsn=database.dsn).status == 0
    sql(database, f"CREATE ROLE role_between; GRANT {READER} TO role_between; GRANT role_between TO po_reader")
    try:
        finished = po("install", "--dsn", database.dsn, config=scanning(database.reader_dsn))
        assert finished.stdout.startswith("unchanged")
    finally:
        sql(database, f"DROP ROLE role_between, {role_of(superuser)}")


def test_who_installs_for_itself_is_not_granted_its_own_role(database, owner, po):
    member = f"SELECT pg_has_role('{role_of(owner)}', '{READER}', 'USAGE')"
    run(owner, po("install", "--print", config=scanning(owner)).stdout)
    assert sql(database, member) == "f"
    assert po("install", "--uninstall", dsn=owner).status == 0
    finished = po("install", dsn=owner)
    assert finished.stdout.startswith("installed")
    assert f"to {role_of(owner)}" not in finished.stdout
    assert sql(database, member) == "f"
    assert po("install", dsn=owner).stdout.startswith("unchanged")


def test_an_owner_who_is_no_superuser_makes_and_takes_away_the_same(database, owner, other, po):
    before = catalogs(database)
    finished = po("install", "--dsn", owner, dsn=database.reader_dsn)
    assert finished.status == 0, finished
    assert "granted po_exporter_reader to po_reader" in finished.stdout
    joined = sql(
        database, f"SELECT pg_has_role('{role_of(owner)}', oid, 'USAGE') FROM pg_roles WHERE rolname ~ '^po_exporter_'"
    )
    assert set(joined.split()) == {"f"}, "whoever installs is none of our roles"
    made = catalogs(database)
    assert po("install", "--dsn", owner, dsn=database.reader_dsn).stdout.startswith("unchanged")
    assert catalogs(database) == made
    assert po("install", "--uninstall", "--dsn", owner, dsn=database.reader_dsn).status == 0
    assert catalogs(database) == before
    assert po("install", dsn=other.dsn).status == 0


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_such_an_owner_upgrades_too(version, database, owner, po, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "newest_schema", lambda: version)
        assert po("install", "--dsn", owner, dsn=database.reader_dsn).status == 0
    assert po("install", "--dsn", owner, dsn=database.reader_dsn).status == 0
    upgraded = catalogs(database)
    assert po("install", "--uninstall", "--dsn", owner, dsn=database.reader_dsn).status == 0
    assert po("install", "--dsn", owner, dsn=database.reader_dsn).status == 0
    assert catalogs(database) == upgraded


def run(dsn: str, script: str) -> None:
    """What psql does, as somebody else than the administrator."""

    async def execute() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"SET search_path = public; {script}")
        await connection.close()

    asyncio.run(execute())


def test_such_an_owner_runs_what_is_printed(database, owner, po):
    config = scanning(database.reader_dsn)
    before = catalogs(database)
    run(owner, po("install", "--print", config=config).stdout)
    made = catalogs(database)
    run(owner, po("install", "--uninstall", "--print", config=config).stdout)
    assert catalogs(database) == before
    run(owner, po("install", "--print", config=scanning(DEAD)).stdout)
    assert catalogs(database) == made
    run(owner, po("install", "--uninstall", "--print", config=scanning(DEAD)).stdout)
    assert catalogs(database) == before
    assert po("install", "--dsn", owner, config=config).status == 0
    assert catalogs(database) == made


def test_who_may_not_grant_the_roles_of_somebody_else_is_told_so(database, owner, other, po):
    assert po("install", dsn=other.dsn).status == 0
    if database.server.version < 16:
        assert po("install", "--dsn", owner, dsn=database.reader_dsn).status == 0, "CREATEROLE was enough"
        return
    why = refused(po, database, "--dsn", owner, dsn=database.reader_dsn)
    assert f"{role_of(owner)} may not grant po_exporter_admin, po_exporter_reader and po_exporter_sealer: give" in why
    assert po("install", "--dsn", database.dsn, dsn=database.reader_dsn).status == 0
    why = refused(po, database, "--uninstall", "--dsn", owner, dsn=database.reader_dsn)
    assert (
        f"{role_of(owner)} does not own the publication po_exporter, and may not grant or drop po_exporter_admin" in why
    )
    assert po("install", "--uninstall", "--dsn", database.dsn, dsn=database.reader_dsn).status == 0
    sql(
        database,
        "; ".join(f"GRANT {role} TO {role_of(owner)} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE" for role in ROLES),
    )
    assert po("install", "--dsn", owner, dsn=database.reader_dsn).status == 0


def test_a_member_of_the_admin_stays_one(database, owner, po):
    sql(database, f"CREATE ROLE po_exporter_admin; GRANT po_exporter_admin TO {role_of(owner)} WITH ADMIN OPTION")
    member = f"SELECT pg_has_role('{role_of(owner)}', 'po_exporter_admin', 'USAGE')"
    for command in (("install",), ("install", "--uninstall")):
        assert po(*command, "--dsn", owner, dsn=database.reader_dsn).status == 0
        assert sql(database, member) == "t"


def test_uninstall_leaves_nothing(database, po):
    before = catalogs(database)
    assert po("install", "--dsn", database.dsn, dsn=database.reader_dsn).status == 0
    sql(database, ROWS[1])
    finished = po("install", "--uninstall", "--format", "json", dsn=database.dsn)
    assert finished.status == 0, finished
    assert finished.json["changes"] == [
        "dropped the schema po_exporter",
        "revoked what was granted on public.orders and public.positions",
        "dropped the roles po_exporter_admin, po_exporter_reader, po_exporter_fixer and po_exporter_sealer",
        "dropped the publication po_exporter",
        "restored the replica identity of public.orders",
        "restored the replica identity of public.positions",
    ]
    assert catalogs(database) == before
    assert po("install", "--uninstall", dsn=database.dsn).stdout.startswith("unchanged")


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_an_earlier_version_is_uninstalled_too(version, database, po, monkeypatch):
    before = catalogs(database)
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "newest_schema", lambda: version)
        assert po("install", dsn=database.dsn).status == 0
    assert po("install", "--uninstall", dsn=database.dsn).status == 0
    assert catalogs(database) == before


def test_records_are_not_dropped_unasked(database, po):
    before = catalogs(database)
    assert po("install", dsn=database.dsn).status == 0
    sql(database, ROWS[2])
    why = refused(po, database, "--uninstall")
    assert "po_exporter.record holds 1 row(s), the evidence of what was changed" in why
    assert "--drop-data" in why
    printed = po("install", "--uninstall", "--print", dsn=database.dsn).stdout
    with pytest.raises(AssertionError, match="holds 1 row"):
        sql(database, printed)
    assert po("install", "--drop-data", dsn=database.dsn).status == 2
    assert sql(database, "SELECT count(*) FROM po_exporter.record") == "1"
    printed = po("install", "--uninstall", "--drop-data", "--print", dsn=database.dsn).stdout
    assert "install --uninstall --drop-data: the SQL" in printed
    assert po("install", "--uninstall", "--drop-data", dsn=database.dsn).status == 0
    assert catalogs(database) == before


IN_THE_WAY = {
    "CREATE TABLE po_exporter.theirs ()": "table po_exporter.theirs depends on schema po_exporter",
    "CREATE VIEW theirs AS SELECT * FROM po_exporter.outbox": "view theirs depends on table po_exporter.outbox",
    "CREATE FUNCTION theirs(po_exporter.record) RETURNS int LANGUAGE sql AS 'SELECT 1'": "function theirs",
    "CREATE TABLE theirs (); ALTER TABLE theirs OWNER TO po_exporter_reader": "owner of table theirs",
    "CREATE TABLE theirs (); GRANT SELECT ON theirs TO po_exporter_reader": "privileges for table theirs",
    "GRANT DELETE ON orders TO po_exporter_fixer": "privileges for table orders",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO po_exporter_reader": "privileges for default privileges",
}


@pytest.mark.parametrize("theirs", IN_THE_WAY)
def test_what_somebody_else_rests_on_it_is_not_dropped(theirs, database, po):
    assert po("install", dsn=database.dsn).status == 0
    sql(database, theirs)
    try:
        assert IN_THE_WAY[theirs] in refused(po, database, "--uninstall")
    finally:
        sql(database, "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM po_exporter_reader")


def test_the_roles_stay_as_long_as_another_database_needs_them(database, other, po):
    before = catalogs(database)
    for each in (database, other):
        assert po("install", "--dsn", each.dsn, dsn=each.reader_dsn).status == 0
    members = "SELECT member::regrole FROM pg_auth_members WHERE roleid = 'po_exporter_reader'::regrole"
    finished = po("install", "--uninstall", dsn=database.dsn)
    assert "- left the roles po_exporter_admin, " in finished.stdout
    assert ": another database of this server needs them" in finished.stdout
    assert roles(database) == set(ROLES)
    assert sql(database, members) == "po_reader", "by which it reads the other"
    assert po("install", "--uninstall", dsn=database.dsn).stdout.startswith("unchanged")
    finished = po("install", "--uninstall", dsn=other.dsn)
    assert "- dropped the roles" in finished.stdout
    assert roles(database) == set()
    assert catalogs(database) == before


async def test_two_at_once_in_two_databases_do_not_fail_each_other(database, other, monkeypatch):
    monkeypatch.setattr(installer, "PAUSE", 0.02)
    targets = [Target(each.name, Secret(each.dsn)) for each in (database, other)]
    wanted = Wanted(GAL_FRIDAY, members=(("po_reader", READER),))
    for _ in range(6):
        made = await asyncio.gather(*(install(target, wanted) for target in targets * 2))
        assert {outcome.status for outcome in made} <= {"installed", "unchanged"}, made
        assert [outcome.status for outcome in made].count("installed") >= 2
        gone = await asyncio.gather(*(uninstall(target, wanted) for target in targets * 2))
        assert {outcome.status for outcome in gone} <= {"uninstalled", "unchanged"}, gone
        # Each may have seen the other still there; then the next one drops what nobody needs.
        await uninstall(targets[0], wanted)
        assert await database.fetchval("SELECT count(*) FROM pg_roles WHERE rolname ~ '^po_exporter_'") == 0


def feed(database: Database) -> list[str]:
    return re.findall(r"^(?:publication|published|identity) (?!.*po_exporter\.).*", catalogs(database), re.MULTILINE)


async def test_several_at_once_in_one_database_make_and_drop_it_once(database, monkeypatch):
    monkeypatch.setattr(installer, "PAUSE", 0.02)
    target, wanted = Target(database.name, Secret(database.dsn)), Wanted(GAL_FRIDAY)
    for _ in range(8):
        made = await asyncio.gather(*(install(target, wanted) for _ in range(3)))
        assert sorted(outcome.status for outcome in made) == ["installed", "unchanged", "unchanged"]
        gone = await asyncio.gather(*(uninstall(target, wanted) for _ in range(3)))
        assert sorted(outcome.status for outcome in gone) == ["unchanged", "unchanged", "uninstalled"]


async def test_who_uses_what_is_to_be_dropped_is_named(database, monkeypatch):
    monkeypatch.setattr(installer, "ATTEMPTS", 1)
    target, wanted = Target(database.name, Secret(database.dsn)), Wanted(GAL_FRIDAY, feed=False)
    await install(target, wanted)
    before = await asyncio.to_thread(catalogs, database)
    sidecar = await asyncpg.connect(database.dsn)
    await sidecar.execute("BEGIN; SELECT FROM po_exporter.outbox")
    with pytest.raises(LockTimeout, match=rf"by pid {sidecar.get_server_pid()} .*; nothing was changed"):
        await uninstall(target, wanted)
    assert await asyncio.to_thread(catalogs, database) == before
    await sidecar.close()


SCANNED = {
    "a view": "ALTER TABLE orders RENAME TO o; CREATE VIEW orders AS SELECT * FROM o",
    "partitioned": "ALTER TABLE orders RENAME TO o; CREATE TABLE orders (LIKE o) PARTITION BY HASH (id)",
    "unlogged": "ALTER TABLE orders SET UNLOGGED",
    "NOTHING": "ALTER TABLE orders REPLICA IDENTITY NOTHING",
    "another publication": "CREATE PUBLICATION po_exporter FOR ALL TABLES",
}


@pytest.mark.parametrize("what", SCANNED)
def test_who_scans_gets_no_feed_and_is_not_refused_for_it(what, database, po):
    sql(database, SCANNED[what])
    assert refused(po, database).endswith("; monitor.mode: scan leaves the feed out")
    before = catalogs(database)
    published = feed(database)
    assert po("install", config=scanning(database.dsn)).status == 0
    assert feed(database) == published
    printed = po("install", "--print", config=scanning(DEAD)).stdout
    assert "PUBLICATION" not in printed
    assert "REPLICA" not in printed
    assert "po_feed" not in printed
    assert po("install", "--uninstall", config=scanning(database.dsn)).status == 0
    assert catalogs(database) == before


def test_what_is_no_plain_column_is_granted_to_nobody_and_the_schema_of_the_tables_is_opened(empty_database, po):
    sql(
        empty_database,
        """CREATE SCHEMA oms;
        CREATE TABLE oms."Order" (id int, book int, s text, st text, q numeric, at timestamptz);
        CREATE TABLE oms.book (id int, size numeric, "Px ""1" numeric)""",
    )
    mapping = {
        "orders": {
            "table": 'oms."Order"',
            "columns": {"id": "id", "position_id": {"sql": "nullif(book, 0)"}, "side": "s", "status": "st",
                        "filled_quantity": "q", "created_at": "at"},
            "filled_statuses": ["done"], "buy_sides": ["b"], "sell_sides": ["s"],
        },
        "positions": {"table": "oms.book", "columns": {"id": "id", "quantity": "size", "entry_price": 'Px "1'}},
    }  # fmt: skip
    config = scanning(empty_database.dsn, schema="oms") | {"schemas": {"oms": mapping}}
    before = catalogs(empty_database)
    finished = po("install", "--format", "json", config=config)
    assert finished.json["changes"][2:] == [
        "granted USAGE on the schema oms to po_exporter_reader and po_exporter_fixer",
        "granted SELECT on oms.Order and oms.book to po_exporter_reader and po_exporter_fixer",
        'granted UPDATE of size and Px "1 of oms.book to po_exporter_fixer',
    ]
    made = catalogs(empty_database)
    assert po("install", "--uninstall", config=config).status == 0
    assert catalogs(empty_database) == before
    offline = config | {"databases": {"trading": {"dsn": DEAD.replace("po_reader", "postgres"), "schema": "oms"}}}
    sql(empty_database, po("install", "--print", config=offline).stdout)
    assert catalogs(empty_database) == made
    sql(empty_database, po("install", "--uninstall", "--print", config=offline).stdout)
    assert catalogs(empty_database) == before


def test_whose_schema_it_is_not_cannot_open_it(database, owner, po):
    sql(database, "CREATE SCHEMA oms; ALTER TABLE orders SET SCHEMA oms")
    sql(
        database,
        f"GRANT USAGE ON SCHEMA oms TO {role_of(owner)}; ALTER ROLE {role_of(owner)} SET search_path = oms, public",
    )
    assert "may not grant USAGE on the schema oms" in refused(
        po, database, "--dsn", owner, config=scanning(database.reader_dsn)
    )


def told_by_doctor(po: Here, config: Any, subject: str) -> dict[str, Any]:
    finished = po("doctor", "--format", "json", config=config)
    (told,) = [each for each in finished.json["databases"][0]["remarks"] if each["subject"] == subject]
    assert finished.status == (told["level"] == "problem"), finished
    return told


def test_doctor_says_how_the_schema_is(database, po, monkeypatch):
    config = scanning(database.reader_dsn)
    told = told_by_doctor(po, config, "schema po_exporter")
    assert told["level"] == "advice"
    assert told["message"].startswith("not installed: ")
    sql(database, "CREATE SCHEMA po_exporter")
    assert "somebody else's" in told_by_doctor(po, config, "schema po_exporter")["message"]
    sql(database, "DROP SCHEMA po_exporter")
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "newest_schema", lambda: 1)
        assert po("install", dsn=database.dsn).status == 0
    told = told_by_doctor(po, config, "schema po_exporter")
    assert (told["level"], told["action"]) == ("problem", "run po-exporter install")
    assert f"version 1, older than this sidecar needs ({NEWEST})" in told["message"]
    assert po("install", dsn=database.dsn).status == 0
    told = told_by_doctor(po, config, "schema po_exporter")
    assert told["level"] == "problem"
    assert told["message"] == "installed, but po_reader has no rights in it: it lacks the role po_exporter_reader"
    sql(database, told["action"].split(",")[0])
    told = told_by_doctor(po, config, "schema po_exporter")
    assert (told["level"], told["action"]) == ("ok", None)
    assert told["message"].startswith(f"version {NEWEST}, ")


def test_doctor_asks_for_the_rights_of_the_role_that_writes(database, po):
    other = database.create_role()
    assert po("install", "--dsn", database.dsn, config=scanning(database.reader_dsn)).status == 0
    config = scanning(database.reader_dsn, direct_dsn=other)
    told = told_by_doctor(po, config, "schema po_exporter")
    assert told["message"].startswith(f"installed, but {role_of(other)} has no rights in it")
    assert po("install", "--dsn", database.dsn, config=config).status == 0
    assert told_by_doctor(po, config, "schema po_exporter")["level"] == "ok"
    sql(database, f"DROP ROLE {role_of(other)}")


@pytest.mark.parametrize(("leader", "before", "after"), [
    ("auto", "2 will be used (the reader, the leader's lock); ", "2 will be used (the reader, the leader's lock); "),
    ("off", "1 will be used (the reader); ", "2 will be used (the reader, schema po_exporter); "),
])  # fmt: skip
def test_doctor_counts_the_connection_that_the_schema_takes(leader, before, after, database, po):
    config = scanning(database.reader_dsn) | {"leader": leader}
    assert told_by_doctor(po, config, "connections")["message"].startswith(before)
    assert po("install", "--dsn", database.dsn, config=config).status == 0
    assert told_by_doctor(po, config, "connections")["message"].startswith(after)
