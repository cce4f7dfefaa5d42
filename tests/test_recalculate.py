"""What a position's orders come to, and a position that is made so."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from po_exporter.errors import Refused
from po_exporter.repair.recalculate import add_up
from test_fixes import A1, A2, FIRST, GONE, LOST, TWINS, Desk, desk, roles  # noqa: F401  # the fixtures

D = Decimal


def fills(*each: tuple[str, str]) -> list[tuple[str, Decimal, Decimal | None]]:
    return [(f"order {place}", D(quantity), D(price)) for place, (quantity, price) in enumerate(each)]


def test_what_is_opened_is_averaged_and_what_is_closed_is_realized_at_that():
    total = add_up(fills(("2", "100"), ("1", "130"), ("-1", "140"), ("1", "140")))
    assert (total.quantity, total.entry, total.realized) == (D(3), D(120), D(30))
    short = add_up(fills(("-2", "100"), ("2", "90")))
    assert (short.quantity, short.entry, short.realized) == (D(0), D(100), D(20))


def test_without_a_price_the_quantity_alone_is_known():
    total = add_up([("a", D(2), D(100)), ("b", D(1), None)])
    assert (total.quantity, total.entry, total.realized) == (D(3), None, None)


@pytest.mark.parametrize(
    ("each", "why"),
    [
        (fills(("2", "100"), ("-3", "100")), "order 1 crosses zero"),
        (fills(("NaN", "100")), "order 0 has an unreadable side or quantity"),
    ],
)
def test_what_its_orders_do_not_say_is_not_calculated(each, why):
    with pytest.raises(Refused, match=why):
        add_up(each)


prices = st.decimals(1, 10**6, places=8)
sizes = st.decimals(D("0.00000001"), 10**6, places=8)


@given(st.lists(st.tuples(sizes, prices, st.booleans()), max_size=30))
def test_money_is_neither_made_nor_lost(steps):
    """What was paid, less what was received, is what the rest has cost, less what was realized."""
    held, made = D(0), []
    for place, (size, price, closes) in enumerate(steps):
        quantity = -min(size, held) if closes else size
        if quantity:
            held += quantity
            made.append((str(place), quantity, price))
    total = add_up(made)
    paid = sum((quantity * price for _, quantity, price in made), D(0))
    assert total.quantity == held
    cost = held * (total.entry or 0)
    assert abs(paid - (cost - (total.realized or 0))) < D("1e-6")


BOOKED = f"""
UPDATE orders SET average_fill_price = CASE WHEN id = '{FIRST}' THEN 100 ELSE 130 END;
UPDATE orders SET position_id = '{A1}' WHERE id = '{LOST}';
INSERT INTO orders (position_id, trading_pair, side, status, filled_quantity, average_fill_price, created_at)
VALUES ('{A1}', 'BTC/USD', 'SELL', 'CANCELLED', 1, 140, now() AT TIME ZONE 'UTC' - interval '10min');
UPDATE positions SET quantity = 9 WHERE id = '{A1}';
"""


@pytest.mark.database
def test_a_position_becomes_what_its_orders_come_to_and_what_it_was(desk):  # noqa: F811
    desk.do(BOOKED)
    before = desk.rows()
    made = desk.made("recalculate", A1)[A1]
    assert made["record"]
    assert made["after"] == {"quantity": "2.50000000", "entry_price": "108.57142857", "realized_pnl": "31.42857143"}
    assert desk.made("recalculate", A1)[A1] == {
        "fix": "recalculate_position", "id": A1, "before": {}, "after": {}, "record": None, "refusal": None,
    }  # fmt: skip
    desk.made("undo", str(made["record"]))
    assert desk.rows() == before
    asked = desk("fix", "recalculate", A1)
    assert asked.status == 2
    assert "quantity: 9.00000000 -> 2.50000000" in asked.stdout


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (f"UPDATE orders SET status = 'PARTIALLY_FILLED' WHERE id = '{FIRST}'", "it may still fill"),
        (f"UPDATE orders SET side = NULL WHERE id = '{FIRST}'", "has an unreadable side or quantity"),
        (f"UPDATE orders SET filled_quantity = 9 WHERE position_id = '{A1}' AND side = 'SELL'", "crosses zero"),
    ],
)
def test_what_may_not_be_calculated_is_refused_with_the_order(desk, first, why):  # noqa: F811
    desk.do(f"{BOOKED}; {first}")
    before = desk.rows()
    assert why in desk.made("recalculate", A1, status=1)[A1]["refusal"]
    assert desk.rows() == before


def test_a_change_above_the_cap_is_refused(desk):  # noqa: F811
    desk.do(BOOKED)
    desk.fix |= {"max_quantity": 6}
    refused = desk.made("recalculate", A1, status=1)[A1]["refusal"]
    assert refused == "its quantity would change by 6.50000000, more than fix.max_quantity (6)"


def test_a_position_that_is_not_there_is_said(desk):  # noqa: F811
    refused = desk("fix", "recalculate", GONE, "--yes")
    assert (refused.status, refused.stderr) == (2, f"po-exporter: positions of trading has no position {GONE}.\n")
    assert desk("fix", "recalculate", "x", "--yes").status == 2
    assert desk.made("recalculate", A2)[A2]["after"] == {"quantity": "0.00000000"} | {"realized_pnl": "0.00000000"}, (
        "no order of it is linked"
    )
    assert desk.link(TWINS[0]) == "none"
