"""The incremental mode under hostile writers: every answer is that of a full check of the same snapshot."""

from __future__ import annotations

import pytest

from chaos import Chaos

pytestmark = pytest.mark.database


@pytest.mark.parametrize(("rare", "polls"), [(False, 100), (True, 60)], ids=["writers", "writers and DDL"])
async def test_every_poll_is_exact(database, rare, polls):
    chaos = Chaos(database, seed=20261125)
    following = await chaos.run(polls, rare=rare)
    assert not following.incremental.wrong
    assert following.incremental.compared == polls
    assert following.incremental.drift == 0
    if not rare:
        assert chaos.modes["scan"] < 50
        assert chaos.carried > 5, "no transaction had to wait for its snapshot: nothing was put to the test"
