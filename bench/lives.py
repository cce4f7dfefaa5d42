"""The trading side: lives of orders that pgbench plays at a rate, touched orders, and how all of it is undone."""

from __future__ import annotations

import asyncio
import os
import random
import re
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar

import asyncpg

from bench.dataset import SLOTS, Dataset
from bench.program import Place
from bench.server import DATABASE, install

TRADER, FEED = "trading_api", "po_feed"
LIFE = Path(__file__).parent / "life.sql"
CLIENTS = 8
LEAD = 2.0  # seconds: everybody connects, and the first statements are prepared

# What the owner of the tables does by hand before the feed can be read; without the feed, none of it is there.
WITH_FEED = """
    ALTER TABLE orders REPLICA IDENTITY FULL;
    ALTER TABLE positions REPLICA IDENTITY FULL;
    CREATE PUBLICATION po_exporter FOR TABLE orders, positions"""
WITHOUT_FEED = """
    DROP PUBLICATION IF EXISTS po_exporter;
    ALTER TABLE orders REPLICA IDENTITY DEFAULT;
    ALTER TABLE positions REPLICA IDENTITY DEFAULT"""
# What changes no answer, and yet has to be asked again: a status in other letters, of which the sum of its position is
# made, too; or the fill time, of which it is not. A column that no check can see would not even be looked at.
TOUCHES = {
    "status": "status = CASE WHEN status = upper(status) THEN lower(status) ELSE upper(status) END",
    "time": "updated_at = updated_at + interval '1 microsecond'",
}
# Each order in a transaction of its own.
TOUCH = """
DO $$
DECLARE touched uuid;
BEGIN
    FOR touched IN SELECT bench.order_id(p, slot) FROM bench.touched LOOP
        UPDATE orders SET {change} WHERE id = touched;
        COMMIT;
    END LOOP;
END $$"""
BAD = """
    INSERT INTO orders (id, trading_pair, exchange, side, order_type, quantity, status, filled_quantity, commission,
        created_at, updated_at)
    SELECT gen_random_uuid(), 'BAD/USD', 'kraken', 'BUY', 'MARKET', 1, 'FILLED', 1, 0, filled, filled
    FROM (SELECT (now() AT TIME ZONE 'UTC') - interval '1 hour' AS filled) t"""


@dataclass(frozen=True, slots=True)
class Played:
    """What became of the lives: how many, how many a second, and the seconds that each took."""

    lives: int
    rate: float
    latencies: Sequence[float]


@dataclass
class Lives:
    """Orders that live while this stands: begun with a rate, ended after so many seconds."""

    _numbers: ClassVar[count[int]] = count()

    place: Place
    rate: int
    seconds: float
    run: int = field(default_factory=lambda: next(Lives._numbers))
    _playing: asyncio.Task[str] | None = None

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[Lives]:
        """From the first life to the last, whose end is waited for."""
        log = self.place.files / f"lives-{self.run}"
        arguments = [
            "--no-vacuum", "--protocol=prepared", f"--file={LIFE}", f"--rate={self.rate}", f"--client={CLIENTS}",
            "--jobs=1", f"--time={round(self.seconds + LEAD)}", f"--define=run={self.run}", "--define=n=0", "--log",
            f"--log-prefix={log}", "--host=127.0.0.1", f"--port={self.place.server.port}", f"--username={TRADER}",
            f"--random-seed={self.run}", DATABASE,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            install() / "pgbench", *arguments, stdout=PIPE, stderr=STDOUT, cwd=self.place.files,
            env={**os.environ, "PGPASSWORD": self.place.server.password},
        )  # fmt: skip
        try:
            self._playing = asyncio.create_task(self._read(process))
            await asyncio.sleep(LEAD)
            yield self
            await self._playing
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()

    @property
    def over(self) -> bool:
        """Whether the last life has ended."""
        return self._playing is None or self._playing.done()

    def played(self) -> Played:
        """The result, once they are over."""
        assert self._playing is not None
        said = self._playing.result()
        lives = re.search(r"^number of transactions actually processed: (\d+)", said, re.MULTILINE)
        rate = re.search(r"^tps = ([\d.]+)", said, re.MULTILINE)
        failed = re.search(r"^number of failed transactions: ([1-9]\d*)", said, re.MULTILINE)
        if not lives or not rate or failed or "aborted" in said:
            raise RuntimeError(f"pgbench failed:\n{said[-2000:]}")
        latencies = []
        for file in self.place.files.glob(f"lives-{self.run}.*"):
            for line in file.read_text().splitlines():
                parts = line.split()
                latencies.append((int(parts[2]) - int(parts[6])) / 1e6)  # without the wait for its turn
            file.unlink()
        return Played(int(lives.group(1)), float(rate.group(1)), latencies)

    @staticmethod
    async def _read(process: asyncio.subprocess.Process) -> str:
        said, _ = await process.communicate()
        return said.decode()


async def prepare(place: Place) -> None:
    """Roles for the trading API and for the feed, and what the feed needs. The tables count as spoiled from now on."""
    connection = place.watcher
    await connection.execute("UPDATE bench.made SET complete = false")
    for role in (TRADER, FEED):
        known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
        if not known:
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{place.server.password}'")
    # Each reading of the slot says six lines in the server's log; the function keeps readings cheap.
    await connection.execute(f"ALTER ROLE {FEED} REPLICATION; ALTER ROLE {FEED} SET log_min_messages = 'fatal'")
    await connection.execute(f"GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO {FEED}")
    await connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON orders, positions TO {TRADER}")
    await connection.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    await connection.execute("CREATE UNLOGGED TABLE IF NOT EXISTS bench.touched (p bigint, slot bigint)")
    await set_feed(connection, there=True)


async def set_feed(connection: asyncpg.Connection, *, there: bool) -> None:
    """Publication and replica identity, or neither."""
    await connection.execute(WITHOUT_FEED)
    if there:
        await connection.execute(WITH_FEED)


async def touch(place: Place, dataset: Dataset, orders: int, what: str, rng: random.Random) -> None:
    """Change so many orders, anywhere in the table; what is true of them stays so. ``what`` names one of TOUCHES."""
    connection = place.watcher
    chosen = [divmod(number, SLOTS) for number in rng.sample(range(dataset.orders), orders)]
    await connection.execute("TRUNCATE bench.touched")
    await connection.copy_records_to_table("touched", schema_name="bench", records=chosen)
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(TOUCH.format(change=TOUCHES[what]))
    await connection.execute("SET synchronous_commit = on")


async def undo(place: Place) -> None:
    """Take away what lived, so that the tables are again what they were made as."""
    connection = place.watcher
    await set_feed(connection, there=False)
    made = "(SELECT anchor FROM bench.made)"
    await connection.execute(
        f"DELETE FROM orders WHERE created_at > {made} - interval '1 hour'"
        " AND (trading_pair LIKE 'LIFE/%' OR trading_pair = 'BAD/USD')"
    )
    await connection.execute("DELETE FROM positions WHERE trading_pair LIKE 'LIFE/%'")
    await connection.execute("UPDATE orders SET status = upper(status) WHERE status <> upper(status)")
    for table in ("orders", "positions"):
        await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.execute("UPDATE bench.made SET complete = true")
