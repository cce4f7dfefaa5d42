"""The change feed, rule by rule: each of its rules was paid for, and has a test here."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feed_stories as stories
from feeding import Following, Stalled, close_all, lost_standby, prepare, slots
from parts.database import Database
from parts.waiting import until
from po_exporter.database.catalog import quote, quote_table
from po_exporter.errors import LockTimeout, Unreachable
from po_exporter.model import LinkRate
from po_exporter.watch import feed
from po_exporter.watch.answer import Answer
from po_exporter.watch.feed import Feed, Visible
from po_exporter.watch.incremental import Incremental
from po_exporter.watch.pgoutput import decode
from po_exporter.watch.poll import Outcome
from shapes import SHAPES, Shape, let_read, schema, sql, tell
from sidecar import populate

pytestmark = pytest.mark.database

STORIES = {
    "a commit between snapshot and feed": stories.a_commit_between_snapshot_and_feed,
    "a commit between feed and recompute": stories.a_commit_between_feed_and_recompute,
    "a commit that stalls": stories.a_commit_that_stalls,
    "asynchronous commits": stories.asynchronous_commits,
    "an order that moves": stories.an_order_that_moves,
    "a generated column": stories.a_generated_column,
    "a TRUNCATE during a poll": stories.a_truncate_during_a_poll,
    "a commit while the slot is made": stories.a_commit_while_the_slot_is_made,
    "a commit that stalls while the slot is made": stories.a_commit_that_stalls_while_the_slot_is_made,
}


@pytest.fixture
async def database(database):
    """The same, with whoever follows it gone first."""
    yield database
    await close_all()


@pytest.fixture
async def empty_database(empty_database):
    """The same, with whoever follows it gone first."""
    yield empty_database
    await close_all()


@pytest.mark.parametrize("story", STORIES)
async def test_each_answer_is_that_of_a_full_check(database, story):
    following = await STORIES[story](database)
    assert following.incremental.wrong == []
    assert following.incremental.compared > 1
    assert len(await slots(database)) == 1
    await following.close()
    assert await slots(database) == []


async def test_a_transaction_waits_until_a_snapshot_sees_it(database):
    """And is seen then, although the stream tells of it but once."""
    following = await stories.begun(database)
    async with lost_standby(database):
        stalled = await Stalled.begin(database, stories.LINK)
        assert await stalled.commit()
        before = [following.counts(await following.poll()) for _ in range(2)]
        assert len(following.incremental.feed.pending) == 1
        await stalled.let_go()
        after = following.counts(await following.poll())
    assert [each["unlinked_filled_order"] for each in before] == [1, 1]
    assert "unlinked_filled_order" not in after
    assert following.incremental.feed.pending == []
    await following.close()


async def test_nothing_waits_where_nobody_writes(database):
    """Our own barriers are transactions, too, and servers before 15 tell of those that changed nothing."""
    following = await stories.begun(database)
    for _ in range(3):
        await following.poll()
    assert (following.incremental.feed.pending, following.incremental.carried) == ([], 0)


async def test_a_lost_standby_keeps_no_feed_waiting(database):
    """Its barrier is a commit of its own, which waits for the disk here and for nobody elsewhere."""
    following = await stories.begun(database)
    async with lost_standby(database):
        assert [(await following.poll()).mode for _ in range(3)] == ["incremental"] * 3
        await following.close()
        await following.follow()  # nor does the making of another
    await following.close()


async def test_a_session_that_is_gone_is_not_opened_again_to_ask_for_the_slot(database, monkeypatch):
    """A new session would wait for the lost standby, and every poll with it."""
    monkeypatch.setattr(feed, "READ_TIMEOUT", timedelta(seconds=1))
    following = await stories.begun(database)
    async with lost_standby(database):
        await database.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM ({stories.FEED}) AS feed")
        await until(following.incremental.feed._connection.is_closed, what="the end to be noticed")
        assert (await following.poll()).mode == "scan"
    assert following.incremental.why.startswith("the feed's session was ended")
    await following.close()


# What it is done to, and why the feed is refused then. {orders} is the table.
REFUSED = {
    "no publication": ("DROP PUBLICATION po_exporter", "there is no publication po_exporter"),
    "a publication without one of the tables": (
        "ALTER PUBLICATION po_exporter DROP TABLE positions",
        "positions is not in the publication",
    ),
    "a publication without one of the operations": (
        "ALTER PUBLICATION po_exporter SET (publish = 'insert, update, delete')",
        "leaves out operations",
    ),
    "identity DEFAULT": ("ALTER TABLE orders REPLICA IDENTITY DEFAULT", "orders has no REPLICA IDENTITY FULL"),
    "identity NOTHING": ("ALTER TABLE positions REPLICA IDENTITY NOTHING", "positions has no REPLICA IDENTITY FULL"),
    "no index on the link": ("DROP INDEX orders_position_id", "no index leads on orders.position_id"),
    "an index on some of the links": (
        "DROP INDEX orders_position_id;"
        "CREATE INDEX ON orders (position_id) WHERE position_id IS NOT NULL AND status = 'FILLED'",
        "no index leads on orders.position_id",
    ),
    "created_at that is no timestamp": (
        "ALTER TABLE orders ALTER created_at DROP DEFAULT, ALTER created_at TYPE date",
        "orders.created_at is no timestamp",
    ),
    "a table that others inherit from": ("CREATE TABLE more () INHERITS (orders)", "is no ordinary table of its own"),
    "a table in partitions": (
        "ALTER TABLE orders RENAME TO whole; CREATE TABLE orders (LIKE whole) PARTITION BY HASH (id);"
        "CREATE TABLE leaf PARTITION OF orders FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "CREATE INDEX ON orders (id); CREATE INDEX ON orders (position_id); CREATE INDEX ON orders (created_at);"
        "ALTER TABLE orders REPLICA IDENTITY FULL; ALTER PUBLICATION po_exporter ADD TABLE orders;"
        "GRANT SELECT ON orders TO PUBLIC",
        "is no ordinary table of its own",
    ),
    "a table whose changes are not logged": (
        "DROP PUBLICATION po_exporter; ALTER TABLE orders SET UNLOGGED; CREATE PUBLICATION po_exporter FOR ALL TABLES",
        "orders is not in the publication",
    ),
}
SINCE_15 = {
    "a column list": (
        "ALTER PUBLICATION po_exporter SET TABLE orders (id, position_id), positions",
        "has a column list or a row filter for orders",
    ),
    "a row filter": (
        "ALTER PUBLICATION po_exporter SET TABLE orders, positions WHERE (is_active)",
        "has a column list or a row filter for positions",
    ),
    "a publication that names nothing but a schema": (
        "DROP PUBLICATION po_exporter; CREATE PUBLICATION po_exporter FOR TABLES IN SCHEMA public",
        "orders is not in the publication",
    ),
}


@pytest.mark.parametrize("what", REFUSED | SINCE_15)
async def test_what_the_feed_cannot_work_with_is_refused_before_there_is_a_slot(database, monkeypatch, what):
    """And the numbers are those of a scan."""
    if what in SINCE_15 and database.server.version < 15:
        pytest.skip("PostgreSQL 15 was the first to have it")
    monkeypatch.setattr(Feed, "_settle", too_late)
    statements, why = (REFUSED | SINCE_15)[what]
    await populate(database)
    following = Following(database.reader_dsn, await prepare(database))
    await database.execute(statements)
    await until(partial(refused, following), what="a refusal")
    assert why in following.incremental.why
    assert (await following.poll()).mode == "scan"
    await following.close()


async def test_a_publication_of_all_tables_will_do(database):
    await database.execute("CREATE PUBLICATION po_exporter FOR ALL TABLES")
    monkey = Following(database.reader_dsn, await prepare(database, publish=False))
    await monkey.follow()
    await monkey.close()


async def test_a_pooler_is_refused_before_there_is_a_slot_and_its_session_left_as_it_was(database, pooler):
    """What was set on a session that a pooler lends to others would be set for these."""
    await populate(database)
    await prepare(database)
    following = Following(database.reader_dsn, pooler.dsn)
    connection = await asyncpg.connect(pooler.dsn, statement_cache_size=0)
    settings = "SELECT name, setting FROM pg_settings ORDER BY name"
    before = await connection.fetch(settings)
    await until(partial(refused, following), what="a refusal")
    assert "past the pooler" in following.incremental.why
    assert await slots(database) == []
    ours = {"application_name"}  # the pooler itself looks after this one
    changed = [now["name"] for then, now in zip(before, await connection.fetch(settings), strict=True) if then != now]
    assert set(changed) <= ours
    await connection.close()
    await following.close()


async def test_an_error_of_any_kind_ends_the_feed_and_a_baseline_follows(database, monkeypatch):
    following = await stories.begun(database)
    await database.execute(stories.LINK)
    with monkeypatch.context() as only_now:
        only_now.setattr(feed, "READ_TIMEOUT", timedelta())
        assert (await following.poll()).mode == "scan"
    assert await slots(database) == []
    await database.execute(stories.MOVE)
    counts = following.counts(await following.follow())
    assert (counts.get("unlinked_filled_order"), counts["orphaned_position_reference"]) == (None, 1)
    await told_exactly(database, following)


async def test_a_huge_transaction_is_not_read_to_its_end(database, monkeypatch):
    """It costs more than a full check; the slot goes, and a baseline follows."""
    following = await stories.begun(database)
    read = []
    monkeypatch.setattr(feed, "decode", lambda data: (read.append(None), decode(data))[1])
    await database.execute(
        "INSERT INTO orders (position_id, trading_pair, side, status, filled_quantity)"
        f" SELECT CASE WHEN filled THEN uuid '{stories.A1}' END, 'BTC/USD', 'BUY', CASE WHEN filled THEN 'FILLED' END,"
        " filled::integer"
        " FROM generate_series(1, 300000) AS n, LATERAL (SELECT n % 30000 = 0 AS filled) AS every"
    )
    assert rate(await following.poll()) == LinkRate(eligible=13, links=11)
    assert following.incremental.feed is None
    assert len(read) < feed.MOST_KEYS + 5 * feed.ROWS_A_FETCH
    assert await slots(database) == []
    assert rate(await following.follow()) == LinkRate(eligible=13, links=11)
    assert following.incremental.wrong == []


# What is there before; and what sends no message, and yet makes what is held wrong or the feed blind. Where it blinds
# it, a change comes in between.
SILENT = {
    "a table rewritten by VACUUM FULL": ("", "VACUUM FULL orders"),
    "a table rewritten to other values": (
        "",
        "ALTER TABLE orders ALTER filled_quantity TYPE numeric USING filled_quantity * 2",
    ),
    "a publication that leaves something out": (
        "",
        "ALTER PUBLICATION po_exporter SET (publish = 'insert')",
        stories.LINK,
        "ALTER PUBLICATION po_exporter SET (publish = 'insert, update, delete, truncate')",
    ),
    "a table that leaves the publication and comes back": (
        "",
        "ALTER PUBLICATION po_exporter DROP TABLE orders",
        stories.LINK,
        "ALTER PUBLICATION po_exporter ADD TABLE orders",
    ),
    "another publication of the same name": (
        "",
        "DROP PUBLICATION po_exporter",
        stories.LINK,
        "CREATE PUBLICATION po_exporter FOR TABLE orders, positions",
    ),
    "an identity that goes and comes back": (
        "",
        "ALTER TABLE orders REPLICA IDENTITY DEFAULT",
        stories.MOVE,
        "ALTER TABLE orders REPLICA IDENTITY FULL",
    ),
    "tables that change places": (
        "CREATE TABLE other (LIKE orders INCLUDING ALL); ALTER TABLE other REPLICA IDENTITY FULL;"
        "GRANT SELECT ON other TO PUBLIC; ALTER PUBLICATION po_exporter ADD TABLE other",
        "ALTER TABLE orders RENAME TO old; ALTER TABLE other RENAME TO orders",
    ),
    "columns that change places": (
        "ALTER TABLE orders ADD other uuid; CREATE INDEX ON orders (other)",
        "ALTER TABLE orders RENAME position_id TO was; ALTER TABLE orders RENAME other TO position_id",
    ),
    "a child": ("", "CREATE TABLE more () INHERITS (orders); INSERT INTO more SELECT * FROM orders", "DROP TABLE more"),
    "TRUNCATE": ("", "TRUNCATE orders"),
}


@pytest.mark.parametrize("what", SILENT)
async def test_what_sends_no_message_is_noticed_all_the_same(database, what):
    before, *statements = SILENT[what]
    following = await stories.begun(database, before=before)
    for statement in statements:
        await database.execute(statement)
    assert (await following.poll()).mode == "scan"
    await following.follow()
    await told_exactly(database, following)


@pytest.mark.parametrize("what", ["unlinked_filled_order", "link_rate"])
async def test_a_column_that_cannot_be_read_for_a_while_is_read_anew(database, what):
    """Others answer meanwhile; this one needs a baseline when it is back."""
    if database.server.version < 16:
        pytest.skip("who may read some of the columns may not lock the table there, and is not followed")
    following = await stories.begun(database)
    following.watched = replace(
        following.watched,
        questions=tuple(q for q in following.watched.questions if q.name in (what, "orphaned_position_reference")),
    )
    columns = "id, position_id, trading_pair, exchange, side, quantity, status, exchange_order_id, filled_quantity,"
    columns += " average_fill_price, commission, created_at, updated_at"
    await database.execute("REVOKE SELECT ON orders FROM po_reader; GRANT UPDATE ON orders TO po_reader")
    await database.execute(f"GRANT SELECT ({columns}) ON orders TO po_reader")
    await following.follow()
    for change in ("REVOKE SELECT (status) ON orders FROM po_reader", "GRANT SELECT (status) ON orders TO po_reader"):
        await stories.told(database, following, change, stories.LINK, stories.UNLINK)
    await following.follow()
    await told_exactly(database, following)


async def test_a_poll_that_waits_for_a_lock_in_vain_keeps_what_it_has_not_read(database):
    following = await stories.begun(database)
    holder = await asyncpg.connect(database.dsn)
    await holder.execute(f"BEGIN; {stories.LINK}; LOCK TABLE positions")
    with pytest.raises(LockTimeout):
        await following.poll()
    await holder.execute("COMMIT")
    outcome = await following.poll()
    assert outcome.mode == "incremental"
    assert "unlinked_filled_order" not in following.counts(outcome)
    await holder.close()
    await told_exactly(database, following)


async def test_a_poll_that_dies_keeps_what_it_has_read(database):
    """The stream tells of it but once."""
    following = await stories.begun(database, stories.Interrupted)
    kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'po-exporter'"
    following.incremental.feed_read = partial(database.execute, kill)
    await database.execute(stories.LINK)
    with pytest.raises(Unreachable):
        await following.poll()
    assert following.incremental.feed
    outcome = await following.poll()
    assert outcome.mode == "incremental"
    assert "unlinked_filled_order" not in following.counts(outcome)
    await told_exactly(database, following)


async def test_a_feed_that_nobody_has_asked_yet_is_closed_with_the_rest(database):
    following = Following(database.reader_dsn, await prepare(database))
    await following.poll()
    await until(partial(slots, database), what="the slot")
    await until(following.incremental._starting.done, what="the feed to stand")
    await following.close()
    assert await slots(database) == []


def rate(outcome: Outcome) -> LinkRate | None:
    answer = outcome.answers["link_rate"]
    return answer.link_rate if isinstance(answer, Answer) else None


async def refused(following: Following) -> bool:
    """Whether a try has ended: by then ``why`` is another than at first."""
    following.incremental._retry_at = 0.0
    await following.poll()
    return following.incremental.why not in (None, Incremental.why)


async def too_late(*_: object) -> None:
    raise AssertionError("there is a slot already")


async def told_exactly(database: Database, following: Following) -> None:
    """The feed stands, and everything that was said from it was exact; as is what it says of a few changes more."""
    await stories.told(
        database,
        following,
        stories.UNLINK,
        stories.LINK,
        stories.MOVE,
        f"DELETE FROM positions WHERE id = '{stories.A2}'",
    )
    assert (await following.poll()).mode == "incremental"
    assert following.incremental.wrong == []
    assert len(await slots(database)) == 1
    await following.close()
    assert await slots(database) == []


@given(st.data())
def test_32_bits_are_widened_to_the_nearest_transaction(data):
    """The stream has 32 bits of a transaction id, a snapshot 64; no two that matter are 2**31 apart."""
    xmax = data.draw(st.one_of(st.integers(2**32 - 50, 2**32 + 50), st.integers(2**33 - 9, 2**33 + 9), near_2_31))
    xid = data.draw(st.integers(max(3, xmax - 2**31 + 1), xmax + 2**31 - 1).filter(lambda each: each % 2**32 > 2))
    running = data.draw(st.frozensets(st.integers(max(3, xmax - 20), xmax)))
    running |= data.draw(st.sampled_from([frozenset(), frozenset({xid})]))
    visible = Visible.parse(f"{min(running, default=xmax)}:{xmax}:{','.join(map(str, running))}")
    assert visible.sees(xid % 2**32) == (xid < xmax and xid not in running)


near_2_31 = st.integers(2**31 - 20, 2**31 + 20)


# Key types and names beside those of the other shapes, and expressions that may and may not be followed.
MORE_SHAPES = {
    "keys of fixed width": Shape(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER id TYPE character(14) USING 'O-' || key(id),
          ALTER position_id TYPE character(20) USING 'P-' || key(position_id);
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER id TYPE character(12) USING 'P-' || key(id);
        """,
        schema("desk.orders", "desk.positions"),
        lambda key: f"O-{key}",
        lambda key: f"P-{key}",
    ),
    "decimal keys": Shape(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER id TYPE numeric USING key(id),
          ALTER position_id TYPE numeric USING key(position_id);
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER id TYPE numeric(20, 0) USING key(id);
        UPDATE desk.orders SET created_at = '2026-01-27 01:00+00', filled_at = '2026-01-27 01:00+00';
        """,
        schema("desk.orders", "desk.positions"),
        str,
        str,
    ),
    "keys that are empty": Shape(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER id TYPE text USING CASE key(id) WHEN 4 THEN '' ELSE key(id)::text END,
          ALTER position_id TYPE text USING CASE key(position_id) WHEN 4 THEN '' ELSE key(position_id)::text END;
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER id TYPE text USING CASE key(id) WHEN 4 THEN '' ELSE key(id)::text END;
        """,
        schema("desk.orders", "desk.positions"),
        lambda key: "" if key == 4 else str(key),
        lambda key: "" if key == 4 else str(key),
    ),
    "expressions over the row": Shape(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders;"
        "CREATE TABLE desk.positions AS SELECT *, split_part(trading_pair, '/', 1) AS base FROM public.positions;",
        schema(
            "desk.orders", "desk.positions", {"status": sql("upper(status)")}, {"trading_pair": sql("base || '/USD'")}
        ),
    ),
}
FOLLOWED = MORE_SHAPES | {
    name: SHAPES[name]
    for name in (
        "uuid keys, numeric, times with zone",
        "bigint and integer keys, times without zone, double precision, enums",
        "quoted names with capitals, spaces and quotes; text keys",
        "a text link, in capitals, to a uuid",
        "a uuid link to a text key",
        "a text link to a number",
        "padded columns of fixed width, numbers that say true, numbers in text",
        "domains",
        "times of New York without zone",
        "a server that lives elsewhere, writes dates otherwise and shortens floats",
        "by side",
        "closed keeps its last size, its orders are flat",
        "only what is required",
    )
}


