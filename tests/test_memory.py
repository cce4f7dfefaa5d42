"""What is remembered from answer to answer, against a model that keeps every answer and counts by the definition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from po_exporter.watch.links import MOST_PENDING, LinkWatch
from po_exporter.watch.memory import CheckMemory, identity, split

START = datetime(2026, 1, 27, 2, tzinfo=UTC)
GRACE = timedelta(seconds=30)
GRACES = st.sampled_from([GRACE, timedelta(0)])
KEYS = [identity(str(number)) for number in range(4)]


@dataclass(frozen=True)
class Answer:
    at: datetime
    keys: frozenset[bytes]
    seeds: bool


@st.composite
def histories(draw: st.DrawFn) -> list[Answer]:
    """Answers over time; before some of them the check began to look at more."""
    # Steps on both sides of the grace, and such as add up to it.
    steps = draw(st.lists(st.sampled_from([0, 1, 10, 15, 29, 30, 31]), min_size=1, max_size=12))
    answers = [
        Answer(START + timedelta(seconds=at), draw(st.frozensets(st.sampled_from(KEYS))), draw(st.integers(0, 5)) == 0)
        for at in accumulate(steps)
    ]
    return [Answer(answers[0].at, answers[0].keys, seeds=True), *answers[1:]]


def expected_issues(history: list[Answer], grace: timedelta, *, settles: bool) -> int:
    """Every unbroken presence of a finding is one issue, from when it has settled, unless its first answer seeded;
    what has not settled is not seeded."""
    issues = 0
    for key in KEYS:
        for first, answer in enumerate(history):
            if key not in answer.keys or (answer.seeds and not settles) or (first and key in history[first - 1].keys):
                continue
            lasting = [answer]
            for later in history[first + 1 :]:
                if key not in later.keys:
                    break
                lasting.append(later)
            issues += not settles or (len(lasting) > 1 and lasting[-1].at - answer.at >= grace)
    return issues


def remember(memory: CheckMemory, answer: Answer, grace: timedelta = GRACE, *, known: bool = True) -> None:
    if answer.seeds:
        memory.seed_next()
    memory.answer(answer.at, len(answer.keys), list(answer.keys) if known else None, grace)


@given(histories(), GRACES, st.booleans())
def test_issues_are_counted_by_the_definition(history, grace, settles):
    memory = CheckMemory(settles)
    for length, answer in enumerate(history, 1):
        remember(memory, answer, grace)
        assert memory.issues == expected_issues(history[:length], grace, settles=settles)


@given(histories(), st.booleans())
def test_first_seen_is_the_first_answer_of_an_unbroken_presence(history, settles):
    memory = CheckMemory(settles)
    since: dict[bytes, datetime] = {}
    for answer in history:
        remember(memory, answer)
        since = {key: since.get(key, answer.at) for key in answer.keys}
        assert {key: memory.first_seen(key) for key in KEYS} == {key: since.get(key) for key in KEYS}


@given(histories())
def test_beyond_the_budget_the_rise_is_counted(history):
    memory = CheckMemory(settles=False)
    issues = 0
    for before, answer in zip([None, *history], history, strict=False):
        remember(memory, answer, known=False)
        if before and not answer.seeds:
            issues += max(0, len(answer.keys) - len(before.keys))
        assert memory.issues == issues


@given(histories(), GRACES)
def test_beyond_the_budget_what_settles_counts_by_its_least_over_the_grace(history, grace):
    memory = CheckMemory(settles=True)
    issues = level = 0
    for place, answer in enumerate(history):
        remember(memory, answer, grace, known=False)
        # From the last answer that is a grace old, and from the one before at least.
        from_then = [at for at, earlier in enumerate(history[:place]) if earlier.at <= answer.at - grace]
        if from_then:
            least = min(len(each.keys) for each in history[from_then[-1] : place + 1])
            issues += max(0, least - level)
            level = least
        assert memory.issues == issues


@given(histories(), st.booleans(), st.lists(st.booleans(), min_size=12, max_size=12))
def test_crossing_the_budget_never_counts_more_than_there_was(history, settles, known):
    """Whatever is forgotten at the border: a presence is counted once at most, and the counter never falls."""
    memory = CheckMemory(settles)
    issues = 0
    for length, (answer, knows) in enumerate(zip(history, known, strict=False), 1):
        remember(memory, answer, known=knows)
        seen = [replace(each, seeds=each.seeds and not settles) for each in history[:length]]
        assert issues <= memory.issues <= expected_issues(seen, GRACE, settles=False)
        issues = memory.issues


@given(st.frozensets(st.sampled_from(KEYS)), st.booleans(), st.lists(st.booleans(), min_size=1, max_size=8))
def test_what_stays_the_same_is_counted_once_at_most_and_never_where_it_was_seeded(keys, settles, known):
    memory = CheckMemory(settles)
    for place, knows in enumerate(known):
        remember(memory, Answer(START + place * GRACE, keys, seeds=False), known=knows)
    assert memory.issues <= (len(keys) if settles else 0)


def test_what_comes_back_when_a_longer_grace_has_passed_was_counted_before():
    memory = CheckMemory(settles=False)
    for at, keys in enumerate([[], KEYS[:2]]):
        memory.answer(START + at * GRACE, len(keys), keys, GRACE)
    memory.hold()
    later = START + 2 * GRACE
    for seconds, keys in ((0, []), (30, KEYS[:1]), (59, KEYS[:2]), (130, []), (131, KEYS[:2])):
        memory.answer(later + timedelta(seconds=seconds), len(keys), keys, 2 * GRACE)
        assert memory.issues == (4 if seconds == 131 else 2), "what heals after that is an issue again"


def test_identities_are_read_one_by_one():
    assert split(KEYS[0] + KEYS[1]) == KEYS[:2]
    assert split(b"") == []


FILLED = {"a": START - timedelta(seconds=5), "b": START - timedelta(seconds=700), "c": None}
SEEN = st.dictionaries(st.sampled_from(list(FILLED)), st.sampled_from(["waits", "linked", "unfilled"]))


@given(st.lists(SEEN, max_size=12), st.sampled_from([0, 10, 30]))
def test_each_link_that_was_seen_missing_is_timed_once(polls, grace):
    """Each poll sees some orders: filled and without a link, linked, or not filled; the others are gone."""
    watch = LinkWatch()
    waiting: dict[str, datetime] = {}
    seconds: list[float] = []
    for number, seen in enumerate(polls):
        at = START + timedelta(seconds=10 * number)
        seconds += [
            (at - start).total_seconds()
            for order in waiting
            if seen.get(order) == "linked" and (start := FILLED[order]) is not None
        ]
        waiting = {order: waiting.get(order, at) for order, state in seen.items() if state == "waits"}
        known = {order: seen[order] == "linked" for order in watch.ids if seen.get(order, "unfilled") != "unfilled"}
        watch.take(at, [(order, FILLED[order]) for order, state in seen.items() if state == "waits"], known)
        assert set(watch.ids) == set(waiting)
        assert sum(watch.seconds.counts) == len(seconds)
        assert watch.seconds.sum == sum(seconds)
        for later in (0, 5, 10, 35):
            then, span = at + timedelta(seconds=later), timedelta(seconds=grace)
            waited = {order for order, first in waiting.items() if first <= then - span}
            assert set(watch.waited(then, span)) == waited


def test_the_watch_over_links_is_bounded():
    watch = LinkWatch()
    many = [(str(number), START) for number in range(MOST_PENDING + 10)]
    watch.take(START, many, {})
    watch.take(START + GRACE, many, dict.fromkeys(watch.ids, False))
    assert len(watch.ids) == MOST_PENDING
    watch.take(START + GRACE, [("new", START + GRACE)], dict.fromkeys(watch.ids, False))
    assert len(watch.ids) == MOST_PENDING
    assert "new" in watch.ids, "of more, the youngest"


def test_a_clock_that_goes_back_makes_no_negative_time():
    watch = LinkWatch()
    watch.take(START, [("a", START + GRACE)], {})
    watch.take(START, [], {"a": True})
    assert (watch.seconds.sum, watch.seconds.counts[0]) == (0, 1)
