"""The SQL expressions of a mapping: each is tried alone, so that a bad one is named and takes nothing else down."""

from __future__ import annotations

from dataclasses import replace

from po_exporter import sql
from po_exporter.database.catalog import Catalog, quote_table
from po_exporter.database.session import Snapshot
from po_exporter.errors import DatabaseError, QueryFailed
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
            # A scalar subquery has one column, and a WHERE takes no aggregate and no set: what passes is an expression
            # over one row. Nothing is read.
            value = f"(\n{column.text}\n)"
            trial = f"(SELECT {value} FROM {quote_table(side.table)} WHERE {value} IS NOT NULL LIMIT 0)"
            try:
                async with snapshot.savepoint():
                    query = sql.read("expression_type.sql").replace("(SELECT NULL)", trial)
                    kind = str((await snapshot.fetch(query))[0][0])
                found[role, name] = QueryFailed("it is more than one column") if kind == "record" else kind
            except DatabaseError as error:
                if error.ends_poll:
                    raise
                found[role, name] = error
    return replace(snapshot.catalog, expressions=found)
