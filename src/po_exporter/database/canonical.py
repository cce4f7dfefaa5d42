"""Derived canonical columns: each is SQL over other canonical columns, written ``{name}``.

Design: a filled order, the fill time, the window and the grace each have one definition, and this is where it stands.
Nothing here is ever NULL where a truth value is meant, but for ``positions.active`` (nobody knows) and ``direction``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from po_exporter.mapping import SchemaMapping

_PLACE = re.compile(r"\{(?:raw:)?(\w+)\}")

Templates = dict[str, str]
"""Canonical name (``orders.filled``) -> SQL with ``{name}`` for the columns of the same relation."""


def _exactly(column: str, words: str) -> str:
    return f"{{{column}}} = ANY(:{words})"


def _loosely(column: str, words: str) -> str:
    """Trimmed and without case."""
    return f"lower(btrim({{{column}}}, E' \\t\\r\\n')) = ANY(:{words}_folded)"


def _one_of(column: str, words: str) -> str:
    """The exact spelling comes first, because it is what nearly every row has and much the cheaper to compare."""
    return f"({_exactly(column, words)} OR {_loosely(column, words)})"


def _signed(column: str, plus: str, minus: str, value: str, otherwise: str = "NULL") -> str:
    """``value`` for a side of ``plus``, its negative for one of ``minus``; both spellings exactly first, likewise."""
    arms = "".join(
        f" WHEN {compare(column, words)} THEN {sign}{value}"
        for compare in (_exactly, _loosely)
        for words, sign in ((plus, ""), (minus, "-"))
    )
    return f"CASE{arms} ELSE {otherwise} END"


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

    own_zone = zone("orders.created_at", orders.timezone)
    clock = "{raw:created_at}" if own_zone else "{raw:created_at} AT TIME ZONE 'UTC'"
    clock_zone = own_zone or "'UTC'"

    return {
        "orders.filled": f"({{filled_quantity}} > 0 AND {_one_of('status', 'filled_statuses')}) IS TRUE",
        "orders.complete": f"({_one_of('status', 'complete_statuses')}) IS TRUE",
        # FIX Side (tag 54): 1 for buy, -1 for sell, NULL for anything else.
        "orders.direction": _signed("side", "buy_sides", "sell_sides", "1"),
        "orders.fill_time": "{filled_at}"
        if filled_at
        else "coalesce({updated_at}, {created_at})"
        if updated_at
        else "{created_at}",
        "orders.in_window": "true" if unbounded else _within("created_at", own_zone),
        # The minute of created_at as its column has it, when that minute begins, and the column itself for its index.
        "orders.minute": f"to_char({clock}, 'YYYY-MM-DD HH24:MI')",
        "orders.minute_start": f"(date_trunc('minute', {clock}) AT TIME ZONE {clock_zone})",
        "orders.created_raw": "{raw:created_at}",
        # The second half: a poll of this process saw it filled and unlinked a grace ago, however often it is touched.
        "orders.past_grace": "({fill_time} IS NULL OR {fill_time} <= :grace_start OR {id}::text = ANY(:seen))",
        # Whether it has a say in its position's sum; NaN and negative quantities have.
        "orders.counts": f"({{filled_quantity}} <> 0 AND ({_one_of('status', 'filled_statuses')}))",
        # What it then adds; NaN where nobody can know. An infinite quantity stays infinite, and the sum with it.
        "orders.contribution": "CASE WHEN {filled_quantity} > 0 THEN "
        + _signed("side", "buy_sides", "sell_sides", "{filled_quantity}", "'NaN'")
        + " ELSE 'NaN' END",
        "positions.signed_quantity": "CASE WHEN {quantity} >= 0 THEN "
        + _signed("side", "long_sides", "short_sides", "{quantity}")
        + " END"
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


def sources(templates: Templates, names: Iterable[str]) -> set[str]:
    """The mapping's columns that these canonical columns are made of, such as ``orders.status``."""
    found: set[str] = set()
    for name in names:
        relation = name.split(".")[0]
        if relation == "ledger":
            found |= sources(templates, LEDGER_COLUMNS)
        elif relation == "broken_links":
            found |= {*BROKEN_LINKS_COLUMNS}
        elif name in templates:
            parts = _PLACE.findall(templates[name])
            found |= sources({**templates, name: ""}, (f"{relation}.{part}" for part in parts))
        else:
            found.add(name)
    return found


LEDGER_COLUMNS = ("orders.position_id", "orders.counts", "orders.contribution")
LEDGER = """ledger AS {materialized} (
  SELECT position_id, CASE WHEN total NOT IN ('NaN', 'Infinity', '-Infinity') THEN total END AS quantity,
         total IN ('NaN', 'Infinity', '-Infinity') AS unknown
  FROM (SELECT coalesce(position_id, position_id) AS position_id, sum(contribution) AS total FROM {counted}
        GROUP BY 1) AS sums)"""
ALL_THAT_COUNT = "orders WHERE counts AND position_id IS NOT NULL"
TOUCHED_THAT_COUNT = """(
    SELECT position_id, contribution FROM orders WHERE counts AND position_id = ANY(:cold)
    UNION ALL SELECT id, total FROM unnest(:hot, :hot_sums) AS partial (id, total)) AS counted"""
"""The orders of the positions in ``:cold``, and partial sums of those in ``:hot``."""
"""What the filled orders of each position add up to: made once a statement, whatever number of checks reads it. NaN is
catching: one fill that cannot be read makes the sum unknown.

The coalesce changes nothing but the plan: grouping by the bare column, PostgreSQL likes to walk the link's index, whose
order saves it a hash table, and fetches millions of rows one by one (8 million orders: 20 s instead of 7 s)."""
NO_LEDGER = """ledger AS (
  SELECT id AS position_id, NULL::numeric AS quantity, NULL::boolean AS unknown FROM positions WHERE false)"""
"""For checks that name the ledger but do not need it under this mapping."""

BROKEN_LINKS_COLUMNS = ("orders.position_id", "positions.id")


def broken_links(columns: Iterable[str], *, pairs: bool, accounts: bool, source: str = "orders") -> str:
    """The CTE of ``broken_links``: orders whose link names no position or, where that is asked, one of another pair or
    account, with what there is of the position; found in one pass for all the checks that look at links.

    ``source`` holds the orders to be looked at. The CASE keeps PostgreSQL from expecting nearly every order to differ,
    for which it would not let workers help.
    """
    differs = "".join(
        f" OR o.{column} IS DISTINCT FROM p.{column}"
        for wanted, column in ((pairs, "trading_pair"), (accounts, "account"))
        if wanted
    )
    found = [
        *(f"o.{column}" for column in columns),
        "p.id IS NOT NULL AS position_exists",
        f"{'p.trading_pair' if pairs else 'NULL::text'} AS position_trading_pair",
        f"{'p.account' if accounts else 'NULL::text'} AS position_account",
    ]
    return (
        f"broken_links AS MATERIALIZED (SELECT {', '.join(found)}"
        f" FROM {source} o LEFT JOIN positions p ON p.id = o.position_id"
        f" WHERE o.position_id IS NOT NULL AND CASE WHEN p.id IS NULL{differs} THEN 1 ELSE 0 END = 1)"
    )
