"""What a feed that leaves out a rule of its own gets wrong, each as a story that is the same every time.

Told to the real one, nothing is wrong at its end; told to one without the rule, something is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg

from feeding import Checked, Following, Stalled, lost_standby, prepare
from parts.database import Database
from parts.waiting import until
from po_exporter.watch.answer import Answer, Question
from po_exporter.watch.asking import Asking
from sidecar import populate

A1, A2 = "00000000-0000-0000-0000-0000000000a1", "00000000-0000-0000-0000-0000000000a2"
B1, B2, B3 = (f"00000000-0000-0000-0000-0000000000b{number}" for number in (1, 2, 3))
LINK = f"UPDATE orders SET position_id = '{A1}' WHERE id = '{B2}'"
UNLINK = f"UPDATE orders SET position_id = NULL WHERE id = '{B2}'"
MOVE = f"UPDATE orders SET position_id = '{A2}' WHERE id = '{B1}'"
FEED = "SELECT pid FROM pg_stat_activity WHERE application_name = 'po-exporter feed' AND datname = current_database()"
SETTLING = f"SELECT query ~ 'pg_snapshot_xmin' FROM pg_stat_activity WHERE pid = ({FEED})"

Hook = Callable[[], Awaitable[object]]


class Interrupted(Checked):
    """Something happens once in the middle of a poll: when it has its snapshot and has not yet read the feed, or when
    it has read that and has not yet asked anything."""

    snapshot_taken: Hook | None = None
    feed_read: Hook | None = None

    async def poll(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer]:
        hook, self.snapshot_taken = self.snapshot_taken, None
        if hook:
            await hook()
        hook, self.feed_read = self.feed_read, None
        if hook:
            recompute, answer = self._recompute, self._recompute.answer

            async def interrupted(*args: object) -> dict[str, Answer]:
                del recompute.answer
                await hook()
                return await answer(*args)

            recompute.answer = interrupted
        return await super().poll(asking, questions)


async def begun(database: Database, kind: type[Checked] = Checked, *, before: str = "") -> Following:
    """One who follows the small population, ``before`` which something is done."""
    await populate(database)
    feed_dsn = await prepare(database)
    if before:
        await database.execute(before)
    following = Following(database.reader_dsn, feed_dsn, kind=kind)
    await following.follow()
    return following


async def told(database: Database, following: Following, *statements: str) -> Following:
    """These statements, each followed by a poll."""
    for statement in statements:
        await database.execute(statement)
        await following.poll()
    return following


async def a_commit_between_snapshot_and_feed(database: Database, kind: type[Interrupted] = Interrupted) -> Following:
    """It is decoded by a poll that does not see it yet."""
    following = await begun(database, kind)
    for statement in (LINK, MOVE):
        following.incremental.snapshot_taken = partial(database.execute, statement)
        await following.poll()
        await following.poll()
    return following


async def a_commit_between_feed_and_recompute(database: Database, kind: type[Interrupted] = Interrupted) -> Following:
    """Its keys are not among those that are asked; half of what is asked would see it."""
    following = await begun(database, kind)
    following.incremental.feed_read = partial(database.execute, MOVE)
    await told(database, following, LINK)
    await following.poll()
    return following


async def a_commit_that_stalls(database: Database, kind: type[Checked] = Checked) -> Following:
    """It is in the stream long before a snapshot sees it."""
    following = await begun(database, kind)
    async with lost_standby(database):
        stalled = await Stalled.begin(database, LINK)
        assert await stalled.commit()
        for _ in range(3):
            await following.poll()
        await stalled.let_go()
        await following.poll()
    return following


async def asynchronous_commits(database: Database, kind: type[Checked] = Checked) -> Following:
    """They are visible before they are in the write-ahead log as far as it is flushed."""
    following = await begun(database, kind)
    connection = await asyncpg.connect(database.dsn)
    await connection.execute("SET synchronous_commit = off")
    for statement in (LINK, UNLINK) * 10:
        await connection.execute(statement)
        await following.poll()
        if following.incremental.wrong:
            break
    await connection.close()
    return following


async def an_order_that_moves(database: Database, kind: type[Checked] = Checked) -> Following:
    """The position that it left is wrong from now on, and nothing but the old row names it."""
    following = await begun(database, kind)
    return await told(database, following, MOVE)


async def a_generated_column(database: Database, kind: type[Checked] = Checked) -> Following:
    """Nothing that is mapped is in the stream when what it is made from changes."""
    generated = """
        ALTER TABLE orders RENAME COLUMN trading_pair TO symbol;
        ALTER TABLE orders ADD COLUMN trading_pair text GENERATED ALWAYS AS (upper(symbol)) STORED;"""
    if database.server.version >= 18:  # which refuses every UPDATE otherwise
        generated += "ALTER PUBLICATION po_exporter SET (publish_generated_columns = stored)"
    following = await begun(database, kind, before=generated)
    return await told(database, following, "UPDATE orders SET symbol = 'other/usd'")


async def a_truncate_during_a_poll(database: Database, kind: type[Interrupted] = Interrupted) -> Following:
    """It is not MVCC-safe: to a snapshot from before it, the table would be empty."""
    following = await begun(database, kind)
    impatient = await asyncpg.connect(database.dsn, server_settings={"lock_timeout": "200ms"})

    async def truncate() -> None:
        try:
            await impatient.execute("TRUNCATE orders")
        except asyncpg.LockNotAvailableError:
            return

    following.incremental.snapshot_taken = truncate
    await following.poll()
    await impatient.close()
    return following


async def a_commit_while_the_slot_is_made(database: Database, kind: type[Checked] = Checked) -> Following:
    """The slot begins after it, and a baseline from before the slot does not hold it."""
    following = Following(database.reader_dsn, await prepare(database), kind=kind)
    await populate(database)
    writing = await Stalled.begin(database)
    await following.poll()
    await until(partial(_waits_for, database, writing), what="the slot to wait for who is writing")
    await database.execute(LINK)
    await writing.commit()
    await following.follow()
    await following.poll()
    return following


async def a_commit_that_stalls_while_the_slot_is_made(
    database: Database, kind: type[Checked] = Checked, *, settles: bool = True
) -> Following:
    """In the log before the slot begins, and visible after the baseline: in neither.

    Making a slot waits twice for all who are writing. One who begins between is not waited for any more.
    """
    await populate(database)
    following = Following(database.reader_dsn, await prepare(database), kind=kind)
    async with lost_standby(database):
        first = await Stalled.begin(database)
        await following.poll()
        await until(partial(_waits_for, database, first), what="the slot to wait for the first")
        second = await Stalled.begin(database)
        await first.abort()
        await until(partial(_waits_for, database, second), what="the slot to wait for the second")
        stalled = await Stalled.begin(database, LINK)
        assert await stalled.commit()
        await second.abort()
        if settles:
            await until(partial(database.fetchval, SETTLING), what="the slot to be made")
            assert (await following.poll()).mode == "scan", "what is in neither is waited for"
        else:
            await following.follow()
        await stalled.let_go()
        await following.follow()
        await following.poll()
    return following


async def _waits_for(database: Database, writer: Stalled) -> bool:
    """Whether the feed waits for that transaction."""
    return await database.fetchval(f"SELECT $1 = ANY(pg_blocking_pids(pid)) FROM ({FEED}) AS feed", writer.pid)
