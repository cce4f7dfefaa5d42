"""The trading history that everybody is asked about, and how many of each defect are in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import asyncpg

PAIRS = 100
SLOTS = 8
BLOCK = PAIRS * SLOTS
FEWEST = 25 * BLOCK
VALID_HOURS = 5  # the edge of the window meets the next order after six


@dataclass(frozen=True, slots=True)
class Defect:
    """``rows`` of it at least, and one more for every ``per`` orders; ``findings`` is what each row adds to a check."""

    name: str
    where: Literal["window", "old"]
    rows: int
    per: int
    findings: Mapping[str, int]

    def count(self, orders: int) -> int:
        """Rows of it among so many orders."""
        return self.rows + orders // self.per


DEFECTS = (
    Defect("unlinked", "window", 12, 20_000, {"unlinked_filled_order": 1, "eligible": 1}),
    Defect("aged", "old", 9, 50_000, {"aged_unlinked_order": 1}),
    Defect("orphan", "window", 3, 400_000, {"orphaned_position_reference": 1, "eligible": 1}),
    Defect("old orphan", "old", 5, 100_000, {"orphaned_position_reference": 1}),
    Defect("pair mismatch", "old", 4, 200_000, {"trading_pair_mismatch": 1}),
    Defect("quantity mismatch", "old", 7, 250_000, {"quantity_mismatch": 1}),
    Defect("rounding", "old", 5, 100_000, {}),
    Defect("overfilled", "window", 4, 400_000, {"overfilled_order": 1}),
    Defect("duplicate", "window", 3, 400_000, {"duplicate_exchange_order": 2}),
    Defect("duplicate of old", "window", 2, 400_000, {"duplicate_exchange_order": 1}),
    Defect("not flat", "old", 6, 500_000, {"closed_position_not_flat": 1}),
    Defect("outside", "window", 2, 1_000_000, {"fill_outside_position": 7}),
    Defect("unreadable", "window", 6, 400_000, {"unreadable_fill": 1}),
    Defect("unreadable side", "window", 2, 1_000_000, {"unreadable_fill": 1, "quantity_mismatch": 1}),
    Defect("status", "window", 4, 400_000, {"fill_without_filled_status": 1}),
    Defect("empty", "window", 3, 400_000, {"position_without_orders": 1}),
    Defect("empty with quantity", "window", 2, 1_000_000,
           {"position_without_orders": 1, "quantity_mismatch": 1, "closed_position_not_flat": 1}),
    Defect("second active", "old", 2, 1_000_000, {"duplicate_active_position": 1}),
)  # fmt: skip

CHECKS = tuple(sorted({check for defect in DEFECTS for check in defect.findings} - {"eligible"}))
WINDOW_CHECKS = frozenset(
    {
        "link_rate",
        "unlinked_filled_order",
        "unreadable_fill",
        "fill_without_filled_status",
        "overfilled_order",
        "fill_outside_position",
        "duplicate_exchange_order",
        "position_without_orders",
    }
)
HEADLINES = ("link_rate", "unlinked_filled_order", "orphaned_position_reference", "quantity_mismatch")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Whole blocks of orders, a thirtieth of them (two blocks at least) within the window of 24 hours."""

    blocks: int

    @classmethod
    def of(cls, orders: int) -> Dataset:
        """As many whole blocks as fit into ``orders``."""
        if orders < FEWEST:
            raise ValueError(f"the smallest table that has room for every defect has {FEWEST} orders")
        return cls(orders // BLOCK)

    @property
    def orders(self) -> int:
        """Rows of the orders table."""
        return self.blocks * BLOCK

    @property
    def positions(self) -> int:
        """Rows of the positions table without the few that are defects themselves."""
        return self.blocks * PAIRS

    @property
    def window_blocks(self) -> int:
        """Blocks within the window; the last of them holds the active positions."""
        return max(2, round(self.blocks / 30))

    def truth(self) -> dict[str, int]:
        """What everybody has to find: findings by check, and the parts of the link rate."""
        found = dict.fromkeys(CHECKS, 0)
        links = 7 * self.window_blocks * PAIRS
        found["eligible"], found["links"] = links, links
        for defect in DEFECTS:
            for name, each in defect.findings.items():
                found[name] += each * defect.count(self.orders)
        return found

    def picks(self) -> list[tuple[str, int, int]]:
        """(defect, its nth row, the position that is spoiled), spread evenly and none of them twice."""
        first_recent = (self.blocks - self.window_blocks) * PAIRS
        closed_recent = (self.window_blocks - 1) * PAIRS
        chosen = []
        # Old duplicates take the exchange ids of the very first positions, which therefore stay as they are.
        spared = PAIRS
        for where, start, room in (("old", spared, first_recent - spared), ("window", first_recent, closed_recent)):
            rows = [(d.name, nth) for d in DEFECTS if d.where == where for nth in range(d.count(self.orders))]
            if len(rows) > room:
                raise ValueError(f"{len(rows)} defects do not fit into {room} positions")
            chosen += [(name, nth, start + index * room // len(rows)) for index, (name, nth) in enumerate(rows)]
        return chosen


def sections(file: str) -> dict[str, str]:
    """The parts of one of our SQL files that begin with ``-- name: ...``, by that name."""
    text = (Path(__file__).parent / file).read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


async def build(connection: asyncpg.Connection, dataset: Dataset) -> None:
    """Fill an empty database; it is complete when this returns."""
    for name, value in (("blocks", dataset.blocks), ("pairs", PAIRS), ("window_blocks", dataset.window_blocks)):
        await connection.execute(f"SET bench.{name} = {value:d}")
    for name, sql in sections("dataset.sql").items():
        if name == "defects":
            await connection.execute("CREATE TABLE bench.picks (defect text, nth bigint, p bigint)")
            await connection.copy_records_to_table("picks", schema_name="bench", records=dataset.picks())
        if name == "finish":
            # Readers shall find settled pages: no hint bits left to set, index-only scans possible.
            await connection.execute("VACUUM ANALYZE orders")
            await connection.execute("VACUUM ANALYZE positions")
        await connection.execute(sql)


async def is_usable(connection: asyncpg.Connection, dataset: Dataset) -> bool:
    """Whether a database that was kept holds this data set, young enough for its window to be still."""
    if await connection.fetchval("SELECT to_regclass('bench.made')") is None:
        return False
    return bool(
        await connection.fetchval(
            "SELECT complete AND orders = $1 AND anchor > (now() AT TIME ZONE 'UTC') - make_interval(hours => $2)"
            " FROM bench.made",
            dataset.orders,
            VALID_HOURS,
        )
    )
