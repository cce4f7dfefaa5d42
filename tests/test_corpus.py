"""Ambiguity is never guessed: of many situations with a known truth, no link that a plan would make is wrong."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from corpus import TABLES, Corpus
from parts.database import Database
from po_exporter import sql
from po_exporter.database.session import Limits, Target
from po_exporter.repair.plan import make_plan
from po_exporter.repair.rules import Rules
from po_exporter.secret import Secret
from po_exporter.watch.answer import Terms
from po_exporter.watch.watched import Watched

ALL = Rules(
    allow=frozenset({"link_order"}), max_per_run=10**9, max_per_hour=10**9, max_quantity=None,
    quiet_period=timedelta(minutes=5), attempts=1, tolerance=Decimal("0.00000001"), stopped=None, closed={}, shares={},
)  # fmt: skip
LONG = timedelta(minutes=5)
TERMS = Terms(window=None, grace=timedelta(seconds=30), limits=Limits(LONG, LONG, LONG), evidence=1, identity_budget=1)


async def judged(corpus: Corpus, database: Database) -> tuple[int, list[str], int]:
    """How many links would be made rightly, those that would be wrong, and how many orders had a place to go to."""
    target = Target("trading", Secret(database.reader_dsn))
    watched = Watched(target, None, corpus.mapping, (), TERMS, timedelta(seconds=60))
    plan = await make_plan(watched, ALL)
    made = [change for change in plan.changes if change.made and change.fix == "link_order"]
    wrong = [
        f"{change} belongs to {corpus.lost.get(corpus.number(change.id))}"
        for change in made
        if change.target is None or corpus.lost.get(corpus.number(change.id)) != corpus.number(change.target)
    ]
    there = {position.id for position in corpus.positions}
    return len(made) - len(wrong), wrong, sum(truth in there for truth in corpus.lost.values())


async def grown(
    database: Database, *, accounts: bool, situations: int, seed: int = 20261127, faults: int = 1
) -> Corpus:
    """A corpus, and its rows in the database."""
    if accounts:
        await database.execute(TABLES)
    corpus = Corpus(seed, accounts, faults)
    corpus.grow(situations)
    await corpus.fill(database)
    return corpus


@pytest.mark.parametrize("accounts", [False, True])
async def test_no_link_is_wrong(database, accounts):
    corpus = await grown(database, accounts=accounts, situations=3000)
    right, wrong, possible = await judged(corpus, database)
    assert wrong == []
    assert right > possible / 10, "nothing was put to the test"


GUARDS = {
    "where else it may have filled": "WHEN w.other_position IS NOT NULL\n                 THEN",
    "which other order may belong there": "WHEN w.rival IS NOT NULL THEN",
    "the way of the position": "WHEN w.crosses THEN",
}


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
@pytest.mark.parametrize("accounts", [False, True])
async def test_without_a_guard_links_are_wrong(database, monkeypatch, accounts, guard):
    """The corpus has what each guard is there for, at the latest where two more things are wrong."""
    corpus = await grown(database, accounts=accounts, situations=6000, faults=2)
    _, with_it, _ = await judged(corpus, database)
    whole = sql.read("fixes/link_order.sql")
    assert whole.count(guard) == 1
    without = whole.replace(guard, "WHEN false THEN")
    read = sql.read
    monkeypatch.setattr(sql, "read", lambda name: without if name == "fixes/link_order.sql" else read(name))
    _, without_it, _ = await judged(corpus, database)
    assert len(without_it) > len(with_it)
