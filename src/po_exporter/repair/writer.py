"""Changes rows of the trading tables: each together with its record, in one transaction, and only as it was seen."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from po_exporter import __version__, sql
from po_exporter.database.catalog import quote, quote_table
from po_exporter.database.session import Session, Target
from po_exporter.errors import LockTimeout, Missing, Refused, Stopped
from po_exporter.repair.plan import ask_in
from po_exporter.repair.record import NO_RECORD
from po_exporter.watch.asking import Asking
from po_exporter.watch.watched import Watched

NEEDED = 3
"""The version of the sidecar's schema that has what is used here."""
ENTITIES = {"orders": "order", "positions": "position"}

Columns = Mapping[str, str | None]
"""By canonical name, as the database writes them."""


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of one row: from what its columns have to be now to what they become.

    ``holds``: positions that nobody else may change until it is committed. ``then`` raises Refused where, after the
    change, something is not as it should be.
    """

    fix: str
    role: str
    id: str
    before: Columns
    after: Columns
    reason: str
    holds: tuple[str, ...] = ()
    undoes: int | None = None
    then: Callable[[], Awaitable[None]] | None = None


@dataclass
class Writer:
    """One transaction that writes, as ``actor``, under the name of one ``run``."""

    asking: Asking
    run: str
    actor: str
    versions: dict[tuple[str, str], str] = field(default_factory=dict)

    async def begin(self, counted: Iterable[str] = ()) -> int:
        """Wait for other runs; how many of these fixes were made within the hour. Raises Stopped, or DatabaseError
        where there is no record."""
        if (self.asking.snapshot.kept or 0) < NEEDED:
            raise Missing(NO_RECORD)
        try:
            await self.asking.snapshot.fetch(sql.read("repair/one_run.sql"))
        except LockTimeout:
            raise LockTimeout("another run of fixes is under way; try again when it is over") from None
        return await self._may(counted)

    async def note(self, role: str, ids: Iterable[str]) -> None:
        """Remember which versions of these rows there are: a change of one that is another by then is refused."""
        query = self._fill(role, "repair/versions.sql", {})
        for row in await self.asking.snapshot.fetch(query, list(dict.fromkeys(ids))):
            self.versions[role, row["id"]] = row["version"]

    async def tried(self, fix: str, order: str) -> int:
        """How often a fix was made on an order already."""
        return int((await self.asking.snapshot.fetch(sql.read("repair/tried.sql"), fix, order))[0]["times"])

    async def swap(self, swap: Swap) -> int:
        """Make one change and its record, whose id it returns. Raises Refused, and nothing of it has happened then."""
        async with self.asking.snapshot.savepoint():
            try:
                return await self._swap(swap)
            except LockTimeout:
                raise Refused("somebody is changing it at this moment") from None

    async def _swap(self, swap: Swap) -> int:
        await self._may(())
        was = await self._lock(swap.role, swap.id, swap.after)
        for name, value in swap.before.items():
            if not self._same(was.columns[name], value):
                raise Refused(f"its {name} is {was.columns[name] or 'NULL'} by now, not {value or 'NULL'}")
        for position in swap.holds:
            await self._lock("positions", position, ())
        assignments = ", ".join(
            f"{self._name(swap.role, name)} = ${place}::text::{self._type(swap.role, name)}"
            for place, name in enumerate(swap.after, 2)
        )
        query = self._fill(swap.role, "repair/set.sql", {"assignments": assignments})
        await self.asking.snapshot.fetch(query, swap.id, *swap.after.values())
        self.versions.pop((swap.role, swap.id), None)
        now = await self._lock(swap.role, swap.id, swap.after)
        for name, value in swap.after.items():
            if now.columns[name] != value:
                raise Refused(f"the database keeps {now.columns[name] or 'NULL'} as its {name} (a trigger of its own?)")
        if swap.then:
            await swap.then()
        return await self._record(swap, was, now)

    def _same(self, one: str | None, other: str | None) -> bool:
        """Whether two values of a column are the same; a link that is text may be written in capitals."""
        return one == other or bool(one and other and self.asking.presenter.folds_ids and one.lower() == other.lower())

    async def _may(self, counted: Iterable[str]) -> int:
        (row,) = await self.asking.snapshot.fetch(sql.read("repair/may.sql"), list(counted))
        if row["stop"]:
            stop = json.loads(row["stop"])
            why = f": {stop['why']}" if stop["why"] else ""
            raise Stopped(f"{stop['who']} has stopped all writing in po_exporter.stop{why}")
        return int(row["last_hour"])

    async def _lock(self, role: str, key: str, columns: Iterable[str]) -> Row:
        named = ", ".join(f"t.{self._name(role, name)}::text AS {quote(name)}" for name in columns) or "1"
        query = self._fill(role, "repair/lock.sql", {"columns": named})
        rows = await self.asking.snapshot.fetch(query, key)
        if len(rows) != 1:
            raise Refused(f"there is no {ENTITIES[role]} {key} any more" if not rows else f"{key} is the id of several")
        row = Row.parse(rows[0], columns)
        if self.versions.get((role, key), row.version) != row.version:
            raise Refused(f"the {ENTITIES[role]} was changed meanwhile")
        return row

    async def _record(self, swap: Swap, was: Row, now: Row) -> int:
        changed = {self._raw(swap.role, name) for name in swap.after}
        by_trigger = {name for name in now.whole if now.whole[name] != was.whole.get(name)} - changed
        before, after = (
            json.dumps({
                "columns": {name: row.columns[name] for name in swap.after},
                "by_trigger": {name: row.whole.get(name) for name in sorted(by_trigger)},
            })
            for row in (was, now)
        )  # fmt: skip
        (row,) = await self.asking.snapshot.fetch(
            sql.read("repair/record.sql"), self.run, self.actor, __version__, swap.fix, ENTITIES[swap.role], swap.id,
            before, after, swap.reason, swap.undoes,
        )  # fmt: skip
        return int(row["id"])

    def _fill(self, role: str, name: str, more: Mapping[str, str]) -> str:
        """One of our statements over a table whose names are the user's."""
        mapping = self.asking.presenter.mapping
        side = mapping.orders if role == "orders" else mapping.positions
        names = {"table": quote_table(side.table), "id": self._name(role, "id"), "id_type": self._type(role, "id")}
        return sql.read(name).format(**names, **more)

    def _raw(self, role: str, name: str) -> str:
        mapping = self.asking.presenter.mapping
        column = (mapping.orders if role == "orders" else mapping.positions).columns[name]
        if column.is_sql:
            raise Refused(f"schemas.{mapping.name}.{role}.columns.{name} is an expression, which cannot be written")
        return column.text

    def _name(self, role: str, name: str) -> str:
        return quote(self._raw(role, name))

    def _type(self, role: str, name: str) -> str:
        kind = self.asking.presenter.column_type(role, name) or "text"
        return "bpchar" if kind == "character" else kind  # without a length, ``character`` is one letter


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is locked: its columns by canonical name, all of it by its own names, and its version."""

    columns: Columns
    whole: Mapping[str, Any]
    version: str

    @classmethod
    def parse(cls, row: asyncpg.Record, columns: Iterable[str]) -> Row:
        """From a row of lock.sql. Numbers stay what they are, to the last digit."""
        whole = json.loads(row["whole"], parse_float=str, parse_int=str)
        return cls({name: row[name] for name in columns}, whole, row["version"])


@asynccontextmanager
async def writing(watched: Watched, target: Target, run: str, actor: str) -> AsyncIterator[Writer]:
    """A transaction that writes, committed at the end. Raises DatabaseError."""
    session, limits = Session(target), watched.terms.limits
    try:
        async with session.snapshot(limits, watched.mapping, writes=True) as snapshot:
            yield Writer(await ask_in(snapshot, watched), run, actor)
    finally:
        await session.close()
