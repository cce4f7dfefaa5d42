"""What the change feed needs in a database, made by install and taken away again: never at the trading API's cost."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from feeding import Following
from here import Here, sql
from installing import catalogs, refused, role_of, without_roles
from parts.database import Database
from parts.postgres import Server
from parts.waiting import until
from po_exporter.install import installer, script
from sidecar import POPULATION

pytestmark = pytest.mark.database

DEAD = "postgresql://po_reader@127.0.0.1:1/gone"


@pytest.fixture(autouse=True)
def cleaned(server: Server) -> Iterator[None]:
    with without_roles(server):
        yield


@pytest.fixture
def po(capsys, monkeypatch, po_exporter) -> Here:
    monkeypatch.setattr(installer, "PAUSE", 0.01)
    return Here(capsys, monkeypatch, po_exporter)


@pytest.fixture
def filled(database: Database) -> Database:
    sql(database, POPULATION)
    return database


def identities(database: Database) -> str:
    """The replica identities of orders and positions."""
    return sql(
        database,
        "SELECT string_agg(relreplident::text, '' ORDER BY relname) FROM pg_class"
        " WHERE oid IN ('orders'::regclass, 'positions'::regclass)",
    )


def feed_dsn(database: Database) -> str:
    """A role that may replicate and nothing else."""
    dsn = database.create_role()
    sql(database, f'ALTER ROLE "{role_of(dsn)}" REPLICATION')
    return dsn


def trades(database: Database) -> None:
    """The trading API goes on: every kind of write is accepted."""
    sql(
        database,
        """UPDATE orders SET status = 'FILLED'; UPDATE positions SET quantity = quantity;
        DELETE FROM orders WHERE ctid = (SELECT min(ctid) FROM orders); INSERT INTO orders (status) VALUES ('NEW')""",
    )


def follows(database: Database, feed: str) -> None:
    """The incremental mode follows what the trading API does, and is right."""

    async def follow() -> None:
        following = Following(database.reader_dsn, feed)
        try:
            await following.follow()
            for _ in range(2):
                await asyncio.to_thread(trades, database)
                assert (await following.poll()).mode == "incremental"
            assert following.incremental.compared > 2
            assert not following.incremental.wrong
        finally:
            await following.close()

    asyncio.run(follow())


@contextmanager
def held(database: Database, statement: str) -> Iterator[int]:
    """A transaction that has run a statement and stays open; its process id."""
    loop = asyncio.new_event_loop()
    settings = {"application_name": "trading"}
    connection = loop.run_until_complete(asyncpg.connect(database.dsn, server_settings=settings))
    try:
        loop.run_until_complete(connection.execute(f"BEGIN; {statement}"))
        yield connection.get_server_pid()
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def test_after_it_the_incremental_mode_follows(filled, po):
    finished = po("install", dsn=filled.dsn)
    assert (finished.status, finished.stderr) == (0, "")
    assert finished.stdout.splitlines() == [
        f"installed  {filled.name}",
        "- made the roles po_exporter_admin, po_exporter_reader, po_exporter_fixer and po_exporter_sealer",
        "- made the schema po_exporter, version 3",
        "- granted SELECT on public.orders and public.positions to po_exporter_reader and po_exporter_fixer",
        "- granted UPDATE of position_id of public.orders to po_exporter_fixer",
        "- granted UPDATE of quantity, entry_price and realized_pnl of public.positions to po_exporter_fixer",
        "- made the publication po_exporter of public.orders and public.positions",
        "- set REPLICA IDENTITY FULL on public.orders and public.positions",
    ]
    follows(filled, feed_dsn(filled))


def test_a_second_time_it_changes_nothing(filled, po):
    assert po("install", dsn=filled.dsn).status == 0
    before = catalogs(filled)
    marks = "SELECT json_agg(xmin::text ORDER BY oid) FROM pg_class WHERE relname IN ('orders', 'positions')"
    rows = sql(filled, marks)
    finished = po("install", dsn=filled.dsn)
    assert (finished.status, finished.stdout) == (0, f"unchanged  {filled.name}, all was as wanted already\n")
    assert catalogs(filled) == before
    assert sql(filled, marks) == rows, "not even written again"


BEFORE = {
    "as they are made": "SELECT",
    "by an index": """CREATE UNIQUE INDEX "by Status" ON orders (id, created_at); ALTER TABLE orders ALTER created_at
        SET NOT NULL, REPLICA IDENTITY USING INDEX "by Status" """,
    "one has FULL": "ALTER TABLE positions REPLICA IDENTITY FULL",
    "published by somebody else, too": "CREATE PUBLICATION theirs FOR ALL TABLES",
    "published with a filter, which does no harm": "CREATE PUBLICATION theirs FOR TABLE orders WHERE (id IS NOT NULL)",
    "inserts alone published, with columns": "CREATE PUBLICATION t FOR TABLE orders (status) WITH (publish = 'insert')",
}


@pytest.mark.parametrize("what", BEFORE)
def test_uninstall_leaves_things_as_they_were(what, filled, po):
    if filled.server.version < 15 and ("filter" in what or "columns" in what):
        pytest.skip("PostgreSQL 14 has neither")
    sql(filled, BEFORE[what])
    before = catalogs(filled)
    assert po("install", dsn=filled.dsn).status == 0
    assert identities(filled) == "ff"
    trades(filled)
    assert catalogs(filled) != before
    finished = po("install", "--uninstall", dsn=filled.dsn)
    assert (finished.status, finished.stderr) == (0, "")
    assert "dropped the publication po_exporter" in finished.stdout
    assert catalogs(filled) == before
    trades(filled)
    finished = po("install", "--uninstall", dsn=filled.dsn)
    assert (finished.status, finished.stdout) == (0, f"unchanged  {filled.name}, all was as wanted already\n")


def test_an_index_that_is_no_more_becomes_the_default(filled, po):
    sql(filled, BEFORE["by an index"])
    assert po("install", dsn=filled.dsn).status == 0
    sql(filled, 'DROP INDEX "by Status"')
    assert po("install", "--uninstall", dsn=filled.dsn).status == 0
    assert identities(filled) == "dd"


def test_what_somebody_has_changed_since_is_left_alone(filled, po):
    assert po("install", dsn=filled.dsn).status == 0
    sql(filled, "ALTER TABLE orders REPLICA IDENTITY NOTHING")
    finished = po("install", "--uninstall", dsn=filled.dsn)
    assert "left the replica identity of public.orders as it is" in finished.stdout
    assert identities(filled) == "nd"


def test_it_mends_what_was_changed_and_still_knows_what_was_before(filled, po):
    sql(filled, "ALTER TABLE positions REPLICA IDENTITY FULL")
    before = catalogs(filled)
    assert po("install", dsn=filled.dsn).status == 0
    sql(filled, "ALTER TABLE positions REPLICA IDENTITY DEFAULT")
    finished = po("install", dsn=filled.dsn)
    assert "set REPLICA IDENTITY FULL on public.positions" in finished.stdout
    assert identities(filled) == "ff"
    assert po("install", "--uninstall", dsn=filled.dsn).status == 0
    assert catalogs(filled) == before


def test_a_publication_that_was_made_by_hand_is_taken_as_it_is(filled, po):
    sql(filled, "CREATE PUBLICATION po_exporter FOR TABLE orders, positions")
    assert "not made by install" in refused(po, filled, "--uninstall")
    finished = po("install", dsn=filled.dsn)
    assert "made the publication" not in finished.stdout
    assert identities(filled) == "ff"
    assert po("install", "--uninstall", dsn=filled.dsn).status == 0, "it has noted what was before"
    assert identities(filled) == "dd"


REFUSED = {
    "CREATE PUBLICATION theirs FOR TABLE orders (id)": (15, "theirs has a column list for public.orders"),
    "ALTER TABLE positions REPLICA IDENTITY NOTHING": (14, "public.positions has REPLICA IDENTITY NOTHING"),
    "CREATE TABLE child () INHERITS (orders)": (14, "public.orders is no ordinary table"),
    "ALTER TABLE orders RENAME TO o; CREATE VIEW orders AS SELECT * FROM o": (14, "orders is no ordinary table"),
    "ALTER TABLE orders RENAME TO o": (14, "there is no table orders"),
    "ALTER TABLE orders SET UNLOGGED": (14, "public.orders is unlogged"),
    "CREATE PUBLICATION po_exporter": (14, "a publication po_exporter already, of other tables"),
    "CREATE PUBLICATION po_exporter FOR ALL TABLES": (14, "of other tables (all)"),
    "CREATE TABLE x (); CREATE PUBLICATION po_exporter FOR TABLE orders, positions, x": (14, "public.x"),
    "CREATE PUBLICATION po_exporter FOR TABLES IN SCHEMA public": (15, "by schema"),
    "CREATE PUBLICATION po_exporter FOR TABLE orders, positions WITH (publish = 'insert')": (14, "not all four"),
    "CREATE PUBLICATION po_exporter FOR TABLE orders WHERE (id IS NULL), positions": (15, "a row filter"),
    "CREATE PUBLICATION po_exporter FOR TABLE orders, positions; COMMENT ON PUBLICATION po_exporter IS 'ours'": (
        14,
        "somebody else's comment",
    ),
    "ALTER TABLE orders ADD twice numeric GENERATED ALWAYS AS (quantity * 2)": (18, "a virtual generated column"),
    # Known by no rule of ours: the server itself says it.
    "ALTER TABLE orders ADD twice numeric GENERATED ALWAYS AS (quantity * 2) STORED; "
    "CREATE PUBLICATION theirs FOR ALL TABLES": (18, "UPDATE or DELETE would fail afterwards: cannot update table"),
}


@pytest.mark.parametrize("made", REFUSED)
def test_what_would_hurt_is_refused_before_anything_is_changed(made, filled, po):
    oldest, why = REFUSED[made]
    if filled.server.version < oldest:
        pytest.skip(f"PostgreSQL {filled.server.version} has no such thing")
    sql(filled, made)
    assert why in refused(po, filled)
    if "NOTHING" not in made and "RENAME" not in made:
        trades(filled)


def test_a_partitioned_table_is_refused(empty_database, po):
    sql(empty_database, "CREATE TABLE orders (id int) PARTITION BY HASH (id); CREATE TABLE positions (id int)")
    assert "public.orders is no ordinary table" in refused(po, empty_database)


def test_a_standby_is_refused(filled, standby, po):
    finished = po("install", dsn=standby.dsn)
    assert (finished.status, finished.stderr) == (1, "")
    assert "the server is a standby" in finished.stdout
    assert identities(filled) == "dd"


def test_stored_generated_columns_do_no_harm(filled, po):
    """From PostgreSQL 18 on, an UPDATE fails if they are not published, whenever they were added."""
    sql(filled, "ALTER TABLE orders ADD twice numeric GENERATED ALWAYS AS (quantity * 2) STORED")
    assert po("install", dsn=filled.dsn).status == 0
    sql(filled, "ALTER TABLE positions ADD twice numeric GENERATED ALWAYS AS (quantity * 2) STORED")
    trades(filled)
    follows(filled, feed_dsn(filled))


def test_a_restored_identity_that_would_stop_the_trading_is_refused(filled, po):
    sql(filled, "ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    assert po("install", dsn=filled.dsn).status == 0
    sql(filled, "CREATE PUBLICATION theirs FOR TABLE orders")  # which rests on FULL
    why = refused(po, filled, "--uninstall")
    assert 'cannot update table "orders" because it does not have a replica identity' in why
    trades(filled)


def test_missing_rights_are_said_in_one_sentence(filled, po):
    why = refused(po, filled, dsn=filled.reader_dsn)
    assert why == (
        "po_reader does not own public.orders and public.positions, and may not CREATE in the database "
        f"{filled.name}, and has no CREATEROLE: give --dsn, or PO_EXPORTER_INSTALL_DSN, of a role that does; or have "
        "a DBA run what --print shows"
    )
    owner = filled.create_role()
    sql(filled, f'ALTER TABLE orders OWNER TO "{role_of(owner)}"')
    assert "does not own public.positions, and may not CREATE" in refused(po, filled, dsn=owner)
    sql(filled, f'ALTER TABLE positions OWNER TO "{role_of(owner)}"')
    why = refused(po, filled, dsn=owner)
    assert f"{role_of(owner)} may not CREATE in the database" in why
    sql(filled, f'GRANT CREATE ON DATABASE {filled.name} TO "{role_of(owner)}"')
    assert refused(po, filled, dsn=owner).startswith(f"{role_of(owner)} has no CREATEROLE: give --dsn")
    sql(filled, f'ALTER ROLE "{role_of(owner)}" CREATEROLE')
    assert po("install", "--dsn", owner, dsn=filled.reader_dsn).status == 0
    assert "does not own" in refused(po, filled, "--uninstall", dsn=filled.reader_dsn)
    assert po("install", "--uninstall", "--dsn", owner, dsn=filled.reader_dsn).status == 0
    assert identities(filled) == "dd"
    sql(filled, f'REASSIGN OWNED BY "{role_of(owner)}" TO postgres; DROP OWNED BY "{role_of(owner)}"')


def test_the_owners_dsn_comes_from_the_environment_and_is_never_printed(filled, po, monkeypatch):
    secret = "Xq7-distinctive"
    monkeypatch.setenv("PO_EXPORTER_INSTALL_DSN", filled.dsn)
    assert po("config", "check", dsn=filled.reader_dsn).status == 0, "it is no setting, and no fault"
    assert po("install", dsn=filled.reader_dsn).status == 0
    for dsn, status in {
        f"postgresql://nobody:{secret}@127.0.0.1:{filled.server.port}/{filled.name}": 3,
        f"postgresql://nobody:{secret}@x@127.0.0.1/{filled.name}": 2,
        f"mysql://nobody:{secret}@127.0.0.1/x": 2,
    }.items():
        monkeypatch.setenv("PO_EXPORTER_INSTALL_DSN", dsn)
        finished = po("install", dsn=filled.reader_dsn)
        assert (finished.status, finished.stdout) == (status, ""), finished
        assert finished.stderr.startswith("po-exporter: ")
        assert len(finished.stderr.splitlines()) == 1
        assert secret not in finished.stderr


def test_a_table_in_use_is_left_alone(filled, po, monkeypatch):
    monkeypatch.setattr(installer, "ATTEMPTS", 2)
    for command in (("install",), ("install", "--uninstall")):
        before = catalogs(filled)
        with held(filled, "UPDATE positions SET quantity = quantity") as pid:
            finished = po(*command, dsn=filled.dsn)
            assert (finished.status, finished.stdout) == (3, ""), finished
            assert len(finished.stderr.splitlines()) == 1
            assert f"pid {pid} (postgres, trading)" in finished.stderr
            assert finished.stderr.endswith("; nothing was changed\n")
            assert catalogs(filled) == before
        sql(filled, "BEGIN; DELETE FROM orders; PREPARE TRANSACTION 'forgotten'")
        finished = po(*command, dsn=filled.dsn)
        sql(filled, "ROLLBACK PREPARED 'forgotten'")
        assert finished.status == 3
        assert "by a prepared transaction" in finished.stderr
        assert catalogs(filled) == before
        assert po("install", dsn=filled.dsn).status == 0


async def test_it_tries_again_until_the_table_is_free(database, cli):
    await database.execute(POPULATION)
    trading = await asyncpg.connect(database.dsn)
    await trading.execute("BEGIN; UPDATE orders SET status = 'FILLED'")
    running = asyncio.create_task(cli("install", env={"PO_EXPORTER_DSN": database.dsn}))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
    for wanted in (1, 0, 1, 0):

        async def is_so(wanted: int = wanted) -> bool:
            return await database.fetchval(waiting) == wanted

        await until(is_so, what="an attempt, and its end")
    await database.execute("SET lock_timeout = '5s'; UPDATE positions SET quantity = quantity; SELECT FROM orders")
    await trading.execute("COMMIT")
    await trading.close()
    finished = await running
    assert (finished.status, finished.stdout.split()[0]) == (0, "installed"), finished


def test_no_standby_is_waited_for_with_the_tables_locked(filled, po):
    server = filled.server
    feed = feed_dsn(filled)
    server.psql("ALTER SYSTEM SET synchronous_standby_names = 'lost'; SELECT pg_reload_conf()")
    try:
        for command, status in ((("install",), "installed"), (("install", "--uninstall"), "uninstalled")):
            finished = po(*command, dsn=filled.dsn)
            assert (finished.status, finished.stdout.split()[0]) == (0, status), finished
    finally:
        server.psql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")
    assert po("install", dsn=filled.dsn).status == 0
    follows(filled, feed)


async def test_it_waits_for_a_vacuum_in_nobodys_way(database, cli):
    await database.execute(POPULATION)
    vacuum = await asyncpg.connect(database.dsn)
    # VACUUM itself cannot be held still; this is the lock that it has.
    await vacuum.execute("BEGIN; LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE")
    for command in (("install",), ("install", "--uninstall")):
        running = asyncio.create_task(cli(*command, env={"PO_EXPORTER_DSN": database.dsn}))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"

        async def waits(query: str = waiting) -> bool:
            return await database.fetchval(query) == 1

        await until(waits, what=f"{command} to wait")
        await database.execute("SET lock_timeout = '1ms'; SELECT FROM orders; UPDATE orders SET status = 'FILLED'")
        await vacuum.execute("COMMIT")
        finished = await running
        assert finished.status == 0, finished
        assert finished.stdout.startswith(f"{command[-1].strip('-')}ed  ")
        await vacuum.execute("BEGIN; LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE")
    await vacuum.close()


def test_nobody_there_costs_3(po):
    finished = po("install", dsn=DEAD)
    assert (finished.status, finished.stdout) == (3, "")
    assert finished.stderr.startswith("po-exporter: cannot reach the server")


def test_one_of_several_databases_has_to_be_named(filled, po):
    config = {"databases": {"here": {"dsn": filled.dsn}, "gone": {"dsn": DEAD}}}
    finished = po("install", config=config)
    assert finished.status == 2
    assert "name one with --database: " in finished.stderr
    assert po("install", "--database", "here", config=config).status == 0
    assert identities(filled) == "ff"


@pytest.fixture
def as_printed(server):
    """Turns the printed role into one of this test's own, which is dropped afterwards."""
    name = f"po_feed_{secrets.token_hex(4)}"
    yield lambda text: re.sub(r"\bpo_feed\b", name, text), name
    server.psql(f'DROP ROLE IF EXISTS "{name}"')


