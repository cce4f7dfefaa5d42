"""What is kept in the database survives what ends a process, a lead or a wire; and nothing is told twice for it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml

from installing import without_roles
from keeping import installed
from parts.database import Database
from parts.postgres import Server
from parts.program import Exporter, Program
from parts.slack import Message, Slack
from parts.waiting import until
from po_exporter.tell.outbox import Letter, Outcome, Overtaken
from po_exporter.tell.samples import SAMPLES
from po_exporter.tell.store import Store
from sidecar import Sidecar, populate
from test_telling import A1, B2, config, message_about

pytestmark = pytest.mark.database

UNLINKED = "CRITICAL: 1 unlinked_filled_order in trading"
HEALED = "Healed: unlinked_filled_order in trading"


@pytest.fixture
def roles(server: Server) -> Iterator[None]:
    """The server's roles are as they were, afterwards."""
    with without_roles(server):
        yield


@pytest.fixture
async def kept(roles: None, database: Database) -> Database:
    """A database with a fill that is not linked, and the sidecar's schema."""
    await populate(database)
    await installed(database)
    return database


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Exporter]]]:
    """Starts replicas, each at home in a directory of its own."""
    contexts = []

    async def one(wanted: dict[str, Any] | Path) -> Exporter:
        home = tmp_path / f"replica-{len(contexts)}"
        home.mkdir()
        context = Program(home).running(config=wanted)
        contexts.append(context)
        return await context.__aenter__()

    yield one
    for context in reversed(contexts):
        await context.__aexit__(None, None, None)


async def heal(database: Database) -> None:
    await database.execute("UPDATE orders SET position_id = $1 WHERE id = $2", A1, B2)


async def killed(exporter: Exporter) -> None:
    exporter.signal(signal.SIGKILL)
    await exporter.process.wait()


async def outbox(database: Database) -> list[tuple[str, str]]:
    """Each letter's kind, and what became of it."""
    rows = await database.fetch("""SELECT summary ->> 'kind' AS kind, CASE WHEN sent IS NOT NULL THEN 'sent'
        WHEN set_aside IS NOT NULL THEN 'set aside' ELSE 'waits' END AS fate FROM po_exporter.outbox ORDER BY id""")
    return [(row["kind"], row["fate"]) for row in rows]


async def until_outbox(database: Database, *wanted: tuple[str, str]) -> None:
    seen: list[tuple[str, str]] = []

    async def is_so() -> bool:
        seen[:] = await outbox(database)
        return seen == list(wanted)

    await until(is_so, 30, what=lambda: f"{wanted} in the outbox, not {seen}")


async def healed_in_place(slack: Slack, opened: Message) -> None:
    """The one message says so now, and its thread has the closing once."""
    assert await message_about(slack, HEALED) is opened
    await until(lambda: slack.thread(opened), what="the closing in its thread")
    assert len(slack.messages) == 2


async def test_who_is_killed_and_starts_again_tells_nothing_twice_and_closes_what_it_opened(kept, start, slack):
    first = await start(config(kept.reader_dsn, slack))
    opened = await message_about(slack, UNLINKED)
    await until_outbox(kept, ("opened", "sent"))
    await killed(first)
    second = Sidecar(await start(config(kept.reader_dsn, slack)))
    await second.until_up(1)
    await second.polls(5)
    assert len(slack.messages) == 1
    await heal(kept)
    await healed_in_place(slack, opened)
    await until_outbox(kept, ("opened", "sent"), ("closed", "sent"))
    assert await kept.fetchval("SELECT term FROM po_exporter.leader WHERE database = 'trading'") == 2


async def test_what_healed_while_nobody_looked_is_closed_by_the_next(kept, start, slack):
    first = await start(config(kept.reader_dsn, slack))
    opened = await message_about(slack, UNLINKED)
    await until_outbox(kept, ("opened", "sent"))
    await killed(first)
    await heal(kept)
    await start(config(kept.reader_dsn, slack))
    await healed_in_place(slack, opened)


async def test_killed_between_sending_and_noting_it_one_is_told_again_and_no_more(kept, start, slack):
    slack.answers.clear()
    first = await start(config(kept.reader_dsn, slack))
    await message_about(slack, UNLINKED)
    await killed(first)
    slack.answers.set()
    second = Sidecar(await start(config(kept.reader_dsn, slack)))
    await until(lambda: len(slack.messages) == 2, 30, what="it to be told again")
    await until_outbox(kept, ("opened", "sent"))
    await second.polls(5)
    assert [message.shown for message in slack.messages] == [slack.messages[0].shown] * 2


