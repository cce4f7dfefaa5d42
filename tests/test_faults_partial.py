"""What breaks a part of a poll: exactly the checks that need the broken part are unknown, and the others go on."""

from __future__ import annotations

import os
import signal
from urllib.parse import urlsplit

import asyncpg
import pytest

from parts.waiting import until
from sidecar import COUNTED, DOMAIN, FOUND, Sidecar, populate, settings

NEED_POSITIONS = {
    "link_rate", "orphaned_position_reference", "trading_pair_mismatch", "fill_outside_position", "quantity_mismatch",
    "position_without_orders", "closed_position_not_flat", "duplicate_active_position",
}  # fmt: skip
NEED_FILL_TIME = {"link_rate", "unlinked_filled_order", "aged_unlinked_order"}

BROKEN = {
    "no right to positions": (
        "REVOKE SELECT ON positions FROM {role}",
        "GRANT SELECT ON positions TO {role}",
        NEED_POSITIONS,
    ),
    "rights to some columns": (
        "REVOKE SELECT ON orders FROM {role}; GRANT SELECT (id, position_id, trading_pair, exchange, side, quantity,"
        " status, filled_quantity, created_at, updated_at) ON orders TO {role}",
        "GRANT SELECT ON orders TO {role}",
        {"duplicate_exchange_order"},
    ),
    "a column dropped": (
        "ALTER TABLE orders DROP COLUMN quantity",
        "ALTER TABLE orders ADD COLUMN quantity numeric(20, 8)",
        {"overfilled_order"},
    ),
    "a column renamed": (
        "ALTER TABLE positions RENAME COLUMN closed_at TO ended_at",
        "ALTER TABLE positions RENAME COLUMN ended_at TO closed_at",
        {"fill_outside_position"},
    ),
    "the fill time dropped": (
        "ALTER TABLE orders DROP COLUMN updated_at",
        "ALTER TABLE orders ADD COLUMN updated_at timestamp",
        NEED_FILL_TIME,
    ),
    "a column of another kind": (
        "ALTER TABLE orders ALTER COLUMN quantity TYPE boolean USING quantity > 0",
        "ALTER TABLE orders ALTER COLUMN quantity TYPE numeric USING 2.5",
        {"overfilled_order"},
    ),
    "a value that is no number": (
        "ALTER TABLE orders ALTER COLUMN quantity TYPE text;"
        "UPDATE orders SET quantity = 'abc' WHERE position_id IS NULL",
        "UPDATE orders SET quantity = '2.5' WHERE position_id IS NULL",
        {"overfilled_order"},
    ),
    "a table renamed": (
        "ALTER TABLE positions RENAME TO holdings",
        "ALTER TABLE holdings RENAME TO positions",
        NEED_POSITIONS,
    ),
}  # fmt: skip


ON_EVERY_SERVER = {"no right to positions", "a value that is no number", "a table renamed"}


@pytest.mark.parametrize(
    "broken", [pytest.param(each, marks=pytest.mark.database if each in ON_EVERY_SERVER else ()) for each in BROKEN]
)
async def test_only_what_needs_the_broken_part_is_unknown(broken, database, exporter):
    await populate(database)
    breaking, mending, needing = BROKEN[broken]
    dsn = database.create_role("SELECT ON orders, positions")
    role = urlsplit(dsn).username
    sidecar = Sidecar(await exporter(config=settings(dsn)))
    await sidecar.until_settled()
    before = await sidecar.metrics()
    await database.execute(breaking.format(role=role))
    await sidecar.until_failing(*needing)
    await sidecar.polls(2)
    assert await sidecar.failing() == needing, "nothing flaps"
    now = await sidecar.metrics()
    assert now.value("position_order_up", database="trading") == 1
    gone = {dict(labels).get("issue_type", name) for name, labels in before.keys() - now.keys()}
    assert {each.lower() for each in gone if each.isupper()} == needing - {"link_rate"}
    assert ("position_order_link_rate" in gone) == ("link_rate" in needing)
    failures = sidecar.said("check_failed")
    assert {line["check"] for line in failures} == needing
    assert len(failures) == len({(line["check"], line["error"]) for line in failures}), "once, not once a poll"
    assert sidecar.said("database_lost") == []
    await database.execute(mending.format(role=role))
    await sidecar.until_failing()
    assert (await sidecar.metrics()).keys() >= before.keys()
    assert {issue: count for issue, count in (await sidecar.open_issues()).items() if count} == FOUND
    assert await sidecar.issues_total() == COUNTED
    assert {line["check"] for line in sidecar.said("check_back")} == needing


@pytest.mark.database
async def test_a_time_that_becomes_one_with_a_zone_is_read_rightly_at_once(database, exporter):
    await populate(database)
    await database.execute(f"ALTER DATABASE {database.name} SET timezone = 'Pacific/Auckland'")
    await database.close()
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn, window="90m")))
    await sidecar.until_value(1, "unlinked_filled_orders")
    oldest = await sidecar.value("oldest_unlinked_order_timestamp_seconds")
    await database.execute(
        "ALTER TABLE orders ALTER COLUMN created_at TYPE timestamptz USING created_at AT TIME ZONE 'UTC'"
    )
    await sidecar.polls(2)
    assert await sidecar.value("unlinked_filled_orders") == 1
    assert await sidecar.value("oldest_unlinked_order_timestamp_seconds") == oldest
    assert sidecar.said("check_failed") == []