def test_the_printed_sql_does_the_same(filled, po, as_printed):
    rename, role = as_printed
    before = catalogs(filled)
    printed = po("install", "--print", dsn=filled.reader_dsn)
    assert (printed.status, printed.stderr) == (0, "")
    assert catalogs(filled) == before, "printing changes nothing"
    filled.server.psql(rename(printed.stdout), filled.name)
    by_hand = catalogs(filled)
    assert po("install", dsn=filled.dsn).stdout.startswith("unchanged")
    made = "SELECT rolcanlogin, rolreplication, rolsuper, rolconfig FROM pg_roles WHERE rolname = "
    assert sql(filled, f"{made}'{role}'") == "t|t|f|{log_min_messages=fatal}"
    assert sql(filled, f"SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = '{role}'") == "t"
    password = secrets.token_hex(8)
    sql(filled, f"ALTER ROLE {role} PASSWORD '{password}'")
    log = filled.server.directory / "log"
    quiet = len(log.read_text())
    follows(filled, filled.server.dsn(filled.name, role, password))
    assert "logical decoding" not in log.read_text()[quiet:]
    filled.server.psql(po("install", "--uninstall", "--print", dsn=DEAD).stdout, filled.name)
    assert catalogs(filled) == before
    assert "\nBEGIN" not in po("install", "--uninstall", "--print", dsn=filled.reader_dsn).stdout, "nothing is there"
    assert po("install", "--dsn", filled.dsn, dsn=filled.reader_dsn).status == 0
    assert catalogs(filled) == by_hand, "what runs is what is printed"