@pytest.mark.parametrize("name", FOLLOWED)
async def test_changes_are_followed_whatever_the_tables_look_like(empty_database, name):
    shape, database = FOLLOWED[name], empty_database
    following = await told_in(database, shape)
    await following.follow()
    orders, positions = (quote_table(side.table) for side in (shape.schema.orders, shape.schema.positions))
    of_orders, of_positions = (
        {name: quote(column.text) for name, column in side.columns.items() if not column.is_sql}
        for side in (shape.schema.orders, shape.schema.positions)
    )
    order, position = f"{of_orders['id']} =", f"{of_positions['id']} ="
    key, link, created = (f"{of_orders[column]}" for column in ("id", "position_id", "created_at"))
    for statement in [
        f"UPDATE {orders} SET {link} = NULL WHERE {order} '{shape.order_key(4)}'",
        f"UPDATE {orders} SET {link} = '{shape.position_key(4)}' WHERE {order} '{shape.order_key(1)}'",
        f"UPDATE {orders} SET {created} = {created} - interval '30 minutes' WHERE {order} '{shape.order_key(2)}'",
        f"UPDATE {orders} SET {created} = {created} - interval '30 days'",
        f"UPDATE {orders} SET {created} = NULL WHERE {order} '{shape.order_key(4)}'",
        f"UPDATE {orders} SET {created} = {created} + interval '30 days'",
        f"DELETE FROM {positions} WHERE {position} '{shape.position_key(4)}'",
        f"DELETE FROM {orders} WHERE {order} '{shape.order_key(12)}'",
        f"UPDATE {orders} SET {key} = {key} WHERE {key} IS NOT NULL",
        f"CREATE TABLE kept AS SELECT * FROM {positions}",
        f"DELETE FROM {positions}",
        f"INSERT INTO {positions} SELECT * FROM kept",
        f"UPDATE {orders} SET {link} = '{shape.position_key(5)}'",
        f"UPDATE {positions} SET {of_positions['quantity']} = '1'",
        f"DELETE FROM {orders}",
    ]:
        await database.execute(statement)
        assert (await following.poll()).mode == "incremental", following.incremental.why
    assert following.incremental.wrong == []
    await following.close()


