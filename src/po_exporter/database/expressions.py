"""The SQL expressions of a mapping: each is tried alone, so that a bad one is named and takes nothing else down."""

from __future__ import annotations

from dataclasses import replace

from po_exporter.database.catalog import Catalog, quote_table
from po_exporter.database.session import Snapshot
from po_exporter.errors import DatabaseError
from po_exporter.mapping import SchemaMapping


async def with_expressions(snapshot: Snapshot, mapping: SchemaMapping) -> Catalog:
    """The snapshot's catalog with each expression's type, or the reason why it has none.

    Raises DatabaseError only for what ends the session.
    """
    found: dict[tuple[str, str], str | DatabaseError] = {}
    for role, side in (("orders", mapping.orders), ("positions", mapping.positions)):
        for name, column in side.columns.items():
            if not column.is_sql or role not in snapshot.catalog.tables:
                continue
            # A scalar subquery has exactly one column, so that an expression stays an expression. Nothing is read.
            query = f"SELECT pg_typeof((SELECT (\n{column.text}\n) FROM {quote_table(side.table)} LIMIT 0))::text"
            try:
                async with snapshot.savepoint():
                    found[role, name] = str((await snapshot.fetch(query))[0][0])
            except DatabaseError as error:
                if error.ends_poll:
                    raise
                found[role, name] = error
    return replace(snapshot.catalog, expressions=found)
