"""What install is to make in a database: the few values of the configuration that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from po_exporter.mapping import OrdersMapping, PositionsMapping, SchemaMapping, TableName

ADMIN, READER, FIXER, SEALER = "po_exporter_admin", "po_exporter_reader", "po_exporter_fixer", "po_exporter_sealer"
FIXED = {"orders": ("position_id",), "positions": ("quantity", "entry_price", "realized_pnl")}
"""What fixes change, by canonical names."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``feed``: whether anybody wants the change feed. ``members``: (role of the sidecar, group that it is to join)."""

    mapping: SchemaMapping
    feed: bool = True
    members: tuple[tuple[str, str], ...] = ()

    @property
    def tables(self) -> Mapping[str, TableName]:
        """Both tables, by role."""
        return {"orders": self.mapping.orders.table, "positions": self.mapping.positions.table}

    @property
    def fixed(self) -> Mapping[str, tuple[str, ...]]:
        """The columns of each table that fixes change; what is mapped to an expression, nobody can change."""
        sides: dict[str, OrdersMapping | PositionsMapping] = {
            "orders": self.mapping.orders, "positions": self.mapping.positions,
        }  # fmt: skip
        return {
            role: tuple(
                side.columns[name].text
                for name in FIXED[role]
                if name in side.columns and not side.columns[name].is_sql
            )
            for role, side in sides.items()
        }
