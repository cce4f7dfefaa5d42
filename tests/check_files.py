"""A user's check as text, sound unless told otherwise."""

from __future__ import annotations

HEADER = {
    "help": "A fill that is larger than anything this desk trades.",
    "entity": "order",
    "priority": "medium",
    "scope": "window",
    "needs": "orders.id orders.filled_quantity orders.fill_time",
}
QUERY = """SELECT o.id, o.fill_time AS since, jsonb_build_object('found', o.filled_quantity::text) AS details
FROM scoped_orders o
WHERE o.filled_quantity > 1000"""


def text(query: str = QUERY, **header: str | None) -> str:
    """A check file; a header key of None is left out."""
    lines = [f"-- {key}: {value}" for key, value in (HEADER | header).items() if value is not None]
    return "\n".join([*lines, query, ""])
