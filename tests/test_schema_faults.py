"""A schema that the database does not bear out: what is lost is named, and costs just the checks that need it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from asking import Asked, ask
from po_exporter.mapping import Column
from rows import uid
from shapes import (
    COLUMNS,
    ORDERS,
    RATE,
    WRONG,
    findings,
    let_read,
    schema,
    sql,
    tell,
)

pytestmark = pytest.mark.database


@pytest.fixture
async def told(empty_database):
    """The story in plain tables, in a database whose clock stands at NOW."""
    await tell(empty_database)
    return empty_database


WITHOUT_ORDERS = {"closed_position_not_flat", "duplicate_active_position"}
"""What positions alone can answer."""

# What each mapped column carries: without it these have no answer, and all others have theirs.
LINKS = {"link_rate", "unlinked_filled_order", "aged_unlinked_order"}
LOST: dict[str, set[str]] = {
    "orders.side": {"unreadable_fill", "quantity_mismatch"},
    "orders.quantity": {"overfilled_order"},
    "orders.exchange": {"duplicate_exchange_order"},
    "orders.exchange_order_id": {"duplicate_exchange_order"},
    "orders.trading_pair": {"trading_pair_mismatch"},
    "orders.account": {"trading_pair_mismatch"},
    "orders.filled_at": {*LINKS, "fill_outside_position"},
    "orders.updated_at": set(),  # filled_at says when it filled
    "positions.trading_pair": {"trading_pair_mismatch", "duplicate_active_position"},
    "positions.account": {"trading_pair_mismatch", "duplicate_active_position"},
    "positions.opened_at": {"fill_outside_position", "position_without_orders", "duplicate_active_position"},
    "positions.closed_at": {"fill_outside_position"},  # is_active says whether it is closed
    "positions.is_active": {"closed_position_not_flat", "duplicate_active_position"},
    "positions.side": set(),  # signed
    "positions.quantity": {"quantity_mismatch", "closed_position_not_flat"},
}


def unchanged(asked: Asked, lost: set[str]) -> bool:
    """Whether all other checks answered as they do in the story."""
    assert {name: set(asked.ids(name)) for name in asked.names if name not in lost} == {
        name: set(map(uid, keys)) for name, keys in WRONG.items() if name not in lost
    }
    return "link_rate" in lost or asked.link_rate == RATE


async def test_a_missing_column_takes_down_just_the_checks_that_need_it(told):
    for column, lost in LOST.items():
        table, name = column.split(".")
        await told.execute(f"ALTER TABLE public.{table} RENAME {name} TO gone")
        asked = await ask(told.reader_dsn, schema("orders", "positions"))
        assert set(asked.errors) == lost, column
        assert unchanged(asked, lost), column
        for error in asked.errors.values():
            assert error.startswith(f"there is no column {name} in {table};")
            assert f"schemas.desk.{table}.columns.{name}" in error
        await told.execute(f"ALTER TABLE public.{table} RENAME gone TO {name}")


async def test_a_column_that_may_not_be_read_takes_down_just_the_checks_that_need_it(told):
    for column, lost in LOST.items():
        table, name = column.split(".")
        other = "positions" if table == "orders" else "orders"
        allowed = ", ".join(each for each in COLUMNS[table] if each != name)
        dsn = told.create_role(f"SELECT ({allowed}) ON public.{table}", f"SELECT ON public.{other}")
        asked = await ask(dsn, schema("orders", "positions"))
        assert set(asked.errors) == lost, column
        assert unchanged(asked, lost), column
        for error in asked.errors.values():
            assert f"the role may not read {name} of {table}" in error
            assert f'GRANT SELECT ON "{table}"' in error


async def test_a_column_that_carries_nearly_everything(told):
    """What is left when the link is lost: what needs no link."""
    await told.execute("ALTER TABLE public.orders RENAME position_id TO gone")
    asked = await ask(told.reader_dsn, schema("orders", "positions"))
    alive = {"unreadable_fill", "fill_without_filled_status", "overfilled_order", "duplicate_exchange_order"}
    assert alive <= set(asked.names) - set(asked.errors)
    assert {name: set(asked.ids(name)) for name in alive} == {name: set(map(uid, WRONG[name])) for name in alive}
    assert {"link_rate", "orphaned_position_reference", "quantity_mismatch"} <= set(asked.errors)


@pytest.mark.parametrize("table", ["orders", "positions"])
async def test_a_table_that_may_not_be_read(told, table):
    other = "positions" if table == "orders" else "orders"
    dsn = told.create_role(f"SELECT ON public.{other}")
    asked = await ask(dsn, schema("public.orders", "public.positions"))
    own = {"unlinked_filled_order", "aged_unlinked_order", "unreadable_fill", "fill_without_filled_status",
           "overfilled_order", "duplicate_exchange_order"}  # fmt: skip
    alive = WITHOUT_ORDERS if table == "orders" else own
    assert {*asked.names, "link_rate"} - set(asked.errors) == alive
    assert {name: set(asked.ids(name)) for name in alive} == {name: set(map(uid, WRONG[name])) for name in alive}
    for error in asked.errors.values():
        assert f"of public.{table}; GRANT SELECT ON" in error


async def test_a_schema_that_may_not_be_looked_into(told):
    await told.execute(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders; GRANT SELECT ON desk.orders TO po_reader"
    )
    asked = await ask(told.reader_dsn, schema("desk.orders", "positions"))
    assert {*asked.names, "link_rate"} - set(asked.errors) == WITHOUT_ORDERS
    assert all("desk.orders" in error and "GRANT USAGE ON SCHEMA" in error for error in asked.errors.values())


async def test_a_table_that_is_not_there(told):
    asked = await ask(told.reader_dsn, schema("oms.orders", "positions"))
    assert {*asked.names, "link_rate"} - set(asked.errors) == WITHOUT_ORDERS
    for error in asked.errors.values():
        assert error.startswith("there is no table oms.orders;")
        assert "schemas.desk.orders.table" in error


BROKEN: dict[str, tuple[str, str | Column, set[str], Iterable[str]]] = {
    "names a column that is not there": (
        "orders.quantity", sql("qty * 2"), {"overfilled_order"}, ['column "qty" does not exist'],
    ),
    "is no SQL": ("orders.quantity", sql("quantity +"), {"overfilled_order"}, ["syntax error"]),
    "has a comment that never ends": ("orders.quantity", sql("quantity /* o"), {"overfilled_order"}, ["unterminated"]),
    "tries to be two columns": ("orders.quantity", sql("quantity, filled_quantity"), {"overfilled_order"}, []),
    "breaks out of its parentheses": (
        "orders.quantity", sql("quantity), (filled_quantity"), {"overfilled_order"}, ["syntax error"],
    ),
    "is a second statement": ("orders.quantity", sql("1); DROP TABLE orders; SELECT (1"), {"overfilled_order"}, []),
    "may not read its table": (
        "orders.filled_at", sql("(SELECT max(now()) FROM desk.fills)"), {*LINKS, "fill_outside_position"},
        ["permission denied"],
    ),
    "is two words where one is meant": ("orders.exchange", sql("exchange, account"), {"duplicate_exchange_order"}, []),
    "is a list of rows": ("orders.exchange", sql("unnest(ARRAY[exchange, account])"), {"duplicate_exchange_order"}, []),
    "is an aggregate": ("orders.exchange", sql("max(exchange)"), {"duplicate_exchange_order"}, []),
    "is a time where a number is meant": (
        "orders.quantity", sql("created_at"), {"overfilled_order"}, ["a number", "timestamp"],
    ),
    "is text where a time is meant": (
        "orders.filled_at", sql("created_at::text"), {*LINKS, "fill_outside_position"}, ["a time", "text"],
    ),
    "is a column of another kind": ("orders.quantity", "created_at", {"overfilled_order"}, ["a number", "timestamp"]),
    "is no truth": ("positions.is_active", "side", LOST["positions.is_active"], ["true or false", "text"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
async def test_a_column_that_cannot_be_used_is_named_and_the_others_go_on(told, fault):
    column, mapped, lost, words = BROKEN[fault]
    table, name = column.split(".")
    await told.execute("CREATE TABLE desk.fills (no bigint); GRANT USAGE ON SCHEMA desk TO po_reader")
    changed = {name: mapped}
    broken = schema("orders", "positions", *((changed, None) if table == "orders" else (None, changed)))
    asked = await ask(told.reader_dsn, broken)
    assert set(asked.errors) == lost
    assert unchanged(asked, lost)
    assert len(set(asked.errors.values())) == 1, "one message"
    for error in asked.errors.values():
        assert table in error
        assert f"schemas.desk.{table}.columns.{name}" in error
        assert all(word in error for word in words)
    assert await told.fetchval("SELECT count(*) FROM public.orders") == len(ORDERS)


async def test_values_that_are_no_numbers_take_down_just_what_reads_them(told):
    await told.execute(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER quantity TYPE text;
        UPDATE desk.orders SET quantity = 'a lot' WHERE key(id) = 15;
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "positions"))
    assert set(asked.errors) == {"overfilled_order"}
    assert "a lot" in asked.errors["overfilled_order"]
    assert unchanged(asked, {"overfilled_order"})


async def test_a_loss_that_comes_between_two_polls_and_goes_again(told):
    """What a DBA does in the middle of the day: the next poll says it, and the one after takes it back."""
    plain = schema("orders", "positions")
    assert not (await ask(told.reader_dsn, plain)).errors
    await told.execute("ALTER TABLE public.orders RENAME exchange_order_id TO venue_id")
    assert set((await ask(told.reader_dsn, plain)).errors) == {"duplicate_exchange_order"}
    await told.execute("ALTER TABLE public.orders RENAME venue_id TO exchange_order_id")
    assert findings(await ask(told.reader_dsn, plain)) == {name: set(map(uid, keys)) for name, keys in WRONG.items()}