def test_the_printed_lines_keep_the_role_off_physical_replication(filled, po, as_printed):
    rename, role = as_printed
    server = filled.server
    printed = rename(po("install", "--print", dsn=filled.reader_dsn).stdout)
    server.psql(printed, filled.name)
    sql(filled, f"ALTER ROLE {role} PASSWORD 'a secret'")
    lines = re.findall(rf"^-- +((?:host|local).* {role} .*)", printed, re.M)
    assert len(lines) == 5
    # The tests' server has no TLS.
    rules = [line.replace("hostssl", "host").replace("<address>", "127.0.0.1") for line in lines]
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()

    async def login(database: str, **settings: str) -> None:
        dsn = server.dsn(database, role, "a secret")
        await (await asyncpg.connect(dsn, server_settings=settings)).close()

    try:
        hba.write_text("\n".join(rules).replace("<database>", filled.name) + "\n" + before)
        assert server.psql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == "0"
        server.restart()
        asyncio.run(login(filled.name))
        for where, settings in ((filled.name, {"replication": "true"}), ("postgres", {})):
            with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="rejects"):
                asyncio.run(login(where, **settings))
    finally:
        hba.write_text(before)
        server.restart()


def test_the_printed_sql_is_refused_by_the_server_where_it_would_hurt(filled, po, as_printed):
    rename, _ = as_printed
    sql(filled, "ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    if filled.server.version >= 15:
        sql(filled, "CREATE PUBLICATION theirs FOR TABLE orders (id, status) WITH (publish = 'update')")
        before = catalogs(filled)
        with pytest.raises(AssertionError, match="cannot update table"):
            filled.server.psql(rename(po("install", "--print", dsn=filled.reader_dsn).stdout), filled.name)
        assert catalogs(filled) == before
    with pytest.raises(AssertionError, match="does not exist"):
        filled.server.psql(po("install", "--uninstall", "--print", dsn=DEAD).stdout, filled.name)


def test_printing_needs_no_database_and_names_what_is_missing_where_it_has_one(filled, po, monkeypatch):
    monkeypatch.setattr(script, "GLIMPSE", 2.0)
    offline = po("install", "--print", dsn=DEAD)
    assert (offline.status, offline.stderr) == (0, "")
    assert 'ALTER TABLE "orders" REPLICA IDENTITY FULL;' in offline.stdout
    assert '\n-- CREATE INDEX CONCURRENTLY ON "orders" ("position_id");' in offline.stdout
    assert "SET search_path first" in offline.stdout
    online = po("install", "--print", dsn=filled.reader_dsn).stdout
    assert "CREATE INDEX CONCURRENTLY ON" not in online
    assert 'ALTER TABLE "public"."orders" REPLICA IDENTITY FULL;' in online
    sql(filled, "DROP INDEX orders_position_id")
    machine = po("install", "--print", "--format", "json", dsn=filled.reader_dsn).json
    assert machine["database"] == filled.name
    assert '\nCREATE INDEX CONCURRENTLY ON "public"."orders" ("position_id");' in machine["sql"]
    assert machine["sql"].count("CREATE INDEX CONCURRENTLY ON") == 1
    for text in (offline.stdout, online):
        assert "SUPERUSER" not in re.sub("--.*", "", text)
        assert set(re.findall(r"^(\w+)", text, re.M)) <= {
            "BEGIN", "SET", "CREATE", "DO", "DECLARE", "END", "LOCK", "ALTER", "COMMIT", "COMMENT", "GRANT", "REVOKE",
        }  # fmt: skip


ODD = {
    "orders": {
        "table": """"o'ms $$"."{positions}\"""",
        "columns": {"id": 'No "1', "position_id": "book", "side": "s", "status": "st", "filled_quantity": "q",
                    "created_at": "At"},
        "filled_statuses": ["done"], "buy_sides": ["b"], "sell_sides": ["s"],
    },
    "positions": {"table": """"o'ms $$"."Bo""ok\"""", "columns": {"id": "id", "quantity": "q"}},
}  # fmt: skip


def test_any_name_will_do(empty_database, po, as_printed):
    rename, _ = as_printed
    sql(
        empty_database,
        """CREATE SCHEMA "o'ms $$";
        CREATE TABLE "o'ms $$"."{positions}" ("No ""1" bigint GENERATED ALWAYS AS IDENTITY, book bigint, s text,
            st text, q numeric, "At" timestamptz DEFAULT now());
        CREATE TABLE "o'ms $$"."Bo""ok" (id bigint PRIMARY KEY, q numeric)""",
    )
    before = catalogs(empty_database)
    config = {"databases": {"odd": {"dsn": empty_database.dsn, "schema": "odd"}}, "schemas": {"odd": ODD}}
    finished = po("install", "--format", "json", config=config)
    assert finished.status == 0, finished
    assert finished.json["status"] == "installed"
    assert len(finished.json["advice"]) == 3, "an index each"
    assert {"message", "action"} == set(finished.json["advice"][0])
    made = catalogs(empty_database)
    assert po("install", "--uninstall", config=config).status == 0
    assert catalogs(empty_database) == before
    printed = po("install", "--print", config=config).stdout
    assert printed.count("CREATE INDEX CONCURRENTLY ON") == 3
    empty_database.server.psql(rename(re.sub("^CREATE INDEX CONC.*", "", printed, flags=re.M)), empty_database.name)
    assert catalogs(empty_database) == made
    empty_database.server.psql(po("install", "--uninstall", "--print", config=config).stdout, empty_database.name)
    assert catalogs(empty_database) == before
    empty_database.server.psql("\n".join(re.findall("^CREATE INDEX CONC.*", printed, re.M)), empty_database.name)


def test_what_the_feed_lacks_beyond_it_is_said(filled, po):
    sql(filled, "DROP INDEX orders_created_at")
    finished = po("install", dsn=filled.dsn)
    assert finished.status == 0
    assert "advice  the feed still lacks: no index leads on orders.created_at" in finished.stdout


def test_a_server_that_writes_no_logical_log_is_made_ready_for_its_restart(filled, po):
    server = filled.server
    server.psql("ALTER SYSTEM SET wal_level = 'replica'")
    try:
        server.restart()
        finished = po("install", "--format", "json", dsn=filled.dsn)
        assert (finished.status, finished.json["status"]) == (0, "installed")
        (lack,) = finished.json["advice"]
        assert lack["message"] == "wal_level is replica, not logical"
        trades(filled)
    finally:
        server.psql("ALTER SYSTEM RESET wal_level")
        server.restart()
    follows(filled, feed_dsn(filled))


async def test_two_at_once_make_it_once(database, cli):
    env = {"PO_EXPORTER_DSN": database.dsn}
    finished = await asyncio.gather(*(cli("install", env=env) for _ in range(2)))
    assert [each.status for each in finished] == [0, 0], finished
    assert sorted(each.stdout.split()[0] for each in finished) == ["installed", "unchanged"]
    finished = await asyncio.gather(*(cli("install", "--uninstall", env=env) for _ in range(2)))
    assert [each.status for each in finished] == [0, 0], finished
    assert sorted(each.stdout.split()[0] for each in finished) == ["unchanged", "uninstalled"]


async def test_what_another_makes_meanwhile_is_taken_as_it_is(database, cli):
    other = await asyncpg.connect(database.dsn)
    await other.execute("BEGIN; CREATE PUBLICATION po_exporter FOR TABLE orders, positions")
    running = asyncio.create_task(cli("install", env={"PO_EXPORTER_DSN": database.dsn}))

    async def waits() -> bool:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        return await database.fetchval(query) > 0

    await until(waits, what="install to wait")
    await other.execute("COMMIT")
    await other.close()
    finished = await running
    assert finished.status == 0, finished
    assert "made the publication" not in finished.stdout
    assert "- set REPLICA IDENTITY FULL on public.orders and public.positions\n" in finished.stdout


async def test_a_pooler_is_no_obstacle(database, pooler, cli):
    env = {"PO_EXPORTER_DSN": database.reader_dsn, "PO_EXPORTER_INSTALL_DSN": pooler.dsn}
    for command in (("install",), ("install", "--uninstall")):
        finished = await cli(*command, env=env)
        assert finished.status == 0, finished
