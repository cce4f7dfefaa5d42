"""Odd cases by name, check by check: what is wrong, what only looks wrong, and what lies exactly at an edge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rows import FAR_AWAY, HOUR, LONG_AGO, NOW, TICK, Rules, uid

RULES = Rules()
WINDOW, GRACE = timedelta(hours=24), timedelta(seconds=30)
EDGE_OF_WINDOW, EDGE_OF_GRACE = NOW - WINDOW, NOW - GRACE
NO_FILL_TIME = Rules(unmapped=frozenset({"orders.filled_at"}))
CREATED_ONLY = Rules(unmapped=frozenset({"orders.filled_at", "orders.updated_at"}))
BY_SIDE = Rules(quantity="by_side")
KEPT, KEPT_FLAT = Rules(closed_quantity="kept"), Rules(closed_quantity="kept_flat")
UNKNOWN_POSITION = uid(999_999)


@dataclass(frozen=True)
class Case:
    """A position, what is linked to it, and how many findings the check has among them."""

    name: str
    finds: int
    orders: tuple[dict[str, Any], ...] = ({},)
    position: dict[str, Any] | None = None


def one(name: str, finds: int, **changes: Any) -> Case:
    """An order without a position."""
    return Case(name, finds, ({"position_id": None} | changes,))


def linked(name: str, finds: int, changes: dict[str, Any], to: dict[str, Any] | None = None) -> Case:
    """An order and its position."""
    return Case(name, finds, (changes,), to or {})


def held(name: str, finds: int, *orders: dict[str, Any], **changes: Any) -> Case:
    """A position and its orders; without any it is one that holds nothing."""
    return Case(name, finds, orders, changes)


UNLINKED = [
    one("filled an hour ago, no link", 1),
    one("a link", 0, position_id=UNKNOWN_POSITION),
    one("partly filled", 1, status="PARTIALLY_FILLED"),
    one("cancelled after a part had filled", 1, status="CANCELLED"),
    one("cancelled before anything had filled", 0, status="CANCELLED", filled_quantity=0),
    one("status in another case and with spaces around it", 1, status="\tFilled \r\n"),
    one("status that only begins like a filled one", 0, status="FILLED?"),
    one("status with a space inside", 0, status="FIL LED"),
    one("not a filled status", 0, status="NEW"),
    one("no status", 0, status=None),
    one("empty status", 0, status=""),
    one("nothing filled", 0, filled_quantity=0),
    one("filled quantity NULL reads as nothing filled", 0, filled_quantity=None),
    one("filled quantity negative", 0, filled_quantity="-2.5"),
    one("filled quantity infinite", 1, filled_quantity="Infinity"),
    one("the least that can fill", 1, filled_quantity="1e-18"),
    one("neither buy nor sell, filled all the same", 1, side="HOLD"),
    one("created exactly a window ago", 1, created_at=EDGE_OF_WINDOW),
    one("created a tick before the window", 0, created_at=EDGE_OF_WINDOW - TICK),
    one("created nobody knows when", 1, created_at=None),
    one("created in the future", 1, created_at=NOW + HOUR),
    one("created at the end of time", 1, created_at=FAR_AWAY),
    one("created at the beginning of time", 0, created_at=LONG_AGO),
    one("filled exactly a grace ago", 1, filled_at=EDGE_OF_GRACE),
    one("filled a tick less than a grace ago", 0, filled_at=EDGE_OF_GRACE + TICK),
    one("filled in the future", 0, filled_at=NOW + HOUR),
    one("filled nobody knows when", 1, filled_at=None),
    one("touched just now, but filled long ago", 1, updated_at=NOW),
]

UNLINKED_BY_UPDATED_AT = [
    one("updated exactly a grace ago", 1, updated_at=EDGE_OF_GRACE),
    one("updated a tick less than a grace ago", 0, updated_at=EDGE_OF_GRACE + TICK),
    one("never updated, created long ago", 1, updated_at=None),
    one("never updated, created just now", 0, updated_at=None, created_at=NOW),
    one("never updated, created nobody knows when", 1, updated_at=None, created_at=None),
    one("updated long ago, created just now", 1, created_at=NOW),
    one("a filled_at that is not mapped says nothing", 1, filled_at=NOW),
]

UNLINKED_BY_CREATED_AT = [
    one("created exactly a grace ago", 1, created_at=EDGE_OF_GRACE),
    one("created a tick less than a grace ago", 0, created_at=EDGE_OF_GRACE + TICK),
    one("an updated_at that is not mapped says nothing", 1, updated_at=NOW),
]

AGED = [
    one("created a tick before the window", 1, created_at=EDGE_OF_WINDOW - TICK),
    one("created exactly a window ago", 0, created_at=EDGE_OF_WINDOW),
    one("created at the beginning of time", 1, created_at=LONG_AGO),
    one("created nobody knows when: that is the window's", 0, created_at=None),
    one("old and linked", 0, created_at=NOW - 3 * WINDOW, position_id=UNKNOWN_POSITION),
    one("old and not filled", 0, created_at=NOW - 3 * WINDOW, status="NEW"),
    one("old, with nothing filled", 0, created_at=NOW - 3 * WINDOW, filled_quantity=0),
    one("old, filled exactly a grace ago", 1, created_at=NOW - 3 * WINDOW, filled_at=EDGE_OF_GRACE),
    one("old, filled a moment ago", 0, created_at=NOW - 3 * WINDOW, filled_at=EDGE_OF_GRACE + TICK),
    one("old, filled nobody knows when", 1, created_at=NOW - 3 * WINDOW, filled_at=None),
]

ORPHANED = [
    linked("linked to a position that is there", 0, {}),
    linked("linked to a position that is not there", 1, {"position_id": UNKNOWN_POSITION}),
    linked("no link", 0, {"position_id": None}),
    linked("any status will do", 1, {"position_id": UNKNOWN_POSITION, "status": "REJECTED"}),
    linked("no status will do, too", 1, {"position_id": UNKNOWN_POSITION, "status": None, "filled_quantity": None}),
    linked("older than the window", 1, {"position_id": UNKNOWN_POSITION, "created_at": NOW - 30 * WINDOW}),
    linked("a fill that is younger than the grace", 1, {"position_id": UNKNOWN_POSITION, "filled_at": NOW}),
    linked("NULL in everything else", 1, {"position_id": UNKNOWN_POSITION, "created_at": None, "trading_pair": None}),
]

UNREADABLE = [
    linked("a fill like any other", 0, {}),
    linked("complete, filled quantity NULL", 1, {"filled_quantity": None}),
    linked("complete, nothing filled", 1, {"filled_quantity": 0}),
    linked("complete, negative", 1, {"filled_quantity": "-2.5"}),
    linked("complete in another case", 1, {"status": " filled ", "filled_quantity": 0}),
    linked("not complete, nothing filled", 0, {"status": "PARTIALLY_FILLED", "filled_quantity": 0}),
    linked("cancelled, filled quantity NULL", 0, {"status": "CANCELLED", "filled_quantity": None}),
    linked("any status, negative", 1, {"status": "NEW", "filled_quantity": "-1e-18"}),
    linked("no status, negative", 1, {"status": None, "filled_quantity": "-1"}),
    linked("any status, NaN", 1, {"status": "NEW", "filled_quantity": "NaN"}),
    linked("any status, infinite", 1, {"status": "NEW", "filled_quantity": "Infinity"}),
    linked("any status, minus infinity", 1, {"status": "NEW", "filled_quantity": "-Infinity"}),
    linked("filled, with a side that is neither", 1, {"side": "HOLD"}),
    linked("filled, with an empty side", 1, {"side": ""}),
    linked("filled, without a side", 1, {"side": None}),
    linked("filled, with a side in another case", 0, {"side": " Sell\t"}),
    linked("not filled, with a side that is neither", 0, {"status": "NEW", "side": "HOLD", "filled_quantity": 0}),
    linked("unlinked makes no difference", 1, {"position_id": None, "filled_quantity": None}),
    linked("before the window", 0, {"filled_quantity": None, "created_at": EDGE_OF_WINDOW - TICK}),
    linked("exactly a window ago", 1, {"filled_quantity": None, "created_at": EDGE_OF_WINDOW}),
    linked("created nobody knows when", 1, {"filled_quantity": None, "created_at": None}),
]

UNCOUNTED = [
    linked("filled under a filled status", 0, {}),
    linked("filled under another status", 1, {"status": "NEW"}),
    linked("filled without a status", 1, {"status": None}),
    linked("filled under an empty status", 1, {"status": ""}),
    linked("filled under a filled status in another case", 0, {"status": "partially_Filled "}),
    linked("the least that can fill", 1, {"status": "NEW", "filled_quantity": "1e-18"}),
    linked("nothing filled", 0, {"status": "NEW", "filled_quantity": 0}),
    linked("filled quantity NULL", 0, {"status": "NEW", "filled_quantity": None}),
    linked("negative is another check's", 0, {"status": "NEW", "filled_quantity": -1}),
    linked("infinite", 1, {"status": "NEW", "filled_quantity": "Infinity"}),
    linked("unlinked makes no difference", 1, {"status": "NEW", "position_id": None}),
    linked("before the window", 0, {"status": "NEW", "created_at": EDGE_OF_WINDOW - TICK}),
]

OVERFILLED = [
    linked("filled exactly", 0, {"quantity": "2.5", "filled_quantity": "2.50"}),
    linked("filled a part", 0, {"quantity": "2.5", "filled_quantity": "1"}),
    linked("more by exactly the tolerance", 0, {"quantity": "2.5", "filled_quantity": "2.50000001"}),
    linked("more by a hair above the tolerance", 1, {"quantity": "2.5", "filled_quantity": "2.500000010000000001"}),
    linked("twice as much", 1, {"quantity": "2.5", "filled_quantity": "5"}),
    linked(
        "a large number and its last digit", 1, {"quantity": "99999999999.1", "filled_quantity": "99999999999.1001"}
    ),
    linked("quantity NULL", 0, {"quantity": None, "filled_quantity": "5"}),
    linked("filled quantity NULL", 0, {"quantity": "1", "filled_quantity": None}),
    linked("infinite", 1, {"quantity": "1", "filled_quantity": "Infinity"}),
    linked("whatever its status", 1, {"quantity": "1", "filled_quantity": "5", "status": "NEW"}),
    linked("before the window", 0, {"filled_quantity": "5", "created_at": EDGE_OF_WINDOW - TICK}),
]

WRONG_PAIR = [
    linked("the same pair", 0, {}),
    linked("another pair", 1, {"trading_pair": "ETH/USD"}),
    linked("the same but for the case", 1, {"trading_pair": "btc/usd"}, {"trading_pair": "BTC/USD"}),
    linked("the same but for a space", 1, {"trading_pair": "BTC/USD "}, {"trading_pair": "BTC/USD"}),
    linked("NULL on the order", 1, {"trading_pair": None}),
    linked("NULL on the position", 1, {}, {"trading_pair": None}),
    linked("NULL on both", 0, {"trading_pair": None}, {"trading_pair": None}),
    linked("empty is not NULL", 1, {"trading_pair": ""}, {"trading_pair": None}),
    linked("an orphan", 0, {"trading_pair": "ETH/USD", "position_id": UNKNOWN_POSITION}),
    linked("no link", 0, {"trading_pair": "ETH/USD", "position_id": None}),
    linked("any status", 1, {"trading_pair": "ETH/USD", "status": "NEW", "filled_quantity": 0}),
    linked("older than the window", 1, {"trading_pair": "ETH/USD", "created_at": NOW - 30 * WINDOW}),
    linked("another account", 1, {"account": "other"}),
    linked("account NULL on one side", 1, {"account": None}),
    linked("account NULL on both", 0, {"account": None}, {"account": None}),
    held("one wrong among right ones", 1, {}, {"trading_pair": "ETH/USD"}, {}),
    held("two wrong in two ways", 2, {"trading_pair": "A"}, {"account": "other"}, {}),
]

OPENED, CLOSED = NOW - 4 * HOUR, NOW - 2 * HOUR
LIFE = {"opened_at": OPENED, "closed_at": CLOSED}
OUTSIDE = [
    linked("filled within", 0, {"filled_at": NOW - 3 * HOUR}, LIFE),
    linked("before it opened by exactly the grace", 0, {"filled_at": OPENED - GRACE}, LIFE),
    linked("before it opened by more than the grace", 1, {"filled_at": OPENED - GRACE - TICK}, LIFE),
    linked("after it closed by exactly the grace", 0, {"filled_at": CLOSED + GRACE}, LIFE),
    linked("after it closed by more than the grace", 1, {"filled_at": CLOSED + GRACE + TICK}, LIFE),
    linked("still open", 0, {"filled_at": NOW}, {"closed_at": None}),
    linked("opened nobody knows when", 0, {"filled_at": NOW - 9 * HOUR}, {"opened_at": None}),
    linked("filled nobody knows when, created after it closed", 0, {"filled_at": None, "created_at": NOW}, LIFE),
    linked("not filled", 0, {"filled_at": NOW, "status": "NEW"}, LIFE),
    linked("an orphan", 0, {"filled_at": NOW, "position_id": UNKNOWN_POSITION}, LIFE),
    linked("created before the window", 0, {"filled_at": NOW, "created_at": EDGE_OF_WINDOW - TICK}, LIFE),
    linked("created after it closed, filled within", 0, {"filled_at": NOW - 3 * HOUR, "created_at": NOW}, LIFE),
]

OUTSIDE_BY_CREATED_AT = [
    linked("created within", 0, {"created_at": NOW - 3 * HOUR}, LIFE),
    linked("created before it opened: it may have filled later", 0, {"created_at": OPENED - HOUR}, LIFE),
    linked("created after it closed", 1, {"created_at": CLOSED + HOUR}, LIFE),
    linked("created when it closed", 0, {"created_at": CLOSED}, LIFE),
    linked("created nobody knows when", 0, {"created_at": None}, LIFE),
    linked("touched after it closed", 0, {"created_at": NOW - 3 * HOUR, "updated_at": NOW}, LIFE),
    linked("not filled", 0, {"created_at": CLOSED + HOUR, "filled_quantity": 0}, LIFE),
]


def twins(name: str, finds: int, first: dict[str, Any], second: dict[str, Any]) -> Case:
    """Two orders of one exchange; their ids are their own."""
    return Case(
        name, finds, tuple({"position_id": None, "exchange": f"exchange of {name}"} | each for each in (first, second))
    )


SAME = {"exchange_order_id": "X-1"}
DUPLICATES = [
    twins("two of the same id", 2, SAME, SAME),
    twins("two ids", 0, SAME, {"exchange_order_id": "X-2"}),
    twins("ids that differ in case", 0, SAME, {"exchange_order_id": "x-1"}),
    twins("ids that differ by a space", 0, SAME, {"exchange_order_id": "X-1 "}),
    twins("two exchanges", 0, SAME, SAME | {"exchange": "another"}),
    twins("the older one is out of the window", 1, SAME, SAME | {"created_at": NOW - 90 * WINDOW}),
    twins("both are out of the window", 0, *(2 * [SAME | {"created_at": EDGE_OF_WINDOW - TICK}])),
    twins("NULL ids", 0, *(2 * [{"exchange_order_id": None}])),
    twins("empty ids", 0, *(2 * [{"exchange_order_id": ""}])),
    twins("any status", 2, SAME | {"status": "NEW", "filled_quantity": 0}, SAME | {"status": None}),
    Case("three of the same id", 3, tuple(3 * [SAME | {"exchange": "three"}]), {}),
]  # fmt: skip


def sell(filled: object, **changes: Any) -> dict[str, Any]:
    return {"side": "SELL", "filled_quantity": filled} | changes


def buy(filled: object, **changes: Any) -> dict[str, Any]:
    return {"side": "BUY", "filled_quantity": filled} | changes


CLOSED_ONE = {"is_active": False, "closed_at": NOW}
SUMS = [
    held("holds what was bought", 0, buy("2.5")),
    held("bought and sold again", 0, buy("2.5"), sell("2.5"), quantity=0),
    held("short: sells make it negative", 0, sell("2.5"), quantity="-2.5"),
    held("sells added to buys", 1, buy("2.5"), sell("1"), quantity="3.5"),
    held("off by exactly the tolerance", 0, buy("2.5"), quantity="2.50000001"),
    held("off by exactly the tolerance, downwards", 0, buy("2.5"), quantity="2.49999999"),
    held("off by a hair above the tolerance", 1, buy("2.5"), quantity="2.500000010000000001"),
    held("0.1 and 0.2 are 0.3", 0, buy("0.1"), buy("0.2"), quantity="0.3"),
    held("0.1 and 0.2 and a grain", 1, buy("0.1"), buy("0.2"), quantity="0.30000002"),
    held("large and small", 0, buy("1234567890123.1"), buy("1e-18"), quantity="1234567890123.100000000000000001"),
    held("large, and off by 1e-7", 1, buy("123456789012345.1"), quantity="123456789012345.1000001"),
    held("no orders, no quantity to speak of", 0, quantity=0),
    held("no orders, a quantity", 1, quantity=1),
    held("no quantity", 1, buy("2.5"), quantity=None),
    held("no quantity, no orders", 1, quantity=None),
    held("quantity is NaN", 1, buy("2.5"), quantity="NaN"),
    held("quantity is infinite, and so are its orders", 1, buy("Infinity"), quantity="Infinity"),
    held("quantity is infinite", 1, buy("2.5"), quantity="-Infinity"),
    held("not filled, so not counted", 0, buy("2.5"), buy("1", status="NEW")),
    held("without a status, so not counted", 0, buy("2.5"), buy("1", status=None)),
    held("cancelled after a part: counted", 1, buy("2.5"), buy("1", status="CANCELLED")),
    held("status in another case: counted", 0, buy("2.5", status=" filled ")),
    held("side in another case: counted", 0, buy("3"), sell("0.5", side="sell ")),
    held("filled quantity NULL reads as zero", 0, buy("2.5"), buy(None)),
    held("nothing filled, with a side that is neither", 0, buy("2.5"), buy(0, side="HOLD")),
    held("filled NULL, with a side that is neither", 0, buy("2.5"), buy(None, side=None)),
    held("a side that is neither", 1, buy("2.5", side="HOLD")),
    held("a side NULL beside orders that agree", 1, buy("2.5"), buy("1e-18", side=None)),
    held("negative, though the sum agrees", 1, buy("3.5"), buy("-1")),
    held("NaN", 1, buy("2.5"), buy("NaN")),
    held("infinite", 1, buy("2.5"), buy("Infinity")),
    held("infinite bought, infinite sold", 1, buy("Infinity"), sell("Infinity"), quantity=0),
    held("negative, but not filled", 0, buy("2.5"), buy("-1", status="NEW")),
    held("older than the window", 1, buy("2.5", created_at=NOW - 90 * WINDOW), quantity=1, opened_at=NOW - 90 * WINDOW),
    held("a fill younger than the grace", 1, buy("2.5"), buy("1", filled_at=NOW)),
    held("inactive, and not its sum", 1, buy("2.5"), quantity=0, **CLOSED_ONE),
    held("the side says short, which signed ignores", 0, buy("2.5"), side="SHORT"),
]  # fmt: skip

SUMS_BY_SIDE = [
    held("long", 0, buy("2.5")),
    held("long in another case", 0, buy("2.5"), side=" long\t"),
    held("short", 0, sell("2.5"), side="SHORT"),
    held("short, says long", 1, sell("2.5"), side="LONG"),
    held("short, and off by a hair above the tolerance", 1, sell("2.5"), side="SHORT", quantity="2.500000010000000001"),
    held("negative, as if it were signed", 1, sell("2.5"), side="SHORT", quantity="-2.5"),
    held("negative, long", 1, sell("2.5"), quantity="-2.5"),
    held("a side that is neither", 1, buy("2.5"), side="FLAT"),
    held("a side that is neither, holding nothing", 1, side="FLAT", quantity=0),
    held("no side", 1, buy("2.5"), side=None),
    held("no quantity", 1, buy("2.5"), quantity=None),
    held("flat, whichever side", 0, buy("2.5"), sell("2.5"), side="SHORT", quantity=0),
    held("NaN", 1, side="SHORT", quantity="NaN"),
    held("infinite", 1, side="SHORT", quantity="Infinity"),
]  # fmt: skip

SUMS_WHERE_CLOSED_IS_KEPT = [
    held("closed with its last size", 0, buy("2.5"), sell("2.5"), **CLOSED_ONE),
    held("closed, no quantity", 0, buy("2.5"), quantity=None, **CLOSED_ONE),
    held("closed, with a fill that cannot be read", 0, buy("2.5", side=None), **CLOSED_ONE),
    held("active, and not its sum", 1, buy("1")),
    held("active, though a time of closing is set", 1, buy("1"), closed_at=NOW),
    held("nobody knows whether it is active", 1, buy("1"), is_active=None),
    held("nobody knows whether it is active; it agrees", 0, buy("2.5"), is_active=None),
]

LONELY = [
    held("something links to it", 0, {}),
    held("nothing links to it", 1),
    held("nothing links to it, and it holds nothing", 1, quantity=0),
    held("nothing links to it, and it is closed", 1, **CLOSED_ONE),
    held("what links to it never filled", 0, {"status": "NEW", "filled_quantity": 0}),
    held("opened exactly a window ago", 1, opened_at=EDGE_OF_WINDOW),
    held("opened a tick before the window", 0, opened_at=EDGE_OF_WINDOW - TICK),
    held("opened nobody knows when", 1, opened_at=None),
    held("opened in the future", 1, opened_at=NOW + HOUR),
]

NOT_FLAT = [
    held("active, with a quantity", 0),
    held("closed at zero", 0, quantity=0, **CLOSED_ONE),
    held("closed with a quantity", 1, **CLOSED_ONE),
    held("closed short", 1, quantity="-2.5", **CLOSED_ONE),
    held("closed with exactly the tolerance left", 0, quantity="0.00000001", **CLOSED_ONE),
    held("closed with exactly the tolerance owed", 0, quantity="-0.00000001", **CLOSED_ONE),
    held("closed with a hair more than the tolerance left", 1, quantity="0.000000010000000001", **CLOSED_ONE),
    held("closed with NaN", 1, quantity="NaN", **CLOSED_ONE),
    held("closed with minus infinity", 1, quantity="-Infinity", **CLOSED_ONE),
    held("closed without a time of closing", 1, is_active=False),
    held("active, though a time of closing is set", 0, closed_at=NOW),
    held("nobody knows whether it is active", 1, is_active=None),
    held("nobody knows whether it is active, at zero", 1, is_active=None, quantity=0),
    held("closed long before the window", 1, is_active=False, closed_at=NOW - 90 * WINDOW, opened_at=NOW - 99 * WINDOW),
    held("closed at zero, whatever its orders say", 0, buy("1"), quantity=0, **CLOSED_ONE),
]

NOT_FLAT_BY_CLOSED_AT = [
    held("never closed", 0, is_active=False),
    held("closed with a quantity", 1, is_active=True, closed_at=NOW),
    held("closed in the future", 1, closed_at=NOW + HOUR),
    held("closed at zero", 0, closed_at=NOW, quantity=0),
]

NOT_FLAT_WHERE_KEPT_FLAT = [
    held("orders net to zero", 0, buy("2.5"), sell("2.5"), **CLOSED_ONE),
    held("no orders", 0, **CLOSED_ONE),
    held("orders net to something", 1, buy("2.5"), sell("1"), quantity=0, **CLOSED_ONE),
    held("orders net to exactly the tolerance", 0, buy("2.50000001"), sell("2.5"), **CLOSED_ONE),
    held("orders net to a hair below minus the tolerance", 1, buy("2.5"), sell("2.500000010000000001"), **CLOSED_ONE),
    held("a fill that cannot be read", 1, buy("2.5", side=None), sell("2.5"), **CLOSED_ONE),
    held("a fill that cannot be read; it says zero", 1, buy("2.5", side=None), quantity=0, **CLOSED_ONE),
    held("a fill that is infinite", 1, buy("Infinity"), sell("Infinity"), **CLOSED_ONE),
    held("active", 0, buy("2.5"), sell("1")),
    held("nobody knows whether it is active", 1, buy("2.5"), sell("2.5"), is_active=None),
    held("what has not filled is not counted", 0, buy("2.5", status="NEW"), **CLOSED_ONE),
]

TABLE: dict[str, tuple[str, list[Case], Rules]] = {
    "unlinked": ("unlinked_filled_order", UNLINKED, RULES),
    "unlinked, by updated_at": ("unlinked_filled_order", UNLINKED_BY_UPDATED_AT, NO_FILL_TIME),
    "unlinked, by created_at": ("unlinked_filled_order", UNLINKED_BY_CREATED_AT, CREATED_ONLY),
    "aged": ("aged_unlinked_order", AGED, RULES),
    "orphaned": ("orphaned_position_reference", ORPHANED, RULES),
    "unreadable": ("unreadable_fill", UNREADABLE, RULES),
    "fill without filled status": ("fill_without_filled_status", UNCOUNTED, RULES),
    "overfilled": ("overfilled_order", OVERFILLED, RULES),
    "wrong pair": ("trading_pair_mismatch", WRONG_PAIR, RULES),
    "outside its position": ("fill_outside_position", OUTSIDE, RULES),
    "outside its position, by created_at": ("fill_outside_position", OUTSIDE_BY_CREATED_AT, NO_FILL_TIME),
    "duplicates": ("duplicate_exchange_order", DUPLICATES, RULES),
    "sums": ("quantity_mismatch", SUMS, RULES),
    "sums by side": ("quantity_mismatch", SUMS_BY_SIDE, BY_SIDE),
    "sums where closed is kept": ("quantity_mismatch", SUMS_WHERE_CLOSED_IS_KEPT, KEPT),
    "sums where closed is kept flat": ("quantity_mismatch", SUMS_WHERE_CLOSED_IS_KEPT, KEPT_FLAT),
    "without orders": ("position_without_orders", LONELY, RULES),
    "not flat": ("closed_position_not_flat", NOT_FLAT, RULES),
    "not flat, by closed_at": (
        "closed_position_not_flat",
        NOT_FLAT_BY_CLOSED_AT,
        Rules(unmapped=frozenset({"positions.is_active"})),
    ),
    "not flat where kept flat": ("closed_position_not_flat", NOT_FLAT_WHERE_KEPT_FLAT, KEPT_FLAT),
}
