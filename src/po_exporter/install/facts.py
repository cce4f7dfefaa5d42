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
from po_exporter.install.wanted import ADMIN, FIXER, READER, SEALER, Wanted
from po_exporter.sql import newest_schema
from po_exporter.watch import readiness
from po_exporter.watch.readiness import PUBLICATION

MADE_BY = "po-exporter install"
ATTEMPTS = 5


@dataclass(frozen=True)
class Facts:
    """What install/facts.sql and install/own.sql found. ``tables`` and ``grants``: by the table's role; ``publication``
    and ``schema``: where there is one; ``roles``: our four; ``members``: those that could join a group, and have not.
    """

    row: Mapping[str, Any]
    tables: Mapping[str, Mapping[str, Any]]
    publication: Mapping[str, Any] | None
    roles: list[Mapping[str, Any]]
    schema: Mapping[str, Any] | None
    grants: Mapping[str, Mapping[str, Any]]
    members: list[Mapping[str, Any]]

    @classmethod
    def of_nothing(cls, wanted: Wanted) -> Facts:
        """Of a database that has both tables, and nothing of what install makes."""
        lacking = {
            role: {"lacks_usage": [READER, FIXER] if table.schema else [], "lacks_select": [READER, FIXER],
                   "lacks_update": list(wanted.fixed[role])}
            for role, table in wanted.tables.items()
        }  # fmt: skip
        return cls(
            row={},
            tables=_tables(wanted, identity="d"),
            publication=None,
            roles=[{"name": name, "exists": False} for name in (ADMIN, READER, FIXER, SEALER)],
            schema=None,
            grants=lacking,
            members=[{"member": member, "group": group} for member, group in wanted.members],
        )

    @classmethod
    def of_everything(cls, wanted: Wanted) -> Facts:
        """Of a database that has all of what install makes."""
        note = {"made_by": MADE_BY, "identity_before": [], "version": newest_schema()}
        held = {
            role: {"has_usage": [READER, FIXER] if table.schema else [], "has_rights": [READER, FIXER]}
            for role, table in wanted.tables.items()
        }
        return cls(
            row={},
            tables=_tables(wanted, identity="f"),
            publication={"note": json.dumps(note)} if wanted.feed else None,
            roles=[
                {"name": name, "note": json.dumps(note), "elsewhere": False} for name in (ADMIN, READER, FIXER, SEALER)
            ],
            schema={"note": json.dumps(note)},
            grants=held,
            members=[],
        )

    @property
    def published(self) -> list[Mapping[str, Any]]:
        """The publication's tables."""
        return (self.publication or {}).get("members") or []

    @property
    def noted(self) -> list[Mapping[str, Any]] | None:
        """The identities before, from the publication's comment; None where it is not of our making."""
        note = _note(self.publication)
        return list(note["identity_before"]) if note and "identity_before" in note else None

    @property
    def version(self) -> int | None:
        """Of the schema, from its comment: 0 where there is none, None where it is not of our making."""
        if self.schema is None:
            return 0
        version = (_note(self.schema) or {}).get("version")
        return version if type(version) is int and version > 0 else None

    @property
    def made(self) -> list[Mapping[str, Any]]:
        """The roles that install has made."""
        return [role for role in self.roles if _note(role)]


def _note(noted: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What install has noted in a comment."""
    with suppress(ValueError):
        note = json.loads((noted or {}).get("note") or "")
        if isinstance(note, dict) and note.get("made_by") == MADE_BY:
            return note
    return None


def _tables(wanted: Wanted, identity: str) -> dict[str, Any]:
    return {
        role: {"schema": table.schema, "name": table.name, "identity": identity}
        for role, table in wanted.tables.items()
    }


def _by_role(text: str | None) -> dict[str, Any]:
    """Orders before positions."""
    return dict(sorted(json.loads(text or "{}").items()))


async def read_facts(connection: Connection, wanted: Wanted) -> Facts:
    """What is there now. Raises DatabaseError."""
    names = _names(wanted)
    feed = await read_row(connection, "install/facts.sql", *names, PUBLICATION)
    members = [{"member": member, "group": group} for member, group in wanted.members]
    own = await read_row(connection, "install/own.sql", *names, json.dumps(wanted.fixed), json.dumps(members))
    return Facts(
        row=dict(feed) | {name: own[name] for name in ("superuser", "may_create_roles")},
        tables=_by_role(feed["tables"]),
        publication=json.loads(feed["publication"] or "null"),
        roles=json.loads(own["roles"]),
        schema=json.loads(own["schema"] or "null"),
        grants=_by_role(own["grants"]),
        members=json.loads(own["members"] or "[]"),
    )


async def read_readiness(connection: Connection, wanted: Wanted) -> readiness.Facts:
    """The same as the feed's preflight sees it. Raises DatabaseError."""
    return readiness.Facts.parse(dict(await read_row(connection, "feed/ready.sql", *_names(wanted), PUBLICATION)))


async def read_row(connection: Connection, name: str, *arguments: object) -> asyncpg.Record:
    """The only row of one of our queries. Raises DatabaseError."""
    for _ in range(ATTEMPTS):
        try:
            (row,) = await connection.fetch(sql.read(name), *arguments)
        except (asyncpg.UndefinedObjectError, asyncpg.InternalServerError) as error:
            overtaken = error  # PostgreSQL's own functions stumble over what is dropped while they look
        except DRIVER_ERRORS as error:
            raise translate(error) from None
        else:
            return row
    raise translate(overtaken) from None


def _names(wanted: Wanted) -> tuple[str | None, ...]:
    orders, positions = wanted.tables["orders"], wanted.tables["positions"]
    return orders.schema, orders.name, positions.schema, positions.name