async def test_what_nobody_takes_waits_through_restarts_and_is_told_in_order(kept, start, slack):
    slack.down = True
    first = await start(config(kept.reader_dsn, slack))
    await until_outbox(kept, ("opened", "waits"))
    await until(lambda: slack.requests, what="a try")
    await killed(first)
    second = await start(config(kept.reader_dsn, slack))
    await heal(kept)
    await until_outbox(kept, ("opened", "waits"), ("closed", "waits"))
    await killed(second)
    slack.down = False
    await start(config(kept.reader_dsn, slack))
    await until_outbox(kept, ("opened", "sent"), ("closed", "sent"))
    (message,) = slack.parents
    assert HEALED in message.shown
    assert len(slack.thread(message)) == 1


async def test_what_is_refused_for_good_is_set_aside_and_stays_so(kept, start, slack):
    slack.failures = [(200, "channel_not_found", {})]
    first = await start(config(kept.reader_dsn, slack))
    await until_outbox(kept, ("opened", "set aside"))
    assert "channel_not_found" in await kept.fetchval("SELECT error FROM po_exporter.outbox")
    await killed(first)
    second = Sidecar(await start(config(kept.reader_dsn, slack)))
    await second.until_up(1)
    await second.polls(5)
    assert slack.messages == []


async def test_a_lost_database_is_told_at_once_and_noted_when_it_is_back(kept, start, slack):
    await start(config(kept.reader_dsn, slack))
    await message_about(slack, UNLINKED)
    await until_outbox(kept, ("opened", "sent"))
    kept.server.stop("immediate")
    try:
        lost = await message_about(slack, "UNKNOWN: nothing is known")
    finally:
        kept.server.start()
    assert await message_about(slack, "Healed: database in trading") is lost
    await until_outbox(kept, ("opened", "sent"), ("opened", "sent"), ("closed", "sent"))
    assert len(slack.parents) == 2


@pytest.mark.parametrize("how", ["killed", "frozen", "cut off"])
async def test_who_takes_over_goes_on_with_what_was_told(kept, start, slack, proxy, how):
    wanted = {**config(kept.reader_dsn, slack), "leader": "auto"}
    cut = {**config(proxy.reader_dsn, slack), "leader": "auto"}
    leader = Sidecar(await start(cut))
    opened = await message_about(slack, UNLINKED)
    others = [Sidecar(await start(wanted)) for _ in range(2)]
    for other in others:
        await other.until_value(0, "exporter_leader")
    await until_outbox(kept, ("opened", "sent"))
    match how:
        case "killed":
            await killed(leader.exporter)
        case "frozen":
            leader.exporter.signal(signal.SIGSTOP)
        case "cut off":
            proxy.black_hole()

    async def one_leads() -> bool:
        return sorted([await other.value("exporter_leader") for other in others]) == [0, 1]

    await until(one_leads, 30, what="another one to lead")
    if how == "cut off":  # it cannot know that another one leads, and says which replica it is
        lost = await message_about(slack, "UNKNOWN: nothing is known")
    await heal(kept)
    assert await message_about(slack, HEALED) is opened
    await until(lambda: slack.thread(opened), what="the closing in its thread")
    leader.exporter.signal(signal.SIGCONT) if how == "frozen" else proxy.heal()
    if how != "killed":
        await leader.until_value(0, "exporter_leader")
    if how == "cut off":
        assert await message_about(slack, "Healed: database in trading") is lost
    for other in others:
        await other.polls(5) if await other.value("exporter_leader") else None
    assert len(slack.parents) == (2 if how == "cut off" else 1)
    assert len(slack.thread(opened)) == 1


async def test_of_several_that_lose_the_database_the_one_that_led_says_so(kept, start, slack):
    wanted = {**config(kept.reader_dsn, slack), "leader": "auto"}
    quiet = {**wanted, "checks": {**wanted["checks"], "unlinked_filled_order": {"threshold": 1000}}}
    replicas = [Sidecar(await start(quiet)) for _ in range(3)]

    async def one_leads() -> bool:
        return sorted([await each.value("exporter_leader") for each in replicas]) == [0, 0, 1]

    await until(one_leads, 30, what="one to lead, and the others to know")
    kept.server.stop("immediate")
    try:
        lost = await message_about(slack, "UNKNOWN: nothing is known")
        for each in replicas:
            await each.until_up(0)
    finally:
        kept.server.start()
    assert await message_about(slack, "Healed: database in trading") is lost
    await until(one_leads, 30, what="one to lead again")
    assert slack.parents == [lost]


