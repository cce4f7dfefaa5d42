"""Derived canonical columns: each is SQL over other canonical columns, written ``{name}``.

Design: a filled order, the fill time, the window and the grace each have one definition, and this is where it stands.
Nothing here is ever NULL where a truth value is meant, but for ``positions.active`` (nobody knows) and ``direction``.
"""

from __future__ import annotations

from po_exporter.mapping import SchemaMapping

Templates = dict[str, str]
"""Canonical name (``orders.filled``) -> SQL with ``{name}`` for the columns of the same relation."""


def _one_of(column: str, words: str) -> str:
    """Trimmed and without case; the exact spelling comes first because it is what nearly every row has."""
    return f"({{{column}}} = ANY(:{words}) OR lower(btrim({{{column}}}, E' \\t\\r\\n')) = ANY(:{words}_folded))"


def _within(time: str, timezone: str | None) -> str:
    """Whether a time is in the window: no upper bound, and NULL is in.

    For a timestamp without zone the column itself is compared, too, so that its index serves; the day's slack makes
    room for clock changes, the exact comparison decides.
    """
    exact = f"{{{time}}} >= :window_start"
    if timezone:
        exact = f"({{raw:{time}}} >= (:window_start AT TIME ZONE {timezone}) - interval '1 day' AND {exact})"
    return f"({{{time}}} IS NULL OR {exact})"


def derived(mapping: SchemaMapping, naive: frozenset[str], *, unbounded: bool) -> Templates:
    """The derived columns for one mapping.

    ``naive`` names the columns (``orders.created_at``) that are timestamps without zone; ``unbounded`` puts everything
    in the window.
    """
    orders, positions = mapping.orders, mapping.positions
    filled_at, updated_at = "filled_at" in orders.columns, "updated_at" in orders.columns
    by_side = positions.quantity == "by_side"
    is_active, closed_at = "is_active" in positions.columns, "closed_at" in positions.columns

    def zone(name: str, timezone: str) -> str | None:
        return "'" + timezone.replace("'", "''") + "'" if name in naive else None

    return {
        "orders.filled": f"(({_one_of('status', 'filled_statuses')}) AND {{filled_quantity}} > 0) IS TRUE",
        "orders.complete": f"({_one_of('status', 'complete_statuses')}) IS TRUE",
        # FIX Side (tag 54): 1 buy, here also -1 for sell; NULL for anything else.
        "orders.direction": f"CASE WHEN {_one_of('side', 'buy_sides')} THEN 1"
        f" WHEN {_one_of('side', 'sell_sides')} THEN -1 END",
        "orders.fill_time": "{filled_at}"
        if filled_at
        else "coalesce({updated_at}, {created_at})"
        if updated_at
        else "{created_at}",
        "orders.in_window": "true" if unbounded else _within("created_at", zone("orders.created_at", orders.timezone)),
        # The second half: a poll of this process saw it filled and unlinked a grace ago, however often it is touched.
        "orders.past_grace": "({fill_time} IS NULL OR {fill_time} <= :grace_start OR {id}::text = ANY(:seen))",
        "orders.contribution": "CASE WHEN {filled} THEN CASE {direction} WHEN 1 THEN {filled_quantity}"
        " WHEN -1 THEN -{filled_quantity} END END",
        "orders.unreadable": f"(({_one_of('status', 'filled_statuses')}) AND ({{filled_quantity}} < 0"
        " OR {filled_quantity} IN ('NaN', 'Infinity') OR ({filled_quantity} > 0 AND {direction} IS NULL))) IS TRUE",
        "positions.signed_quantity": f"CASE WHEN {{quantity}} < 0 THEN NULL"
        f" WHEN {_one_of('side', 'long_sides')} THEN {{quantity}}"
        f" WHEN {_one_of('side', 'short_sides')} THEN -{{quantity}} END"
        if by_side
        else "{quantity}",
        "positions.active": "{closed_at} IS NULL" if closed_at and not is_active else "{is_active}",
        # A closed position that keeps its last size is not the sum of its orders.
        "positions.compared": "{active} IS NOT FALSE"
        if positions.closed_quantity != "zero" and (is_active or closed_at)
        else "true",
        "positions.in_window": "true"
        if unbounded
        else _within("opened_at", zone("positions.opened_at", positions.timezone)),
    }


LEDGER_COLUMNS = ("orders.position_id", "orders.filled", "orders.contribution", "orders.unreadable")
LEDGER = """ledger AS MATERIALIZED (
  SELECT position_id, count(*) AS orders, sum(contribution) AS quantity, bool_or(unreadable) AS unknown
  FROM orders WHERE position_id IS NOT NULL GROUP BY position_id
)"""
"""What the orders of each position add up to: made once a statement, whatever number of checks reads it."""
