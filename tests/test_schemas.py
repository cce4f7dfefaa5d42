"""One story, told in very different tables: whatever they are called and typed, the same rows are wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from asking import ask
from rows import Rules, move_clock, uid
from shapes import (
    BY_POSITION,
    NOWHERE,
    RATE,
    SHAPES,
    WRONG,
    findings,
    let_read,
    schema,
    tell,
)

pytestmark = pytest.mark.database


@pytest.fixture
async def told(empty_database):
    """The story in plain tables, in a database whose clock stands at NOW."""
    await tell(empty_database)
    return empty_database


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_same_rows_are_wrong_whatever_the_tables_look_like(told, shape):
    wanted = SHAPES[shape]
    await told.execute(f"SET search_path = public; {wanted.make}")
    await let_read(told)
    for name, value in wanted.settings.items():
        await told.execute(f"ALTER DATABASE {told.name} SET {name} = '{value}'")
    asked = await ask(told.reader_dsn, wanted.schema)
    wrong = WRONG | wanted.wrong
    assert findings(asked) == {
        name: {(wanted.position_key if name in BY_POSITION else wanted.order_key)(key) for key in keys}
        for name, keys in wrong.items()
        if keys is not None
    }
    assert set(asked.off) == {name for name, keys in wrong.items() if keys is None}
    assert asked.link_rate == RATE
    link = asked.finding("orphaned_position_reference").details["position_id"]
    assert str(link).lower() == wanted.position_key(NOWHERE).lower()


async def test_a_text_that_names_a_uuid_is_compared_and_written_in_lower_case(told):
    """Links of type uuid to a text key in capitals: they agree, and a finding has the one spelling that both share."""
    await told.execute(
        """
        CREATE TABLE desk.positions AS SELECT * FROM public.positions;
        ALTER TABLE desk.positions ALTER id TYPE text USING 'ABCDEF' || substr(upper(id::text), 7);
        CREATE TABLE desk.orders AS SELECT * FROM public.orders;
        ALTER TABLE desk.orders ALTER position_id TYPE uuid USING ('ABCDEF' || substr(position_id::text, 7))::uuid;
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "desk.positions"))
    assert asked.link_rate == RATE
    assert asked.ids("quantity_mismatch") == ["abcdef" + uid(2)[6:]]