async def test_a_lock_that_is_held_for_a_moment_does_no_harm(database, exporter):
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn, lock_timeout="20s", poll_timeout="30s")))
    await sidecar.until_up(1)
    other = await asyncpg.connect(database.dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

    async def waits() -> bool:
        return await database.fetchval(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass"
        )

    await until(waits, what="the poll to wait for the lock")
    await transaction.rollback()
    await other.close()
    await sidecar.polls(2)
    assert await sidecar.value("up") == 1
    assert sidecar.said("database_lost", "check_failed") == []


async def test_a_truncate_is_never_seen_half_done(database, exporter):
    """The snapshot is taken behind the lock: an older one would see an empty table where rows were put back."""
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn, lock_timeout="20s", poll_timeout="30s")))
    await sidecar.until_settled()
    for _ in range(10):
        async with (await database.connection()).transaction():
            await database.execute("CREATE TEMP TABLE kept ON COMMIT DROP AS TABLE orders")
            await database.execute("TRUNCATE orders")
            await database.execute("SELECT pg_sleep(0.1)")
            await database.execute("INSERT INTO orders TABLE kept")
        assert await sidecar.value("eligible_orders") == 3
        await sidecar.polls(0)
    assert {issue: count for issue, count in (await sidecar.open_issues()).items() if count} == FOUND
    assert await sidecar.issues_total() == COUNTED


async def test_an_ended_session_leaves_no_gap(database, exporter):
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn)))
    await sidecar.until_up(1)
    for _ in range(5):
        await until(
            lambda: database.fetchval(
                "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE usename = 'po_reader' AND datname = current_database() AND state = 'idle'"
            ),
            what="an idle session to end",
        )
        await sidecar.polls(0)
        assert await sidecar.value("up") == 1
    assert sidecar.said("database_lost") == []


SLOW = """
ALTER TABLE orders RENAME TO real_orders;
CREATE FUNCTION slow(numeric) RETURNS numeric STABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep((SELECT seconds FROM slowness)); RETURN $1; END $$;
CREATE TABLE slowness AS SELECT 60::float8 AS seconds;
CREATE VIEW orders AS SELECT id, position_id, trading_pair, exchange, side, order_type, slow(quantity) AS quantity,
  limit_price, status, exchange_order_id, filled_quantity, average_fill_price, commission, created_at, updated_at
FROM real_orders;
GRANT SELECT ON orders, slowness TO po_reader;
"""


async def test_one_slow_check_is_unknown_and_takes_no_other_with_it(database, exporter):
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn, statement_timeout="1s", poll_timeout="10s")))
    await sidecar.until_up(1)
    await database.execute(SLOW)
    await sidecar.until_up(0)
    assert (await sidecar.metrics()).names() & DOMAIN == set(), "the poll that timed out has no answers"
    await sidecar.until_failing("overfilled_order")
    for _ in range(4):
        await sidecar.polls(0)
        assert await sidecar.failing() == {"overfilled_order"}, "it is asked apart: nothing flaps"
        assert await sidecar.value("up") == 1
    assert await sidecar.value("exporter_check_failures_total", check="link_rate", reason="statement_timeout") == 1
    assert len(sidecar.said("database_lost")) == 0
    assert len([line for line in sidecar.said("check_failed") if line["check"] == "overfilled_order"]) == 1
    await database.execute("UPDATE slowness SET seconds = 0")
    await sidecar.until_failing()
    assert await sidecar.value("exporter_check_failures_total", check="link_rate", reason="statement_timeout") == 1


async def test_a_check_that_is_slow_enough_to_matter_stays_apart(database, exporter):
    """It answers now, but together with the others it would not, time and again."""
    await populate(database)
    config = settings(database.reader_dsn, statement_timeout="1s", poll_timeout="20s")
    sidecar = Sidecar(await exporter(config=config))
    await sidecar.until_up(1)
    await database.execute(SLOW)
    await sidecar.until_failing("overfilled_order")
    await database.execute("UPDATE slowness SET seconds = 0.25")  # for each of three rows
    await sidecar.until_failing()
    for _ in range(5):
        await sidecar.polls(0)
        assert await sidecar.failing() == set()
    assert await sidecar.value("exporter_check_failures_total", check="link_rate", reason="statement_timeout") == 1


async def test_a_query_that_hangs_is_left_behind_and_ended(database, exporter):
    await populate(database)
    sidecar = Sidecar(await exporter(config=settings(database.reader_dsn)))
    await sidecar.until_up(1)
    sessions = (
        "SELECT array_agg(pid) FROM pg_stat_activity WHERE usename = 'po_reader' AND datname = current_database()"
        " AND application_name <> 'po-exporter leader'"
    )
    (stopped,) = await database.fetchval(sessions)
    os.kill(stopped, signal.SIGSTOP)
    try:
        await sidecar.until_up(0)
        assert (await sidecar.metrics()).names() & DOMAIN == set()
        await sidecar.until_up(1)
        await sidecar.polls(2)
        assert len(sidecar.said("database_lost")) == 1
        assert len(await database.fetchval(sessions)) == 2, "the one that hangs, and a new one"
    finally:
        os.kill(stopped, signal.SIGCONT)

    async def is_gone() -> bool:
        return stopped not in await database.fetchval(sessions)

    await until(is_gone, what="the session that hung to end")
    assert await sidecar.value("up") == 1
