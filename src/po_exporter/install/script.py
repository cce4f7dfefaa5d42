"""The SQL of install: the files of ``sql/install`` with the mapped names in their places, and the script for a DBA."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from textwrap import indent

from po_exporter import sql
from po_exporter.database.catalog import quote, quote_table
from po_exporter.database.session import Session, Target
from po_exporter.errors import DatabaseError
from po_exporter.install.facts import read_facts, read_readiness
from po_exporter.mapping import SchemaMapping, TableName
from po_exporter.watch.readiness import KEYS, PUBLICATION

GLIMPSE = 5.0
"""Seconds that printing asks the database for what is there already; it need not answer."""


async def printed(target: Target, mapping: SchemaMapping, *, removing: bool) -> str:
    """The SQL for a DBA. The database is asked what it has already; where it does not answer, the script says so."""
    head = f"-- po-exporter {'install --uninstall' if removing else 'install'}: the SQL, for you to judge and to run."
    where = (
        "-- Run it in the database itself, as the owner of both tables with CREATE on the database:\n"
        "--   psql -v ON_ERROR_STOP=1 -f FILE"
    )
    if removing:
        role = "-- The role, where it was made for the feed alone and serves no other database of this server:"
        parts = [read_part("begin", mapping), read_part("uninstall", mapping)]
        return "\n".join([head, where, "", *parts, "COMMIT;", "", role, "-- DROP ROLE po_feed;"])
    mapping, indexed = await _glimpse(target, mapping)
    if not (mapping.orders.table.schema and mapping.positions.table.schema):
        where += "\n-- The tables are named without their schema: SET search_path first, as the sidecar's role has it."
    parts = [read_part(part, mapping) for part in ("begin", "publication", "generated", "note", "identity")]
    one = ["-- 1. What the stream is to hold.", *parts, "COMMIT;"]
    three = read_part("role", mapping).rstrip()
    return "\n".join([head, where, "", *one, "", *_indexes(mapping, indexed), "", three])


async def _glimpse(target: Target, mapping: SchemaMapping) -> tuple[SchemaMapping, Mapping[str, list[str]] | None]:
    """The mapping with the tables' schemas, and the columns that an index leads on; None where nobody answers."""
    session = Session(target)
    try:
        async with asyncio.timeout(GLIMPSE):
            connection = await session.connect()
            found = (await read_facts(connection, mapping)).tables
            ready = (await read_readiness(connection, mapping)).tables
    except (DatabaseError, TimeoutError):
        return mapping, None  # printing works without the database
    finally:
        await session.close()
    if len(found) < 2:
        return mapping, None
    tables = {role: TableName(table["name"], table["schema"]) for role, table in found.items()}
    orders = replace(mapping.orders, table=tables["orders"])
    positions = replace(mapping.positions, table=tables["positions"])
    indexed = {role: table["indexed"] or [] for role, table in ready.items()}
    return replace(mapping, orders=orders, positions=positions), indexed


def _indexes(mapping: SchemaMapping, indexed: Mapping[str, list[str]] | None) -> list[str]:
    """CREATE INDEX for what is missing; where that is not known, for all, as comments."""
    statements = []
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


def read_part(part: str, mapping: SchemaMapping) -> str:
    """One of our files with the names in their places, all in one go: a name may look like a place."""
    names = {
        "orders": quote_table(mapping.orders.table),
        "positions": quote_table(mapping.positions.table),
        "publication": PUBLICATION,
    }
    return re.sub(r"\{(\w+)\}", lambda place: names[place[1]], sql.read(f"install/{part}.sql"))
