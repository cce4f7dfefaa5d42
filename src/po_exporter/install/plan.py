"""What install would change in a database, or why it must not: decided from the catalogs alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from po_exporter.install.facts import Facts
from po_exporter.install.feed import WITHOUT, drop_feed, make_feed, name_of, refuse_feed
from po_exporter.install.schema import (
    drop_schema,
    lacks_for_dropping,
    lacks_for_making,
    make_schema,
    refuse_dropping,
    refuse_schema,
)
from po_exporter.install.steps import Step
from po_exporter.install.wanted import Wanted
from po_exporter.watch.readiness import PUBLICATION


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps to take, and what they change, in words; or why not."""

    steps: tuple[Step, ...] = ()
    changes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()


def installing(facts: Facts, wanted: Wanted) -> Plan:
    """To make the roles, the schema and what the feed needs, as far as that is not done."""
    if facts.row["standby"]:
        return Plan(refusals=("the server is a standby; install on its primary",))
    plan = making(facts, wanted, me=facts.row["role"]) if len(facts.tables) == len(wanted.tables) else Plan()
    refusals = (*_refusals(facts, wanted), *_missing_rights(facts, wanted, plan))
    return Plan(refusals=refusals) if refusals else plan


def making(facts: Facts, wanted: Wanted, *, me: str | None = None) -> Plan:
    """What is missing, whoever is to make it and whatever speaks against it. Both tables have to be there."""
    steps, changes = make_schema(facts, me=me)
    feed, said = make_feed(facts) if wanted.feed else ([], [])
    return Plan((*steps, *feed), (*changes, *said))


def _refusals(facts: Facts, wanted: Wanted) -> Iterator[str]:
    for role, table in wanted.tables.items():
        if role not in facts.tables:
            yield f"there is no table {table} in {facts.row['database']}"
    yield from refuse_schema(facts)
    if wanted.feed:
        for why in refuse_feed(facts):
            yield f"{why}; {WITHOUT}"


def _missing_rights(facts: Facts, wanted: Wanted, plan: Plan) -> Iterator[str]:
    foreign = [name_of(table) for table in facts.tables.values() if not table["owned"]]
    lacking = [f"does not own {' and '.join(foreign)}"] if foreign else []
    makes = {step.file for step in plan.steps} & {"schema", "publication"}
    if makes and not facts.row["may_create"]:
        lacking.append(f"may not CREATE in the database {facts.row['database']}")
    if wanted.feed and facts.publication and not facts.publication["owned"]:
        lacking.append(f"does not own the publication {PUBLICATION}")
    lacking += lacks_for_making(facts, list(plan.steps))
    if lacking:
        yield no_right(f"{facts.row['role']} {', and '.join(lacking)}")


def no_right(what: str) -> str:
    """The refusal for want of a right."""
    return f"{what}: give --dsn, or PO_EXPORTER_INSTALL_DSN, of a role that does; or have a DBA run what --print shows"


def uninstalling(facts: Facts, wanted: Wanted, *, drop_data: bool = False) -> Plan:
    """To drop the schema, the roles and the publication, and restore the identities that it notes."""
    if facts.row["standby"]:
        return Plan(refusals=("the server is a standby; uninstall on its primary",))
    refusals = list(refuse_dropping(facts))
    if wanted.feed and facts.publication is not None and facts.noted is None:
        refusals.append(
            f"the publication {PUBLICATION} was not made by install, so that nobody knows what was before it: "
            f"DROP PUBLICATION {PUBLICATION}, and REPLICA IDENTITY DEFAULT, if it may go"
        )
    if refusals:
        return Plan(refusals=tuple(refusals))
    plan = dropping(facts, drop_data=drop_data)
    touched = [*facts.published] if facts.noted is not None else []
    touched += [facts.tables[role] for role, found in facts.grants.items() if found["has_rights"]]
    foreign = {name_of(table): None for table in touched if not table["owned"]}
    lacking = [f"does not own {' and '.join(foreign)}"] if foreign else []
    if facts.publication is not None and facts.noted is not None and not facts.publication["owned"]:
        lacking.append(f"does not own the publication {PUBLICATION}")
    lacking += lacks_for_dropping(facts, list(plan.steps))
    return Plan(refusals=(no_right(f"{facts.row['role']} {', and '.join(lacking)}"),)) if lacking else plan


def dropping(facts: Facts, *, drop_data: bool) -> Plan:
    """What is there, whoever is to drop it and whatever speaks against it."""
    steps, changes = drop_schema(facts, drop_data=drop_data)
    feed, said = drop_feed(facts)
    return Plan((*steps, *feed), (*changes, *said))
