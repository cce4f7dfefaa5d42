"""Hostile writers: everything that a trading database can do to one who follows it, at once and at random.

Few rows, so that everybody meets; every value that a check can be wrong about; and every way to commit.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import asyncpg

from feeding import Checked, Following, prepare
from parts.database import Database
from po_exporter.mapping import GAL_FRIDAY
from rows import Rules

ORDERS, POSITIONS = 60, 15
RULES = Rules(window=timedelta(seconds=4), grace=timedelta(milliseconds=300))
"""So short that rows cross both edges while it runs."""
STALLED = "chaos stalled"

ORDER = "md5('order ' || {})::uuid"
POSITION = "md5('position ' || {})::uuid"
MOMENTS = ("now()", "now() - interval '1 second'", "now() - interval '3900 ms'", "now() - interval '8 seconds'",
           "now() + interval '1 hour'")  # fmt: skip


class Writer:
    """One connection that does something at random, again and again."""

    def __init__(self, connection: asyncpg.Connection, dice: random.Random) -> None:
        self.connection, self.dice = connection, dice

    async def write(self) -> None:
        """One transaction of one to five changes, of a kind drawn at random."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            self._plain, self._plain, self._plain, self._plain, self._asynchronous, self._savepoints, self._given_up,
            self._slow, self._prepared,
        ]  # fmt: skip
        await self.dice.choice(kinds)()

    async def _plain(self) -> None:
        async with self.connection.transaction():
            await self._changes()

    async def _asynchronous(self) -> None:
        async with self.connection.transaction():
            await self.connection.execute("SET LOCAL synchronous_commit = off")
            await self._changes()

    async def _savepoints(self) -> None:
        async with self.connection.transaction():
            await self._changes()
            with suppress(ZeroDivisionError):
                async with self.connection.transaction():
                    await self._changes()
                    if self.dice.random() < 0.5:
                        raise ZeroDivisionError
            await self._changes()

    async def _given_up(self) -> None:
        with suppress(ZeroDivisionError):
            async with self.connection.transaction():
                await self._changes()
                raise ZeroDivisionError

    async def _slow(self) -> None:
        async with self.connection.transaction():
            await self._changes()
            await asyncio.sleep(self.dice.random() * 0.3)

    async def _prepared(self) -> None:
        name = f"chaos_{self.dice.getrandbits(60):x}"
        await self.connection.execute("BEGIN")
        try:
            await self._changes()
            await self.connection.execute(f"PREPARE TRANSACTION '{name}'")
        except asyncpg.PostgresError:
            await self.connection.execute("ROLLBACK")
            raise
        await asyncio.sleep(self.dice.random() * 0.3)
        await self.connection.execute(f"{self.dice.choice(['COMMIT', 'COMMIT', 'ROLLBACK'])} PREPARED '{name}'")

    async def _changes(self) -> None:
        for _ in range(self.dice.randint(1, 5)):
            await self.connection.execute(self.change())

    def change(self) -> str:
        """A statement that changes one row, or a few."""
        dice = self.dice
        order = ORDER.format(dice.randrange(ORDERS))
        position = POSITION.format(dice.randrange(POSITIONS + 3))  # a few never exist
        moment = f"({dice.choice(MOMENTS)} AT TIME ZONE 'UTC')"
        created = dice.choice([moment, moment, moment, moment, "NULL", "'infinity'", "'-infinity'"])
        pair = dice.choice(["'BTC/USD'", "'BTC/USD'", "'ETH/USD'", "NULL"])
        quantity = dice.choice(["1", "2", "2", "0.5", "0", "-1", "'NaN'", "NULL"])
        status = dice.choice(["FILLED", "FILLED", "FILLED", "NEW", "filled ", "CANCELLED", ""])
        side = dice.choice(["BUY", "SELL", "BUY", "sell", "HOLD"])
        link = dice.choice([position, position, "NULL"])
        active = dice.choice(["true", "true", "false", "NULL"])
        return dice.choice(
            [
                f"INSERT INTO orders (id, position_id, trading_pair, side, quantity, status, exchange_order_id,"
                f" filled_quantity, created_at, updated_at) VALUES ({order}, {link}, {pair}, '{side}', 1, '{status}',"
                f" '{dice.randrange(5)}', {quantity}, {created}, {dice.choice([moment, 'NULL'])})"
                " ON CONFLICT (id) DO UPDATE SET position_id = excluded.position_id, status = excluded.status",
                f"UPDATE orders SET position_id = {link}, updated_at = {moment} WHERE id = {order}",
                f"UPDATE orders SET position_id = {link}, updated_at = {moment} WHERE id = {order}",
                f"UPDATE orders SET status = '{status}', filled_quantity = {quantity} WHERE id = {order}",
                f"UPDATE orders SET created_at = {created}, updated_at = NULL WHERE id = {order}",
                f"UPDATE orders SET trading_pair = {pair}, side = '{side}' WHERE id = {order}",
                f"UPDATE orders SET id = {ORDER.format(dice.randrange(ORDERS))} WHERE id = {order}"
                f" AND NOT EXISTS (SELECT FROM orders WHERE id = {ORDER.format(dice.randrange(ORDERS))})",
                f"UPDATE orders SET limit_price = 1 WHERE position_id = {position}",
                f"UPDATE orders SET exchange_order_id = {dice.choice(['NULL', repr(str(dice.randrange(20)))])},"
                f" exchange = {dice.choice(['NULL', repr('kraken'), repr('coinbase')])} WHERE id = {order}",
                f"DELETE FROM orders WHERE id = {order}",
                f"INSERT INTO positions (id, trading_pair, side, quantity, opened_at, closed_at, is_active) VALUES"
                f" ({position}, {pair}, 'LONG', {quantity}, {created}, {dice.choice(['NULL', moment])}, {active})"
                f" ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity, is_active = excluded.is_active",
                f"UPDATE positions SET quantity = {quantity} WHERE id = {position}",
                f"UPDATE positions SET quantity = (SELECT coalesce(sum(CASE side WHEN 'BUY' THEN filled_quantity"
                f" ELSE -filled_quantity END), 0) FROM orders WHERE position_id = {position} AND status = 'FILLED')"
                f" WHERE id = {position}",
                f"UPDATE positions SET trading_pair = {pair} WHERE id = {position}",
                f"UPDATE positions SET opened_at = {created}, closed_at = {dice.choice(['NULL', moment])},"
                f" is_active = {active} WHERE id = {position}",
                f"DELETE FROM positions WHERE id = {position}",
            ]
        )


