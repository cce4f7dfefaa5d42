"""Incidents, over random histories of what polls learned."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from po_exporter.model import CheckResult, Finding, LinkRate, Result, Status
from po_exporter.tell.incidents import MOST_FLAPS, REPEAT, UNREADABLE, Event, Happening, Incidents, Sensitivity

EPOCH = datetime(2026, 1, 5, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NAMES = ("unlinked_filled_order", "quantity_mismatch", "link_rate")
SENSITIVITY = Sensitivity(2, 3, 2.0, {"quantity_mismatch": 1.0, "link_rate": 95.0})

UNANSWERED = "unanswered"
LOST = "lost"


def finding(number: int, *, settled: bool = True) -> Finding:
    return Finding(f"row {number}", EPOCH, EPOCH, {}, settled)


def answer(name: str, wrong: object, at: datetime) -> CheckResult:
    """``wrong``: so many findings, or percent that are not linked; the ids in it; or no answer."""
    common = {"name": name, "issue_type": name.upper(), "priority": "high", "entity": "order", "help": name,
              "interval": 60.0}  # fmt: skip
    if wrong == UNANSWERED:
        return CheckResult(**common, ok=False, error="broken", reason="query")
    if name == "link_rate":
        common |= {"issue_type": None, "priority": None}
        return CheckResult(**common, ok=True, as_of=at, link_rate=LinkRate(100, 100 - int(wrong)))
    rows = range(wrong) if isinstance(wrong, int) else wrong
    findings = tuple(finding(number) for number in rows)
    return CheckResult(**common, ok=True, as_of=at, count=len(findings), settled=len(findings), findings=findings)


def status(number: int, polled: object) -> Status:
    """What one poll learned: LOST, or by check what was wrong."""
    at = EPOCH + number * MINUTE
    blank = Status("trading", 60.0, check_names=NAMES, last_poll=at)
    if polled == LOST:
        return replace(blank, up=False, error="cannot reach the server")
    checks = tuple(answer(name, wrong, at) for name, wrong in polled.items())
    return replace(blank, up=any(c.ok for c in checks), result=Result("trading", at, "scan", checks))


def play(polls: list[object], sensitivity: Sensitivity = SENSITIVITY) -> list[tuple[int, Event]]:
    """Every event with the number of its poll; what is due to close is found healed."""
    incidents, told = Incidents("trading", sensitivity), []
    for number, polled in enumerate(polls):
        told += [(number, event) for event in incidents.observe(status(number, polled))]
        told += [(number, incidents.close(name, ())) for name in incidents.due_to_close]
    return told


def kinds(told: list[tuple[int, Event]]) -> list[tuple[int, str]]:
    return [(number, str(event.happening)) for number, event in told]


wrongs = {
    "unlinked_filled_order": st.one_of(st.integers(0, 6), st.sets(st.integers(0, 9)), st.just(UNANSWERED)),
    "quantity_mismatch": st.one_of(st.integers(0, 6), st.just(UNANSWERED)),
    "link_rate": st.one_of(st.integers(0, 40), st.just(UNANSWERED)),
}
histories = st.lists(st.one_of(st.just(LOST), st.fixed_dictionaries(wrongs)), max_size=60)
sensitivities = st.builds(
    Sensitivity, st.integers(1, 4), st.integers(1, 4), st.sampled_from((1.0, 1.5, 2.0)),
    st.just(SENSITIVITY.thresholds),
)  # fmt: skip


def is_bad(name: str, polled: object) -> bool | None:
    """Said once more and without its help: whether that poll was bad for a check; None where it is not known."""
    if name == UNREADABLE:
        return polled == LOST or all(wrong == UNANSWERED for wrong in polled.values())
    wrong = UNANSWERED if polled == LOST else polled[name]
    # Where no check has an answer, the database is not read.
    if wrong == UNANSWERED:
        return None
    return (wrong if isinstance(wrong, int) else len(wrong)) > {"quantity_mismatch": 1, "link_rate": 5}.get(name, 0)


@given(histories, sensitivities)
def test_each_opens_once_and_closes_once_and_only_by_answers(polls, sensitivity):
    told = play(polls, sensitivity)
    for key in {event.incident.key for _, event in told}:
        course = [(number, event) for number, event in told if event.incident.key == key]
        happenings = [event.happening for _, event in course]
        assert happenings[0] == Happening.OPENED
        assert happenings.count(Happening.OPENED) == 1
        assert happenings.count(Happening.CLOSED) <= 1
        assert Happening.CLOSED not in happenings[:-1], "nothing is told of it after its close"
        name = course[0][1].incident.check.name
        answers = [(number, bad) for number, polled in enumerate(polls) if (bad := is_bad(name, polled)) is not None]
        opened, last = course[0][0], course[-1][0]
        assert (opened, True) in answers, "opened by a bad answer"
        if happenings[-1] == Happening.CLOSED:
            good = [bad for number, bad in answers if number <= last][-sensitivity.close_after :]
            assert good == [False] * sensitivity.close_after
        assert all((number, True) in answers for number, event in course if event.happening != Happening.CLOSED)


@given(histories, sensitivities)
def test_nothing_is_missed(polls, sensitivity):
    """After so many bad answers in a row there is an open incident, and after enough good ones there is none."""
    incidents = Incidents("trading", sensitivity)
    rows = dict.fromkeys((*NAMES, UNREADABLE), (0, 0))
    for number, polled in enumerate(polls):
        incidents.observe(status(number, polled))
        for name in incidents.due_to_close:
            incidents.close(name, ())
        open_now = {incident.check.name for incident in incidents.open}
        for name in rows:
            bad, good = rows[name]
            match is_bad(name, polled):
                case True:
                    rows[name] = bad, good = bad + 1, 0
                case False:
                    rows[name] = bad, good = 0, good + 1
            assert bad < sensitivity.open_after or name in open_now
            assert good < sensitivity.close_after * 2**MOST_FLAPS or name not in open_now


@given(histories, sensitivities, st.sets(st.integers(0, 60)))
def test_who_goes_on_with_what_was_kept_tells_the_same(polls, sensitivity, restarts):
    """However often one ends and another begins, with the numbers that were told, and every row that is remembered."""

    def story(restarts: set[int]) -> list[tuple[object, ...]]:
        incidents, told = Incidents("trading", sensitivity), []
        for number, polled in enumerate(polls):
            if number in restarts:
                memory = incidents.memory()
                incidents = Incidents("trading", sensitivity)
                for name, state in memory.items():
                    incidents.recall(name, state)
                assert incidents.memory() == memory
            events = incidents.observe(status(number, polled), {"poll": str(number)})
            events += [incidents.close(name, ()) for name in incidents.due_to_close]
            told += [(number, e.incident.check.name, e.happening, e.before, e.numbers, e.incident.ids, e.incident.flaps)
                     for e in events]  # fmt: skip
        return sorted(told, key=lambda each: each[:3])

    assert story(restarts) == story(set())


@given(histories)
def test_what_is_not_known_changes_nothing(polls):
    """Polls that learned nothing of the checks may come anywhere between; only the database's own incident is about
    them."""

    def of_checks(told: list[tuple[int, Event]]) -> list[tuple[str, str, float]]:
        return [(event.incident.check.name, str(event.happening), event.incident.size) for _, event in told
                if event.incident.check.name != UNREADABLE and event.happening != Happening.CHANGED]  # fmt: skip

    interrupted = [each for polled in polls for each in (polled, LOST)]
    assert of_checks(play(interrupted)) == of_checks(play(polls))


UNLINKED = "unlinked_filled_order"


def only(*wrong: object) -> list[object]:
    """Polls in which one check has that to say, and all others are well."""
    fine = {"quantity_mismatch": 0, "link_rate": 0}
    return [LOST if each == LOST else {UNLINKED: each, **fine} for each in wrong]


@pytest.mark.parametrize(
    ("polls", "expected"),
    [
        (only(1, 1, 1), [(1, "opened")]),
        (only(1, 0, 1), [(2, "opened")]),
        (only(1, 0, 0, 0, 1), []),
        (only(1, 1, 0, 0, 0, 0), [(1, "opened"), (4, "closed")]),
        (only(1, 1, 0, 0, 1, 0, 0, 0), [(1, "opened"), (7, "closed")]),
        (only(1, UNANSWERED, 1, UNANSWERED, 0, 0, UNANSWERED, 0), [(2, "opened"), (7, "closed")]),
        (only(3, 3, 6, 7, 4, 3), [(1, "opened"), (3, "changed"), (5, "changed")]),
        (only(LOST, LOST, 0, 0, 0), [(1, "opened"), (4, "closed")]),
    ],
    ids=["lasts", "comes back", "came and went", "heals", "heals slowly", "unknown between", "grows and falls", "lost"],
)
def test_the_course_of_one(polls, expected):
    assert kinds(play(polls)) == expected


def test_a_check_that_flaps_is_told_ever_less_often():
    told = play(only(*(1, 1, 0, 0, 0) * 60))
    opened = [event.incident.flaps for _, event in told if event.happening == Happening.OPENED]
    assert opened == [0, 1]
    assert [event.happening for _, event in told].count(Happening.CLOSED) == 1


def test_a_check_that_was_well_for_long_is_not_flapping():
    told = play(only(1, 1, *[0] * 33, 1, 1))
    assert [event.incident.flaps for _, event in told if event.happening == Happening.OPENED] == [0, 0]
    assert [event.incident.flaps for _, event in play(only(1, 1, *[0] * 30, 1, 1))][-1] == 1


def test_new_rows_alone_are_told_of_now_and_then():
    minutes = int(REPEAT / MINUTE)
    told = play(only(*({number, number + 1} for number in range(2 * minutes + 2))))
    assert kinds(told) == [(1, "opened"), (1 + minutes, "changed"), (1 + 2 * minutes, "changed")]


def test_with_nothing_eligible_the_link_rate_is_neither_good_nor_bad():
    incidents = Incidents("trading", SENSITIVITY)
    for number in range(2):
        incidents.observe(status(number, {**only(0)[0], "link_rate": 40}))
    assert [incident.check.name for incident in incidents.open] == ["link_rate"]
    for number in range(2, 12):
        known = status(number, only(0)[0])
        empty = replace(known.result.check("link_rate"), link_rate=LinkRate(0, 0))
        checks = (*(check for check in known.result.checks if check.name != "link_rate"), empty)
        assert incidents.observe(replace(known, result=replace(known.result, checks=checks))) == []
    assert incidents.due_to_close == {}


def test_what_has_not_settled_is_not_told():
    incidents = Incidents("trading", SENSITIVITY)
    for number in range(5):
        known = status(number, only(2)[0])
        waiting = replace(known.result.checks[0], settled=0, findings=(finding(0, settled=False),))
        known = replace(known, result=replace(known.result, checks=(waiting,)))
        assert incidents.observe(known) == []


def test_the_same_poll_counts_once_and_so_does_an_older_answer():
    incidents = Incidents("trading", SENSITIVITY)
    first = status(0, only(1)[0])
    assert [incidents.observe(first) for _ in range(3)] == [[], [], []]
    later = replace(first, last_poll=EPOCH + MINUTE)  # a poll that did not ask the check again
    assert incidents.observe(later) == []
    assert [event.happening for event in incidents.observe(status(2, only(1)[0]))] == [Happening.OPENED]


def test_a_check_that_is_turned_off_says_so_and_is_no_good_news():
    incidents = Incidents("trading", SENSITIVITY)
    for number in range(2):
        incidents.observe(status(number, only(1)[0]))
    without = replace(status(2, only(0)[0]), check_names=("link_rate",))
    (event,) = incidents.observe(without)
    assert (event.happening, event.incident.check.name) == (Happening.OFF, UNLINKED)
    assert incidents.open == ()


def test_the_rows_of_an_incident_are_remembered_until_it_closes():
    incidents = Incidents("trading", SENSITIVITY)
    for number, wrong in enumerate(({1}, {1, 2}, {3}, set(), set(), set())):
        incidents.observe(status(number, only(wrong)[0]))
    assert set(incidents.due_to_close[UNLINKED]) == {"row 1", "row 2", "row 3"}
    event = incidents.close(UNLINKED, ["row 2"])
    assert event.still_wrong == ("row 2",)
    with pytest.raises(ValueError, match="is open"):
        incidents.close(UNLINKED, ())
