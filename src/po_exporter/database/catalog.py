"""What PostgreSQL's catalogs say of the two tables, and how names are written in SQL."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from po_exporter.errors import DatabaseError
from po_exporter.mapping import TableName


def quote(name: str) -> str:
    """A name as an SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def quote_table(table: TableName) -> str:
    """A table's name as SQL; the search path decides where no schema is named."""
    return ".".join(quote(part) for part in (table.schema, table.name) if part)


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the catalogs describe it. ``rows`` is an estimate, below zero where there is none; ``columns``:
    name -> (type without modifiers, may be selected)."""

    kind: str
    rows: float = field(compare=False)  # it moves with every ANALYZE, and changes nothing
    usage: bool
    may_write: bool
    rows_may_be_hidden: bool
    columns: Mapping[str, tuple[str, bool]]


@dataclass(frozen=True)
class Catalog:
    """What is there. ``expressions``: (role, canonical name) -> the type of its SQL, or why it has none."""

    tables: Mapping[str, Table]
    expressions: Mapping[tuple[str, str], str | DatabaseError] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether every SQL expression of the mapping can be used."""
        return not any(isinstance(kind, DatabaseError) for kind in self.expressions.values())

    @classmethod
    def parse(cls, text: str | None) -> Catalog:
        """From the ``tables`` column of introspect.sql; None when neither table exists."""
        found = json.loads(text) if text else {}
        return cls(
            {
                role: Table(
                    kind=table["kind"],
                    rows=table["rows"],
                    usage=table["usage"],
                    may_write=table["may_write"],
                    rows_may_be_hidden=table["rows_may_be_hidden"],
                    columns={name: (kind, bool(allowed)) for name, (kind, allowed) in (table["columns"] or {}).items()},
                )
                for role, table in found.items()
            }
        )
