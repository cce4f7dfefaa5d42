"""What our four roles may do and, above all, what they cannot: tried on a real server, not read from its catalogs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from installing import ADMIN, FIXER, READER, ROLES, SEALER, without_roles
from parts.database import Database
from parts.postgres import Server
from po_exporter.database.session import Target
from po_exporter.install.installer import install
from po_exporter.install.wanted import Wanted
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret

pytestmark = pytest.mark.database

RECORD = """
INSERT INTO po_exporter.record (run, actor, version, fix, entity, entity_id, before, after, reason, undoes)
VALUES ('r1', 'po-exporter', '0.1.0', 'link_order', 'order', 'o1', '{"position_id": null, "x": 1.50}',
        '{"position_id": "ü"}', 'it fits', NULL)
"""


@pytest.fixture(autouse=True)
def cleaned(server: Server) -> Iterator[None]:
    with without_roles(server):
        yield


@pytest.fixture
async def installed(database: Database) -> Database:
    outcome = await install(Target("trading", Secret(database.dsn)), Wanted(GAL_FRIDAY))
    assert outcome.status == "installed"
    await database.execute("INSERT INTO orders (side) VALUES ('BUY'); INSERT INTO positions (side) VALUES ('BUY')")
    return database


class Members:
    """Logins of this test's own that are members of one of our roles; they are gone with the test."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._names: list[str] = []
        self._open: list[asyncpg.Connection] = []

    async def __call__(self, *roles: str) -> asyncpg.Connection:
        name = f"role_{secrets.token_hex(6)}"
        dsn = self.database.server.create_role(name, "a secret", database=self.database.name)
        self._names.append(name)
        for role in roles:
            await self.database.execute(f"GRANT {role} TO {name}")
        connection = await asyncpg.connect(dsn)
        self._open.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self._open:
            await connection.close()
        for name in self._names:
            await self.database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


@pytest.fixture
async def members(installed: Database) -> AsyncIterator[Members]:
    logins = Members(installed)
    yield logins
    await logins.close()


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_logs_in_under_our_roles(role, installed):
    await installed.execute(f"ALTER ROLE {role} PASSWORD 'a secret'")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="not permitted to log in"):
        await asyncpg.connect(installed.server.dsn(installed.name, role, "a secret"))
    found = await installed.fetch("SELECT * FROM pg_roles WHERE rolname = $1", role)
    strong = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls", "rolcanlogin")
    assert not any(found[0][each] for each in strong)


NOBODY_MAY = """
INSERT INTO orders (side) VALUES ('BUY')
DELETE FROM orders
UPDATE orders SET side = 'SELL'
UPDATE orders SET filled_quantity = 1
UPDATE positions SET side = 'SELL'
UPDATE positions SET is_active = false
DELETE FROM positions
INSERT INTO positions (side) VALUES ('BUY')
TRUNCATE orders
TRUNCATE positions
LOCK TABLE orders IN SHARE MODE
ALTER TABLE orders ADD x int
DROP TABLE orders
CREATE TRIGGER t BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE INDEX ON orders (side)
CREATE TABLE x (a text REFERENCES po_exporter.leader)
CREATE TABLE public.x ()
CREATE SCHEMA x
CREATE TABLE po_exporter.x ()
CREATE VIEW po_exporter.x AS SELECT 1
CREATE FUNCTION po_exporter.x() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE OR REPLACE FUNCTION po_exporter.seal(most int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'
ALTER FUNCTION po_exporter.seal(int) OWNER TO CURRENT_USER
ALTER FUNCTION po_exporter.seal(int) SET search_path = public
ALTER SCHEMA po_exporter RENAME TO x
DROP SCHEMA po_exporter CASCADE
COMMENT ON SCHEMA po_exporter IS 'x'
ALTER TABLE po_exporter.outbox ADD x int
ALTER TABLE po_exporter.outbox OWNER TO CURRENT_USER
DROP TABLE po_exporter.outbox
TRUNCATE po_exporter.outbox
CREATE TRIGGER t BEFORE UPDATE ON po_exporter.outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE RULE r AS ON UPDATE TO po_exporter.outbox DO INSTEAD NOTHING
CREATE INDEX ON po_exporter.outbox (channel)
DELETE FROM po_exporter.leader
SELECT setval('po_exporter.outbox_id_seq', 1)
SELECT nextval('po_exporter.record_id_seq')
UPDATE po_exporter.record SET reason = 'x'
UPDATE po_exporter.record SET place = 1, hash = 'x'
UPDATE po_exporter.record SET place = NULL, hash = NULL
DELETE FROM po_exporter.record
TRUNCATE po_exporter.record
ALTER TABLE po_exporter.record DISABLE TRIGGER ALL
ALTER TABLE po_exporter.record DISABLE TRIGGER keep_record
DROP TRIGGER keep_record ON po_exporter.record
DROP TABLE po_exporter.record
INSERT INTO po_exporter.record (run, place) VALUES ('r', 1)
INSERT INTO po_exporter.record (run, hash) VALUES ('r', 'x')
INSERT INTO po_exporter.record (run, at) VALUES ('r', now())
INSERT INTO po_exporter.record (run, id) OVERRIDING SYSTEM VALUE VALUES ('r', 9)
SELECT po_exporter.hash_of('', r) FROM (SELECT NULL::po_exporter.record) AS t (r)
SELECT po_exporter.keep_record()
SET ROLE po_exporter_admin
SET ROLE po_exporter_sealer
SET session_replication_role = replica
GRANT po_exporter_sealer TO CURRENT_USER
CREATE ROLE x
""".strip().splitlines()

