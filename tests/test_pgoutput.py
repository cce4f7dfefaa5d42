"""The stream of changes is read as PostgreSQL's own test_decoding reads it, and rubbish is called rubbish."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import asyncpg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from po_exporter.watch.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Message,
    Relation,
    Row,
    Truncate,
    Unchanged,
    Undecodable,
)
from po_exporter.watch.pgoutput import decode as decoded

TABLES = """
CREATE SCHEMA "O M S";
CREATE TABLE plain (id bigint PRIMARY KEY, amount numeric(20, 8), at timestamptz, open boolean, note text);
CREATE TABLE "O M S"."Order ""A"" 1" ("Order No" text, "select" varchar(9), "Grüße" text);
CREATE TABLE wide (id integer, large text, other text);
ALTER TABLE wide ALTER large SET STORAGE EXTERNAL;
ALTER TABLE plain REPLICA IDENTITY FULL;
ALTER TABLE "O M S"."Order ""A"" 1" REPLICA IDENTITY FULL;
ALTER TABLE wide REPLICA IDENTITY FULL;
CREATE TABLE keyed (id integer PRIMARY KEY, value text);
CREATE PUBLICATION everything FOR ALL TABLES;
"""
ODD = '"O M S"."Order ""A"" 1"'
LARGE = "repeat('one value of many bytes; ', 500)"
TRANSACTIONS = {
    "rows that come, change and go": (
        "INSERT INTO plain VALUES (1, 2.5, '2026-01-27 02:00+01', true, 'a'), (-2, 'NaN', 'infinity', false, '')",
        "UPDATE plain SET amount = amount + 1, note = 'b' WHERE id = 1",
        "UPDATE plain SET id = 3 WHERE id = 1",
        "DELETE FROM plain WHERE id = 3",
    ),
    "nulls, before and after": (
        "INSERT INTO plain VALUES (4)",
        "UPDATE plain SET note = 'no longer null', open = true WHERE id = 4",
        "UPDATE plain SET note = NULL, amount = NULL WHERE id IN (-1, 4)",
        "DELETE FROM plain WHERE id = 4",
    ),
    "large values that were not touched": (
        f"INSERT INTO wide VALUES (1, {LARGE}, 'a'), (2, {LARGE}, NULL), (3, NULL, {LARGE})",
        "UPDATE wide SET other = 'b' WHERE id = 1",
        "UPDATE wide SET large = 'small' WHERE id = 2",
        "UPDATE wide SET id = 4 WHERE id = 3",
        "DELETE FROM wide WHERE id = 1",
    ),
    "names and values beyond ASCII": (
        f"INSERT INTO {ODD} VALUES ('O''1', 'BUY', 'größer — 大きい 🚀'), ('\\', NULL, E'two\\nlines\\t')",
        f"UPDATE {ODD} SET \"select\" = '\"', \"Grüße\" = '''' WHERE \"Order No\" = '\\'",
        f"DELETE FROM {ODD}",
    ),
    "several tables, truncated together and alone": (
        f"INSERT INTO plain VALUES (7); INSERT INTO keyed VALUES (7, 'x'); INSERT INTO {ODD} VALUES ('7')",
        f"TRUNCATE plain, {ODD}",
        "TRUNCATE wide RESTART IDENTITY CASCADE",
        "INSERT INTO plain VALUES (8)",
    ),
    "savepoints": (
        "SAVEPOINT a; INSERT INTO plain VALUES (9); SAVEPOINT b; INSERT INTO plain VALUES (10)",
        "ROLLBACK TO b; UPDATE plain SET note = 'kept' WHERE id = 9; RELEASE a",
        "INSERT INTO plain VALUES (11)",
    ),
    "a table whose old rows are not in the stream": (
        "INSERT INTO keyed VALUES (1, 'a'), (2, 'b')",
        "UPDATE keyed SET value = 'c' WHERE id = 1",
        "UPDATE keyed SET id = 3 WHERE id = 1",
        "DELETE FROM keyed WHERE id IN (2, 3)",
    ),
    "a table that changes its shape": (
        "INSERT INTO plain VALUES (20)",
        "ALTER TABLE plain ADD added integer DEFAULT 7, DROP note",
        "INSERT INTO plain VALUES (21)",
        "UPDATE plain SET added = 8",
    ),
}


Values = dict[str, str | Unchanged | None]


@dataclass(frozen=True)
class Event:
    """What happened to a row, or to whole tables; an old row without its NULLs: test_decoding says nothing of them."""

    kind: str
    tables: frozenset[str]
    old: Values | None = None
    new: Values | None = None


class Slots:
    """One connection with two slots, so that both outputs tell of the same changes."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    @classmethod
    async def made(cls, dsn: str) -> Slots:
        connection = await asyncpg.connect(dsn)
        await connection.execute("SET timezone = 'UTC'")
        for plugin in ("pgoutput", "test_decoding"):
            await connection.fetch("SELECT pg_create_logical_replication_slot($1, $1, true)", plugin)
        return cls(connection)

    async def messages(self) -> list[bytes]:
        rows = await self.connection.fetch(
            "SELECT data FROM pg_logical_slot_get_binary_changes('pgoutput', NULL, NULL, 'proto_version', '1',"
            " 'publication_names', 'everything')"
        )
        return [row["data"] for row in rows]

    async def told(self) -> list[asyncpg.Record]:
        return await self.connection.fetch("SELECT * FROM pg_logical_slot_get_changes('test_decoding', NULL, NULL)")


