"""The thirteen checks, asked of a real server whose clock stands, so that a time can be exactly at an edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from asking import Asked, ask, watched
from check_cases import (
    BY_SIDE,
    EDGE_OF_WINDOW,
    GRACE,
    NO_FILL_TIME,
    RULES,
    SAME,
    TABLE,
    UNKNOWN_POSITION,
    WINDOW,
    Case,
    buy,
    held,
    linked,
    one,
    sell,
    twins,
)
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.model import LinkRate, Verdict
from po_exporter.watch.monitor import Monitor
from rows import HOUR, LONG_AGO, NOW, SECOND, TICK, Rules, fill, freeze, mapping, move_clock, order, position, uid

pytestmark = pytest.mark.database


@pytest.fixture
async def frozen(empty_database):
    """Two tables of the widest types in a database whose clock stands at NOW."""
    await freeze(empty_database)
    return empty_database


async def findings(frozen, check: str, cases: list[Case], rules: Rules = RULES) -> dict[str, int]:
    """What the check finds in each case, all of them asked in one population."""
    orders, positions, owner = [], [], {}
    for number, case in enumerate(cases, 1):
        # Cases have nothing to do with each other: each has a pair of its own.
        own = {"trading_pair": f"CASE-{number}"}
        if case.position is not None:
            positions.append(position(number, **own | case.position))
            owner[positions[-1].id] = case.name
        for place, changes in enumerate(case.orders, 1):
            orders.append(order(1000 * number + place, number, **own | changes))
            owner[orders[-1].id] = case.name
    assert len({case.name for case in cases}) == len(cases)
    await fill(frozen, orders, positions)
    asked = await ask(frozen.reader_dsn, mapping(rules), rules)
    found = dict.fromkeys((case.name for case in cases), 0)
    for key in asked.ids(check):
        found[owner[key]] += 1
    assert asked.count(check) == sum(found.values())
    return found


def expected(cases: list[Case]) -> dict[str, int]:
    return {case.name: case.finds for case in cases}


@pytest.mark.parametrize("story", TABLE)
async def test_a_check_finds_just_what_is_wrong(frozen, story):
    check, cases, rules = TABLE[story]
    assert await findings(frozen, check, cases, rules) == expected(cases)


async def test_exchange_ids_of_exchanges_nobody_names(frozen):
    cases = [
        twins("NULL is one exchange", 2, *(2 * [SAME | {"exchange": None}])),
        twins("a named one is another", 0, SAME | {"exchange": "", "exchange_order_id": "X-2"}, {}),
    ]
    assert await findings(frozen, "duplicate_exchange_order", cases) == expected(cases)
    unmapped = Rules(unmapped=frozenset({"orders.exchange"}))
    cases = [twins("what is not mapped is one exchange", 2, SAME | {"exchange": "a"}, SAME | {"exchange": "b"})]
    assert await findings(frozen, "duplicate_exchange_order", cases, unmapped) == expected(cases)


async def test_accounts_are_compared_where_both_tables_have_them(frozen):
    cases = [linked("another account", 0, {"account": "other"}), linked("another pair", 1, {"trading_pair": "X"})]
    for column in ("orders.account", "positions.account"):
        rules = Rules(unmapped=frozenset({column}))
        assert await findings(frozen, "trading_pair_mismatch", cases, rules) == expected(cases)


async def test_every_active_position_of_a_pair_but_the_oldest(frozen):
    """Pair and account make a netting account; what is closed, or nobody knows to be active, is in none."""
    positions = {
        "the oldest": position(9, opened_at=NOW - 9 * HOUR),
        "a younger one": position(1, opened_at=NOW - 8 * HOUR),
        "opened at the same moment as the next": position(2, opened_at=NOW - 7 * HOUR),
        "opened at that moment, too": position(3, opened_at=NOW - 7 * HOUR),
        "opened nobody knows when": position(4, opened_at=None),
        "older, but closed": position(5, opened_at=NOW - 99 * HOUR, is_active=False),
        "older, but nobody knows": position(6, opened_at=NOW - 99 * HOUR, is_active=None),
        "another pair": position(7, trading_pair="ETH/USD"),
        "another account": position(8, account="other"),
        "another account's second, by its id": position(10, account="other"),
    }
    await fill(frozen, [], positions.values())
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    names = {each.id: name for name, each in positions.items()}
    assert [names[key] for key in asked.ids("duplicate_active_position")] == [
        "a younger one",
        "opened at the same moment as the next",
        "opened at that moment, too",
        "another account's second, by its id",
        "opened nobody knows when",
    ]
    hedging = replace(RULES, one_active_per_pair=False)
    asked = await ask(frozen.reader_dsn, mapping(hedging), hedging)
    assert "duplicate_active_position" in asked.off


async def test_the_link_rate_counts_links_unlinked_and_orphans(frozen):
    """Eligible = links + unlinked + those whose link names no position."""
    orders = [
        *(order(number) for number in range(1, 8)),
        order(8, filled_at=NOW),  # linked: no grace is asked for
        order(9, created_at=None),
        order(10, None),
        order(11, None, filled_at=None),
        order(12, position_id=UNKNOWN_POSITION),
        order(13, position_id=UNKNOWN_POSITION, filled_at=NOW),
        # None of these is eligible.
        order(20, None, filled_at=NOW),
        order(21, status="NEW"),
        order(22, filled_quantity=0),
        order(23, created_at=EDGE_OF_WINDOW - TICK),
        order(24, None, created_at=EDGE_OF_WINDOW - TICK),
    ]
    await fill(frozen, orders, [position(1)])
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    assert asked.link_rate == LinkRate(eligible=13, links=9)
    assert asked.count("unlinked_filled_order") == 2
    assert asked.link_rate.percent == pytest.approx(100 * 9 / 13)


async def test_empty_tables_have_nothing_wrong_and_no_link_rate(frozen):
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    assert asked.link_rate == LinkRate(0, 0)
    assert asked.link_rate.percent is None
    assert {check.count for check in asked.status.result.checks if check.name != "link_rate"} == {0}
    assert len(asked.status.result.checks) == 14
    assert asked.status.verdict is Verdict.OK


async def test_an_unbounded_window_holds_everything(frozen):
    rules = replace(RULES, window=None)
    cases = [
        one("created long ago", 1, created_at=NOW - 999 * WINDOW),
        one("created at the beginning of time", 1, created_at=LONG_AGO),
    ]
    assert await findings(frozen, "unlinked_filled_order", cases, rules) == expected(cases)
    assert await findings(frozen, "aged_unlinked_order", cases, rules) == dict.fromkeys(expected(cases), 0)


@pytest.mark.parametrize("created_at", [NOW - HOUR, NOW - 2 * WINDOW], ids=["window", "before the window"])
async def test_a_column_that_is_touched_all_the_time_hides_nothing_for_longer_than_the_grace(frozen, created_at):
    """A poll saw it filled and unlinked a grace ago: that counts, whatever its fill time says."""
    check = "unlinked_filled_order" if created_at == NOW - HOUR else "aged_unlinked_order"
    touched = order(1, None, updated_at=NOW, created_at=created_at)
    await fill(frozen, [touched], [])
    monitor = Monitor(watched(frozen.reader_dsn, mapping(NO_FILL_TIME), NO_FILL_TIME))
    counts = []
    for later in (timedelta(), GRACE - TICK, GRACE):
        await move_clock(frozen, NOW + later)
        await frozen.execute("UPDATE public.orders SET updated_at = $1", NOW + later)
        counts.append(Asked(await monitor.poll()).count(check))
    await monitor.close()
    assert counts == [0, 0, 1]


async def test_evidence_is_bounded_and_counts_are_exact(frozen):
    orders = [order(number, None, filled_at=NOW - HOUR - number * SECOND) for number in range(1, 251)]
    await fill(frozen, orders, [])
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES, evidence=100)
    found = asked.good("unlinked_filled_order")
    assert found.count == 250
    assert found.truncated
    assert [finding.id for finding in found.findings] == [uid(number) for number in range(250, 150, -1)], "the oldest"
    assert found.oldest == NOW - HOUR - 250 * SECOND


async def test_evidence_is_ordered_by_since_then_id_and_what_is_unknown_comes_last(frozen):
    orders = [
        order(5, None, filled_at=NOW - 2 * HOUR),
        order(4, None, filled_at=NOW - 2 * HOUR),
        order(3, None, filled_at=None),
        order(2, None, filled_at=None),
        order(1, None, filled_at=NOW - HOUR),
    ]
    await fill(frozen, orders, [])
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    found = asked.good("unlinked_filled_order").findings
    assert [(finding.id, finding.since) for finding in found] == [
        (uid(4), NOW - 2 * HOUR),
        (uid(5), NOW - 2 * HOUR),
        (uid(1), NOW - HOUR),
        (uid(2), None),
        (uid(3), None),
    ]
    assert asked.good("unlinked_filled_order").oldest == NOW - 2 * HOUR


async def test_a_time_beyond_the_calendar_is_as_good_as_unknown(frozen):
    orders = [order(1, None, filled_at=LONG_AGO), order(2, None), order(3, None, filled_at=None)]
    await fill(frozen, orders, [])
    await frozen.execute("UPDATE public.orders SET filled_at = '4713-01-01 BC' WHERE id = $1", uid(3))
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    found = asked.good("unlinked_filled_order").findings
    assert [(finding.id, finding.since) for finding in found] == [(uid(2), NOW - HOUR), (uid(1), None), (uid(3), None)]


async def test_long_values_cost_their_details_and_nothing_else(frozen):
    long, short = "x" * 10_000, "y" * 1000
    orders = [order(number, None, exchange_order_id=key) for number, key in enumerate([long, long, short, short], 1)]
    await fill(frozen, orders, [])
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    found = asked.good("duplicate_exchange_order")
    assert (found.count, asked.ids("duplicate_exchange_order")) == (4, [uid(1), uid(2), uid(3), uid(4)])
    details = [dict(finding.details) for finding in found.findings]
    assert "exchange_order_id" not in details[0]
    assert "too long" in details[0]["omitted"]
    assert details[2]["exchange_order_id"] == short


async def test_values_arrive_as_they_are(frozen):
    strange = '"quoted" \\ back, new\nline, tab\t, nul \\u0000, <b>&amp;, ünïcödé 🚀, :as_of $1 {0} %s \''
    twins = [order(number, None, exchange_order_id=strange, exchange=strange) for number in (1, 2)]
    await fill(frozen, twins, [])
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    assert [finding.details["exchange"] for finding in asked.good("duplicate_exchange_order").findings] == [strange] * 2


UNREADABLE_FILL = "a linked fill has an unreadable side or quantity"


def mismatch(**details: object) -> dict[str, object]:
    return {"reason": None} | details


NUMBERS = {
    "0.1 and 0.2 to the last digit": (
        held("", 1, buy("0.1"), buy("0.2"), quantity="0.30000002"),
        mismatch(expected="0.3", found="0.30000002", difference="0.00000002"),
    ),
    "eighteen places and twelve digits before them": (
        held("", 1, buy("123456789012.000000000000000001"), sell("0.1"), quantity="0"),
        mismatch(expected="123456789011.900000000000000001", found="0", difference="-123456789011.900000000000000001"),
    ),
    "a position without orders sums to 0": (
        held("", 1, quantity="1.50"),
        mismatch(expected="0", found="1.50", difference="1.50"),
    ),
    "a fill that cannot be read": (
        held("", 1, buy("1"), buy("1", side="HOLD")),
        {"expected": None, "found": None, "difference": None, "reason": UNREADABLE_FILL},
    ),
    "a fill that is infinite": (
        held("", 1, buy("Infinity")),
        {"expected": None, "found": None, "difference": None, "reason": UNREADABLE_FILL},
    ),
    "no quantity": (
        held("", 1, buy("1"), quantity=None),
        {"expected": "1", "found": None, "reason": "the position has no quantity"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("story", NUMBERS)
async def test_a_mismatch_tells_expected_and_found_exactly(frozen, story):
    case, wanted = NUMBERS[story]
    await fill(frozen, [order(10 + n, 1, **each) for n, each in enumerate(case.orders)], [position(1, **case.position)])
    asked = await ask(frozen.reader_dsn, mapping(RULES), RULES)
    details = asked.finding("quantity_mismatch").details
    assert {name: details[name] for name in wanted} == wanted
    assert details["quantity"] == (
        None if case.position.get("quantity", "2.5") is None else case.position.get("quantity", "2.5")
    )


async def test_by_side_tells_what_it_could_not_read(frozen):
    positions = [position(1, side="FLAT"), position(2, quantity="-2.5", side="SHORT"), position(3, side="SHORT")]
    await fill(frozen, [], positions)
    asked = await ask(frozen.reader_dsn, mapping(BY_SIDE), BY_SIDE)
    found = {finding.id: finding.details for finding in asked.good("quantity_mismatch").findings}
    reason = "the position's quantity is negative or its side unknown"
    assert [(found[uid(n)]["found"], found[uid(n)]["reason"]) for n in (1, 2)] == [(None, reason), (None, reason)]
    assert (found[uid(3)]["expected"], found[uid(3)]["found"]) == ("0", "-2.5"), "a short as a negative quantity"


async def test_every_finding_says_what_is_needed_to_understand_it(frozen):
    """One defect of each kind, and what its details say beside the id."""
    away = {"account": "away"}
    orders = [
        order(1, None, quantity="3", filled_quantity="3", filled_at=NOW - 5 * HOUR),
        order(2, None, filled_quantity="1", created_at=NOW - 2 * WINDOW, filled_at=NOW - 2 * WINDOW),
        order(3, position_id=UNKNOWN_POSITION),
        order(4, 2, filled_quantity="-1.5", status="CANCELLED", quantity=None),
        order(5, 3, status="NEW"),
        order(6, 4, quantity="2.00", filled_quantity="2.5"),
        order(7, 5, trading_pair="ETH/USD"),
        order(8, 5),
        order(9, 6, filled_at=NOW),
        order(10, 7, exchange_order_id="twin"),
        order(11, 7, exchange_order_id="twin"),
        *(order(20 + number, number) for number in (1, 2, 3)),
    ]
    positions = [
        *(position(number, trading_pair="BTC/USD", account=f"account {number}") for number in (1, 2, 3, 4)),
        position(5, quantity="5", account="main", opened_at=NOW - 3 * HOUR),
        position(6, **away, opened_at=NOW - 4 * HOUR, closed_at=NOW - 2 * HOUR, is_active=True),
        position(7, **away, quantity="5", opened_at=NOW - 3 * HOUR),
        position(8, account="lonely", quantity=0),
        position(9, account="closed", quantity="0.10", is_active=False, closed_at=NOW - HOUR),
    ]
    rules = replace(RULES, unmapped=frozenset({"orders.account"}))
    await fill(frozen, orders, positions)
    asked = await ask(frozen.reader_dsn, mapping(rules), rules)

    def only(check: str, key: int | str) -> dict[str, object]:
        found = {finding.id: finding for finding in asked.good(check).findings}
        return dict(found[key if isinstance(key, str) else uid(key)].details)

    def since(check: str, key: int) -> datetime | None:
        return next(finding.since for finding in asked.good(check).findings if finding.id == uid(key))

    assert asked.counts == {
        "unlinked_filled_order": 1, "aged_unlinked_order": 1, "orphaned_position_reference": 1, "unreadable_fill": 1,
        "fill_without_filled_status": 1, "overfilled_order": 1, "trading_pair_mismatch": 1, "fill_outside_position": 1,
        "duplicate_exchange_order": 2, "quantity_mismatch": 2, "position_without_orders": 2,
        "closed_position_not_flat": 1, "duplicate_active_position": 1,
    }  # fmt: skip
    base = {"trading_pair": "BTC/USD", "side": "BUY", "status": "FILLED", "filled_quantity": "2.5"}
    assert only("unlinked_filled_order", 1) == base | {"filled_quantity": "3"}, "a string, whole as it is"
    assert since("unlinked_filled_order", 1) == NOW - 5 * HOUR
    assert only("aged_unlinked_order", 2) == base | {"filled_quantity": "1"}
    assert since("aged_unlinked_order", 2) == NOW - 2 * WINDOW
    assert only("orphaned_position_reference", 3)["position_id"] == UNKNOWN_POSITION
    unreadable = only("unreadable_fill", 4)
    assert (unreadable["filled_quantity"], unreadable["reason"]) == ("-1.5", "the filled quantity is negative")
    assert only("fill_without_filled_status", 5)["status"] == "NEW"
    overfilled = only("overfilled_order", 6)
    assert (overfilled["expected"], overfilled["found"]) == ("2.00", "2.5")
    pair = only("trading_pair_mismatch", 7)
    assert (pair["position_id"], pair["expected"], pair["found"]) == (uid(5), "BTC/USD", "ETH/USD")
    outside = only("fill_outside_position", 9)
    assert datetime.fromisoformat(str(outside["closed_at"])) == NOW - 2 * HOUR
    assert datetime.fromisoformat(str(outside["filled_at"])) == NOW
    assert only("duplicate_exchange_order", 10)["exchange_order_id"] == "twin"
    assert only("quantity_mismatch", 2)["reason"] == UNREADABLE_FILL
    assert only("position_without_orders", 8)["quantity"] == "0"
    closed = only("closed_position_not_flat", 9)
    assert (closed["expected"], closed["found"], closed["reason"]) == ("0", "0.10", None)
    assert only("duplicate_active_position", 7)["older"] == uid(6)


async def test_the_guide_s_own_tables(database):
    """numeric(20,8) keeps its eight places; a timestamp without zone means UTC."""
    await database.execute(
        """
        INSERT INTO positions (id, trading_pair, quantity, is_active, opened_at)
          VALUES ($1, 'BTC/USD', 0.30000002, true, (now() - interval '1 h') AT TIME ZONE 'UTC')
        """,
        uid(1),
    )
    await database.execute(
        """
        INSERT INTO orders (position_id, trading_pair, side, status, quantity, filled_quantity, created_at, updated_at)
          SELECT $1, 'BTC/USD', 'BUY', 'FILLED', quantity, quantity, moment, moment
          FROM unnest('{0.1,0.2}'::numeric[]) AS quantity,
               (SELECT (now() - interval '1 h') AT TIME ZONE 'UTC') AS t (moment)
        """,
        uid(1),
    )
    asked = await ask(database.reader_dsn, GAL_FRIDAY)
    assert asked.counts == {"quantity_mismatch": 1}
    details = asked.finding("quantity_mismatch").details
    assert [details[name] for name in ("expected", "found", "difference")] == ["0.30000000", "0.30000002", "0.00000002"]
    assert asked.link_rate == LinkRate(2, 2)
