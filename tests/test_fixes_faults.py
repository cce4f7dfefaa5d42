"""What happens while fixes are made: nothing is lost, nothing is half done, nobody waits for us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest
import yaml

from installing import role_of, without_roles
from parts.database import Database
from parts.postgres import Server
from po_exporter.database.session import Target
from po_exporter.errors import Stopped, Unreachable
from po_exporter.install.installer import install
from po_exporter.install.wanted import FIXER, Wanted
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.repair import apply as repair
from po_exporter.repair.apply import Made
from po_exporter.repair.plan import Change, make_plan
from po_exporter.repair.record import read_log
from po_exporter.secret import Secret
from po_exporter.wiring import fixer, load, rules_for_fixes, watched
from test_fixes import A1, BOOK, GONE, LOST, ORPHAN

pytestmark = pytest.mark.database


class Mending:
    """A database with the book of test_fixes, asked and mended without a command line."""

    def __init__(self, database: Database, config: Any) -> None:
        self.database = database
        self.watched, self.rules = watched(config, "trading"), rules_for_fixes(config, "trading")
        self.target = fixer(config, "trading")

    async def plan(self) -> list[Change]:
        return [change for change in (await make_plan(self.watched, self.rules)).changes if change.made]

    async def apply(self, changes: list[Change]) -> dict[str, Made]:
        _, made = await repair.apply(self.watched, self.target, self.rules, changes, "a test")
        return {each.id: each for each in made}

    async def links(self) -> dict[str, str | None]:
        rows = await self.database.fetch("SELECT id::text, position_id::text FROM orders WHERE id::text = ANY ($1)",
                                         [LOST, ORPHAN])  # fmt: skip
        return {row["id"]: row["position_id"] for row in rows}

    async def recorded(self) -> dict[str, str | None]:
        """By order, the link that the record says it was given."""
        return {entry.entity_id: entry.after["position_id"] for entry in await read_log(self.target)}


@pytest.fixture
def roles(server: Server) -> Iterator[None]:
    """The server's roles are as they were, once the database is gone."""
    with without_roles(server):
        yield


@pytest.fixture
async def mending(roles: None, database: Database, tmp_path) -> AsyncIterator[Mending]:
    dsn = database.create_role()
    outcome = await install(
        Target(database.name, Secret(database.dsn)), Wanted(GAL_FRIDAY, feed=False, members=((role_of(dsn), FIXER),))
    )
    assert outcome.status == "installed", outcome
    await database.execute(BOOK)
    file = tmp_path / "fixes.yaml"
    config = {
        "databases": {"trading": {"dsn": database.reader_dsn, "fix_dsn": dsn, "environment": "test"}},
        "monitor": {"grace": "0s"},
        "fix": {"allow": ["unlink_orphan", "link_order"], "attempts": 1000, "max_per_hour": 10000},
    }
    file.write_text(yaml.safe_dump(config))
    yield Mending(database, load(file, {}))
    await database.execute(f"DROP OWNED BY {role_of(dsn)}; DROP ROLE {role_of(dsn)}")


BEFORE, AFTER = {LOST: None, ORPHAN: GONE}, {LOST: A1, ORPHAN: None}


class Wire:
    """Breaks the writer's connection at one of its statements: before it is sent, or before its answer arrives."""

    def __init__(self, user: str, patch: pytest.MonkeyPatch) -> None:
        self.at, self.late, self.count = 0, False, 0
        for name in ("execute", "fetch", "fetchrow"):
            whole = getattr(asyncpg.Connection, name)
            patch.setattr(asyncpg.Connection, name, self._breaking(whole, user))

    def _breaking(self, whole: Callable[..., Awaitable[Any]], user: str) -> Callable[..., Awaitable[Any]]:
        async def statement(connection: asyncpg.Connection, *args: Any, **more: Any) -> Any:
            if connection._params.user != user:
                return await whole(connection, *args, **more)
            self.count += 1
            mine = self.count == self.at
            if mine and not self.late:
                connection.terminate()
            answer = await whole(connection, *args, **more)
            if mine:
                connection.terminate()
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            return answer

        return statement


