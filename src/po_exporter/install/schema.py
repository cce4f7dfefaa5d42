"""The roles, their rights, and the schema of what the sidecar keeps: what to make of them, or why it must not be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from po_exporter.install.facts import Facts
from po_exporter.install.feed import name_of, table_of
from po_exporter.install.steps import Step, grant, member, removal, upgrade
from po_exporter.install.wanted import ADMIN, FIXER, SEALER
from po_exporter.sql import newest_schema

SCHEMA = "po_exporter"


def make_schema(facts: Facts, *, me: str | None) -> tuple[list[Step], list[str]]:
    """The steps that make what is missing, and what they change, in words. ``me`` installs, and needs no membership."""
    steps, changes = [], []
    missing = [role["name"] for role in facts.roles if not role["exists"]]
    if missing:
        steps.append(Step("roles"))
        changes.append(f"made the role{'s' * (len(missing) > 1)} {_list(missing)}")
    version, newest = facts.version or 0, newest_schema()
    if version < newest:
        steps += upgrade(version, newest)
        changes.append(
            f"brought the schema {SCHEMA} from version {version} to {newest}"
            if version
            else f"made the schema {SCHEMA}, version {newest}"
        )
    elif version > newest:
        changes.append(
            f"left the schema {SCHEMA} as it is: its version {version} is newer than this program's {newest}"
        )
    granted, said = _grant(facts)
    joining = [each for each in facts.members if each["member"] != me]
    return (
        [*steps, *granted, *(member(each["member"], each["group"]) for each in joining)],
        [*changes, *said, *(f"granted {each['group']} to {each['member']}" for each in joining)],
    )


def _grant(facts: Facts) -> tuple[list[Step], list[str]]:
    steps, changes = [], []
    usage = {table["schema"]: role for role, table in facts.tables.items() if facts.grants[role]["lacks_usage"]}
    for schema, role in usage.items():
        roles = facts.grants[role]["lacks_usage"]
        steps.append(grant("grant_usage", table_of(facts.tables[role]), roles))
        changes.append(f"granted USAGE on the schema {schema} to {_list(roles)}")
    select = [(facts.grants[role]["lacks_select"], table) for role, table in facts.tables.items()]
    for roles, tables in groupby(select, lambda each: each[0]):
        granted = [table for _, table in tables]
        if roles:
            steps += [grant("grant_select", table_of(table), roles) for table in granted]
            changes.append(f"granted SELECT on {_list([name_of(table) for table in granted])} to {_list(roles)}")
    for role, table in facts.tables.items():
        columns = facts.grants[role]["lacks_update"]
        if columns:
            steps.append(grant("grant_update", table_of(table), columns))
            changes.append(f"granted UPDATE of {_list(columns)} of {name_of(table)} to {FIXER}")
    return steps, changes


def refuse_schema(facts: Facts) -> Iterator[str]:
    """Why they must not be made."""
    for role in facts.roles:
        if role["strong"]:
            yield (
                f"there is a role {role['name']} already, with {' and '.join(role['strong'])}, which none of ours has: "
                "it is somebody else's; rename it, or take that from it"
            )
    if facts.version is None:
        yield f"there is a schema {SCHEMA} already, which install has not made: it is somebody else's; rename it first"


def lacks_for_making(facts: Facts, steps: list[Step]) -> Iterator[str]:
    """The rights that whoever installs lacks for these steps, but for those on the tables."""
    if any(step.file == "roles" for step in steps) and not facts.row["may_create_roles"]:
        yield "has no CREATEROLE"
    needed = {ADMIN, SEALER} if any(step.file == "join_admin" for step in steps) else set()
    needed |= {step.names["group"] for step in steps if step.file == "member"}
    if beyond := [role["name"] for role in facts.roles if role["exists"] and role["name"] in needed - _at_hand(facts)]:
        yield f"may not grant {_list(beyond)}"
    schemas = {
        facts.tables[role]["schema"]: None
        for role, found in facts.grants.items()
        if found["lacks_usage"] and not found["may_grant_usage"]
    }
    if schemas:
        yield f"may not grant USAGE on the schema {_list(list(schemas))}"


def drop_schema(facts: Facts, *, drop_data: bool) -> tuple[list[Step], list[str]]:
    """To drop the schema, take back what was granted, and drop the roles unless another database needs them."""
    steps: list[Step] = []
    changes: list[str] = []
    if facts.version:
        steps += removal(drop_data=drop_data)
        changes.append(f"dropped the schema {SCHEMA}")
    usage = {table["schema"]: role for role, table in facts.tables.items() if facts.grants[role]["has_usage"]}
    for role in usage.values():
        steps.append(grant("revoke_usage", table_of(facts.tables[role]), facts.grants[role]["has_usage"]))
    held = {role: found["has_rights"] for role, found in facts.grants.items() if found["has_rights"]}
    for role, roles in held.items():
        steps.append(grant("revoke_table", table_of(facts.tables[role]), roles))
    if held:
        changes.append(f"revoked what was granted on {_list([name_of(facts.tables[role]) for role in held])}")
    made = [role["name"] for role in facts.made]
    elsewhere = any(role["elsewhere"] for role in facts.made)
    if made and not elsewhere:
        steps.append(Step("drop_roles"))
        changes.append(f"dropped the role{'s' * (len(made) > 1)} {_list(made)}")
    elif made and steps:
        changes.append(f"left the roles {_list(made)}: another database of this server needs them")
    return steps, changes


def refuse_dropping(facts: Facts) -> Iterator[str]:
    """Why the schema must not be dropped."""
    if facts.version is not None and facts.version > newest_schema():
        yield f"the schema {SCHEMA} has version {facts.version}, newer than this program: uninstall with a newer one"


def lacks_for_dropping(facts: Facts, steps: list[Step]) -> Iterator[str]:
    """The rights that whoever uninstalls lacks for these steps, but for those on the tables."""
    files = {step.file for step in steps}
    needed = {ADMIN, SEALER} if "join_admin" in files else set()
    needed |= {role["name"] for role in facts.made} if "drop_roles" in files else set()
    if beyond := [role["name"] for role in facts.roles if role["name"] in needed - _at_hand(facts)]:
        yield f"may not grant or drop {_list(beyond)}"


def _at_hand(facts: Facts) -> set[str]:
    return {role["name"] for role in facts.roles if role["at_hand"]}


def _list(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
