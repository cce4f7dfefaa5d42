"""The rows of an incident, asked for once more before it closes: by id, and however old they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from asking import watched
from po_exporter.errors import DatabaseError
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.model import CheckResult
from po_exporter.sql import LINK_RATE, load_checks
from po_exporter.watch.monitor import Monitor
from po_exporter.watch.watched import Watched

pytestmark = pytest.mark.database

EXAMPLES = Path(__file__).with_name("check_examples.sql").read_text()
"""Rows of a year ago: the window's checks find them when there is no window alone."""


async def answers(wanted: Watched) -> dict[str, CheckResult]:
    monitor = Monitor(wanted)
    status = await monitor.poll()
    await monitor.close()
    return {check.name: check for check in status.result.checks if check.name != LINK_RATE}


@pytest.mark.parametrize("followed", [True, False], ids=["by index", "in full"])
async def test_every_check_says_which_of_its_rows_are_still_wrong(database, followed):
    await database.execute(EXAMPLES)
    checks = [replace(check, incremental=followed and check.incremental) for check in load_checks().values()]
    wanted = watched(database.reader_dsn, GAL_FRIDAY, checks=checks)
    unbounded = replace(wanted, terms=replace(wanted.terms, window=None))
    truth = {"window": await answers(unbounded), "all": await answers(wanted)}
    everything = {
        entity: [str(row["id"]) for row in await database.fetch(f"SELECT id FROM {entity}s ORDER BY id")]
        for entity in ("order", "position")
    }
    monitor = Monitor(wanted)
    wrong_at_all = 0
    for check in checks:
        if check.name != LINK_RATE:
            expected = {finding.id for finding in truth[check.scope][check.name].findings}
            told = await monitor.still_wrong(check.name, everything[check.entity])
            assert set(told) == expected, check.name
            assert len(told) == len(expected)
            wrong_at_all += len(told)
    await monitor.close()
    assert wrong_at_all > 20


async def test_a_row_that_is_gone_is_not_wrong(database):
    await database.execute(EXAMPLES)
    monitor = Monitor(watched(database.reader_dsn, GAL_FRIDAY))
    gone = ["00000000-0000-4000-a000-00000000ffff"]
    assert await monitor.still_wrong("unlinked_filled_order", gone) == []
    await monitor.close()


async def test_what_cannot_be_asked_is_no_answer(database):
    monitor = Monitor(watched(database.reader_dsn, GAL_FRIDAY))
    await database.execute("ALTER TABLE orders RENAME COLUMN status TO state")
    with pytest.raises(DatabaseError, match="status"):
        await monitor.still_wrong("unlinked_filled_order", ["00000000-0000-4000-a000-00000000ffff"])
    await monitor.close()


async def test_beyond_the_identity_budget_nobody_can_tell(database):
    await database.execute(EXAMPLES)
    checks = [replace(check, incremental=False) for check in load_checks().values()]
    wanted = watched(database.reader_dsn, GAL_FRIDAY, checks=checks)
    monitor = Monitor(replace(wanted, terms=replace(wanted.terms, identity_budget=0)))
    assert await monitor.still_wrong("unlinked_filled_order", ["00000000-0000-4000-a000-00000000ffff"]) is None
    await monitor.close()
