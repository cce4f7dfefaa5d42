"""The tests rest on these parts, so the parts are tested, too: servers, poolers, standbys and broken wires."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest

from parts.database import fresh_database
from parts.waiting import until

pytestmark = pytest.mark.database


async def rows(dsn: str) -> int:
    """How many orders a new connection sees; it works through a pooler, and gives up after a second."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=1)
    try:
        return await connection.fetchval("SELECT count(*) FROM orders", timeout=1)
    finally:
        connection.terminate()


async def test_the_server_is_of_the_version_that_was_asked_for(server, pg_version):
    assert server.psql("SHOW server_version").split(".")[0] == str(pg_version)
    assert server.psql("SHOW wal_level") == "logical"
    assert server.psql("SELECT count(*) > 0 FROM pg_stat_statements") == "t"


async def test_every_database_starts_empty_and_the_reader_can_only_read(database):
    assert await rows(database.reader_dsn) == 0
    await database.execute("INSERT INTO orders (side, filled_quantity) VALUES ($1, 1)", "BUY")
    assert await rows(database.reader_dsn) == 1
    reader = await asyncpg.connect(database.reader_dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("DELETE FROM orders")
    await reader.close()


async def test_another_test_leaves_no_rows_behind(database):
    assert await rows(database.reader_dsn) == 0


async def test_an_empty_database_has_no_tables(empty_database):
    found = await empty_database.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    assert found == 0


async def test_a_role_has_the_grants_that_it_was_given(database):
    dsn = database.create_role("SELECT ON orders")
    assert await rows(dsn) == 0
    connection = await asyncpg.connect(dsn)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("SELECT FROM positions")
    await connection.close()


async def test_a_wrong_password_is_refused(database):
    with pytest.raises(asyncpg.InvalidPasswordError):
        await rows(database.server.dsn(database.name, "po_reader", "wrong"))


async def test_a_server_can_go_down_and_come_back(database):
    assert await database.fetchval("SELECT 1") == 1
    database.server.stop("immediate")
    with pytest.raises(OSError, match="Connect call failed"):
        await rows(database.dsn)
    database.server.start()
    assert await rows(database.dsn) == 0
    assert await database.fetchval("SELECT 1") == 1, "the test's own connection is opened again"


async def test_a_server_that_was_left_stopped_runs_for_the_next_database(server):
    server.stop()
    async with fresh_database(server) as database:
        assert await rows(database.reader_dsn) == 0


async def test_the_pooler_gives_a_session_to_each_transaction(database, pooler):
    assert await rows(pooler.reader_dsn) == 0
    connections = [await asyncpg.connect(pooler.reader_dsn, statement_cache_size=0) for _ in range(3)]
    backends = {await connection.fetchval("SELECT pg_backend_pid()") for connection in connections}
    assert len(backends) == 1, "three clients that take turns share one backend"
    for connection in connections:
        await connection.close()


async def test_the_standby_follows_until_it_is_promoted(database, standby):
    await database.execute("INSERT INTO orders (side) VALUES ('BUY')")

    async def has_arrived():
        return await standby.fetchval("SELECT count(*) FROM orders") == 1

    await until(has_arrived, what="the row to reach the standby")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await standby.execute("DELETE FROM orders")
    standby.server.promote()
    await standby.execute("DELETE FROM orders")
    assert await rows(standby.reader_dsn) == 0
    assert await rows(database.reader_dsn) == 1


async def test_a_black_hole_answers_nothing_until_it_is_healed(proxy):
    assert await rows(proxy.reader_dsn) == 0
    connection = await asyncpg.connect(proxy.reader_dsn)
    proxy.black_hole()
    with pytest.raises(TimeoutError):
        await rows(proxy.reader_dsn)
    query = asyncio.ensure_future(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait([query], timeout=0.3)
    assert not done
    proxy.heal()
    assert await query == 7, "what was held back arrives"
    assert await rows(proxy.reader_dsn) == 0
    await connection.close()


async def test_a_reset_breaks_connections_and_serves_new_ones(proxy):
    connection = await asyncpg.connect(proxy.reader_dsn)
    query = asyncio.ensure_future(connection.fetchval("SELECT pg_sleep(60)"))
    await until(lambda: proxy.connections == 1)
    proxy.reset()
    with pytest.raises((asyncpg.ConnectionDoesNotExistError, ConnectionResetError)):
        await query
    assert await rows(proxy.reader_dsn) == 0


async def test_latency_delays_every_answer(proxy):
    connection = await asyncpg.connect(proxy.reader_dsn)
    proxy.latency(0.2)
    start = time.monotonic()
    assert await connection.fetchval("SELECT 7") == 7
    assert time.monotonic() - start >= 0.4, "there and back"
    proxy.heal()
    await connection.close()


async def test_a_database_goes_with_whatever_a_test_has_left_in_it(server):
    async with fresh_database(server) as database:
        for end in ("SELECT 1", "PREPARE TRANSACTION 'left'"):
            connection = await asyncpg.connect(database.dsn)
            await connection.execute(f"BEGIN; DELETE FROM orders; {end}")
    assert server.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{database.name}'") == "0"
    assert server.psql("SELECT count(*) FROM pg_prepared_xacts") == "0"
