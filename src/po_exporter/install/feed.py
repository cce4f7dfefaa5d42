"""What the change feed needs in a database: the publication and both identities, or why they must not be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from po_exporter.database.catalog import quote_table
from po_exporter.install.facts import Facts
from po_exporter.install.steps import Step
from po_exporter.mapping import TableName
from po_exporter.watch.readiness import PUBLICATION

WITHOUT = "monitor.mode: scan leaves the feed out"


def make_feed(facts: Facts) -> tuple[list[Step], list[str]]:
    """The steps that make what is missing, and what they change, in words."""
    found, publication = facts.tables, facts.publication
    files, changes = [], []
    if publication is None:
        names = " and ".join(name_of(found[role]) for role in ("orders", "positions"))
        files += ["publication", "generated", "note"]
        changes.append(f"made the publication {PUBLICATION} of {names}")
    elif not publication["generated"]:
        files.append("generated")
        changes.append(f"the publication {PUBLICATION} publishes stored generated columns")
    lacking = [name_of(table) for table in found.values() if table["identity"] != "f"]
    if lacking:
        files += ["note"] if publication and facts.noted is None else []
        changes.append(f"set REPLICA IDENTITY FULL on {' and '.join(lacking)}")
    if files or lacking:
        files.append("identity")  # which also asks whether an UPDATE is still accepted
    return [Step(file) for file in files], changes


def refuse_feed(facts: Facts) -> Iterator[str]:
    """Why it must not be made."""
    for role in ("orders", "positions"):
        if role in facts.tables:
            yield from _table_refusals(facts.tables[role], name_of(facts.tables[role]))
    if len(facts.tables) == 2:
        yield from _publication_refusals(facts)


def _table_refusals(found: Mapping[str, Any], name: str) -> Iterator[str]:
    if found["kind"] != "r" or found["inherits"]:
        yield f"{name} is no ordinary table of its own (a view, partitioned, or inherited from), which no feed follows"
    elif not found["permanent"]:
        yield f"{name} is unlogged or temporary: it writes no log that a feed could read"
    if found["identity"] == "n":
        yield (
            f"{name} has REPLICA IDENTITY NOTHING, which somebody has chosen: under it every UPDATE of a published "
            f"table fails; ALTER TABLE {quote_table(table_of(found))} REPLICA IDENTITY DEFAULT first, if it may be "
            "changed"
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
    members = {int(member["oid"]) for member in facts.published}
    undo = "po-exporter install --uninstall" if facts.noted is not None else f"DROP PUBLICATION {PUBLICATION}"
    if publication["all_tables"] or members != ours or publication["tables"] != len(ours):
        names = ", ".join(name_of(member) for member in facts.published)
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


def drop_feed(facts: Facts) -> tuple[list[Step], list[str]]:
    """To drop the publication and restore the identities that it notes, where it is of our making."""
    if facts.noted is None:
        return [], []
    before = {(each["schema"], each["table"]): each["identity"] for each in facts.noted}
    changes = [f"dropped the publication {PUBLICATION}"]
    for member in facts.published:
        noted = before.get((member["schema"], member["name"]))
        if member["identity"] != "f" or noted == "f":
            changes.append(f"left the replica identity of {name_of(member)} as it is")
        elif noted is None:
            changes.append(f"left REPLICA IDENTITY FULL on {name_of(member)}: what it was before is not known")
        else:
            changes.append(f"restored the replica identity of {name_of(member)}")
    return [Step("drop_feed")], changes


def name_of(found: Mapping[str, Any]) -> str:
    """A table that was found, for a person."""
    return str(table_of(found))


def table_of(found: Mapping[str, Any]) -> TableName:
    """A table that was found, by its name."""
    return TableName(found["name"], found["schema"])
