"""The SQL of install, step by step: the files of ``sql/install`` with the names in their places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from po_exporter import sql
from po_exporter.database.catalog import quote, quote_table
from po_exporter.mapping import TableName
from po_exporter.watch.readiness import PUBLICATION


@dataclass(frozen=True, slots=True)
class Step:
    """One file, and names of its own that it has places for."""

    file: str
    names: Mapping[str, str] = field(default_factory=dict)

    def text(self, tables: Mapping[str, TableName]) -> str:
        """Its SQL. All names go into their places at once: a name may look like a place."""
        names = {role: quote_table(table) for role, table in tables.items()}
        names |= {"publication": PUBLICATION} | dict(self.names)
        return re.sub(r"\{(\w+)\}", lambda place: names[place[1]], sql.read(f"install/{self.file}.sql"))


BEGIN = Step("begin")


def upgrade(version: int, newest: int) -> Iterator[Step]:
    """What brings the schema from a version, 0 where there is none, to the newest."""
    yield Step("join_admin")
    if not version:
        yield Step("schema")
    yield Step("as_admin")
    for number in range(version + 1, newest + 1):
        yield Step(f"schema_{number}")
    yield Step("leave_admin")


def removal(*, drop_data: bool) -> Iterator[Step]:
    """What drops the schema."""
    yield Step("join_admin")
    yield Step("as_admin")
    if not drop_data:
        yield Step("keep_records")
    yield Step("drop_schema")
    yield Step("leave_admin")


def grant(kind: str, table: TableName, what: Iterable[str]) -> Step:
    """One of the files that grant or revoke: to or from some roles; for an update, some columns."""
    names = ", ".join(quote(name) for name in what)
    return Step(
        kind, {"table": quote_table(table), "schema": quote(table.schema or ""), "roles": names, "columns": names}
    )


def member(role: str, group: str) -> Step:
    """What grants a role of the sidecar the rights of a group."""
    literal = "'" + role.replace("'", "''") + "'"
    return Step("member", {"member": literal, "group": group})