# It is its own function that it could change: nobody is, or logs in as, the sealer.
OF_THE_SEALER = [
    "ALTER FUNCTION po_exporter.seal(int) SET search_path = public",
    "UPDATE po_exporter.record SET place = 1, hash = 'x'",
    "SELECT po_exporter.hash_of('', r) FROM (SELECT NULL::po_exporter.record) AS t (r)",
    "SET ROLE po_exporter_sealer",
]

ONLY_THE_READER_MAY = """
SELECT FROM po_exporter.incidents
SELECT FROM po_exporter.outbox
INSERT INTO po_exporter.outbox (database, channel, incident, summary) VALUES ('d', 'c', 'i', '{}')
UPDATE po_exporter.outbox SET sent = now()
DELETE FROM po_exporter.outbox
INSERT INTO po_exporter.incidents VALUES ('d', 'n', '{}')
UPDATE po_exporter.incidents SET state = '{}'
DELETE FROM po_exporter.incidents
INSERT INTO po_exporter.leader VALUES ('d', 1, 'r', now()) ON CONFLICT (database) DO UPDATE SET term = leader.term + 1
UPDATE po_exporter.leader SET term = term + 1
SELECT term FROM po_exporter.leader FOR UPDATE
SELECT po_exporter.seal()
SELECT po_exporter.seal(10)
""".strip().splitlines()

ONLY_THE_FIXER_MAY = f"""
UPDATE orders SET position_id = gen_random_uuid()
SELECT FROM orders FOR UPDATE
UPDATE positions SET quantity = 1, entry_price = 2, realized_pnl = 3
SELECT FROM po_exporter.record
{" ".join(RECORD.split())}
""".strip().splitlines()

BOTH_MAY = ["SELECT * FROM orders", "SELECT * FROM positions", "SELECT term FROM po_exporter.leader"]


@pytest.mark.parametrize("role", [READER, FIXER, SEALER, "none of them"])
async def test_what_nobody_may(role, members):
    await members.database.execute(RECORD)
    asking = await members(*({role} & set(ROLES)))
    allowed = [each for each in NOBODY_MAY if not await is_refused(asking, each)]
    if members.database.server.version < 15:
        allowed.remove("CREATE TABLE public.x ()")  # everybody may, unless the DBA has taken it from them
    assert allowed == (OF_THE_SEALER if role == SEALER else [])


