"""The incremental mode: a poll after so many changes, beside lives of orders, and how soon it sees a bad row."""

from __future__ import annotations

import asyncio
import math
import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg
import psutil

from bench.dataset import Dataset
from bench.lives import BAD, FEED, Lives, Played, prepare, touch, undo
from bench.ours import Ours, await_poll, our_answers, poll_seconds, polls_ended, series
from bench.program import LONGEST_WAIT, Memory, Page, Place, Poll, Program
from bench.server import Work
from bench.trading_path import Pair, pairs


class Changed(NamedTuple):
    """So many orders between two polls, and what of them."""

    orders: int
    what: str = "status"

    def __str__(self) -> str:
        if not self.orders:
            return "an idle poll"
        return f"{self.orders:,} changed orders" + (", their time alone" if self.what == "time" else "")


CHANGES = (*(Changed(orders) for orders in (0, 100, 1_000, 10_000)), Changed(1_000, "time"))
A_THOUSAND = Changed(1_000)
RATES = (350, 500)
SCRAPE_EVERY = 0.05
TRIVIAL = 200
UNLINKED = re.compile(r"^position_order_unlinked_filled_orders\{[^}]*\} (\S+)$", re.MULTILINE)
# The statements of a poll, by what only they have in them; each is one of the first that fits.
PARTS = {
    "reading the slot": "pg_logical_slot_get_binary_changes",
    "the barrier": "pg_logical_emit_message",
    "the slot's lag": "pg_wal_lsn_diff",
    "the snapshot's mark": "pg_current_snapshot",
    "introspection": "pg_is_in_recovery",
    "checks that scan": "check_duplicate_active_position",
    "orders of the same exchange id": "SELECT o.id::text AS id FROM scoped_orders o",
    "checks of what was touched": "check_",
    "open orders": "o.past_grace, o.minute",
    "minutes": "minute_start",
    "positions with many orders": "AS hour",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it: repetitions of each number of changes, seconds of lives, bad rows, pairs of the trading path."""

    dataset: Dataset
    repetitions: int
    seconds: float
    bad_rows: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Followed:
    """One incremental poll; ``lag`` is the WAL, in bytes, that reading the slot decoded again."""

    poll: Poll
    feed: float
    lag: int

    @property
    def seconds(self) -> float:
        """Database time, of the reader and the feed."""
        return self.poll.work.seconds


@dataclass(frozen=True, slots=True)
class AtRate:
    """Polls a second apart while orders live; database time and CPU of the sidecar are a poll's share."""

    rate: int
    played: Played
    polls: int
    database: float
    feed: float
    walls: Sequence[float]
    sidecar_cpu: float
    memory: Memory
    parts: dict[str, float]


@dataclass
class Changes:
    """Everything that was measured of the incremental mode. Times in seconds."""

    followed: dict[Changed, list[Followed]] = field(default_factory=dict)
    trivial_database: float = 0.0
    trivial_wall: float = 0.0
    rates: list[AtRate] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    latency_rate: float = 0.0
    feeds_lost: int = 0
    pairs: list[Pair] = field(default_factory=list)
    memory: Memory | None = None
    parts: dict[Changed, dict[str, float]] = field(default_factory=dict)

    def median(self, changes: Changed, what: Callable[[Followed], float]) -> float:
        """The median over the repetitions of one number of changes."""
        return statistics.median(what(each) for each in self.followed[changes])

    def latency(self, share: float) -> float:
        """The latency within which that share of the bad rows was seen."""
        ranked = sorted(self.latencies)
        return ranked[math.ceil(share * len(ranked)) - 1]


@dataclass
class Truth:
    """What there is to be found, as the benchmark itself changes it."""

    found: dict[str, int]
    compare: Callable[[str, dict[str, int], dict[str, int]], None]

    def lived(self, played: Played) -> None:
        """So many orders more that are filled and linked."""
        for part in ("eligible", "links"):
            self.found[part] += played.lives

    def spoiled(self, rows: int) -> None:
        """So many orders more that are filled and nobody linked."""
        for part in ("eligible", "unlinked_filled_order"):
            self.found[part] += rows

    def check(self, who: str, page: Page) -> dict[str, int]:
        """Compare a page; its answers."""
        answers = our_answers(page)
        self.compare(who, answers, self.found)
        return answers


async def measure(place: Place, plan: Plan, truth: Truth, say: Callable[[str], None]) -> Changes:
    """Everything, in turn; the tables are left as they were found."""
    result = Changes()
    await prepare(place)
    try:
        await _trivial(place, result)
        say("po-exporter, incremental: the baseline")
        await _after_changes(place, plan, truth, result, say)
        await _beside_lives(place, plan, truth, result, say)
        say(f"the trading path, {plan.pairs} pairs of {plan.seconds / 2:g} s")
        ours = Ours(place, 1, mode="incremental")
        result.pairs = await pairs(ours, plan.pairs, plan.seconds / 2, _following)
    finally:
        say("taking away what lived")
        await undo(place)
    return result


async def _trivial(place: Place, result: Changes) -> None:
    """SELECT 1 as the sidecar would ask it: the same role and driver, and nothing kept prepared."""
    server, role = place.server, Ours.role
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user=role, password=server.password, database="trading",
        statement_cache_size=0,
    )  # fmt: skip
    try:
        await connection.fetch("SELECT 1")
        await server.forget(place.watcher, role)
        walls = []
        for _ in range(TRIVIAL):
            begun = time.perf_counter()
            await connection.fetch("SELECT 1")
            walls.append(time.perf_counter() - begun)
        result.trivial_wall = statistics.median(walls)
        result.trivial_database = (await server.work(place.watcher, role)).seconds / TRIVIAL
    finally:
        await connection.close()


