"""What is kept in the database of one that is watched: what is open there, and what is still to be told.

Everything is written by the leader of one term alone: what one writes that has been replaced changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog
from pydantic import TypeAdapter

from po_exporter import sql
from po_exporter.errors import DatabaseError
from po_exporter.tell.outbox import Letter, Outcome, Overtaken
from po_exporter.tell.summary import Summary

log = structlog.get_logger()

A_DAY = 86_400.0
OLDEST = 30
"""Days for which what was told stays there."""
NEEDED = 1
"""The version of the schema that has what is used here."""

_SUMMARY = TypeAdapter(Summary)


class Keep(Protocol):
    """Runs one statement about what is kept, as long as this replica leads. Raises DatabaseError."""

    async def __call__(self, query: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """Its rows."""
        ...


class Store:
    """That of one database, in the term that ``take_over`` began. All raise DatabaseError; what writes, Overtaken."""

    def __init__(self, database: str, keep: Keep, term: int) -> None:
        self._database, self._keep, self.term = database, keep, term
        self._written: Mapping[str, str] = {}
        self._cleared = 0.0

    @classmethod
    async def take_over(cls, database: str, replica: str, keep: Keep) -> Store:
        """Begin another term. From now on nobody else writes, so that what is read next stays true."""
        (row,) = await keep(sql.read("kept/take_over.sql"), database, replica)
        store = cls(database, keep, row["term"])
        await store._clear()
        return store

    async def _clear(self) -> None:
        self._cleared = time.monotonic()
        try:
            await self._keep(sql.read("kept/clear.sql"), self._database, OLDEST)
        except DatabaseError as error:  # tomorrow is another day
            log.warning("not_cleared", database=self._database, error=str(error))

    async def memory(self) -> dict[str, str]:
        """What was known, by name, as JSON."""
        rows = await self._keep(sql.read("kept/incidents.sql"), self._database)
        self._written = {row["name"]: row["state"] for row in rows}
        return dict(self._written)

    async def waiting(self) -> list[tuple[str, Letter]]:
        """What has still to be told, each with its channel, in order."""
        rows = await self._keep(sql.read("kept/waiting.sql"), self._database)
        found = []
        for row in rows:
            try:
                summary = _SUMMARY.validate_json(row["summary"])
            except ValueError as error:  # of another version of ours
                log.error("letter_unreadable", database=self._database, id=row["id"], error=str(error))
            else:
                found.append((row["channel"], Letter(summary, ledger=self, rows=(row["id"],), tries=row["tries"])))
        return found

    async def threads(self) -> list[tuple[str, str, object]]:
        """By channel and incident, what the last send about it has left."""
        rows = await self._keep(sql.read("kept/threads.sql"), self._database)
        return [(row["channel"], row["incident"], json.loads(row["thread"])) for row in rows]

    async def write(self, memory: Mapping[str, str], letters: Sequence[tuple[str, Letter]]) -> None:
        """Keep what is known and what is to be told, each letter with its channel: all of it, or nothing."""
        changed = {name: state for name, state in memory.items() if self._written.get(name) != state}
        forgotten = [name for name in self._written if name not in memory]
        if not (changed or forgotten or letters):
            return
        rows = [_row(channel, letter) for channel, letter in letters]
        columns: list[list[object]] = [list(column) for column in zip(*rows, strict=True)] or [[]] * 6
        (row,) = await self._keep(
            sql.read("kept/write.sql"), self._database, self.term, forgotten,
            list(changed), list(changed.values()), *columns,
        )  # fmt: skip
        if not row["leads"]:
            raise Overtaken
        self._written = dict(memory)
        ids = {(channel, summary): number for number, channel, summary in json.loads(row["written"])}
        for channel, letter in letters:
            letter.ledger, letter.rows = self, (*letter.rows, ids[channel, letter.summary.id])
        if time.monotonic() - self._cleared > A_DAY:
            await self._clear()

    async def forget(self) -> None:
        """Keep nothing of it any more: who watches it again begins anew."""
        why = "the database was not watched any more"
        (row,) = await self._keep(sql.read("kept/forget.sql"), self._database, self.term, why)
        if not row["leads"]:
            raise Overtaken

    async def tried(self, letter: Letter, outcome: Outcome) -> None:
        """Keep what came of trying to send it."""
        thread = None if outcome.thread is None else json.dumps(outcome.thread)
        (row,) = await self._keep(
            sql.read("kept/tried.sql"), self._database, self.term, list(letter.rows), thread, outcome.error,
            outcome.set_aside,
        )  # fmt: skip
        if not row["leads"]:
            raise Overtaken


def _row(channel: str, letter: Letter) -> tuple[object, ...]:
    outcome = letter.outcome
    sent = outcome.at if outcome and outcome.error is None else None
    aside = outcome.at if outcome and outcome.set_aside else None
    thread = json.dumps(outcome.thread) if outcome and outcome.thread is not None else None
    summary = _SUMMARY.dump_json(letter.summary).decode()
    return channel, letter.summary.incident, summary, thread, sent, aside
