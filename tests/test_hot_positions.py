"""Positions with very many orders: their sums are kept by hour, and stay those of a full check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from chaos import ORDER, POSITION, Chaos
from feeding import Checked, Following, prepare
from po_exporter.watch import hot
from po_exporter.watch.answer import Answer, Question
from po_exporter.watch.asking import Asking

pytestmark = pytest.mark.database

INDEX = "CREATE INDEX orders_by_hour ON orders (position_id, created_at)"
HOT = "00000000-0000-0000-0000-0000000000a1"
MANY = 20_000
CROWD = f"""
INSERT INTO positions (id, trading_pair, side, quantity, opened_at)
VALUES ('{HOT}', 'BTC/USD', 'LONG', {MANY}, now() AT TIME ZONE 'UTC' - interval '3 days');
INSERT INTO orders (position_id, trading_pair, side, quantity, status, filled_quantity, created_at)
SELECT '{HOT}', 'BTC/USD', 'BUY', 1, 'FILLED', 1, now() AT TIME ZONE 'UTC' - n * interval '10 seconds'
FROM generate_series(1, {MANY}) AS n;
ANALYZE orders;
"""
# One order each; what it does to the sum, and whether the position is still the sum of its orders.
CHANGES = {
    "an order less": ("DELETE FROM orders WHERE id = {id}", 1),
    "another hour": ("UPDATE orders SET created_at = created_at - interval '5 hours' WHERE id = {id}", 0),
    "a fill of another size": ("UPDATE orders SET filled_quantity = 3 WHERE id = {id}", 1),
    "a sale": ("UPDATE orders SET side = 'SELL' WHERE id = {id}", 1),
    "a fill without a time": ("UPDATE orders SET created_at = NULL WHERE id = {id}", 0),
    "a fill before our era": ("UPDATE orders SET created_at = '0044-03-15 BC' WHERE id = {id}", 0),
    "a fill at infinity": ("UPDATE orders SET created_at = 'infinity' WHERE id = {id}", 0),
    "a sum that nobody knows": ("UPDATE orders SET filled_quantity = 'NaN' WHERE id = {id}", 1),
    "an order that leaves": ("UPDATE orders SET position_id = NULL WHERE id = {id}", 1),
}  # fmt: skip


@dataclass
class Watching(Checked):
    """Counts the polls in which partial sums were in use."""

    renewed: int = 0

    async def poll(self, asking: Asking, questions: Sequence[Question]) -> dict[str, Answer]:
        found = await super().poll(asking, questions)
        self.renewed += bool(self._recompute.hot._sums)
        return found


@pytest.fixture
async def following(database):
    await database.execute(INDEX)
    await database.execute(CROWD)
    made = Following(database.reader_dsn, await prepare(database))
    yield made
    await made.close()


async def test_its_sum_follows_every_change_hour_by_hour(following, database):
    await following.follow()
    assert following.incremental._recompute.hot.ids == {HOT}
    ids = [row["id"] for row in await database.fetch("SELECT id FROM orders ORDER BY created_at LIMIT 100")]
    for number, (what, (change, differs)) in enumerate(CHANGES.items()):
        await database.execute(change.format(id=f"'{ids[number]}'"))
        first = await following.poll()
        assert first.mode == "incremental"
        assert following.counts(first).get("quantity_mismatch", 0) == differs, what
        # and back, which reads the same hours again
        await database.execute(
            f"DELETE FROM orders WHERE id = '{ids[number]}'; INSERT INTO orders (id, position_id, trading_pair, side,"
            f" quantity, status, filled_quantity, created_at) VALUES ('{ids[number]}', '{HOT}', 'BTC/USD', 'BUY', 1,"
            " 'FILLED', 1, now() AT TIME ZONE 'UTC')"
        )
        second = await following.poll()
        assert following.counts(second).get("quantity_mismatch", 0) == 0, what
    assert not following.incremental.wrong
    assert following.incremental.feed is not None, following.incremental.why


async def test_it_stays_exact_under_hostile_writers(database, monkeypatch):
    monkeypatch.setattr(hot, "MANY", 1)
    await database.execute(INDEX)
    await database.execute(
        f"INSERT INTO orders (id, position_id, trading_pair, side, quantity, status, filled_quantity)"
        f" SELECT {ORDER.format('n')}, {POSITION.format('n % 15')}, 'BTC/USD', 'BUY', 1, 'FILLED', 1"
        " FROM generate_series(0, 59) AS n"
    )
    await database.execute("ANALYZE orders")
    following = await Chaos(database, seed=7, kind=Watching).run(80, rare=False)
    assert following.incremental.renewed > 20, "no sum was kept by hour: nothing was put to the test"
    assert not following.incremental.wrong