async def is_refused(connection: asyncpg.Connection, statement: str) -> bool:
    """Whether the server refuses a statement for want of a right. What it would do is undone."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    finally:
        await transaction.rollback()
    return False


@pytest.mark.parametrize(
    ("role", "may"),
    {READER: [*ONLY_THE_READER_MAY, *BOTH_MAY], FIXER: [*ONLY_THE_FIXER_MAY, *BOTH_MAY], "none of them": []}.items(),
)
async def test_each_may_what_it_needs_and_nothing_of_the_other(role, may, members):
    asking = await members(*({role} & set(ROLES)))
    everything = [*ONLY_THE_READER_MAY, *ONLY_THE_FIXER_MAY, *BOTH_MAY]
    assert [each for each in everything if not await is_refused(asking, each)] == may


async def test_the_public_may_not_even_name_what_is_in_the_schema(members):
    stranger = await members()
    for what in ("po_exporter.seal()", "'po_exporter.record'::regclass", "FROM po_exporter.leader"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for schema po_exporter"):
            await stranger.execute(f"SELECT {what}")
    may_execute = """
    SELECT count(*) FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
    WHERE pronamespace = 'po_exporter'::regnamespace AND grantee = 0"""
    assert await members.database.fetchval(may_execute) == 0


async def test_the_owner_is_the_admin_of_all_but_the_one_function_with_rights_of_its_own(installed):
    owners = """
    SELECT oid::regclass::text AS name, relowner::regrole::text AS owner FROM pg_class
    WHERE relnamespace = 'po_exporter'::regnamespace
    UNION ALL SELECT oid::regprocedure::text, proowner::regrole::text FROM pg_proc
    WHERE pronamespace = 'po_exporter'::regnamespace
    UNION ALL SELECT 'schema', nspowner::regrole::text FROM pg_namespace WHERE nspname = 'po_exporter'
    """
    found = {row["name"]: row["owner"] for row in await installed.fetch(owners)}
    assert found.pop("po_exporter.seal(integer)") == SEALER
    assert set(found.values()) == {ADMIN}
    definer = await installed.fetchval("SELECT array_agg(oid::regprocedure::text) FROM pg_proc WHERE prosecdef")
    assert definer == ["po_exporter.seal(integer)"]
    joined = "SELECT count(*) FROM pg_auth_members WHERE roleid::regrole::text ~ '^po_exporter_'"
    assert await installed.fetchval(joined) == 0


CHANGES = {
    "reason": "reason = 'another'",
    "at": "at = at + interval '1 microsecond'",
    "before": """before = '{"position_id": null, "x": 1.5}'""",
    "after": "after = '{}'",
    "run": "run = run || ' '",
    "undoes": "undoes = 1",
    "entity": "entity = 'position'",
    "place": "place = 7",
}


async def seal(database: Database) -> int:
    await database.execute("SET ROLE po_exporter_reader")
    try:
        return int(await database.fetchval("SELECT po_exporter.seal()"))
    finally:
        await database.execute("RESET ROLE")


async def broken_at(database: Database) -> int | None:
    """The place of the first record whose hash is not what it has to be, recomputed without any of its code."""
    rows = await database.fetch(
        """SELECT *, extract(epoch FROM at) AS seconds FROM po_exporter.record WHERE place IS NOT NULL ORDER BY place"""
    )
    last = b""
    for number, row in enumerate(rows, 1):
        values = [row["place"], row["id"], row["seconds"], *(row[name] for name in
                  "run actor version fix entity entity_id".split())]  # fmt: skip
        parts = [json.dumps(each, ensure_ascii=False) if isinstance(each, str) else str(each) for each in values]
        parts += [row["before"], row["after"], json.dumps(row["reason"], ensure_ascii=False)]
        parts.append("null" if row["undoes"] is None else str(row["undoes"]))
        last = hashlib.sha256(last + f"[{', '.join(parts)}]".encode()).digest()
        if row["place"] != number or row["hash"] != last:
            return number
    return None


async def test_the_reader_seals_what_it_cannot_read(members):
    fixer, reader = await members(FIXER), await members(READER)
    for _ in range(3):
        await fixer.execute(RECORD)
    assert await reader.fetchval("SELECT po_exporter.seal(2)") == 2
    await fixer.execute(RECORD)
    assert [await reader.fetchval("SELECT po_exporter.seal()") for _ in range(2)] == [2, 0]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.fetch("SELECT hash FROM po_exporter.record")
    assert await broken_at(members.database) is None
    rows = await fixer.fetch("SELECT id, place FROM po_exporter.record ORDER BY id")
    assert [row["place"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("what", CHANGES)
async def test_who_changes_a_record_behind_our_back_is_found_out(what, installed):
    for _ in range(3):
        await installed.execute(RECORD)
    assert await seal(installed) == 3
    assert await broken_at(installed) is None
    await installed.execute(
        f"""ALTER TABLE po_exporter.record DISABLE TRIGGER keep_record;
        UPDATE po_exporter.record SET {CHANGES[what]} WHERE id = (SELECT min(id) + 1 FROM po_exporter.record);
        ALTER TABLE po_exporter.record ENABLE ALWAYS TRIGGER keep_record"""
    )
    assert await broken_at(installed) == 2


async def test_who_deletes_a_record_or_seals_one_of_their_own_is_found_out(installed):
    for _ in range(3):
        await installed.execute(RECORD)
    await seal(installed)
    await installed.execute("ALTER TABLE po_exporter.record DISABLE TRIGGER keep_record")
    await installed.execute("DELETE FROM po_exporter.record WHERE place = 2")
    assert await broken_at(installed) == 2
    await installed.execute("UPDATE po_exporter.record SET place = 2 WHERE place = 3")
    assert await broken_at(installed) == 2


@pytest.mark.parametrize("replica", [False, True])
async def test_not_even_the_owner_changes_a_record_by_mistake(replica, installed):
    await installed.execute(RECORD)
    if replica:
        await installed.execute("SET session_replication_role = replica")
    tries = [
        "UPDATE po_exporter.record SET reason = 'x'",
        "UPDATE po_exporter.record SET reason = 'x', place = 1, hash = 'x'",
        "DELETE FROM po_exporter.record",
        "TRUNCATE po_exporter.record",
    ]
    for sealed in range(2):
        for statement in tries:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed, and never deleted"):
                await installed.execute(statement)
        await seal(installed)
        tries += [
            "UPDATE po_exporter.record SET place = NULL, hash = NULL",
            "UPDATE po_exporter.record SET hash = 'x'",
            "UPDATE po_exporter.record SET place = 2",
        ]
        assert sealed or await broken_at(installed) is None


async def test_the_sealer_fills_what_is_empty_and_nothing_else(members):
    await members.database.execute(f"{RECORD}; {RECORD}")
    sealer = await members(SEALER)
    with pytest.raises(asyncpg.CheckViolationError):
        await sealer.execute("UPDATE po_exporter.record SET hash = 'x'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
        await sealer.execute("UPDATE po_exporter.record SET place = 1")
    await sealer.execute("UPDATE po_exporter.record SET place = id, hash = 'x'")
    for refused in ("place = id, hash = 'y'", "place = NULL, hash = NULL", "place = 7", "hash = hash"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="never changed"):
            await sealer.execute(f"UPDATE po_exporter.record SET {refused}")
    for refused in ("reason = ''", "id = DEFAULT", "at = now()", "reason = '', place = 1, hash = 'x'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for table record"):
            await sealer.execute(f"UPDATE po_exporter.record SET {refused}")
    for statement in (*BOTH_MAY, RECORD, *ONLY_THE_READER_MAY[:-2], *ONLY_THE_FIXER_MAY[:3]):
        assert await is_refused(sealer, statement), statement


HOSTILE = """
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.took() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'taken in: %', current_user; END $$;
CREATE FUNCTION hostile.hashtext(text) RETURNS int LANGUAGE sql AS 'SELECT hostile.took(); SELECT 1';
CREATE FUNCTION hostile.pg_advisory_xact_lock(int) RETURNS void LANGUAGE sql AS 'SELECT hostile.took()';
CREATE FUNCTION hostile.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT hostile.took(); SELECT 'x'::bytea $$;
CREATE FUNCTION hostile.convert_to(text, name) RETURNS bytea LANGUAGE sql AS
    $$ SELECT hostile.took(); SELECT 'x'::bytea $$;
