"""The tests of the feed are worth something: a feed without one of its rules is found to be wrong.

By the hostile writers wherever these can meet the fault, and by the story about it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

import feed_stories as stories
from chaos import Chaos
from feed_stories import Interrupted
from feeding import Checked, Following, close_all
from parts.database import Database
from po_exporter import sql
from po_exporter.database import session
from po_exporter.watch import changes, feed, incremental
from po_exporter.watch.answer import Answer, Question
from po_exporter.watch.asking import Asking
from po_exporter.watch.changes import Changes, Columns, Values
from po_exporter.watch.feed import Feed, Visible
from po_exporter.watch.pgoutput import Change, Relation

POLLS = 400
"""So many at most until the writers have found it."""
Patch = pytest.MonkeyPatch
Story = Callable[[Database, type[Checked]], Awaitable[Following]]


class FeedFirst(Interrupted):
    """Reads the feed before the snapshot: at the end of the poll before."""

    async def poll(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer]:
        found = await super().poll(asking, questions)
        if isinstance(self.feed, ReadBefore):
            await self.feed.read_now()
        return found


class ReadBefore(Feed):
    """Is read when it is told to, and says what it knows."""

    async def read_now(self) -> None:
        connection = await self._session.connect()
        await connection.fetch(sql.read("feed/barrier.sql"))
        await Feed._read(self, connection)

    async def _read(self, _: session.Connection) -> None:
        return


class EarlyBaseline(Interrupted):
    """Takes its baseline while the slot is being made."""

    async def poll(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer]:
        if self.feed is None and self._recompute.state is None:
            await self._recompute.answer(asking, [q for q in questions if q.file.incremental], Changes())
        return await super().poll(asking, questions)

    def _begin(self) -> None:
        if not hasattr(self, "_recompute"):
            super()._begin()


def feed_first(patch: Patch) -> None:
    patch.setattr(incremental, "Feed", ReadBefore)


def no_carry(patch: Patch) -> None:
    """All transactions are taken at once."""
    patch.setattr(Visible, "sees", lambda *_: True)


def identity_default(patch: Patch) -> None:
    """REPLICA IDENTITY DEFAULT will do."""
    patch.setattr(feed, "lacks", lambda *_: ())
    patch.setattr("feeding.PREPARE", "")
    collect = Columns.collect

    def tolerated(self: Columns, into: Changes, relation: Relation, change: Change, *rest: object) -> None:
        collect(self, into, relation, replace(change, whole=True), *rest)

    patch.setattr(Columns, "collect", tolerated)


def read_committed(patch: Patch) -> None:
    _said_otherwise(patch, "REPEATABLE READ", "READ COMMITTED")


def no_lock(patch: Patch) -> None:
    _said_otherwise(patch, "LOCK TABLE", None)


def no_barrier(patch: Patch) -> None:
    _read_otherwise(patch, "feed/barrier.sql", "SELECT 1")


def no_settle(patch: Patch) -> None:
    _read_otherwise(patch, "feed/xid.sql", "SELECT 0")


def settle_by_xmax(patch: Patch) -> None:
    _read_otherwise(patch, "feed/xid.sql", "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


def old_links_ignored(patch: Patch) -> None:
    """Only what a row is now counts, not what it was."""
    collect = Columns.collect

    def forgetful(self: Columns, into: Changes, relation: Relation, change: Change, *rest: object) -> None:
        collect(self, into, relation, change if change.new is None else replace(change, old=None), *rest)

    patch.setattr(Columns, "collect", forgetful)


def generated_columns_ignored(patch: Patch) -> None:
    """What the stream leaves out is taken to be as it was."""

    def differ(columns: frozenset[str], old: Values | None, new: Values | None) -> bool:
        return old is None or new is None or any(old.get(name) != new.get(name) for name in columns)

    patch.setattr(changes, "_differ", differ)


def nothing(patch: Patch) -> None:
    """Everything else is in the mutant's class."""


FOUND_BY_WRITERS: dict[str, tuple[Callable[[Patch], None], type[Checked]]] = {
    "all transactions are taken at once": (no_carry, Checked),
    "identity DEFAULT": (identity_default, Checked),
    "READ COMMITTED": (read_committed, Checked),
    "no barrier": (no_barrier, Checked),
    "the feed is read before the snapshot": (feed_first, FeedFirst),
    "the position that an order left is not looked at": (old_links_ignored, Checked),
}

FOUND_BY_STORIES: dict[str, tuple[Callable[[Patch], None], type[Checked], Story]] = {
    "all transactions are taken at once": (no_carry, Interrupted, stories.a_commit_between_snapshot_and_feed),
    "all are taken at once, one stalls": (no_carry, Checked, stories.a_commit_that_stalls),
    "identity DEFAULT": (identity_default, Checked, stories.an_order_that_moves),
    "READ COMMITTED": (read_committed, Interrupted, stories.a_commit_between_feed_and_recompute),
    "no lock": (no_lock, Interrupted, stories.a_truncate_during_a_poll),
    "no barrier": (no_barrier, Checked, stories.asynchronous_commits),
    "the feed is read before the snapshot": (feed_first, FeedFirst, stories.an_order_that_moves),
    "the baseline is from before the slot": (nothing, EarlyBaseline, stories.a_commit_while_the_slot_is_made),
    "no settling": (
        no_settle, Checked, partial(stories.a_commit_that_stalls_while_the_slot_is_made, settles=False)
    ),
    "settling by xmax": (
        settle_by_xmax, Checked, partial(stories.a_commit_that_stalls_while_the_slot_is_made, settles=False)
    ),
    "the position that an order left is not looked at": (old_links_ignored, Checked, stories.an_order_that_moves),
    "generated columns are ignored": (generated_columns_ignored, Checked, stories.a_generated_column),
}  # fmt: skip


@pytest.fixture
async def database(database):
    """The same, with whoever follows it gone first."""
    yield database
    await close_all()


@pytest.mark.parametrize("mutant", FOUND_BY_WRITERS)
async def test_hostile_writers_find_a_feed_without_the_rule(database, monkeypatch, mutant):
    patch, kind = FOUND_BY_WRITERS[mutant]
    patch(monkeypatch)
    following = await Chaos(database, seed=20261125, kind=kind).run(POLLS, rare=False)
    assert following.incremental.wrong


@pytest.mark.parametrize("mutant", FOUND_BY_STORIES)
async def test_its_story_finds_a_feed_without_the_rule(database, monkeypatch, mutant):
    if "generated" in mutant and database.server.version >= 18:
        pytest.skip("PostgreSQL 18 sends generated columns, or refuses the UPDATE")
    patch, kind, story = FOUND_BY_STORIES[mutant]
    patch(monkeypatch)
    following = await story(database, kind)
    await following.close()
    assert following.incremental.wrong


def _said_otherwise(patch: Patch, what: str, instead: str | None) -> None:
    """Each poll's session says something else, or leaves it out."""
    execute = session._execute

    async def replaced(connection: session.Connection, statements: str) -> None:
        if instead is not None or what not in statements:
            await execute(connection, statements.replace(what, instead or ""))

    patch.setattr(session, "_execute", replaced)


def _read_otherwise(patch: Patch, name: str, instead: str) -> None:
    """One of our statements is another."""
    read = sql.read
    patch.setattr(sql, "read", lambda wanted: instead if wanted == name else read(wanted))