RARE = (
    "TRUNCATE orders",
    "TRUNCATE positions",
    "VACUUM FULL positions",
    "ANALYZE orders, positions",
    "CHECKPOINT",
    "INSERT INTO orders (position_id, trading_pair, side, quantity, status, filled_quantity, created_at)"
    " SELECT md5('position ' || n % 20)::uuid, 'BTC/USD', 'BUY', 1, 'FILLED', 1, now() AT TIME ZONE 'UTC'"
    " FROM generate_series(1, 3000) AS n",
    "DELETE FROM orders WHERE exchange_order_id IS NULL",
    "UPDATE orders SET updated_at = now() AT TIME ZONE 'UTC'",
    "ALTER TABLE orders ALTER COLUMN limit_price TYPE numeric(30, 8)",
)


class Chaos:
    """Writers at work on a database, and one who follows it."""

    def __init__(self, database: Database, seed: int, kind: type[Checked] = Checked, writers: int = 6) -> None:
        self.database, self.seed, self.kind, self.writers = database, seed, kind, writers
        self.modes = {"incremental": 0, "scan": 0}
        self.carried = 0
        self.transactions = 0
        self._connections: list[asyncpg.Connection] = []

    async def run(self, polls: int, *, rare: bool = True) -> Following:
        """So many polls that the feed answered; the follower, closed, with what was wrong."""
        feed_dsn = await prepare(self.database)
        await self.database.execute("CREATE INDEX ON orders (exchange_order_id)")
        following = Following(self.database.reader_dsn, feed_dsn, GAL_FRIDAY, RULES, kind=self.kind)
        # A commit that waits for a standby that never comes is in the stream before any snapshot sees it.
        self.database.server.psql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
        tasks = [asyncio.create_task(self._write(number)) for number in range(self.writers)]
        tasks += [asyncio.create_task(self._stall()), asyncio.create_task(self._let_go())]
        if rare:
            tasks.append(asyncio.create_task(self._shake()))
        try:
            while following.incremental.compared < polls and not following.incremental.wrong:
                for task in tasks:
                    if task.done():
                        task.result()
                outcome = await following.poll()
                self.modes[outcome.mode] += 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.database.server.psql("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")
            self.carried = following.incremental.carried
            await following.close()
            for connection in self._connections:
                connection.terminate()
            self.database.end_others()  # a statement that was cancelled may still prepare or commit
        return following

    async def _write(self, number: int) -> None:
        dice = random.Random(f"{self.seed} {number}")
        connection = await self._connect("local")
        while True:
            with suppress(asyncpg.PostgresError):  # a duplicate key, a deadlock: the world is like that
                await Writer(connection, dice).write()
                self.transactions += 1
            await asyncio.sleep(dice.random() * 0.01)

    async def _stall(self) -> None:
        dice = random.Random(f"{self.seed} stall")
        connection = await self._connect("on", STALLED)
        while True:
            with suppress(asyncpg.PostgresError):
                await Writer(connection, dice).write()
            if connection.is_closed():
                connection = await self._connect("on", STALLED)

    async def _let_go(self) -> None:
        """Let a stalled commit go on: it is visible from then on."""
        dice = random.Random(f"{self.seed} let go")
        connection = await self._connect("local")
        while True:
            await asyncio.sleep(dice.random() * 0.1)
            await connection.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                f" WHERE application_name = '{STALLED}' AND wait_event = 'SyncRep'"
            )

    async def _shake(self) -> None:
        dice = random.Random(f"{self.seed} shake")
        connection = await self._connect("local")
        while True:
            await asyncio.sleep(1 + dice.random())
            with suppress(asyncpg.PostgresError):
                await connection.execute(dice.choice(RARE))

    async def _connect(self, synchronous: str, name: str = "chaos") -> asyncpg.Connection:
        connection = await asyncpg.connect(
            self.database.dsn,
            server_settings={
                "synchronous_commit": synchronous, "application_name": name, "lock_timeout": "500ms",
                "deadlock_timeout": "50ms",
            },
        )  # fmt: skip
        self._connections.append(connection)
        return connection
