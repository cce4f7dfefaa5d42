"""What was changed: read, and verified. It is written by ``writer``, in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from po_exporter import sql
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.session import Session, Target
from po_exporter.errors import Missing, UsageError

NO_RECORD = "there is no record in this database: po-exporter install makes what it takes"
MOST_IDS = 2**63


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. ``before`` and ``after`` hold its columns by canonical name, as texts of the database; what a trigger
    changed besides is in ``by_trigger``, (before, after) by the column's own name. ``place`` and ``hash`` are its
    place in the chain, None until it is sealed."""

    id: int
    at: datetime
    run: str
    actor: str
    version: str
    fix: str
    entity: str
    entity_id: str
    before: Mapping[str, str | None]
    after: Mapping[str, str | None]
    by_trigger: Mapping[str, tuple[str | None, str | None]]
    reason: str
    undoes: int | None
    place: int | None
    hash: str | None

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Entry:
        """From a row of log.sql."""
        before, after = json.loads(row["before"]), json.loads(row["after"])
        kept = {name: (was, after["by_trigger"][name]) for name, was in before["by_trigger"].items()}
        rest = {name: value for name, value in row.items() if name not in ("before", "after")}
        return cls(**rest, before=before["columns"], after=after["columns"], by_trigger=kept)


@dataclass(frozen=True, slots=True)
class Verification:
    """Of the chain: how many records are ``sealed``, the hash of the last of them (``head``), the first that is not as
    it was written (``broken``) and why, and how many are not sealed yet, from which on."""

    sealed: int
    head: str | None
    broken: int | None
    why: str | None
    unsealed: int
    first_unsealed: int | None


async def read_log(target: Target, *, run: str | None = None, most: int = 50) -> list[Entry]:
    """The latest records, the newest first. Raises DatabaseError."""
    return [Entry.parse(dict(row)) for row in await _ask(target, "repair/log.sql", run, None, most)]


async def find(target: Target, ids: Sequence[int], run: str | None) -> list[Entry]:
    """These records, or those of a run, the newest first. Raises UsageError for one that is not there."""
    if any(not 0 < each < MOST_IDS for each in ids):
        raise UsageError("a record's number is a whole number above 0; po-exporter fix log shows them.")
    found = [Entry.parse(dict(row)) for row in await _ask(target, "repair/log.sql", run, list(ids), None)]
    missing = sorted(set(ids) - {entry.id for entry in found})
    if missing or not found:
        what = f"no record {', '.join(map(str, missing))}" if missing else f"no run {run}"
        raise UsageError(f"there is {what}; po-exporter fix log shows what there is.")
    return found


async def verify(target: Target) -> Verification:
    """Calculate the chain anew. Raises DatabaseError."""
    (row,) = await _ask(target, "repair/verify.sql")
    broken = json.loads(row["broken"]) if row["broken"] else None
    why = None
    if broken:
        why = (
            "records before it are missing, or it was moved"
            if broken["gap"]
            else "it, or the hash before it, is not what was sealed"
        )
    return Verification(
        row["sealed"], row["head"], broken and broken["id"], why, row["unsealed"], row["first_unsealed"]
    )


async def seal(target: Target) -> int:
    """Seal what was committed; how many records that were. Raises DatabaseError."""
    return int((await _ask(target, "repair/seal.sql"))[0]["sealed"])


async def _ask(target: Target, name: str, *arguments: object) -> list[asyncpg.Record]:
    session = Session(target)
    try:
        connection = await session.connect()
        return await connection.fetch(sql.read(name), *arguments, timeout=60)
    except DRIVER_ERRORS as error:
        ours = translate(error)
        raise (Missing(NO_RECORD) if isinstance(ours, Missing) else ours) from None
    finally:
        await session.close()