async def test_a_digest_comes_once_whoever_is_killed(kept, start, slack):
    wanted = config(kept.reader_dsn, slack)
    wanted["checks"]["unlinked_filled_order"] = {"threshold": 1000}
    wanted["notify"]["digest"] = {"schedule": "0 0 1 1 *"}
    first = Sidecar(await start(wanted))
    await first.until_up(1)

    async def noted() -> bool:
        return bool(await kept.fetchval("SELECT count(*) FROM po_exporter.incidents WHERE name = 'digest'"))

    await until(noted, what="the day to be noted")
    await killed(first.exporter)
    # As if nobody had been there on the day of the year on which it comes.
    await kept.execute("""UPDATE po_exporter.incidents
        SET state = state || jsonb_build_object('since', now() - interval '1 year', 'opened', 7)
        WHERE name = 'digest'""")
    second = await start(wanted)
    digest = await message_about(slack, "The day of trading: CRITICAL")
    assert "Incidents: 7 opened" in digest.shown
    await until_outbox(kept, ("digest", "sent"))
    await killed(second)
    third = Sidecar(await start(wanted))
    await third.until_up(1)
    await third.polls(5)
    assert len(slack.messages) == 1


async def test_what_cannot_be_written_is_told_all_the_same(kept, start, slack):
    await kept.execute("REVOKE INSERT ON po_exporter.outbox FROM po_exporter_reader")
    running = await start(config(kept.reader_dsn, slack))
    opened = await message_about(slack, UNLINKED)
    assert "permission denied for table outbox" in running.log
    await heal(kept)
    await healed_in_place(slack, opened)


async def test_without_the_right_to_it_all_goes_on_in_memory_and_that_is_said(kept, start, slack):
    await kept.execute("REVOKE ALL ON po_exporter.leader FROM po_exporter_reader")
    running = await start(config(kept.reader_dsn, slack))
    await message_about(slack, UNLINKED)
    said = [line for line in running.log.splitlines() if "nothing_kept" in line]
    assert len(said) == 1
    assert "permission denied for table leader" in said[0]
    await kept.execute("GRANT SELECT, INSERT, UPDATE ON po_exporter.leader TO po_exporter_reader")

    async def led() -> bool:
        return await kept.fetchval("SELECT count(*) FROM po_exporter.leader") == 1

    await until(led, what="it to be kept from now on")
    await heal(kept)
    await until_outbox(kept, ("opened", "sent"), ("closed", "sent"))
    assert len(slack.parents) == 1


def write(file: Path, wanted: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(wanted))
    return file


async def reloaded(exporter: Exporter, file: Path, wanted: dict[str, Any]) -> None:
    before = exporter.log.count('"reloaded"')
    write(file, wanted)
    exporter.signal(signal.SIGHUP)
    await until(lambda: exporter.log.count('"reloaded"') > before, what=lambda: f"the reload:\n{exporter.log}")


async def test_another_way_to_the_same_database_is_no_other_one(kept, start, slack, tmp_path):
    file = tmp_path / "reloaded.yaml"
    running = await start(write(file, config(kept.reader_dsn, slack)))
    opened = await message_about(slack, UNLINKED)
    await until_outbox(kept, ("opened", "sent"))
    more = "&" if "?" in kept.reader_dsn else "?"
    await reloaded(running, file, config(f"{kept.reader_dsn}{more}connect_timeout=7", slack))
    await heal(kept)
    await healed_in_place(slack, opened)


async def test_what_was_said_to_be_off_is_told_anew_where_it_is_watched_again(kept, start, slack, tmp_path, proxy):
    """The same database at another address; or taken out of the configuration, and put back."""
    file = tmp_path / "reloaded.yaml"
    one = config(kept.reader_dsn, slack)
    other = config(proxy.reader_dsn, slack)
    running = await start(write(file, one))
    await message_about(slack, UNLINKED)
    await until_outbox(kept, ("opened", "sent"))
    for number, wanted in enumerate((other, {**one, "databases": {"elsewhere": {"dsn": kept.reader_dsn}}}, one), 1):
        await reloaded(running, file, wanted)
        await until(lambda n=number: len(slack.parents) > n, 30, what="it to be told anew")
        off = [each for each in slack.parents if "No longer watched: unlinked_filled_order" in each.shown]
        assert len(off) == number
    await heal(kept)
    await message_about(slack, HEALED)
    assert len(slack.parents) == 4


