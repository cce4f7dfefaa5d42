"""The script of the demo: what is broken, when, and how it is mended; then it begins again.

Each scene touches only rows that the trading API has finished with, or the positions of AVAX/USD and DOT/USD, which it
does not trade. So a scene shows as the one check that it names, and mending leaves every row as it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from po_exporter.errors import PoExporterError


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that goes wrong from second ``begins`` to second ``ends`` of a round, and shows as ``check``.

    ``breaks`` yields the ids of the rows that the check will name, each with what is needed to mend it (``before``,
    jsonb). ``heals`` reads the same rows from ``broken``.
    """

    begins: float
    ends: float
    check: str
    story: str
    healing: str
    breaks: str
    heals: str


ROUND = 72.0
"""Seconds until the script begins again."""

SCENES = (
    Scene(
        begins=8,
        ends=22,
        check="unlinked_filled_order",
        story="12 orders of AVAX/USD are filled, and nothing links them to their position",
        healing="the links are made",
        # As much is bought as is sold: the position is right with them and without them.
        breaks="""
            INSERT INTO orders (id, trading_pair, exchange, side, order_type, quantity, status, exchange_order_id,
                filled_quantity, average_fill_price, commission, created_at, updated_at)
            SELECT gen_random_uuid(), trading_pair, 'kraken', CASE WHEN n % 2 = 1 THEN 'BUY' ELSE 'SELL' END, 'MARKET',
                5, 'FILLED', 'O-' || upper(left(replace(gen_random_uuid()::text, '-', ''), 16)), 5, current_price,
                0.005 * current_price, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
            FROM positions CROSS JOIN generate_series(1, 12) AS n
            WHERE trading_pair = 'AVAX/USD' AND is_active
            RETURNING id, NULL::jsonb AS before""",
        heals="""
            UPDATE orders SET position_id = positions.id
            FROM broken, positions
            WHERE orders.id = broken.id AND positions.trading_pair = 'AVAX/USD' AND positions.is_active""",
    ),
    Scene(
        begins=28,
        ends=40,
        check="orphaned_position_reference",
        story="somebody deletes a closed position; its orders still name it",
        healing="the position is restored",
        breaks="""
            WITH gone AS (
                DELETE FROM positions WHERE id = (
                    SELECT id FROM positions
                    WHERE NOT is_active AND closed_at < now() AT TIME ZONE 'UTC' - interval '5 s'
                    ORDER BY closed_at DESC LIMIT 1)
                RETURNING *)
            SELECT orders.id, to_jsonb(gone) AS before FROM orders JOIN gone ON gone.id = orders.position_id""",
        heals="""
            INSERT INTO positions
            SELECT DISTINCT (jsonb_populate_record(NULL::positions, before)).* FROM broken""",
    ),
    Scene(
        begins=46,
        ends=64,
        check="quantity_mismatch",
        story="the position of DOT/USD is changed by 0.5, and no order says why",
        healing="its quantity is put right",
        breaks="""
            UPDATE positions SET quantity = quantity + 0.5 WHERE trading_pair = 'DOT/USD' AND is_active
            RETURNING id, to_jsonb(quantity - 0.5) AS before""",
        heals="""
            UPDATE positions SET quantity = (broken.before #>> '{}')::numeric FROM broken
            WHERE positions.id = broken.id""",
    ),
    Scene(
        begins=51,
        ends=62,
        check="trading_pair_mismatch",
        story="an order of the DOT/USD position is booked under DOT/EUR",
        healing="its trading pair is put right",
        breaks="""
            UPDATE orders SET trading_pair = 'DOT/EUR' WHERE id = (
                SELECT orders.id FROM orders JOIN positions ON positions.id = orders.position_id
                WHERE positions.trading_pair = 'DOT/USD' AND positions.is_active
                ORDER BY orders.created_at DESC LIMIT 1)
            RETURNING id, to_jsonb('DOT/USD'::text) AS before""",
        heals="""
            UPDATE orders SET trading_pair = broken.before #>> '{}' FROM broken WHERE orders.id = broken.id""",
    ),
    Scene(
        begins=54,
        ends=60,
        check="duplicate_exchange_order",
        story="an execution report is booked twice: two orders carry one exchange id",
        healing="each has its own exchange id again",
        breaks="""
            WITH two AS (
                SELECT id, exchange_order_id FROM orders
                WHERE trading_pair = 'SOL/USD' AND status = 'FILLED'
                    AND updated_at < now() AT TIME ZONE 'UTC' - interval '5 s'
                ORDER BY created_at DESC LIMIT 2),
            booked AS (
                UPDATE orders SET exchange_order_id = (SELECT min(exchange_order_id) FROM two)
                WHERE id IN (SELECT id FROM two))
            SELECT id, to_jsonb(exchange_order_id) AS before FROM two""",
        heals="""
            UPDATE orders SET exchange_order_id = broken.before #>> '{}' FROM broken WHERE orders.id = broken.id""",
    ),
)

BROKEN = "WITH broken AS (SELECT * FROM unnest($1::uuid[], $2::jsonb[]) AS rows(id, before))"


@dataclass(frozen=True, slots=True)
class Broken:
    """The rows that a scene broke: the ids that its check will name, and for each what is needed to mend it.

    What was before stays text from the database to the database: reading it as JSON here would round its numbers.
    """

    ids: tuple[str, ...]
    before: tuple[str | None, ...]

    def __str__(self) -> str:
        more = len(self.ids) - 3
        return ", ".join(self.ids[:3]) + (f" and {more} more" if more > 0 else "")


async def break_(scene: Scene, connection: asyncpg.Connection) -> Broken:
    """Begins the scene. Raises PoExporterError when there was nothing that it could break."""
    rows = await connection.fetch(scene.breaks)
    if not rows:
        raise PoExporterError(f"the demo found no row to break so that `{scene.check}` would show.")
    return Broken(tuple(str(row["id"]) for row in rows), tuple(row["before"] for row in rows))


async def heal(scene: Scene, broken: Broken, connection: asyncpg.Connection) -> None:
    """Ends the scene."""
    await connection.execute(f"{BROKEN} {scene.heals}", broken.ids, broken.before)


async def play(connection: asyncpg.Connection, say: Callable[[str, str], None]) -> None:
    """Round after round, until it is cancelled. ``say`` is told what is done (breaks or heals), and to what."""
    loop = asyncio.get_running_loop()
    steps = [(scene.begins, scene) for scene in SCENES] + [(scene.ends, scene) for scene in SCENES]
    steps.sort(key=lambda step: step[0])
    broken: dict[str, Broken] = {}
    start = loop.time()
    while True:
        for second, scene in steps:
            await asyncio.sleep(start + second - loop.time())
            if second == scene.begins:
                broken[scene.check] = await break_(scene, connection)
                say("breaks", f"{scene.story}: {broken[scene.check]}")
            else:
                await heal(scene, broken.pop(scene.check), connection)
                say("heals", scene.healing)
        start += ROUND
