"""The incremental mode: the same answers as a full check of the same snapshot, at the cost of what changed."""

from __future__ import annotations

import pytest

from feeding import Following, prepare, slots
from parts.waiting import until
from po_exporter.watch import feed
from po_exporter.watch.recompute import Recompute
from sidecar import populate

pytestmark = pytest.mark.database


@pytest.fixture
async def following(database):
    await populate(database)
    made = Following(database.reader_dsn, await prepare(database))
    yield made
    await made.close()
    assert not made.incremental.wrong
    assert made.incremental.drift == 0


async def test_it_follows_what_changes(following, database):
    first = await following.follow()
    assert following.counts(first)["unlinked_filled_order"] == 1
    await database.execute(
        "UPDATE orders SET position_id = '00000000-0000-0000-0000-0000000000a1' WHERE position_id IS NULL"
    )
    second = await following.poll()
    assert second.mode == "incremental"
    assert "unlinked_filled_order" not in following.counts(second)
    assert following.counts(second)["quantity_mismatch"] == 2
    assert len(await slots(database)) == 1
    await following.close()
    assert await slots(database) == []


async def test_what_no_check_can_see_is_not_looked_at_again(following, database, monkeypatch):
    """A price that moves at each tick, above all."""
    await database.execute("ALTER TABLE positions ADD mark numeric; ALTER TABLE orders ADD note text")
    await following.follow()
    touched = []
    answer = Recompute.answer

    async def noting(self, asking, questions, changes):
        touched.append(len(changes))
        return await answer(self, asking, questions, changes)

    monkeypatch.setattr(Recompute, "answer", noting)
    await database.execute("UPDATE positions SET mark = 1; UPDATE orders SET note = 'seen'")
    assert (await following.poll()).mode == "incremental"
    await database.execute("UPDATE positions SET mark = 2, quantity = quantity + 1")
    await following.poll()
    assert touched[0] == 0
    assert touched[1] > 0


async def test_who_may_not_ask_for_help_keeps_the_feed(following, database, monkeypatch):
    monkeypatch.setattr(feed, "NUDGE_FROM", 0)
    await following.follow()
    first = following.incremental.feed
    assert (await following.poll()).mode == "incremental"
    assert following.incremental.feed is first


async def test_what_each_reading_decodes_again_is_cut_short(following, database, monkeypatch):
    from_bytes = "NUDGE_FROM" if database.server.version >= 16 else "OLDER_NUDGE_FROM"
    monkeypatch.setattr(feed, "NUDGE_EVERY", 0.0)
    monkeypatch.setattr(feed, from_bytes, 10**12)
    await following.follow()
    role = await database.fetchval("SELECT usename FROM pg_stat_activity WHERE application_name = 'po-exporter feed'")
    if database.server.version >= 16:
        await database.execute(f'GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO "{role}"')
    await database.execute("CREATE TABLE noise AS SELECT repeat('x', 1000) FROM generate_series(1, 5000)")
    await following.poll()
    assert following.incremental.feed.lag_bytes > 5_000_000
    monkeypatch.setattr(feed, from_bytes, 1_000_000)

    async def is_short() -> bool:
        await following.poll()
        return following.incremental.feed.lag_bytes < 1_000_000

    await until(is_short, timeout=10, what="the lag to fall")
    assert len(await slots(database)) == 1
    await database.execute(f'DROP OWNED BY "{role}"')