async def test_cut_at_every_statement_all_is_done_and_recorded_or_nothing(mending, monkeypatch):
    """As a process that is killed there: to the server, both are a connection that ends."""
    planned = await mending.plan()
    with monkeypatch.context() as patch:
        wire = Wire(role_of(mending.target.dsn.reveal()), patch)
        done = await mending.apply(planned)
        statements = wire.count
    assert all(each.record for each in done.values())
    assert statements > 20
    outcomes = set()
    for late in (False, True):
        for at in range(1, statements + 1):
            await mending.database.execute(
                f"UPDATE orders SET position_id = NULL WHERE id = '{LOST}';"
                f"UPDATE orders SET position_id = '{GONE}' WHERE id = '{ORPHAN}'; "
                "ALTER TABLE po_exporter.record DISABLE TRIGGER USER; DELETE FROM po_exporter.record;"
                "ALTER TABLE po_exporter.record ENABLE ALWAYS TRIGGER keep_record"
            )
            with monkeypatch.context() as patch:
                wire = Wire(role_of(mending.target.dsn.reveal()), patch)
                wire.at, wire.late = at, late
                try:
                    said = bool(await mending.apply(planned))
                except Unreachable:
                    said = False
            links, recorded = await mending.links(), await mending.recorded()
            assert (links, recorded) in ((BEFORE, {}), (AFTER, AFTER)), (at, late)
            assert said == (links == AFTER), "what was said is what is so"
            outcomes.add((late, said))
            if not said:
                assert all(each.record for each in (await mending.apply(planned)).values())
    assert outcomes == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize("table", ["orders", "positions"])
async def test_what_the_trading_api_is_changing_is_left_alone_at_once(mending, table):
    planned = await mending.plan()
    row = {"orders": LOST, "positions": A1}[table]
    connection = await asyncpg.connect(mending.database.dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"SELECT FROM {table} WHERE id = '{row}' FOR UPDATE")
            made = await mending.apply(planned)
    finally:
        await connection.close()
    assert made[LOST].refusal == "somebody is changing it at this moment"
    assert made[ORPHAN].record, "the other one is none of their business"
    assert await mending.links() == {LOST: None, ORPHAN: None}


async def test_a_position_that_is_deleted_between_plan_and_apply(mending):
    planned = await mending.plan()
    await mending.database.execute(f"DELETE FROM positions WHERE id = '{A1}'")
    made = await mending.apply(planned)
    assert made[LOST].refusal == "no position of its pair lacks exactly what it filled"
    assert (await mending.links())[LOST] is None


@pytest.mark.parametrize(
    ("meanwhile", "order", "why"),
    [
        (f"UPDATE orders SET status = 'REJECTED' WHERE id = '{LOST}'", LOST, "the order was changed meanwhile"),
        (f"UPDATE positions SET quantity = 9 WHERE id = '{A1}'", LOST, "the position was changed meanwhile"),
        (
            f"INSERT INTO orders (position_id, trading_pair, side, status, filled_quantity) "
            f"VALUES ('{A1}', 'BTC/USD', 'BUY', 'FILLED', 1)",
            LOST,
            "with it, the position would not be the sum of its orders any more",
        ),
        (f"DELETE FROM orders WHERE id = '{LOST}'", LOST, f"there is no order {LOST} any more"),
        (f"DELETE FROM positions WHERE id = '{A1}'", LOST, f"there is no position {A1} any more"),
        (f"INSERT INTO positions (id) VALUES ('{GONE}')", ORPHAN, f"there is a position {GONE} by now"),
        ("INSERT INTO po_exporter.stop DEFAULT VALUES", None, "has stopped all writing"),
    ],
)
async def test_what_changes_after_the_guards_were_asked_is_seen_all_the_same(
    mending, monkeypatch, meanwhile, order, why
):
    planned = await mending.plan()
    judge = repair.judge

    async def judged(*args: Any) -> Any:
        answer = await judge(*args)
        await mending.database.execute(meanwhile)
        return answer

    monkeypatch.setattr(repair, "judge", judged)
    if order is None:
        with pytest.raises(Stopped, match=why):
            await mending.apply(planned)
        assert await mending.links() == BEFORE
        return
    made = await mending.apply(planned)
    assert made[order].refusal == why
    assert [each.id for each in made.values() if each.record] == [each for each in made if each != order]


async def test_of_two_runs_at_once_one_makes_each_change(mending):
    planned = await mending.plan()
    both = await asyncio.gather(mending.apply(planned), mending.apply(planned))
    for order in (LOST, ORPHAN):
        assert sorted(bool(made[order].record) for made in both) == [False, True]
    assert await mending.links() == AFTER
    assert len(await read_log(mending.target)) == 2
