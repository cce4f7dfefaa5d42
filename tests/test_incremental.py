"""The incremental mode: the same answers as a full check of the same snapshot, at the cost of what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feeding import Following, prepare, slots
from parts.waiting import until
from po_exporter.sql import load_checks
from po_exporter.watch import feed
from po_exporter.watch.changes import Changes
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


def noted(monkeypatch) -> list[Changes]:
    """What each poll from now on is told to look at again."""
    touched = []
    answer = Recompute.answer

    async def noting(self, asking, questions, changes):
        touched.append(replace(changes))
        return await answer(self, asking, questions, changes)

    monkeypatch.setattr(Recompute, "answer", noting)
    return touched


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
    touched = noted(monkeypatch)
    await database.execute("UPDATE positions SET mark = 1; UPDATE orders SET note = 'seen'")
    assert (await following.poll()).mode == "incremental"
    await database.execute("UPDATE positions SET mark = 2, quantity = quantity + 1")
    await following.poll()
    assert len(touched[0]) == 0
    assert touched[1].positions


async def test_a_position_is_summed_up_again_only_when_what_it_is_the_sum_of_has_changed(
    following, database, monkeypatch
):
    await following.follow()
    touched = noted(monkeypatch)
    await database.execute("UPDATE orders SET updated_at = created_at + interval '1 second'")
    await following.poll()
    await database.execute("UPDATE orders SET filled_quantity = filled_quantity + 1")
    await following.poll()
    assert touched[0].orders == touched[1].orders != set()
    assert (touched[0].positions, touched[0].hours) == (set(), set())
    assert touched[1].positions


OWN = {
    "booked_on_a_closed_one": (
        "order",
        "orders.id orders.position_id orders.created_at positions.id positions.active",
        "SELECT o.id, o.created_at AS since, '{}'::jsonb AS details FROM scoped_orders o"
        " JOIN positions p ON p.id = o.position_id WHERE NOT p.active",
        "UPDATE positions SET is_active = false",
    ),
    "held_by_somebody_unfilled": (
        "position",
        "positions.id positions.opened_at orders.position_id orders.filled",
        "SELECT p.id, p.opened_at AS since, '{}'::jsonb AS details FROM scoped_positions p"
        " WHERE EXISTS (SELECT FROM orders o WHERE o.position_id = p.id AND NOT o.filled)",
        "UPDATE orders SET status = 'NEW'",
    ),
    "bought_for_another": (
        "position",
        "positions.id positions.opened_at positions.trading_pair orders.position_id",
        "SELECT p.id, p.opened_at AS since, '{}'::jsonb AS details FROM scoped_positions p"
        " WHERE EXISTS (SELECT FROM orders o WHERE o.position_id = p.id AND o.trading_pair <> p.trading_pair)",
        "UPDATE orders SET trading_pair = 'XRP/USD'",
    ),
}


@pytest.mark.parametrize("name", OWN)
async def test_a_check_of_ones_own_follows_what_its_columns_are_made_of(database, tmp_path, name):
    """Derived ones, above all; and those that only the aliases in its query tell of which table they are."""
    entity, needs, query, change = OWN[name]
    header = {"help": "Ours.", "entity": entity, "priority": "low", "scope": "all", "incremental": "true"}
    lines = [f"-- {key}: {value}" for key, value in {**header, "needs": needs}.items()]
    (tmp_path / f"{name}.sql").write_text("\n".join([*lines, query]))
    await populate(database)
    checks = list(load_checks(tmp_path).values())
    following = Following(database.reader_dsn, await prepare(database), checks=checks)
    before = following.counts(await following.follow()).get(name, 0)
    await database.execute(change)
    after = await following.poll()
    assert after.mode == "incremental"
    assert following.counts(after)[name] > before
    await following.close()
    assert not following.incremental.wrong


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
