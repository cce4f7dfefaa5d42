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

    For a timestamp without zone the column itself is compared, so that its index serves. UTC has no clock changes;
    elsewhere a day's slack makes room for them, and the exact comparison decides.
    """
    if timezone is None:
        return f"({{{time}}} IS NULL OR {{{time}}} >= :window_start)"
    since = f"{{raw:{time}}} >= (:window_start AT TIME ZONE {timezone})"
    if timezone != "'UTC'":
        since = f"({since} - interval '1 day' AND {{{time}}} >= :window_start)"
    return f"({{raw:{time}}} IS NULL OR {since})"


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
        # What it adds to its position: nothing where it did not fill, NaN where nobody can know. An infinite quantity
        # stays infinite, and the sum with it.
        "orders.contribution": f"CASE WHEN {{filled_quantity}} <> 0 AND ({_one_of('status', 'filled_statuses')})"
        " THEN CASE WHEN {filled_quantity} > 0"
        " THEN CASE {direction} WHEN 1 THEN {filled_quantity} WHEN -1 THEN -{filled_quantity} ELSE 'NaN' END"
        " ELSE 'NaN' END END",
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


_TOTAL = "sum(contribution)"
LEDGER: dict[str, tuple[str, str]] = {
    "orders": ("position_id", "count(*)"),
    "unknown": ("contribution", f"coalesce({_TOTAL} IN ('NaN', 'Infinity', '-Infinity'), false)"),
    "quantity": ("contribution", f"CASE WHEN {_TOTAL} NOT IN ('NaN', 'Infinity', '-Infinity') THEN {_TOTAL} END"),
    "pairs": ("trading_pair", "count(trading_pair)"),
    "first_pair": ("trading_pair", 'min(trading_pair COLLATE "C")'),
    "last_pair": ("trading_pair", 'max(trading_pair COLLATE "C")'),
    "accounts": ("account", "count(account)"),
    "first_account": ("account", 'min(account COLLATE "C")'),
    "last_account": ("account", 'max(account COLLATE "C")'),
}
"""``ledger``: what the orders of each position come to, made in one pass whatever number of checks reads it.
Column -> (the column of orders behind it, its SQL). NaN is catching: one unreadable fill makes a sum unknown."""


def ledger(columns: frozenset[str]) -> str:
    """The CTE of the ledger with these columns."""
    projected = "".join(f", {sql} AS {name}" for name, (_, sql) in LEDGER.items() if name in columns)
    return (
        f"ledger AS MATERIALIZED (SELECT position_id{projected}"
        " FROM orders WHERE position_id IS NOT NULL GROUP BY position_id)"
    )


def mislinked(*, pairs: bool, accounts: bool) -> str:
    """The CTEs of ``mislinked_orders``: all orders of those positions whose ledger shows that they do not exist or,
    where that is asked, that an order of theirs has another pair or account.

    Checks that look among these need no pass over the orders of their own. The planner takes the array for a short one
    and uses the link's index, where there is one.
    """
    differs = "".join(
        f"\n     OR CASE WHEN p.{column} IS NULL THEN l.{count} > 0 ELSE l.{count} < l.orders"
        f' OR l.first_{short} <> p.{column} COLLATE "C" OR l.last_{short} <> p.{column} COLLATE "C" END'
        for wanted, column, short, count in (
            (pairs, "trading_pair", "pair", "pairs"),
            (accounts, "account", "account", "accounts"),
        )
        if wanted
    )
    return f"""mislinked AS MATERIALIZED (
  SELECT l.position_id FROM ledger l LEFT JOIN positions p ON p.id = l.position_id WHERE p.id IS NULL{differs}),
mislinked_orders AS NOT MATERIALIZED (
  SELECT o.* FROM unnest(ARRAY(SELECT position_id FROM mislinked)) AS m (id) JOIN orders o ON o.position_id = m.id)"""