NEW_YORK = "America/New_York"
# A moment, and what the clock on the wall of New York showed 24 hours before.
CHANGES = {
    "clocks went forward in the window": (datetime(2026, 3, 8, 12, tzinfo=UTC), "2026-03-07 07:00:00"),
    "clocks went back in the window": (datetime(2026, 11, 1, 17, tzinfo=UTC), "2026-10-31 13:00:00"),
    "clocks went forward within the last hour": (datetime(2026, 3, 8, 7, 30, tzinfo=UTC), "2026-03-07 02:30:00"),
    "clocks went back within the last hour": (datetime(2026, 11, 1, 6, 30, tzinfo=UTC), "2026-10-31 02:30:00"),
    "no change in sight": (datetime(2026, 7, 1, 12, tzinfo=UTC), "2026-06-30 08:00:00"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", ["orders", "positions"])
async def test_a_day_is_24_hours_even_when_clocks_change(told, change, table):
    """The window's edge in local time, to the microsecond."""
    as_of, edge = CHANGES[change]
    await move_clock(told, as_of)
    await told.execute(
        f"""
        CREATE TABLE desk.orders AS SELECT * FROM public.orders LIMIT 0;
        ALTER TABLE desk.orders ALTER created_at TYPE timestamp, ALTER filled_at TYPE timestamp;
        INSERT INTO desk.orders (id, side, status, filled_quantity, created_at)
          VALUES ('{uid(1)}', 'BUY', 'FILLED', 1, '{edge}'),
                 ('{uid(2)}', 'BUY', 'FILLED', 1, timestamp '{edge}' - interval '1 microsecond');
        CREATE TABLE desk.positions AS SELECT * FROM public.positions LIMIT 0;
        ALTER TABLE desk.positions ALTER opened_at TYPE timestamp;
        INSERT INTO desk.positions (id, quantity, opened_at)
          VALUES ('{uid(1)}', 0, '{edge}'), ('{uid(2)}', 0, timestamp '{edge}' - interval '1 microsecond');
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "desk.positions", {"updated_at": None}, timezone=NEW_YORK))
    if table == "orders":
        assert (asked.ids("unlinked_filled_order"), asked.ids("aged_unlinked_order")) == ([uid(1)], [uid(2)])
    else:
        assert asked.ids("position_without_orders") == [uid(1)]


async def test_a_date_is_the_midnight_of_its_time_zone(told):
    """The window begins on 26 January at 02:00 UTC: that day began before it in London, and after it in New York."""
    await told.execute(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders WHERE key(id) = 10;
        ALTER TABLE desk.orders ALTER created_at TYPE date USING '2026-01-26';
        """
    )
    await let_read(told)
    for zone, check in {"Europe/London": "aged_unlinked_order", NEW_YORK: "unlinked_filled_order"}.items():
        asked = await ask(told.reader_dsn, schema("desk.orders", "positions", timezone=zone))
        assert asked.ids(check) == [uid(10)]
        assert asked.good("aged_unlinked_order").count + asked.good("unlinked_filled_order").count == 1


DIGITS = {
    "numeric": ("numeric", "12345678901234567890.123456789012345678"),
    "numeric with a scale": ("numeric(20, 8)", "0.10000000"),
    "double precision, a tenth": ("double precision", "0.1"),
    "double precision, 17 digits": ("double precision", "123456789.12345679"),
    "double precision, tiny": ("double precision", "0.00000000123456789012345"),
    "real": ("real", "0.1"),
    "real, 8 digits": ("real", "16777.217"),
    "integer": ("integer", "2147483647"),
    "bigint": ("bigint", "9223372036854775807"),
    "text": ("text", "0.123456789012345678901"),
}


@pytest.mark.parametrize("kind", DIGITS)
async def test_a_number_keeps_every_digit(told, kind):
    sql_type, digits = DIGITS[kind]
    await told.execute(
        f"""
        CREATE TABLE desk.orders AS SELECT * FROM public.orders WHERE key(id) = 15;
        ALTER TABLE desk.orders ALTER filled_quantity TYPE {sql_type} USING '{digits}'::{sql_type},
          ALTER quantity TYPE numeric USING 0;
        """
    )
    await let_read(told)
    shown = []
    for float_digits in ("1", "0", "-15"):
        await told.execute(f"ALTER DATABASE {told.name} SET extra_float_digits = '{float_digits}'")
        asked = await ask(told.reader_dsn, schema("desk.orders", "positions"), Rules(tolerance=Rules().tolerance / 100))
        shown += [finding.details["found"] for finding in asked.good("overfilled_order").findings]
    assert shown == [digits] * 3, "whatever extra_float_digits the server sets"


async def test_sums_of_floats_are_sums_of_decimals(told):
    """0.1 and 0.2 are 0.3, not 0.30000000000000004; in text they are what they say."""
    await told.execute(
        """
        CREATE TABLE desk.orders AS SELECT * FROM public.orders WHERE key(id) IN (17, 18);
        ALTER TABLE desk.orders ALTER filled_quantity TYPE double precision
          USING CASE key(id) WHEN 17 THEN 0.1 ELSE 0.2 END;
        CREATE TABLE desk.positions AS SELECT * FROM public.positions WHERE key(id) = 10;
        ALTER TABLE desk.positions ALTER quantity TYPE text USING '0.3';
        """
    )
    await let_read(told)
    asked = await ask(told.reader_dsn, schema("desk.orders", "desk.positions"), Rules(tolerance=Rules().tolerance * 0))
    assert asked.count("quantity_mismatch") == 0


async def test_status_words_beyond_ascii_are_compared_without_case(told):
    """The server may have been made with a locale (C) that knows no capitals beyond ASCII."""
    await told.execute(
        "CREATE TABLE desk.orders AS SELECT * FROM public.orders;"
        "UPDATE desk.orders SET status = CASE status WHEN 'FILLED' THEN 'AUSGEFÜHRT' ELSE status END;"
    )
    await let_read(told)
    german = schema("desk.orders", "positions")
    words = ("Ausgeführt", "CANCELLED")
    german = replace(german, orders=replace(german.orders, filled_statuses=words, complete_statuses=words[:1]))
    assert findings(await ask(told.reader_dsn, german)) == {name: set(map(uid, keys)) for name, keys in WRONG.items()}
