"""What the trading path pays: the same lives of orders with the feed and without, in pairs."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

import psutil

from bench.lives import TRADER, Lives, set_feed
from bench.ours import Ours
from bench.program import Place, Program

RATE = 350
LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Leg:
    """One run of lives: median seconds of a life, and for each life CPU seconds of the trading sessions and of the
    whole server, bytes of WAL without the images of whole pages, and with them."""

    latency: float
    cpu: float
    server_cpu: float
    wal: float
    whole_wal: float
    rate: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Without the feed, and with publication, replica identity FULL and a sidecar that polls each second."""

    without: Leg
    following: Leg

    def ratio(self, what: Callable[[Leg], float]) -> float:
        """With, of without."""
        return what(self.following) / what(self.without)


async def pairs(ours: Ours, number: int, seconds: float, following: Callable[[Program], Awaitable[int]]) -> list[Pair]:
    """So many pairs; every other one begins with the feed, so that what drifts favours neither."""
    place, found = ours.place, list[Pair]()
    await _leg(place, min(seconds, 5))  # the first has the caches to fill
    while len(found) < number:
        await set_feed(place.watcher, there=False)
        before = await _leg(place, seconds)
        await set_feed(place.watcher, there=True)
        async with ours.running() as program:
            await following(program)
            legs = [await _leg(place, seconds) for _ in range(min(2, number - len(found)))]
        found.append(Pair(before, legs[0]))
        if len(legs) > 1:
            await set_feed(place.watcher, there=False)
            found.append(Pair(await _leg(place, seconds), legs[1]))
    return found


async def _leg(place: Place, seconds: float) -> Leg:
    server, watcher = place.server, place.watcher
    async with AsyncExitStack() as stack:
        lives = await stack.enter_async_context(Lives(place, RATE, seconds).playing())
        sessions = [
            psutil.Process(row["pid"])
            for row in await watcher.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", TRADER)
        ]
        used: dict[int, float] = {}
        server_begins = server_ends = server.cpu_seconds()
        begins = await watcher.fetchval("SELECT pg_current_wal_insert_lsn()")
        done, end = asyncio.get_running_loop().time(), 0.0
        first = await _look(sessions)
        while not lives.over:
            used |= await _look(sessions)
            server_ends = max(server_ends, server.cpu_seconds())  # an ended session counts late
            end = asyncio.get_running_loop().time()
            await asyncio.sleep(LOOK_EVERY)
        span = end - done
        ends = await watcher.fetchval("SELECT pg_current_wal_insert_lsn()")
    played = lives.played()
    count = played.rate * span
    wal, images = await watcher.fetchrow(
        "SELECT sum(combined_size)::float8, sum(fpi_size)::float8 FROM pg_get_wal_stats($1, $2)", begins, ends
    )
    cpu = sum(used.values()) - sum(first.values())
    return Leg(
        statistics.median(played.latencies), cpu / count, (server_ends - server_begins) / count,
        (wal - images) / count, wal / count, played.rate,
    )  # fmt: skip


async def _look(sessions: list[psutil.Process]) -> dict[int, float]:
    """CPU seconds of each session so far."""
    found = {}
    for session in sessions:
        with suppress(psutil.NoSuchProcess):
            times = session.cpu_times()
            found[session.pid] = times.user + times.system
    return found