@pytest.fixture
async def slots(empty_database):
    await empty_database.execute(TABLES)
    made = await Slots.made(empty_database.dsn)
    yield made
    await made.connection.close()


@pytest.mark.database
@pytest.mark.parametrize("name", TRANSACTIONS)
async def test_every_change_is_read_as_test_decoding_reads_it(slots, empty_database, name):
    connection = await empty_database.connection()
    await connection.execute(
        f"INSERT INTO plain VALUES (-1, 5, NULL, NULL, 'old'); INSERT INTO wide VALUES (0, {LARGE})"
    )
    async with connection.transaction():
        for statements in TRANSACTIONS[name]:
            await connection.execute(statements)
    ours = events([message for data in await slots.messages() if (message := decoded(data))])
    theirs = [event for row in await slots.told() if (event := told(row["data"]))]
    assert len(theirs) >= len(TRANSACTIONS[name]) - 1
    assert ours == theirs


@pytest.mark.database
async def test_a_transaction_has_its_number_and_the_moment_of_its_commit(slots, empty_database):
    connection = await empty_database.connection()
    before = await connection.fetchval("SELECT clock_timestamp()")
    async with connection.transaction():
        xid = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
        async with connection.transaction():  # a savepoint has a number of its own, which is not told
            await connection.execute("INSERT INTO plain VALUES (1)")
    after = await connection.fetchval("SELECT clock_timestamp()")
    messages = [message for data in await slots.messages() if (message := decoded(data))]
    begin = messages[0]
    assert isinstance(begin, Begin)
    assert begin.xid == xid
    assert before <= begin.committed <= after
    assert messages[-1] == Commit()


@pytest.mark.database
async def test_what_was_left_out_as_unchanged_is_marked_and_the_old_row_has_it(slots, empty_database):
    await empty_database.execute(f"INSERT INTO wide VALUES (1, {LARGE}, 'a')")
    await slots.messages()
    await empty_database.execute("UPDATE wide SET other = 'b'")
    (change,) = [each for data in await slots.messages() if isinstance(each := decoded(data), Change)]
    assert change.whole
    assert change.new == ("1", UNCHANGED, "b")
    assert change.old == ("1", "one value of many bytes; " * 500, "a")


@pytest.mark.database
async def test_a_table_without_identity_full_is_seen_to_have_none(slots, empty_database):
    await empty_database.execute("INSERT INTO keyed VALUES (1, 'a'); UPDATE keyed SET id = 2; DELETE FROM keyed")
    found = [message for data in await slots.messages() if (message := decoded(data))]
    assert [each.identity for each in found if isinstance(each, Relation)] == ["d"]
    assert [each.whole for each in found if isinstance(each, Change)] == [True, False, False]


@pytest.mark.database
async def test_half_a_message_is_no_message(slots, empty_database):
    for statements in TRANSACTIONS.values():
        await empty_database.execute("BEGIN; " + "; ".join(statements) + "; COMMIT")
    messages = {data[:1]: data for data in await slots.messages()}
    assert messages.keys() >= {b"B", b"C", b"R", b"I", b"U", b"D", b"T"}
    for kind, data in messages.items():
        for length in range(len(data)) if kind not in b"YOM" else ():
            with pytest.raises(Undecodable):
                decoded(data[:length])
        for more in (b"\0", b"N") if kind not in b"YOM" else ():
            with pytest.raises(Undecodable):
                decoded(data + more)


