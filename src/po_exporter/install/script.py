"""The SQL of install as a script for a DBA: the same steps, and what they leave to somebody with more rights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from textwrap import indent

from po_exporter.database.catalog import quote, quote_table
from po_exporter.database.session import Session, Target
from po_exporter.errors import DatabaseError
from po_exporter.install.facts import Facts, read_facts, read_readiness
from po_exporter.install.feed import table_of
from po_exporter.install.plan import dropping, making
from po_exporter.install.steps import BEGIN, Step
from po_exporter.install.wanted import Wanted
from po_exporter.watch.readiness import KEYS

GLIMPSE = 5.0
"""Seconds that printing asks the database for what is there already; it need not answer."""
WHERE = """\
-- Run it in the database itself, as a superuser; or as the owner of both tables, with CREATE on the database and
-- CREATEROLE:
--   psql -v ON_ERROR_STOP=1 -f FILE"""
UNKNOWN = "-- The database did not answer, or has no such tables: this is for one that has "
SEARCH_PATH = "-- The tables are named without their schema: SET search_path first, as the sidecar's role has it."

DROP_ROLE = """\
-- The feed's role, where it was made and serves no other database of this server:
-- DROP ROLE po_feed;"""


async def printed(target: Target, wanted: Wanted, *, removing: bool, drop_data: bool = False) -> str:
    """The SQL for a DBA. The database is asked what it has already; where it does not answer, the script says so."""
    command = f"install{' --uninstall' * removing}{' --drop-data' * drop_data}"
    head = [f"-- po-exporter {command}: the SQL, for you to judge and to run.", WHERE]
    facts, indexed = await _glimpse(target, wanted)
    if facts:
        mapping, tables = wanted.mapping, {role: table_of(table) for role, table in facts.tables.items()}
        mapping = replace(mapping, orders=replace(mapping.orders, table=tables["orders"]),
                          positions=replace(mapping.positions, table=tables["positions"]))  # fmt: skip
        wanted = replace(wanted, mapping=mapping)
    else:
        head.append(f"{UNKNOWN}{'all' if removing else 'nothing'} of it already.")
        facts = Facts.of_everything(wanted) if removing else Facts.of_nothing(wanted)
    if not all(table.schema for table in wanted.tables.values()):
        head.append(SEARCH_PATH)
    if removing:
        return "\n".join([*head, "", *_transaction(dropping(facts, drop_data=drop_data).steps, wanted), "", DROP_ROLE])
    one = ["-- 1. What is to be made.", *_transaction(making(facts, wanted).steps, wanted)]
    if not wanted.feed:
        return "\n".join([*head, "", *one])
    three = Step("role").text(wanted.tables).rstrip()
    return "\n".join([*head, "", *one, "", *_indexes(wanted, indexed), "", three])


def _transaction(steps: Iterable[Step], wanted: Wanted) -> list[str]:
    texts = [step.text(wanted.tables) for step in steps]
    return [BEGIN.text(wanted.tables), *texts, "COMMIT;"] if texts else ["-- Nothing: all is as wanted already."]


async def _glimpse(target: Target, wanted: Wanted) -> tuple[Facts | None, Mapping[str, list[str]] | None]:
    """What is there, and the columns that an index leads on; None where nobody answers, or the tables are not there."""
    session = Session(target)
    try:
        async with asyncio.timeout(GLIMPSE):
            connection = await session.connect()
            facts = await read_facts(connection, wanted)
            ready = (await read_readiness(connection, wanted)).tables
    except (DatabaseError, TimeoutError):
        return None, None  # printing works without the database
    finally:
        await session.close()
    if len(facts.tables) < len(wanted.tables):
        return None, None
    return facts, {role: table["indexed"] or [] for role, table in ready.items()}


def _indexes(wanted: Wanted, indexed: Mapping[str, list[str]] | None) -> list[str]:
    """CREATE INDEX for what is missing; where that is not known, for all, as comments."""
    mapping, statements = wanted.mapping, []
    for role, name in KEYS:
        side = mapping.orders if role == "orders" else mapping.positions
        column = side.columns[name]
        if not column.is_sql and column.text not in (indexed or {}).get(role, []):
            statements.append(f"CREATE INDEX CONCURRENTLY ON {quote_table(side.table)} ({quote(column.text)});")
    said = "-- 2. Indexes, by which what changed is looked up. CONCURRENTLY holds up neither readers nor writers."
    if indexed is None:
        statements = [indent(statement, "-- ") for statement in statements]
        said += "\n--    The database did not answer, so that nobody knows which are missing; doctor says it."
    elif not statements:
        said += " None is missing."
    return [said, *statements]
