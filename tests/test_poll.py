"""One poll as the server sees it: one snapshot, its deadlines set first, nothing left behind."""

from __future__ import annotations

import asyncio
import re
import signal
from datetime import timedelta

import asyncpg
import psutil
import pytest

from asking import Asked, watched
from parts.waiting import until
from po_exporter.database import session
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.watch.monitor import Monitor
from sidecar import populate, settings

SECOND = timedelta(seconds=1)


@pytest.fixture
async def monitor(database):
    await populate(database)
    made = Monitor(watched(database.reader_dsn, GAL_FRIDAY))
    yield made
    await made.close()


def statements(log: str, database: str) -> list[str]:
    """What the sessions of the reader in a database ran, each statement on one line."""
    lines: list[str] = []
    ours = False
    for line in log.splitlines():
        if line.startswith("20"):
            ours = f"<po_reader@{database}>" in line
            said = re.search(r"LOG:  (?:statement|execute [^:]*): (.*)", line)
            if ours and said:
                lines.append(said[1])
            else:
                ours = False
        elif ours and line.startswith("\t"):
            lines[-1] += " " + line.strip()
    return lines


@pytest.mark.database
async def test_deadlines_come_first_then_locks_then_the_snapshot(monitor, database):
    server = database.server
    server.psql("ALTER SYSTEM SET log_line_prefix = '%m <%u@%d> '")
    server.psql(f"ALTER DATABASE {database.name} SET log_statement = 'all'")
    server.psql("SELECT pg_reload_conf()")
    log = server.directory / "log"
    try:
        await until(lambda: server.psql("SHOW log_line_prefix") == "%m <%u@%d>", what="the prefix to change")
        start = log.stat().st_size
        assert (await monitor.poll()).up
        await monitor.close()
        with log.open() as file:
            file.seek(start)
            ran = statements(file.read(), database.name)
    finally:
        server.psql("ALTER SYSTEM RESET log_line_prefix")
        server.psql("SELECT pg_reload_conf()")
    begin, lock, *rest = ran
    first, *settings_and_savepoint = begin.split("; ")
    assert first == "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    # PostgreSQL takes no snapshot for these; it would for a SELECT set_config(...).
    *set_here, savepoint = settings_and_savepoint
    assert all(re.fullmatch(r"SET LOCAL \w+ = '?[\w-]+'?", each) for each in set_here)
    assert savepoint.startswith("SAVEPOINT ")
    names = {each.split()[2] for each in set_here}
    deadlines = {"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
    assert deadlines | {"client_connection_check_interval"} <= names
    assert lock == 'LOCK TABLE "orders", "positions" IN ACCESS SHARE MODE'
    assert "clock_timestamp()" in rest[0], "as_of comes from the query that takes the snapshot"
    assert rest[-1] == "COMMIT"
    assert not any(
        each.startswith(("BEGIN", "SET SESSION", "SET search_path", "PREPARE", "DEALLOCATE")) for each in rest
    )
    assert sum("AS result (name, count" in each for each in rest) == 1, "one statement asks all checks"


async def test_nothing_of_a_poll_is_left_in_the_session(monitor, database):
    assert (await monitor.poll()).up
    connection = await monitor._poller.session.connect()
    assert await connection.fetchval("SHOW statement_timeout") == "0"
    assert await connection.fetchval("SHOW transaction_read_only") == "off"
    assert await connection.fetchval("SELECT count(*) FROM pg_prepared_statements") == 0
    state = "SELECT state FROM pg_stat_activity WHERE usename = 'po_reader' AND datname = current_database()"
    await until(lambda: is_equal(database.fetchval(state), "idle"), what="the session to be idle between polls")
    assert await database.fetchval("SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass") == 0


async def is_equal(asked, wanted) -> bool:
    return await asked == wanted


@pytest.mark.database
async def test_an_error_in_one_row_costs_one_check_of_the_same_snapshot(monitor, database):
    await database.execute("ALTER TABLE orders ALTER COLUMN quantity TYPE text")
    await database.execute("UPDATE orders SET quantity = 'abc' WHERE position_id IS NULL")
    for _ in range(2):
        asked = Asked(await monitor.poll())
        assert asked.errors.keys() == {"overfilled_order"}
        assert "abc" in asked.errors["overfilled_order"]
        assert asked.count("unlinked_filled_order") == 1
        assert {check.as_of for check in asked.status.result.checks if check.ok} == {asked.status.result.as_of}


@pytest.mark.database
async def test_no_poll_is_torn(database):
    """A writer moves quantity between two positions and links and unlinks a third order, without a pause; each in one
    transaction. No check by itself, and no two of them together, may see the middle of one."""
    await database.execute("""
        INSERT INTO positions (id, trading_pair, side, quantity)
        VALUES ('00000000-0000-0000-0000-0000000000a1', 'BTC/USD', 'LONG', 100),
               ('00000000-0000-0000-0000-0000000000a2', 'BTC/USD', 'LONG', 100);
        INSERT INTO orders (position_id, trading_pair, side, quantity, status, filled_quantity, exchange_order_id)
        SELECT id, 'BTC/USD', 'BUY', 100, 'FILLED', 100, id::text FROM positions;
        INSERT INTO orders (trading_pair, side, quantity, status, filled_quantity, exchange_order_id, created_at)
        VALUES ('BTC/USD', 'BUY', 0, 'CANCELLED', 1e-8, 'dust', now() AT TIME ZONE 'UTC' - interval '1h')""")
    rules = watched(database.reader_dsn, GAL_FRIDAY)
    # Apart they must agree as well as together.
    apart = Monitor(rules)
    apart._poller.one_by_one = True
    polled = [Monitor(rules), apart]
    polls = 0
    stop = asyncio.Event()

    async def move() -> int:
        connection = await asyncpg.connect(database.dsn)
        moves = 0
        while not stop.is_set():
            async with connection.transaction():
                for statement in (
                    f"UPDATE orders SET filled_quantity = 200 - filled_quantity + {moves % 7} WHERE quantity > 0",
                    f"UPDATE positions SET quantity = 200 - quantity + {moves % 7}",
                    "UPDATE orders SET quantity = filled_quantity WHERE quantity > 0",
                    "UPDATE orders o SET position_id = p.id FROM positions p"
                    " WHERE p.id <> o.position_id AND o.quantity > 0",
                    "UPDATE orders SET position_id = CASE WHEN position_id IS NULL THEN"
                    " '00000000-0000-0000-0000-0000000000a1'::uuid END WHERE quantity = 0",
                ):
                    await connection.execute(statement)
            moves += 1
        await connection.close()
        return moves

    writer = asyncio.create_task(move())
    try:
        while polls < 40:
            for monitor in polled:
                monitor._poller.one_by_one = monitor is apart
                asked = Asked(await monitor.poll())
                assert asked.errors == {}
                assert asked.counts.keys() <= {"duplicate_active_position", "unlinked_filled_order", "overfilled_order"}
                assert asked.link_rate.eligible == 3
                assert asked.link_rate.links + asked.count("unlinked_filled_order") == 3
                polls += 1
    finally:
        stop.set()
        moves = await writer
        for monitor in polled:
            await monitor.close()
    assert moves > polls, "the writer was at work during every poll"


SLOW_VIEW = """
ALTER TABLE orders RENAME TO real_orders;
CREATE VIEW orders AS SELECT o.* FROM real_orders o, (SELECT pg_sleep(120)) AS slowly;
GRANT SELECT ON orders TO po_reader;
"""
OURS = "FROM pg_stat_activity WHERE usename = 'po_reader' AND datname = current_database()"
RUNNING = f"SELECT count(*) {OURS} AND state = 'active'"
NONE_RUNNING = f"SELECT count(*) = 0 {OURS} AND state = 'active'"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_poll_under_way_and_its_query(number, database, exporter):
    await populate(database)
    await database.execute(SLOW_VIEW)
    running = await exporter(config=settings(database.reader_dsn, poll_timeout="60s", statement_timeout="60s"))
    await until(lambda: database.fetchval(RUNNING), what="the poll to be under way")
    running.signal(number)
    assert await running.stop() == 0
    await until(lambda: database.fetchval(NONE_RUNNING), what="the query to be cancelled on the server, not left there")
    assert "Traceback" not in running.log


@pytest.mark.database
async def test_not_even_a_process_that_is_killed_leaves_its_query_behind(database, exporter):
    await populate(database)
    await database.execute(SLOW_VIEW)
    running = await exporter(config=settings(database.reader_dsn, poll_timeout="60s", statement_timeout="60s"))
    sleeps = f"SELECT count(*) {OURS} AND wait_event = 'PgSleep'"
    await until(lambda: database.fetchval(sleeps), what="the poll to be under way")
    running.signal(signal.SIGKILL)
    await until(lambda: database.fetchval(NONE_RUNNING), what="the server to notice")


async def test_a_server_that_cannot_look_for_us_is_polled_all_the_same(monitor, monkeypatch):
    """One on Windows refuses that setting; here it is given a value that every server refuses."""
    plain = session._milliseconds
    monkeypatch.setattr(session, "_milliseconds", lambda span: -1 if span == session.CLIENT_CHECK else plain(span))
    for _ in range(2):
        assert (await monitor.poll()).up


async def test_a_check_that_is_interrupted_cancels_its_query(database, po_exporter):
    await populate(database)
    await database.execute(SLOW_VIEW)
    for number in (signal.SIGTERM, signal.SIGINT):
        task = asyncio.create_task(po_exporter.run("check", env={"PO_EXPORTER_DSN": database.reader_dsn}))
        await until(lambda: database.fetchval(RUNNING), what="the check to be under way")
        await _signal_owner_of_port(await database.fetchval(f"SELECT client_port {OURS}"), number)
        finished = await task
        assert finished.status not in (0, 1), finished
        assert finished.stdout == ""
        assert "Traceback" not in finished.stderr
        await until(lambda: database.fetchval(NONE_RUNNING), what="the query to be cancelled")


async def _signal_owner_of_port(port: int, number: signal.Signals) -> None:
    (owner,) = {each.pid for each in psutil.net_connections("tcp") if each.laddr[1:] == (port,) and each.pid}
    psutil.Process(owner).send_signal(number)


@pytest.mark.database
async def test_sums_for_which_there_is_no_memory_are_sorted(database):
    await populate(database)
    await database.execute(
        "INSERT INTO positions (id, trading_pair, side, quantity, opened_at) SELECT gen_random_uuid(), 'SOL/USD',"
        " 'LONG', 0, now() AT TIME ZONE 'UTC' - interval '2 days' FROM generate_series(1, 1000); ANALYZE positions"
    )
    found = {}
    for memory in ("64MB", "64kB"):
        await database.execute(f"ALTER DATABASE {database.name} SET work_mem = '{memory}'")
        monitor = Monitor(watched(database.reader_dsn, GAL_FRIDAY))
        asked = Asked(await monitor.poll())
        found[memory] = asked.counts, asked.finding("quantity_mismatch").details
        await monitor.close()
        looking = session.Session(monitor.watched.target)
        async with looking.snapshot(monitor.watched.terms.limits, GAL_FRIDAY) as snapshot:
            ((hashes,),) = await snapshot.fetch("SELECT current_setting('enable_hashagg')")
        await looking.close()
        assert hashes == ("on" if memory == "64MB" else "off")
    assert found["64MB"] == found["64kB"]
    assert found["64kB"][0]["quantity_mismatch"] == 1