CREATE FUNCTION hostile.to_jsonb(anyelement) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT hostile.took(); SELECT '1'::jsonb $$;
CREATE FUNCTION hostile.add(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT hostile.took(); SELECT 1::bigint';
CREATE OPERATOR hostile.+ (FUNCTION = hostile.add, LEFTARG = bigint, RIGHTARG = int);
CREATE FUNCTION hostile.same(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT hostile.took(); SELECT true';
CREATE OPERATOR hostile.= (FUNCTION = hostile.same, LEFTARG = bigint, RIGHTARG = bigint);
CREATE FUNCTION hostile.both(bytea, bytea) RETURNS bytea LANGUAGE sql AS 'SELECT hostile.took(); SELECT $1';
CREATE OPERATOR hostile.|| (FUNCTION = hostile.both, LEFTARG = bytea, RIGHTARG = bytea);
CREATE FUNCTION hostile.less(jsonb, text) RETURNS jsonb LANGUAGE sql AS 'SELECT hostile.took(); SELECT $1';
CREATE OPERATOR hostile.- (FUNCTION = hostile.less, LEFTARG = jsonb, RIGHTARG = text);
CREATE TABLE hostile.record (LIKE po_exporter.record);
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
"""
# Those that are searched first whatever the search path says, unless it names them.
TEMPORARY = """
CREATE TEMP TABLE record (id int, place int, hash text);
CREATE TEMP TABLE pg_proc (x int);
CREATE DOMAIN pg_temp.bytea AS text;
CREATE DOMAIN pg_temp.jsonb AS text;
CREATE DOMAIN pg_temp.bigint AS text;
CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1';
"""


async def test_a_hostile_search_path_takes_nobody_in(members):
    await members.database.execute(f"{HOSTILE}; {RECORD}; {RECORD}")
    paths = ("SET search_path = hostile, pg_catalog", f"{TEMPORARY} SET search_path = pg_temp, hostile, pg_catalog")
    for settings in paths:
        reader = await members(READER)
        me = await reader.fetchval("SELECT current_user")
        await members.database.execute(f"ALTER ROLE {me} SET search_path = hostile, pg_catalog")
        await reader.execute(settings)
        for setting in ("TimeZone = 'Asia/Kathmandu'", "DateStyle = 'SQL, DMY'", "bytea_output = 'escape'",
                        "IntervalStyle = 'sql_standard'", "transform_null_equals = on"):  # fmt: skip
            await reader.execute(f"SET {setting}")
        assert await reader.fetchval("SELECT po_exporter.seal(1)") == 1
    assert await broken_at(members.database) is None


@pytest.mark.parametrize("column", ["run", "reason", "before", "after"])
async def test_no_record_is_so_large_that_it_could_not_be_sealed(column, members):
    """It would be in the way of all that come after it, and nobody may delete it."""
    fixer, reader = await members(FIXER), await members(READER)

    def sized(size: int) -> str:
        text = f"repeat('\u00fc', {size} / 2)"
        value = f"jsonb_build_object('x', {text})" if column in ("before", "after") else text
        others = {name: "'{}'" if name in ("before", "after") else "'order'" for name in
                  "run actor version fix entity entity_id before after reason".split()} | {column: value}  # fmt: skip
        return f"INSERT INTO po_exporter.record ({', '.join(others)}) VALUES ({', '.join(others.values())})"

    await fixer.execute(sized(999_900))
    with pytest.raises(asyncpg.CheckViolationError):
        await fixer.execute(sized(1_000_000))
    await fixer.execute(RECORD)
    assert await reader.fetchval("SELECT po_exporter.seal()") == 2
    assert await broken_at(members.database) is None


async def test_two_that_seal_at_once_seal_each_record_once(members):
    for _ in range(40):
        await members.database.execute(RECORD)
    readers = [await members(READER) for _ in range(4)]
    first = readers[0].transaction()
    await first.start()
    assert await readers[0].fetchval("SELECT po_exporter.seal(10)") == 10
    others = [asyncio.create_task(each.fetchval("SELECT po_exporter.seal(10)")) for each in readers[1:]]
    await asyncio.sleep(0.2)
    assert not any(task.done() for task in others), "they wait for the first"
    await first.commit()
    assert sorted(await asyncio.gather(*others)) == [10, 10, 10]
    assert await broken_at(members.database) is None
    assert await members.database.fetchval("SELECT count(*) FROM po_exporter.record WHERE place IS NULL") == 0


async def test_one_with_an_older_snapshot_makes_no_second_chain(members):
    for _ in range(2):
        await members.database.execute(RECORD)
    late, reader = await members(READER), await members(READER)
    old = late.transaction(isolation="repeatable_read")
    await old.start()
    await late.fetchval("SELECT count(*) FROM po_exporter.outbox")
    assert await reader.fetchval("SELECT po_exporter.seal(1)") == 1
    with pytest.raises(asyncpg.SerializationError):
        await late.fetchval("SELECT po_exporter.seal()")
    await old.rollback()
    assert await reader.fetchval("SELECT po_exporter.seal()") == 1
    assert await broken_at(members.database) is None


async def test_a_record_of_a_transaction_that_ends_later_is_sealed_later(members):
    slow, fast, reader = await members(FIXER), await members(FIXER), await members(READER)
    open_one = slow.transaction()
    await open_one.start()
    await slow.execute(RECORD)
    await fast.execute(RECORD)
    assert await reader.fetchval("SELECT po_exporter.seal()") == 1
    await open_one.commit()
    assert await reader.fetchval("SELECT po_exporter.seal()") == 1
    places = await members.database.fetchval("SELECT array_agg(place ORDER BY id) FROM po_exporter.record")
    assert places == [2, 1]
    assert await broken_at(members.database) is None
