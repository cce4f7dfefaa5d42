"""What is said of a close: *Healed* only where nothing is left, and where somebody has looked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from parts.waiting import until
from po_exporter.errors import Unreachable
from po_exporter.model import Status
from po_exporter.tell.incidents import Sensitivity
from po_exporter.tell.office import Office
from po_exporter.tell.summary import Links, Summary
from po_exporter.tell.teller import Teller, Terms
from po_exporter.tell.words import headline, story
from test_incidents import LOST, UNANSWERED, finding, only, status
from test_outbox import Recorder

UNLINKED = "unlinked_filled_order"


class Watch:
    """A database whose rows have all healed, watched by a replica that leads and may tell."""

    status: Status
    may_tell = True

    async def still_wrong(self, *_: object) -> list[str]:
        return []

    async def keep(self, *_: object) -> list[Mapping[str, object]]:
        raise AssertionError("nothing is kept there")


async def close_of(polls: list[object], still_wrong: list[str] | None, *, threshold: float = 0) -> Summary:
    """The closing of an incident that these polls make."""
    teller = Teller(Terms(Sensitivity(2, 2, 2.0, {UNLINKED: threshold, "link_rate": 95.0})))

    async def ask(_: str, __: object) -> list[str] | None:
        return still_wrong

    told = [each for number, polled in enumerate(polls) for each in await teller.observe(status(number, polled), ask)]
    (closed,) = [summary for summary in told if summary.kind == "closed"]
    return closed


async def test_what_is_gone_has_healed():
    closed = await close_of(only(1, 1, 0, 0), [])
    assert headline(closed) == "Healed: unlinked_filled_order in trading"
    assert "looked at again: 1, none of them wrong." in story(closed)


async def test_what_is_below_the_threshold_has_not():
    closed = await close_of(only(9, 9, {20, 21}, {20, 21}), [], threshold=5)
    assert headline(closed) == "Over: unlinked_filled_order in trading"
    assert "Below the threshold, 2 are left." in story(closed)


async def test_where_nobody_can_tell_nobody_says_healed():
    closed = await close_of(only(1, 1, 0, 0), None)
    assert headline(closed) == "Over: unlinked_filled_order in trading"
    assert "Whether its rows have healed, nobody can tell." in story(closed)


async def test_of_rows_that_nobody_remembers_nobody_says_that_they_have_healed():
    """As if there had been more of them than are remembered."""
    teller = Teller(Terms(Sensitivity(1, 1, 2.0)))
    waves = [set(range(wave * 400, (wave + 1) * 400)) for wave in range(3)]

    async def ask(_: str, __: object) -> list[str]:
        return []

    for number, polled in enumerate(only(*waves, 0)):
        told = await teller.observe(status(number, polled), ask)
    (closed,) = told
    assert headline(closed) == "Over: unlinked_filled_order in trading"
    assert "The latest 1,000 of its rows were looked at again, none of them wrong." in story(closed)
    assert "It had more than those" in story(closed)


async def test_what_is_unreadable_of_one_check_is_forgotten_of_no_other():
    told = {}
    for memory in ({}, {UNLINKED: "not JSON"}):
        first, second = Teller(Terms(Sensitivity(1, 1, 2.0))), Teller(Terms(Sensitivity(1, 1, 2.0)))

        async def ask(_: str, __: object) -> list[str]:
            return []

        bad = {UNLINKED: 1, "quantity_mismatch": 2, "link_rate": 0}
        await first.observe(status(0, bad), ask)
        second.recall("trading", first.memory() | memory)
        told[bool(memory)] = [each.check for each in await second.observe(status(1, bad), ask)]
    assert told == {False: [], True: [UNLINKED]}


async def test_a_link_rate_has_no_rows_that_could_heal():
    polls = [{**each, "link_rate": rate} for each, rate in zip(only(0, 0, 0, 0), (40, 40, 1, 1), strict=True)]
    closed = await close_of(polls, [])
    assert headline(closed) == "Over: link_rate in trading"
    assert "It is within its threshold." in story(closed)


async def test_nothing_closes_while_the_database_cannot_be_read():
    teller = Teller(Terms(Sensitivity(2, 2, 2.0)))
    answers: list[object] = [Unreachable("gone"), [], []]

    async def ask(_: str, __: object) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    told = []
    for number, polled in enumerate([*only(1, 1, 0, 0), LOST, *only(0)]):
        told += [(number, each.kind) for each in await teller.observe(status(number, polled), ask)]
    assert told == [(1, "opened"), (5, "closed")]


@pytest.mark.parametrize(
    "lost", [LOST, {UNLINKED: UNANSWERED, "quantity_mismatch": UNANSWERED, "link_rate": UNANSWERED}]
)
async def test_a_database_that_cannot_be_read_is_told_with_its_reason(lost):
    teller = Teller(Terms(Sensitivity(2, 2, 2.0)))

    async def ask(_: str, __: object) -> list[str]:
        return []

    told = [each for number in range(3) for each in await teller.observe(status(number, lost), ask)]
    (opened,) = told
    assert opened.error in ("cannot reach the server", "broken")
    assert f"It says: {opened.error}." in story(opened)


async def test_who_led_and_was_cut_off_says_so_and_that_it_is_over():
    teller = Teller(Terms(Sensitivity(2, 2, 2.0)))
    leads, blank = status(0, only(3)[0]), Status("trading", 60.0, leader=False)
    silent = replace(blank, cut_off=True)  # it does not know yet why it leads no more
    gone = replace(silent, up=False, error="cannot reach the server")

    async def ask(_: str, __: object) -> list[str]:
        return []

    told = [[(each.kind, each.check) for each in await teller.observe(known, ask)]
            for known in (leads, silent, gone, silent, gone, gone, silent, blank, gone, gone)]  # fmt: skip
    assert told == [[], [], [], [], [("opened", "database")], [], [], [("closed", "database")], [], []]


async def test_who_followed_all_the_time_says_nothing():
    teller = Teller(Terms(Sensitivity(1, 1, 2.0)))
    gone = Status("trading", 60.0, leader=False, up=False, error="cannot reach the server")

    async def ask(_: str, __: object) -> list[str]:
        return []

    assert [await teller.observe(gone, ask) for _ in range(5)] == [[]] * 5


async def test_more_rows_than_are_counted_are_no_negative_number():
    teller = Teller(Terms(Sensitivity(1, 2, 2.0)))

    async def ask(_: str, __: object) -> list[str]:
        return []

    known = status(0, only(0)[0])
    check = replace(known.result.check(UNLINKED), count=70, settled=10, findings=tuple(map(finding, range(70))))
    known = replace(known, result=replace(known.result, checks=(check,)))
    (opened,) = await teller.observe(known, ask)
    assert opened.more == 0


async def test_another_database_under_the_same_name_inherits_no_incident():
    channel = Recorder()
    async with asyncio.TaskGroup() as group:
        office = Office([channel], Terms(Sensitivity(2, 2, 2.0)), group)
        watch = Watch()
        for number in range(2):
            watch.status = status(number, only(1)[0])
            await office.observe(watch)
        await until(lambda: channel.taken, what="the opening to be sent")
        await office.end("trading")
        office.forget("trading")
        for number in range(2, 6):
            watch.status = status(number, only(0)[0])
            await office.observe(watch)
        await until(lambda: not office.channels[0].waiting, what="nothing to wait")
        office.close()
    assert [kind for _, kind in channel.taken] == ["opened", "off"]


def test_the_dashboard_is_opened_at_the_database():
    plain = Terms(Sensitivity(1, 1, 2.0), dashboard="https://grafana.example/d/po-exporter")
    assert plain.where(UNLINKED, "a&b").dashboard == "https://grafana.example/d/po-exporter?var-database=a%26b"
    orgs = replace(plain, dashboard="https://grafana.example/d/po-exporter?orgId=2")
    assert orgs.where(UNLINKED, "desk").dashboard == "https://grafana.example/d/po-exporter?orgId=2&var-database=desk"
    assert Terms(Sensitivity(1, 1, 2.0)).where(UNLINKED, "desk") == Links()