@example(b"")
@example(b"B" + struct.pack(">QQI", 1, 2**64 - 1, 7))
@example(b"B" + struct.pack(">QqI", 1, -(2**63), 7))
@example(b"T\xff\xff\xff\xff\0")
@example(b"I\0\0\0\1N\xff\xff")
@example(b"I\0\0\0\1N\0\1t\xff\xff\xff\xffabc")
@example(b"I\0\0\0\1N\0\1t\0\0\0\2\xff\xfe")
@example(b"R\0\0\0\1schema without an end")
@example(b"I\0\0\0\1X\0\0")
@example(b"U\0\0\0\1O\0\0X\0\0")
@example(b"U\0\0\0\1X\0\0N\0\0")
@example(b"D\0\0\0\1N\0\0")
@given(st.one_of(st.binary(), st.builds(bytes.__add__, st.sampled_from([bytes([k]) for k in b"BCRIUDT"]), st.binary())))
def test_rubbish_is_undecodable_and_nothing_worse(data):
    try:
        message = decoded(data)
    except Undecodable:
        return
    assert message is None or isinstance(message, (Begin, Commit, Relation, Change, Truncate))


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\0", b"I\0\0\0\1X\0\0", b"U\0\0\0\1O\0\0X\0\0", b"U\0\0\0\1X\0\0N\0\0", b"D\0\0\0\1N\0\0"],
    ids=repr,
)
def test_a_message_that_is_none_is_refused(data):
    with pytest.raises(Undecodable):
        decoded(data)


@given(st.lists(st.one_of(st.none(), st.just(UNCHANGED), st.text()), max_size=5), st.integers(0, 2**32 - 1))
def test_a_row_is_read_as_it_was_written(row, oid):
    data = b"I" + struct.pack(">I", oid) + b"N" + written(tuple(row))
    assert decoded(data) == Change(oid, None, tuple(row))
    assert decoded(b"D" + struct.pack(">I", oid) + b"O" + written(tuple(row))) == Change(oid, tuple(row), None)


def written(row: Row) -> bytes:
    """A row as the server writes it."""
    parts = [struct.pack(">H", len(row))]
    for value in row:
        text = value.encode() if isinstance(value, str) else b""
        kind = b"n" if value is None else b"u" if value is UNCHANGED else b"t" + struct.pack(">I", len(text))
        parts.append(kind + text)
    return b"".join(parts)


def events(messages: list[Message]) -> list[Event]:
    """The changes among our messages."""
    relations: dict[int, Relation] = {}
    found = []
    for message in messages:
        if isinstance(message, Relation):
            relations[message.oid] = message
        elif isinstance(message, Truncate):
            found.append(Event("TRUNCATE", frozenset(name(relations[oid]) for oid in message.oids)))
        elif isinstance(message, Change):
            relation = relations[message.oid]
            kind = "UPDATE" if message.old and message.new else "DELETE" if message.old else "INSERT"
            old, new = values(relation, message.old), values(relation, message.new)
            found.append(Event(kind, frozenset({name(relation)}), old and known(old), new))
    return found


def name(relation: Relation) -> str:
    return f"{quoted(relation.schema)}.{quoted(relation.name)}"


def quoted(identifier: str) -> str:
    """An identifier as quote_ident() writes it."""
    return identifier if re.fullmatch("[a-z_]+", identifier) else '"' + identifier.replace('"', '""') + '"'


def values(relation: Relation, row: Row | None) -> Values | None:
    """A row by column."""
    return None if row is None else dict(zip(relation.columns, row, strict=True))


def known(row: Values) -> Values:
    """A row without its NULLs."""
    return {column: value for column, value in row.items() if value is not None}


IDENTIFIER = r'(?:"(?:[^"]|"")+"|\w+)'
TOLD = re.compile(r"table (.*?): (INSERT|UPDATE|DELETE|TRUNCATE): (.*)", re.DOTALL)
VALUE = re.compile(rf"({IDENTIFIER})\[[^\[\]]+\]:('(?:[^']|'')*'|[\w.+-]+)", re.DOTALL)


def told(line: str) -> Event | None:
    """One line of test_decoding."""
    found = TOLD.fullmatch(line)
    if not found:
        return None
    tables, kind, rest = found.groups()
    named = frozenset(re.findall(rf"{IDENTIFIER}\.{IDENTIFIER}", tables))
    if kind == "TRUNCATE":
        return Event(kind, named)
    old: Values | None = None
    new = rest
    if rest.startswith("old-key: "):
        before, _, new = rest.removeprefix("old-key: ").partition(" new-tuple: ")
        old = row_of(before)
    if kind == "DELETE":
        return Event(kind, named, row_of(rest))
    return Event("INSERT" if old is None else kind, named, old, row_of(new))


def row_of(text: str) -> Values:
    """A row as test_decoding writes it; it spells out what is true, and quotes what is no number."""
    special = {"null": None, "unchanged-toast-datum": UNCHANGED, "true": "t", "false": "f"}
    row: Values = {}
    for column, value in VALUE.findall(text):
        plain = value[1:-1].replace("''", "'") if value.startswith("'") else special.get(value, value)
        row[column.strip('"').replace('""', '"')] = plain
    return row
