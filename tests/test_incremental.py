"""The incremental mode: the same answers as a full check of the same snapshot, at the cost of what changed."""

from __future__ import annotations

import pytest

from feeding import Following, prepare, slots
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