UNFOLLOWED = {
    "views": (SHAPES["views"], "desk.orders is no ordinary table of its own"),
    "partitions": (SHAPES["partitions"], "desk.positions is no ordinary table of its own"),
    "SQL expressions": (SHAPES["SQL expressions"], "orders.position_id is mapped to an expression"),
    "an expression over another table": (
        Shape(
            "CREATE TABLE desk.fills AS SELECT id, filled_at FROM public.orders;",
            schema(
                "orders",
                "positions",
                {"filled_at": sql("(SELECT f.filled_at FROM desk.fills f WHERE f.id = orders.id)")},
            ),
        ),
        "orders.filled_at is mapped to an expression that looks at more than its own row",
    ),
    "an expression over the clock": (
        Shape("", schema("orders", "positions", None, {"is_active": sql("closed_at IS NULL OR closed_at > now()")})),
        "positions.is_active is mapped to an expression that looks at more than its own row",
    ),
}


@pytest.mark.parametrize("name", UNFOLLOWED)
async def test_tables_that_cannot_be_followed_are_scanned(empty_database, name):
    shape, why = UNFOLLOWED[name]
    following = await told_in(empty_database, shape, publish="expression over" in name or "clock" in name)
    await until(partial(refused, following), what="a refusal")
    assert why in following.incremental.why
    await following.close()


async def told_in(database: Database, shape: Shape, *, publish: bool = True) -> Following:
    """The story of the shapes, in that shape, and one who is about to follow it."""
    await tell(database)
    await database.execute(f"SET search_path = public; {shape.make}")
    await let_read(database)
    for setting, value in shape.settings.items():
        await database.execute(f"ALTER DATABASE {database.name} SET {setting} = '{value}'")
    if not publish:
        return Following(database.reader_dsn, database.dsn, shape.schema)
    return Following(database.reader_dsn, await prepare(database, shape.schema, indexes=True), shape.schema)
