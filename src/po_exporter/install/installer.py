"""Makes what the sidecar keeps and its change feed needs in a database, and takes it away again.

What runs is what is printed: the same files of ``sql/install``. Whatever would hurt the trading API is refused before
anything is changed, and at the end of its transaction the server itself is asked whether it would still accept an
UPDATE.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import asyncpg

from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.session import Connection, Session, Target
from po_exporter.errors import Conflict, DeadlinePassed, LockTimeout, NoRight, Unreachable
from po_exporter.install.facts import Facts, read_facts, read_readiness, read_row
from po_exporter.install.feed import WITHOUT
from po_exporter.install.plan import Plan, installing, no_right, uninstalling
from po_exporter.install.steps import BEGIN
from po_exporter.install.wanted import Wanted
from po_exporter.watch.readiness import Lack, lacks

ATTEMPTS = 10
PAUSE = 0.25
"""Seconds, at first, between two attempts to get the tables; each is twice the one before, up to LONGEST_PAUSE."""
LONGEST_PAUSE = 2.0
LONGEST = 120.0
"""Seconds for all of it."""
UPDATE_WOULD_FAIL = {"55000", "42P10"}
"""SQLSTATEs by which the server refuses an UPDATE of a published table for its identity."""
OVERTAKEN = {"42710", "23505", "42P06", "42704", "42P01", "3F000", "22023", "XX000"}
"""SQLSTATEs that say: somebody else has made, changed or dropped the same meanwhile, in this database or, the roles, in
another. The next attempt sees it. (22023: a role to be set is gone; XX000: "tuple concurrently updated".)"""
STILL_NEEDED = "2BP01"
"""SQLSTATE by which the server refuses to drop what something else rests on, and our script what holds records."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the changes made, or why none was; and what the feed lacks beyond them."""

    status: Literal["installed", "uninstalled", "unchanged", "refused"]
    changes: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    advice: tuple[Lack, ...] = ()


async def install(target: Target, wanted: Wanted) -> Outcome:
    """Make the roles, the schema and what the feed needs. Raises DatabaseError; then nothing was changed."""
    return await _carry_out(target, wanted, lambda facts: installing(facts, wanted), "installed")


async def uninstall(target: Target, wanted: Wanted, *, drop_data: bool = False) -> Outcome:
    """Take back what ``install`` made; with ``drop_data``, the records, too. Raises DatabaseError; then nothing was
    changed.
    """
    return await _carry_out(
        target, wanted, lambda facts: uninstalling(facts, wanted, drop_data=drop_data), "uninstalled"
    )


async def _carry_out(
    target: Target,
    wanted: Wanted,
    plan: Callable[[Facts], Plan],
    done: Literal["installed", "uninstalled"],
) -> Outcome:
    session = Session(target)
    try:
        async with asyncio.timeout(LONGEST):
            connection = await session.connect()
            planned = await _try(connection, wanted, plan)
            if planned.refusals:
                return Outcome("refused", refusals=planned.refusals)
            advice: tuple[Lack, ...] = ()
            if done == "installed" and wanted.feed:
                advice = tuple(lacks(await read_readiness(connection, wanted), wanted.mapping))
            return Outcome(done if planned.steps else "unchanged", planned.changes, advice=advice)
    except TimeoutError:
        raise DeadlinePassed(f"it took longer than {LONGEST:.0f} s; run it again to see what came of it") from None
    finally:
        await session.close()


async def _try(connection: Connection, wanted: Wanted, plan: Callable[[Facts], Plan]) -> Plan:
    """The plan, carried out unless it is refused. Tries again, a few times, where somebody is in the way."""
    pause = PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        facts = await read_facts(connection, wanted)
        planned = plan(facts)
        if planned.refusals or not planned.steps:
            return planned
        try:
            for step in (BEGIN, *planned.steps):
                await connection.execute(step.text(wanted.tables))
            await connection.execute("COMMIT")
        except asyncpg.PostgresError as error:
            ours = translate(error)
            if ours.ends_poll and not isinstance(ours, LockTimeout):
                raise type(ours)(f"{ours}; run it again to see what came of it") from None
            await _roll_back(connection)
            detail = " ".join((getattr(error, "detail", None) or "").split())
            if error.sqlstate in UPDATE_WOULD_FAIL:
                why = f"the trading API's UPDATE or DELETE would fail afterwards: {ours}. {detail}".rstrip(" .")
                return Plan(refusals=(f"{why}; {WITHOUT}",))
            if error.sqlstate == STILL_NEEDED:
                return Plan(refusals=(f"{ours}. {detail}".rstrip(" ."),))
            if isinstance(ours, NoRight):
                return Plan(refusals=(no_right(str(ours)),))
            if not isinstance(ours, LockTimeout | Conflict) and error.sqlstate not in OVERTAKEN:
                raise ours from None
            if attempt == ATTEMPTS:
                raise LockTimeout(f"{await _in_the_way(connection, facts) or ours}; nothing was changed") from None
        except DRIVER_ERRORS as error:
            raise Unreachable(f"{translate(error)}; run it again to see what came of it") from None
        else:
            return planned
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # so that two of us do not keep in step
        pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("the last attempt returns or raises")


async def _roll_back(connection: Connection) -> None:
    try:
        await connection.execute("ROLLBACK")
    except DRIVER_ERRORS as error:
        raise translate(error) from None


async def _in_the_way(connection: Connection, facts: Facts) -> str | None:
    oids = {int(table["oid"]) for table in (*facts.tables.values(), *facts.published)}
    blockers = (await read_row(connection, "install/blockers.sql", list(oids)))["blockers"]
    return f"the tables were in use at each of {ATTEMPTS} attempts, by {blockers}" if blockers else None
