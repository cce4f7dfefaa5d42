"""What a database has of that which install makes, read from its catalogs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from po_exporter import sql
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.session import Connection
from po_exporter.mapping import SchemaMapping
from po_exporter.watch import readiness
from po_exporter.watch.readiness import PUBLICATION

MADE_BY = "po-exporter install"
ATTEMPTS = 5


@dataclass(frozen=True)
class Facts:
    """What install/facts.sql found: ``tables`` by role; ``publication`` where there is one."""

    row: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]
    publication: Mapping[str, Any] | None

    @property
    def members(self) -> list[Mapping[str, Any]]:
        """The publication's tables."""
        return (self.publication or {}).get("members") or []

    @property
    def noted(self) -> list[Mapping[str, Any]] | None:
        """The identities before, from the publication's comment; None where it is not of our making."""
        with suppress(ValueError):
            note = json.loads((self.publication or {}).get("note") or "")
            if isinstance(note, dict) and note.get("made_by") == MADE_BY:
                return list(note["identity_before"])
        return None


async def read_facts(connection: Connection, mapping: SchemaMapping) -> Facts:
    """What is there now. Raises DatabaseError."""
    row = await read_row(connection, "install/facts.sql", *_arguments(mapping))
    return Facts(dict(row), json.loads(row["tables"] or "{}"), json.loads(row["publication"] or "null"))


async def read_readiness(connection: Connection, mapping: SchemaMapping) -> readiness.Facts:
    """The same as the feed's preflight sees it. Raises DatabaseError."""
    return readiness.Facts.parse(dict(await read_row(connection, "feed/ready.sql", *_arguments(mapping))))


async def read_row(connection: Connection, name: str, *arguments: object) -> asyncpg.Record:
    """The only row of one of our queries. Raises DatabaseError."""
    for _ in range(ATTEMPTS):
        try:
            (row,) = await connection.fetch(sql.read(name), *arguments)
        except asyncpg.UndefinedObjectError as error:
            overtaken = error  # PostgreSQL's own view stumbles over a publication that is dropped while it looks
        except DRIVER_ERRORS as error:
            raise translate(error) from None
        else:
            return row
    raise translate(overtaken) from None


def _arguments(mapping: SchemaMapping) -> tuple[str | None, ...]:
    orders, positions = mapping.orders.table, mapping.positions.table
    return orders.schema, orders.name, positions.schema, positions.name, PUBLICATION
