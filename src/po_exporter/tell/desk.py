"""Where what there is to tell of one database becomes letters: written first, where they can be kept, then sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from po_exporter.errors import DatabaseError, NotLeading
from po_exporter.model import Status
from po_exporter.tell.incidents import UNREADABLE
from po_exporter.tell.outbox import GONE, Courier, Letter, Outcome, Overtaken
from po_exporter.tell.store import NEEDED, Store
from po_exporter.tell.summary import Summary
from po_exporter.tell.teller import Teller, Terms

log = structlog.get_logger()

MOST_UNWRITTEN = 1000
"""Letters that wait to be written; beyond it the oldest goes."""


MOST_FAILURES = 3
"""So often in a row is it tried to keep what there is to tell, before people are told all the same."""


class Watch(Protocol):
    """The watching of one database, as far as it matters to those who tell of it."""

    @property
    def status(self) -> Status:
        """What is known now."""
        ...

    @property
    def may_tell(self) -> bool:
        """Whether nobody else can tell of it now, beyond doubt."""
        ...

    async def still_wrong(self, check: str, ids: Sequence[str], /) -> list[str] | None:
        """Which of these rows a check finds wrong now, None where that cannot be told. Raises DatabaseError."""
        ...

    async def keep(self, query: str, *arguments: object) -> Sequence[Mapping[str, Any]]:
        """One statement about what is kept in the database. Raises DatabaseError."""
        ...


class Desk:
    """That of one database. ``couriers`` by the name of their channel.

    What is told of a database that cannot be read is exempt: it is sent at once, by whoever could not reach it. That,
    and what could not be written when it was to be told, is written when it can be, with what became of it meanwhile.
    """

    def __init__(self, watch: Watch, terms: Terms, couriers: Mapping[str, Courier]) -> None:
        self.watch = watch
        self.teller = Teller(terms)
        self._couriers = couriers
        self._store: Store | None = None
        self._memory: Mapping[str, str] = {}
        self._unwritten: list[tuple[str, Letter]] = []
        self._ahead: list[tuple[str, Letter]] = []  # put before they were written
        self._ended = asyncio.Event()
        self._writing = asyncio.Lock()
        self._said: str | None = None
        self._failures = 0

    async def observe(self) -> None:
        """Tell what there is to tell now."""
        status = self.watch.status
        leads = status.leader and status.monitored
        if self._ended.is_set():
            return
        if not leads:
            self._give_up(status.database)
        elif not await self._go_on(status):
            return
        told = await self.teller.observe(status, self.watch.still_wrong)
        if self._ended.is_set():
            return
        still_open = self.teller.open
        self._memory = self.teller.memory()  # together with what there is to tell of it, and never without
        if status.up is False or not leads or any(letter.exempt for _, letter in self._ahead):
            self._send_at_once([each for each in told if each.check == UNREADABLE], following=not leads)
            told = [each for each in told if each.check != UNREADABLE]
        if self._store is None:  # of what is over and done with, nothing would have to be written
            self._ahead = [each for each in self._ahead if each[1].summary.incident in still_open or not each[1].done]
        await self._tell(self._letters(told))

    async def answer(self, told: Sequence[Summary]) -> None:
        """Have these sent, for which somebody has asked. Raises NotLeading where he has to ask again: nothing of it is
        kept, and nothing is told."""
        if self._ended.is_set():
            raise NotLeading("the configuration is being read again")
        letters = self._letters(told)
        if self.watch.status.up is False:  # of what nobody can read, whoever is asked may say so
            for _, letter in letters:
                letter.exempt = True
            self._put(letters)
            return
        store = self._store
        await self._tell(letters)
        if self._store is not store:
            raise NotLeading("another replica leads by now")
        if left := [each for each in self._unwritten if each in letters]:
            self._unwritten = [each for each in self._unwritten if each not in left]
            raise NotLeading("the database does not take what is to be kept")

    async def end(self) -> None:
        """The database is not watched any more: what was told of it is said to be off, where it can be forgotten there.
        Who watches it again would go on with it otherwise, and be silent of what is off."""
        database, forgotten = self.watch.status.database, True
        self._ended.set()
        async with self._writing:
            store, self._store = self._store, None
            try:
                if store:
                    await store.forget()
            except (DatabaseError, Overtaken) as error:
                forgotten = False
                log.error("not_forgotten", database=database, error=str(error) or "another replica leads by now")
        for courier in self._couriers.values():
            courier.withdraw(database, exempt=True)
        off = [each for each in self.teller.end(self.watch.status) if forgotten or each.check == UNREADABLE]
        for name, letter in self._letters(off):
            letter.exempt = True
            self._couriers[name].put(letter)

    async def _tell(self, letters: Sequence[tuple[str, Letter]]) -> None:
        """Written first, where they can be kept."""
        store = self._store
        if store is None:
            self._put_ahead(letters)
            return
        self._unwritten += letters
        if (dropped := len(self._unwritten) - MOST_UNWRITTEN) > 0:
            log.error("letters_dropped", database=self.watch.status.database, dropped=dropped)
            self._unwritten = self._unwritten[dropped:]
        if self.watch.status.up is not False:
            async with self._writing:
                if self._store is store:  # else it was given up meanwhile
                    await self._write(store)

    def _give_up(self, database: str) -> None:
        """Somebody else leads, or may: what waits is told by that one."""
        self._store, self._unwritten = None, []
        self._ahead = [each for each in self._ahead if each[1].exempt]
        for courier in self._couriers.values():
            courier.withdraw(database)

    async def _go_on(self, status: Status) -> bool:
        """Begin with what is kept, where it can be; False: not yet."""
        if status.up is False or (self._store is None) == ((status.kept or 0) < NEEDED):
            return True
        if self._store:  # it is there no more
            for courier in self._couriers.values():
                courier.keep_nothing(status.database)
            self._put_ahead(self._unwritten)
            self._store, self._unwritten = None, []
            return True
        try:
            self._store = await self._take_over(status.database)
        except Overtaken:
            return False
        except DatabaseError as error:
            self._say("nothing_kept", error)
            return self._goes_on_without(error)
        self._said, self._failures = None, 0
        return True

    async def _take_over(self, database: str) -> Store:
        store = await Store.take_over(database, self.teller.terms.replica, self.watch.keep)
        memory, threads, waiting = await store.memory(), await store.threads(), await store.waiting()
        for name, letter in waiting:
            letter.may_go = self._may_go
            if name not in self._couriers:
                await store.tried(letter, Outcome(datetime.now(UTC), error=GONE, set_aside=True))
        self.teller.recall(database, memory)
        self._memory = memory
        for name, incident, thread in threads:
            if name in self._couriers:
                self._couriers[name].recall(incident, thread)
        self._put(waiting)
        log.info("goes_on", database=database, term=store.term, waiting=len(waiting))
        return store

    async def _write(self, store: Store) -> None:
        database = self.watch.status.database
        ahead, unwritten = self._ahead, self._unwritten
        outcomes = [(letter, letter.outcome) for _, letter in ahead]
        refused = False
        try:
            await store.write(self._memory, [*ahead, *unwritten])
            for letter, outcome in outcomes:
                if letter.outcome and letter.outcome is not outcome:  # it was sent while it was written
                    await store.tried(letter, letter.outcome)
        except DatabaseError as error:
            self._say("not_written", error)
            if not self._goes_on_without(error):
                return
            refused = True
        except Overtaken:
            log.warning("overtaken", database=database)
            self._give_up(database)
            self.teller.reset()
            return
        else:
            self._said, self._failures = None, 0
            self._ahead = [each for each in self._ahead if each not in ahead]
        if self._store is not store:  # somebody else tells of it by now
            return
        self._unwritten = [each for each in self._unwritten if each not in unwritten]
        if refused:  # for a full disk or a lost right: people are told all the same
            self._put_ahead(unwritten)
        else:
            self._put(unwritten)

    def _send_at_once(self, told: Sequence[Summary], *, following: bool) -> None:
        for name, letter in self._letters(told):
            letter.exempt = True
            unsent = [each for channel, each in self._ahead if channel == name and each.exempt and not each.delivered]
            if following and letter.summary.kind == "closed" and unsent:  # it is over before anybody has heard of it
                self._couriers[name].withdraw(letter.summary.database, exempt=True)
            else:
                self._put_ahead([(name, letter)])

    def _letters(self, told: Sequence[Summary]) -> list[tuple[str, Letter]]:
        return [
            (name, Letter(summary, self._may_go))
            for summary in told
            for name, courier in self._couriers.items()
            if courier.channel.wants(summary)
        ]

    def _put(self, letters: Sequence[tuple[str, Letter]]) -> list[tuple[str, Letter]]:
        """Have them sent. Returns those that carry them, which may be others that were waiting."""
        return [(name, self._couriers[name].put(letter)) for name, letter in letters if name in self._couriers]

    def _put_ahead(self, letters: Sequence[tuple[str, Letter]]) -> None:
        """Have them sent although they are not written, and write them when that can be done."""
        self._ahead = list(dict.fromkeys((*self._ahead, *self._put(letters))))[-MOST_UNWRITTEN:]

    def _goes_on_without(self, error: DatabaseError) -> bool:
        """Whether people are told although nothing can be kept: where it is refused (a right, a full disk); or where it
        takes too long again and again (somebody holds a lock) while the lead is held."""
        self._failures += self.watch.may_tell
        return not error.ends_poll or (self.watch.may_tell and self._failures >= MOST_FAILURES)

    def _say(self, event: str, error: DatabaseError) -> None:
        """Log it, unless that was the last thing that was said."""
        if self._said != f"{event}: {error}":
            self._said = f"{event}: {error}"
            log.error(event, database=self.watch.status.database, error=str(error))

    def _may_go(self) -> bool:
        return self.watch.may_tell
