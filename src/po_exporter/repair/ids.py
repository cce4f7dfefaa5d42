"""Ids that people type, as PostgreSQL writes them."""

from __future__ import annotations

from uuid import UUID

from po_exporter.database.schema import INTEGERS, Presenter
from po_exporter.errors import UsageError

_RANGES = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}


def plain_id(presenter: Presenter, role: str, key: str) -> str:
    """The id of a row of one of the two tables (``orders``, ``positions``). Raises UsageError for what cannot be one of
    its type."""
    kind, mapping = presenter.id_type(role), presenter.mapping
    try:
        key.encode()  # what the terminal sent may be no text at all
        if kind == "uuid":
            key = str(UUID(key))
        elif kind in INTEGERS:
            if not -_RANGES[kind] <= int(key) < _RANGES[kind]:
                raise ValueError
            key = str(int(key))
    except ValueError:
        table = mapping.orders.table if role == "orders" else mapping.positions.table
        raise UsageError(f"{key!r} is no id of {table}, whose ids are of type {kind}.") from None
    return key.lower() if role == "positions" and presenter.folds_ids else key
