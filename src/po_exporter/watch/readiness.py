"""Whether the change feed can work in a database: rule by rule, what is lacking and what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from po_exporter.database.catalog import quote, quote_table
from po_exporter.mapping import SchemaMapping, TableName

PUBLICATION = "po_exporter"
KEYS = (("orders", "id"), ("orders", "position_id"), ("orders", "created_at"), ("positions", "id"))
"""The columns that the feed reads keys from, and by which what they name is looked up."""
MORE_THAN_ITS_ROW = re.compile(
    r"\b(select|now|age|current_(date|time|timestamp)|localtime(stamp)?|(clock|statement|transaction)_timestamp)\b",
    re.IGNORECASE,
)
"""What an expression over other tables or the clock cannot do without: its value changes with no change of its row."""
TIMESTAMPS = ("timestamp without time zone", "timestamp with time zone")


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that keeps the feed from working, and what would help (None: nothing would)."""

    message: str
    action: str | None = None

    def __str__(self) -> str:
        return f"{self.message} ({self.action})" if self.action else self.message


@dataclass(frozen=True)
class Facts:
    """What feed/ready.sql found. ``tables`` by role: oid, kind, identity, published, narrowed, unpublished, types,
    indexed.
    """

    row: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]
    publication: Mapping[str, bool] | None

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Facts:
        """From the query's only row."""
        return cls(row, json.loads(row["tables"] or "{}"), json.loads(row["publication"] or "null"))


def lacks(facts: Facts, mapping: SchemaMapping) -> Iterator[Lack]:
    """Everything that is lacking; nothing where the feed can be tried. The right to replicate shows only by trying."""
    row = facts.row
    if row["standby"]:
        yield Lack("the server is a standby, where nobody can tell which transactions a snapshot sees")
    if row["wal_level"] != "logical":
        yield Lack(
            f"wal_level is {row['wal_level']}, not logical",
            "ALTER SYSTEM SET wal_level = 'logical', and restart the server",
        )
    if row["free_slots"] < 1:
        yield Lack("no replication slot is free", "raise max_replication_slots, or drop a slot that nobody uses")
    for role in ("orders", "positions"):
        table = mapping.orders.table if role == "orders" else mapping.positions.table
        if role in facts.tables:
            yield from _table(facts.tables[role], table)
        else:
            yield Lack(f"there is no table {table}")
    yield from _columns(facts, mapping)
    yield from _publication(facts, mapping)


def stopped(facts: Facts, mapping: SchemaMapping) -> Iterator[Lack]:
    """Tables of which PostgreSQL refuses every UPDATE, for what publications leave out beside REPLICA IDENTITY FULL."""
    for role, found in facts.tables.items():
        if found["identity"] != "f":
            continue
        table = mapping.orders.table if role == "orders" else mapping.positions.table
        if lists := [name for name, fails in (found["narrowed"] or {}).items() if fails]:
            yield Lack(
                f"{table} has REPLICA IDENTITY FULL and a column list in the publication {', '.join(lists)}: "
                "every UPDATE of it fails",
                "ALTER PUBLICATION ... SET TABLE without the list, or REPLICA IDENTITY DEFAULT and mode: scan",
            )
        if found["unpublished"]:
            yield Lack(
                f"{table} has REPLICA IDENTITY FULL and a generated column that the publication "
                f"{', '.join(found['unpublished'])} leaves out: every UPDATE of it fails",
                "ALTER PUBLICATION ... SET (publish_generated_columns = stored), or for a virtual column "
                "REPLICA IDENTITY DEFAULT and mode: scan",
            )


def _table(found: Mapping[str, Any], table: TableName) -> Iterator[Lack]:
    if found["kind"] != "r" or found["inherits"]:
        yield Lack(f"{table} is no ordinary table of its own (a view, partitioned, or inherited from)")
    elif found["identity"] != "f":
        yield Lack(
            f"{table} has no REPLICA IDENTITY FULL, so that old links are not in the stream",
            f"po-exporter install, or ALTER TABLE {quote_table(table)} REPLICA IDENTITY FULL",
        )


def _columns(facts: Facts, mapping: SchemaMapping) -> Iterator[Lack]:
    for role, each in (("orders", mapping.orders), ("positions", mapping.positions)):
        for name, column in each.columns.items():
            if column.is_sql and MORE_THAN_ITS_ROW.search(column.text):
                yield Lack(f"{role}.{name} is mapped to an expression that looks at more than its own row")
    for role, name in KEYS:
        side = mapping.orders if role == "orders" else mapping.positions
        column, found = side.columns[name], facts.tables.get(role)
        if column.is_sql:
            yield Lack(f"{role}.{name} is mapped to an expression; the feed needs a plain column")
        elif found and column.text not in found["types"]:
            yield Lack(f"there is no column {column.text} in {side.table}")
        elif found and column.text not in (found["indexed"] or []):
            yield Lack(
                f"no index leads on {side.table}.{column.text}: each key would be looked up by reading the whole table",
                f"CREATE INDEX CONCURRENTLY ON {quote_table(side.table)} ({quote(column.text)})",
            )
        elif found and name == "id" and column.text not in (found["unique"] or []):
            yield Lack(
                f"nothing makes {side.table}.{column.text} unique: what is known is held by it",
                f"CREATE UNIQUE INDEX CONCURRENTLY ON {quote_table(side.table)} ({quote(column.text)})",
            )
        elif found and name == "created_at" and found["types"][column.text] not in TIMESTAMPS:
            yield Lack(f"{side.table}.{column.text} is no timestamp")


def _publication(facts: Facts, mapping: SchemaMapping) -> Iterator[Lack]:
    if facts.publication is None:
        yield Lack(f"there is no publication {PUBLICATION}", "po-exporter install")
        return
    if not facts.publication["operations"]:
        yield Lack(
            f"the publication {PUBLICATION} leaves out operations",
            f"ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update, delete, truncate')",
        )
    for role, found in facts.tables.items():
        table = mapping.orders.table if role == "orders" else mapping.positions.table
        if not found["published"]:
            yield Lack(
                f"{table} is not in the publication {PUBLICATION}",
                f"ALTER PUBLICATION {PUBLICATION} ADD TABLE {quote_table(table)}",
            )
        if PUBLICATION in (found["narrowed"] or {}):
            yield Lack(
                f"the publication {PUBLICATION} has a column list or a row filter for {table}",
                f"ALTER PUBLICATION {PUBLICATION} SET TABLE without either; with REPLICA IDENTITY FULL, a column list "
                "makes every UPDATE of the trading API fail",
            )
