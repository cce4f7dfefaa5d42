"""What install would change in a database, or why it must not: decided from the catalogs alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from po_exporter.database.catalog import quote_table
from po_exporter.install.facts import Facts
from po_exporter.mapping import SchemaMapping, TableName
from po_exporter.watch.readiness import PUBLICATION


@dataclass(frozen=True, slots=True)
class Plan:
    """The SQL files to run, and what they change, in words; or why not."""

    files: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def installing(facts: Facts, mapping: SchemaMapping) -> Plan:
    """To make the publication and set the identity of both tables, as far as that is not done."""
    refusals = tuple(_refusals(facts, mapping))
    if refusals:
        return Plan(refusals=refusals)
    found, publication = facts.tables, facts.publication
    names = " and ".join(_name(found[role]) for role in ("orders", "positions"))
    files, changes = [], []
    if publication is None:
        files += ["publication", "generated", "note"]
        changes.append(f"made the publication {PUBLICATION} of {names}")
    elif not publication["generated"]:
        files.append("generated")
        changes.append(f"the publication {PUBLICATION} publishes stored generated columns")
    lacking = [_name(table) for table in found.values() if table["identity"] != "f"]
    if lacking:
        files += ["note"] if publication and facts.noted is None else []
        changes.append(f"set REPLICA IDENTITY FULL on {' and '.join(lacking)}")
    if files or lacking:
        files.append("identity")  # which also asks whether an UPDATE is still accepted
    return Plan(tuple(files), tuple(changes))


def _refusals(facts: Facts, mapping: SchemaMapping) -> Iterator[str]:
    if facts.row["standby"]:
        yield "the server is a standby; install on its primary"
        return
    for role, wanted in (("orders", mapping.orders.table), ("positions", mapping.positions.table)):
        if role in facts.tables:
            yield from _table_refusals(facts.tables[role], _name(facts.tables[role]))
        else:
            yield f"there is no table {wanted} in {facts.row['database']}"
    if len(facts.tables) == 2:
        yield from _publication_refusals(facts)
    lacking = _missing_rights(facts)
    if lacking:
        yield lacking


def _table_refusals(found: Mapping[str, Any], name: str) -> Iterator[str]:
    if found["kind"] != "r" or found["inherits"]:
        yield f"{name} is no ordinary table of its own (a view, partitioned, or inherited from), which no feed follows"
    elif not found["permanent"]:
        yield f"{name} is unlogged or temporary: it writes no log that a feed could read"
    if found["identity"] == "n":
        yield (
            f"{name} has REPLICA IDENTITY NOTHING, which somebody has chosen: under it every UPDATE of a published "
            f"table fails; ALTER TABLE {_quoted(found)} REPLICA IDENTITY DEFAULT first, if it may be changed"
        )
    if found["narrowed"]:
        yield (
            f"the publication {', '.join(found['narrowed'])} has a column list for {name}: with REPLICA IDENTITY FULL "
            "every UPDATE and DELETE of the trading API would fail; take the column list out of it first"
        )
    if found["virtual"]:
        yield (
            f"{name} has a virtual generated column: PostgreSQL refuses every UPDATE of such a table that is published "
            "with REPLICA IDENTITY FULL"
        )


def _publication_refusals(facts: Facts) -> Iterator[str]:
    publication = facts.publication
    if publication is None:
        return
    ours = {table["oid"] for table in facts.tables.values()}
    members = {int(member["oid"]) for member in facts.members}
    undo = "po-exporter install --uninstall" if facts.noted is not None else f"DROP PUBLICATION {PUBLICATION}"
    if publication["all_tables"] or members != ours or publication["tables"] != len(ours):
        names = ", ".join(_name(member) for member in facts.members)
        yield (
            f"there is a publication {PUBLICATION} already, of other tables "
            f"({'all' if publication['all_tables'] else names or 'by schema'}): if nobody else uses it, {undo} first"
        )
    elif publication["narrowed"] or not publication["operations"]:
        what = "a column list or a row filter" if publication["narrowed"] else "not all four operations"
        yield (
            f"there is a publication {PUBLICATION} of these tables already, with {what}: "
            f"if nobody else uses it, {undo} first"
        )
    elif facts.noted is None and publication["note"] is not None:
        yield f"the publication {PUBLICATION} has somebody else's comment, where install notes what was before"


def _missing_rights(facts: Facts) -> str | None:
    foreign = [_name(table) for table in facts.tables.values() if not table["owned"]]
    lacking = [f"does not own {' and '.join(foreign)}"] if foreign else []
    if facts.publication is None and not facts.row["may_create"]:
        lacking.append(f"may not CREATE in the database {facts.row['database']}")
    elif facts.publication and not facts.publication["owned"]:
        lacking.append(f"does not own the publication {PUBLICATION}")
    return no_right(f"{facts.row['role']} {', and '.join(lacking)}") if lacking else None


def no_right(what: str) -> str:
    """The refusal for want of a right."""
    return f"{what}: give --dsn, or PO_EXPORTER_INSTALL_DSN, of a role that does; or have a DBA run what --print shows"


def uninstalling(facts: Facts) -> Plan:
    """To drop the publication and restore the identities that it notes."""
    if facts.row["standby"]:
        return Plan(refusals=("the server is a standby; uninstall on its primary",))
    if facts.publication is None:
        return Plan()
    if facts.noted is None:
        return Plan(
            refusals=(
                f"the publication {PUBLICATION} was not made by install, so that nobody knows what was before it: "
                f"DROP PUBLICATION {PUBLICATION}, and REPLICA IDENTITY DEFAULT, if it may go",
            )
        )
    foreign = [_name(member) for member in facts.members if not member["owned"]]
    lacking = [f"does not own {' and '.join(foreign)}"] if foreign else []
    lacking += [] if facts.publication["owned"] else [f"does not own the publication {PUBLICATION}"]
    if lacking:
        return Plan(refusals=(no_right(f"{facts.row['role']} {', and '.join(lacking)}"),))
    before = {(each["schema"], each["table"]): each["identity"] for each in facts.noted}
    changes = [f"dropped the publication {PUBLICATION}"]
    for member in facts.members:
        noted = before.get((member["schema"], member["name"]))
        if member["identity"] != "f" or noted == "f":
            changes.append(f"left the replica identity of {_name(member)} as it is")
        elif noted is None:
            changes.append(f"left REPLICA IDENTITY FULL on {_name(member)}: what it was before is not known")
        else:
            changes.append(f"restored the replica identity of {_name(member)}")
    return Plan(("uninstall",), tuple(changes))


def _name(found: Mapping[str, Any]) -> str:
    return f"{found['schema']}.{found['name']}"


def _quoted(found: Mapping[str, Any]) -> str:
    return quote_table(TableName(found["name"], found["schema"]))