async def test_through_a_pooler_it_is_kept_all_the_same_and_nothing_is_left_set_there(kept, start, slack, pooler):
    """In a database whose sessions are read-only unless they say otherwise."""
    await kept.execute(f'ALTER DATABASE "{kept.name}" SET default_transaction_read_only = on')
    first = await start(config(pooler.reader_dsn, slack))
    opened = await message_about(slack, UNLINKED)
    await until_outbox(kept, ("opened", "sent"))
    await killed(first)
    await start(config(pooler.reader_dsn, slack))
    await kept.execute("SET default_transaction_read_only = off")
    await heal(kept)
    await healed_in_place(slack, opened)
    connection = await asyncpg.connect(pooler.reader_dsn, statement_cache_size=0)
    try:
        left = await connection.fetch(
            "SELECT name FROM pg_settings WHERE source = 'session' AND name IN "
            "('statement_timeout', 'lock_timeout', 'synchronous_commit', 'default_transaction_read_only')"
        )
    finally:
        await connection.close()
    assert left == []


async def test_who_has_been_replaced_writes_nothing(kept):
    async def keep(query: str, *arguments: object) -> list[Any]:
        return await kept.fetch(query, *arguments)

    old = await Store.take_over("trading", "a", keep)
    letter = Letter(SAMPLES["opened"])
    await old.write({"a check": "{}"}, [("slack", letter)])
    new = await Store.take_over("trading", "b", keep)
    before = await kept.fetch("SELECT * FROM po_exporter.incidents, po_exporter.outbox, po_exporter.leader")
    with pytest.raises(Overtaken):
        await old.write({"another": "{}"}, [("slack", Letter(SAMPLES["closed"]))])
    with pytest.raises(Overtaken):
        await old.tried(letter, Outcome(datetime.now(UTC), "thread"))
    assert await kept.fetch("SELECT * FROM po_exporter.incidents, po_exporter.outbox, po_exporter.leader") == before
    assert await new.memory() == {"a check": "{}"}
    ((channel, waiting),) = await new.waiting()
    assert (channel, waiting.summary) == ("slack", SAMPLES["opened"])


async def test_what_was_written_without_an_answer_is_not_written_twice(kept):
    """The wire may end between a commit and its answer."""

    async def keep(query: str, *arguments: object) -> list[Any]:
        return await kept.fetch(query, *arguments)

    store = await Store.take_over("trading", "a", keep)
    for _ in range(2):
        await store.write(
            {"a check": "{}"}, [("slack", Letter(SAMPLES["opened"])), ("email", Letter(SAMPLES["opened"]))]
        )
    assert await outbox(kept) == [("opened", "waits")] * 2


async def test_every_kind_of_summary_comes_back_as_it_was(kept):
    async def keep(query: str, *arguments: object) -> list[Any]:
        return await kept.fetch(query, *arguments)

    store = await Store.take_over("trading", "a", keep)
    hostile = replace(SAMPLES["opened"], title=r"\u0000 \ ' <!channel>" + ' 😀 " \u2028')
    samples = [*SAMPLES.values(), hostile]
    await store.write({}, [("slack", Letter(replace(each, id=str(n)))) for n, each in enumerate(samples)])
    told = [letter.summary for _, letter in await store.waiting()]
    assert told == [replace(each, id=str(n)) for n, each in enumerate(samples)]


async def test_what_was_told_long_ago_goes_but_not_that_of_what_is_open(kept):
    async def keep(query: str, *arguments: object) -> list[Any]:
        return await kept.fetch(query, *arguments)

    store = await Store.take_over("trading", "a", keep)
    keys = ("over", "open", "waits")
    letters = [("slack", Letter(replace(SAMPLES["opened"], id=key, incident=key))) for key in keys]
    await store.write({"a check": '{"incident": {"key": "open"}}', "another": '{"incident": null}'}, letters)
    for _, letter in letters[:2]:
        await store.tried(letter, Outcome(datetime.now(UTC), "thread"))
    await kept.execute("UPDATE po_exporter.outbox SET sent = sent - interval '31 days'")
    again = await Store.take_over("trading", "a", keep)
    assert await kept.fetchval("SELECT array_agg(incident ORDER BY id) FROM po_exporter.outbox") == ["open", "waits"]
    assert await again.threads() == [("slack", "open", "thread")]


async def test_a_healthy_database_is_written_nothing(kept, start, slack):
    wanted = config(kept.reader_dsn, slack)
    wanted["checks"]["unlinked_filled_order"] = {"threshold": 1000}
    running = Sidecar(await start(wanted))
    await running.until_up(1)
    await running.polls(10)
    assert await kept.fetch("SELECT name, state FROM po_exporter.incidents") == []
    assert await outbox(kept) == []
    assert slack.messages == []