async def _after_changes(place: Place, plan: Plan, truth: Truth, result: Changes, say: Callable[[str], None]) -> None:
    """One poll after each number of changes, in turns; the interval is long enough for the changes to fit in."""
    cases = [changed for changed in CHANGES if changed.orders <= plan.dataset.orders // 100]
    most = max(cases)
    rng = random.Random(plan.dataset.orders)
    async with Ours(place, 1, mode="incremental").running() as program:
        await _following(program)
        begun = time.perf_counter()
        await touch(place, plan.dataset, most.orders, most.what, rng)
        taken = time.perf_counter() - begun
        page = await await_poll(program, polls_ended(await program.scrape()) + 2)
        interval = math.ceil(1 + 2 * taken + poll_seconds(page))
    async with Ours(place, interval, mode="incremental").running() as program:
        number = await _following(program)
        for repetition in range(plan.repetitions):
            say(f"changes, repetition {repetition + 1} of {plan.repetitions}, a poll every {interval} s")
            shift = repetition % len(cases)
            for case in cases[shift:] + cases[:shift]:
                followed = await _one_poll(place, program, plan.dataset, case, rng, number)
                number += 1
                truth.compare(f"po-exporter, {case}", dict(followed.poll.answers), truth.found)
                result.followed.setdefault(case, []).append(followed)
        result.followed = {case: result.followed[case] for case in cases}
        result.memory = program.memory()
    for case, polls in result.followed.items():
        each = [_parts(followed.poll.work) for followed in polls]
        result.parts[case] = {part: statistics.median(parts.get(part, 0.0) for parts in each) for part in each[0]}


async def _one_poll(  # noqa: PLR0913, PLR0917  each of another kind
    place: Place, program: Program, dataset: Dataset, case: Changed, rng: random.Random, number: int
) -> Followed:
    """Change so many orders right after the poll of that number, and weigh the next one."""
    server, watcher = place.server, place.watcher
    for role in (Ours.role, FEED):
        await server.forget(watcher, role)
    if case.orders:
        await touch(place, dataset, case.orders, case.what, rng)
    changed = await watcher.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
    lag = await watcher.fetchval(
        "SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn))::bigint FROM pg_replication_slots"
    )
    cpu = server.cpu_seconds()
    page = await await_poll(program, number + 1, every=0.05)
    cpu = server.cpu_seconds() - cpu
    reader, feed = [await server.work(watcher, role) for role in (Ours.role, FEED)]
    if polls_ended(page) != number + 1 or page[SNAPSHOT] < changed or not is_following(page):
        raise RuntimeError(f"no poll of its own followed {case}:\n{program.tail()}")
    work = Work(reader.queries + feed.queries)
    return Followed(Poll(our_answers(page), work, poll_seconds(page), cpu), feed.seconds, lag or 0)


async def _beside_lives(place: Place, plan: Plan, truth: Truth, result: Changes, say: Callable[[str], None]) -> None:
    """A poll a second while orders live, at one rate after the other; at the highest, bad rows are waited for."""
    async with Ours(place, 1, mode="incremental").running() as program:
        await _following(program)
        for rate in RATES:
            say(f"{rate} order lives a second, {plan.seconds:g} s")
            result.rates.append(await _at_rate(place, program, rate, plan.seconds))
            truth.lived(result.rates[-1].played)
            await _settled(program, f"po-exporter after {rate} lives a second", truth)
        say(f"{plan.bad_rows} bad rows beside {RATES[-1]} order lives a second")
        async with Lives(place, RATES[-1], plan.bad_rows * 1.2 + 5).playing() as lives:
            while not lives.over and len(result.latencies) < plan.bad_rows:
                result.latencies.append(await _detected(place, program))
        truth.lived(lives.played())
        truth.spoiled(len(result.latencies))
        result.latency_rate = lives.played().rate
        await _settled(program, "po-exporter after the bad rows", truth)
        result.feeds_lost = program.log.read_text(errors="replace").count("feed_unavailable")


async def _at_rate(place: Place, program: Program, rate: int, seconds: float) -> AtRate:
    server, watcher = place.server, place.watcher
    walls: dict[float, float] = {}
    async with Lives(place, rate, seconds).playing() as lives:
        first = await await_poll(program, polls_ended(await program.scrape()) + 1, every=0.02)
        for role in (Ours.role, FEED):
            await server.forget(watcher, role)
        sidecar = _cpu(program)
        end = time.monotonic() + seconds - 2
        page = first
        while page is first or (time.monotonic() < end and not lives.over):
            page = await await_poll(program, polls_ended(page) + 1, every=0.02)
            walls[page[SNAPSHOT]] = poll_seconds(page)
        reader, feed = [await server.work(watcher, role) for role in (Ours.role, FEED)]
        sidecar = _cpu(program) - sidecar
        memory = program.memory()
        polls = polls_ended(page) - polls_ended(first)
        if not is_following(page):
            raise RuntimeError(f"the feed was lost at {rate} lives a second:\n{program.tail()}")
    parts = {part: each / polls for part, each in _parts(Work(reader.queries + feed.queries)).items()}
    return AtRate(
        rate, lives.played(), polls, (reader.seconds + feed.seconds) / polls, feed.seconds / polls,
        list(walls.values()), sidecar / polls, memory, parts,
    )  # fmt: skip


async def _detected(place: Place, program: Program) -> float:
    """Seconds from the commit of one bad row to the first page that shows it; at any moment between two polls."""
    await asyncio.sleep(random.random())
    before = _unlinked(await program.fetch(), program)
    await place.watcher.execute(BAD)
    committed = time.perf_counter()
    while _unlinked(await program.fetch(), program) <= before:
        if time.perf_counter() > committed + LONGEST_WAIT / 10:
            raise RuntimeError(f"a bad row was not seen:\n{program.tail()}")
        await asyncio.sleep(SCRAPE_EVERY)
    return time.perf_counter() - committed


async def _settled(program: Program, who: str, truth: Truth) -> None:
    """Compare what is said once everything that was committed has been polled."""
    page = await await_poll(program, polls_ended(await program.scrape()) + 2)
    if not is_following(page):
        raise RuntimeError(f"the feed was lost:\n{program.tail()}")
    truth.check(who, page)


async def _following(program: Program) -> int:
    """Return right after a poll that the feed has answered and that was no baseline; the polls so far."""
    await program.await_listening()
    page = await await_poll(program, 1)
    deadline = time.monotonic() + LONGEST_WAIT
    while not is_following(page):
        if time.monotonic() > deadline:
            raise RuntimeError(f"there is no feed:\n{program.tail()}")
        page = await await_poll(program, polls_ended(page) + 1)
    return polls_ended(await await_poll(program, polls_ended(page) + 1))


def is_following(page: Page) -> bool:
    """Whether the latest poll was answered by the feed."""
    return page.get(series("position_order_exporter_mode", mode="incremental")) == 1


def _unlinked(text: str, program: Program) -> int:
    found = UNLINKED.search(text)
    if not found:
        raise RuntimeError(f"nothing is known of unlinked orders:\n{program.tail()}")
    return int(float(found.group(1)))


def _cpu(program: Program) -> float:
    times = psutil.Process(program.process.pid).cpu_times()
    return times.user + times.system


def _parts(work: Work) -> dict[str, float]:
    """Database time by what the statement is for."""
    found = dict.fromkeys([*PARTS, "the rest"], 0.0)
    for query, seconds in work.queries:
        found[next((part for part, mark in PARTS.items() if mark in query), "the rest")] += seconds
    return found


SNAPSHOT = series("position_order_exporter_snapshot_timestamp_seconds")
