"""One run of the benchmark: who is asked when, what is taken down, and whether everybody agrees."""

from __future__ import annotations

import asyncio
import math
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import asyncpg

from bench import incremental
from bench.dataset import Dataset, build, is_usable
from bench.ours import Ours, await_poll, first_poll, our_answers, poll_seconds, second_poll
from bench.peers import Peer
from bench.program import Memory, Place, Poll
from bench.server import Server

FULL, WINDOW = "po-exporter, full check", "po-exporter, window poll"
ROLES = ("po_reader", "postgres_exporter", "query_exporter", "one_query")
SCRAPES_A_SECOND = 20
LOOKS_A_SECOND = 20  # at whether a poll runs
ENDED = re.compile(r'^position_order_exporter_checks_total\{[^}]*check="link_rate"[^}]*\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured: ``repetitions`` polls of each, then ``polls`` of ours in a row, then what changes."""

    dataset: Dataset
    peers: Sequence[Peer]
    repetitions: int
    polls: int
    files: Path
    changes: incremental.Plan | None = None


@dataclass
class Run:
    """Everything that was measured. Times in seconds, memory in MB."""

    dataset: Dataset
    truth: dict[str, int]
    polls: dict[str, list[Poll]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    ready: list[float] = field(default_factory=list)
    scrapes: list[float] = field(default_factory=list)
    long_run_polls: int = 0
    disagreements: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    products: tuple[str, ...] = ()
    changes: incremental.Changes | None = None

    def median(self, who: str, what: Callable[[Poll], float]) -> float:
        """The median over the repetitions of one contender."""
        return statistics.median(what(poll) for poll in self.polls[who])

    @property
    def scrape_p99(self) -> float:
        """The slowest of a hundred scrapes, where there are that many."""
        ranked = sorted(self.scrapes)
        return ranked[math.ceil(0.99 * len(ranked)) - 1]

    def compare(self, who: str, answers: dict[str, int], truth: dict[str, int] | None = None) -> None:
        """Take down where the answers are not the truth, as it was made or as it is by now."""
        for name, expected in (truth or self.truth).items():
            if answers.get(name) != expected:
                self.disagreements.append(f"{who} says {name} = {answers.get(name)}; it is {expected}")


async def run(server: Server, plan: Plan, say: Callable[[str], None]) -> Run:
    """Make the tables unless they are there, then measure everybody."""
    result = Run(plan.dataset, plan.dataset.truth(), products=tuple(dict.fromkeys(peer.product for peer in plan.peers)))
    await _prepare(server, plan.dataset, say)
    watcher = await server.connect()
    try:
        async with aiohttp.ClientSession() as client:
            place = Place(server, watcher, client, plan.files)
            await _take_turns(place, plan, result, say)
            if plan.polls:
                say(f"{plan.polls} full polls in a row, scraped all the while")
                await _long_run(place, plan.polls, result)
            if plan.changes:
                truth = incremental.Truth(dict(result.truth), result.compare)
                result.changes = await incremental.measure(place, plan.changes, truth, say)
    finally:
        await watcher.close()
    return result


async def _prepare(server: Server, dataset: Dataset, say: Callable[[str], None]) -> None:
    try:
        connection = await server.connect()
    except asyncpg.InvalidCatalogNameError:  # a fresh server
        pass
    else:
        try:
            if await is_usable(connection, dataset):
                say(f"{dataset.orders:,} orders are there from an earlier run")
                return
        finally:
            await connection.close()
    say(f"making {dataset.orders:,} orders and {dataset.positions:,} positions")
    await server.create(ROLES)
    connection = await server.connect()
    try:
        await build(connection, dataset)
    finally:
        await connection.close()


async def _take_turns(place: Place, plan: Plan, result: Run, say: Callable[[str], None]) -> None:
    """Everybody once to warm up, then in turns, each round beginning with another one."""
    async with AsyncExitStack() as stack:
        for peer in plan.peers:
            await stack.enter_async_context(peer.running(place))
            say(f"warming up: {peer.name}")
            result.compare(peer.name, dict((await peer.poll(place)).answers))
        say("warming up: po-exporter")
        # Two polls fit into the interval with room to spare, so that nothing runs when counting begins.
        interval = math.ceil(2 * await first_poll(Ours(place, interval=3600, full=True))) + 1

        async def ours(*, full: bool) -> Poll:
            ready, poll = await second_poll(Ours(place, interval, full))
            result.ready.append(ready)
            return poll

        turns: dict[str, Callable[[], Awaitable[Poll]]] = {
            FULL: lambda: ours(full=True),
            WINDOW: lambda: ours(full=False),
            **{peer.name: partial(peer.poll, place) for peer in plan.peers},
        }
        names = list(turns)
        for repetition in range(plan.repetitions):
            say(f"repetition {repetition + 1} of {plan.repetitions}")
            shift = repetition % len(names)
            for name in names[shift:] + names[:shift]:
                poll = await turns[name]()
                result.polls.setdefault(name, []).append(poll)
                result.compare(name, dict(poll.answers))
        for peer in plan.peers:
            assert peer.program is not None
            result.memory[peer.name] = peer.program.memory()


async def _long_run(place: Place, polls: int, result: Run) -> None:
    """Poll without rest, scrape meanwhile, and see what the process holds at the end."""
    ours = Ours(place, interval=1, full=True)
    last_seen = 0.0

    async def look() -> None:
        nonlocal last_seen
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND state = 'active'"
        while True:
            if await place.watcher.fetchval(asked, ours.role):
                last_seen = time.perf_counter()
            await asyncio.sleep(1 / LOOKS_A_SECOND)

    async with ours.running() as program:
        await program.await_listening()
        page = await await_poll(program, 1)
        looking = asyncio.create_task(look())
        deadline = time.monotonic() + polls * (2 * poll_seconds(page) + 60)
        try:
            # Nothing else happens here between two scrapes: parsing a page would show in the next one's time.
            ended = 1
            while ended < polls:
                if time.monotonic() > deadline or looking.done():
                    raise RuntimeError(f"{ended} polls ended where {polls} were to be seen:\n{program.tail()}")
                begun = time.perf_counter()
                text = await program.fetch()
                seconds = time.perf_counter() - begun
                # Those just after a poll's statement count as well: its result is being taken in.
                if last_seen > begun - 2 / LOOKS_A_SECOND:
                    result.scrapes.append(seconds)
                count = ENDED.search(text)
                ended = int(float(count.group(1))) if count else 0
                await asyncio.sleep(1 / SCRAPES_A_SECOND)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        result.compare("po-exporter after the long run", our_answers(await program.scrape()))
        result.memory[FULL] = program.memory()
        result.long_run_polls = ended
