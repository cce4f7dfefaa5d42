"""Counters and histograms of one database, and each check's memory: what grows from poll to poll."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from po_exporter.errors import DatabaseError
from po_exporter.model import CHECK_SECONDS, CheckResult, Finding, Histogram
from po_exporter.watch.answer import Answer, Question
from po_exporter.watch.memory import CheckMemory, identity


@dataclass
class Tally:
    """Everything about one database that outlives a poll, by check name."""

    asked: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations: dict[str, Histogram] = field(default_factory=dict)
    last_success: dict[str, datetime] = field(default_factory=dict)
    memories: dict[str, CheckMemory] = field(default_factory=dict)
    issues: dict[tuple[str, str], int] = field(default_factory=dict)

    def follow(self, questions: Sequence[Question], *, wider: Collection[str], longer_grace: bool) -> None:
        """From now on these are the checks; those in ``wider`` may find more than they did, in what was there."""
        names = {question.name for question in questions}
        self.memories = {name: memory for name, memory in self.memories.items() if name in names}
        for question in questions:
            self.durations.setdefault(question.name, Histogram.empty(CHECK_SECONDS))
            if question.priority is None:
                continue
            self.issues.setdefault((question.file.issue_type, question.priority), 0)
            memory = self.memories.setdefault(question.name, CheckMemory(question.file.settles))
            if question.name in wider:
                memory.seed_next()
            if longer_grace:
                memory.hold()

    def answered(
        self, question: Question, answer: Answer, as_of: datetime, grace: timedelta, interval: float
    ) -> CheckResult:
        """Count an answer, and give it as a result."""
        name = question.name
        self.asked[name] += 1
        self.durations[name] = self.durations[name].observe(answer.seconds)
        self.last_success[name] = as_of
        findings: tuple[Finding, ...] = ()
        settled: int | None = None
        if question.priority is not None:
            memory = self.memories[name]
            before = memory.issues
            memory.answer(as_of, answer.count, answer.identities, grace)
            self.issues[question.file.issue_type, question.priority] += memory.issues - before
            settled = memory.settled
            keys = [identity(each.id) for each in answer.evidence]
            findings = tuple(
                Finding(each.id, each.since, memory.first_seen(key) or as_of, each.read(), memory.has_settled(key))
                for key, each in zip(keys, answer.evidence, strict=True)
            )
        return _result(
            question,
            ok=True,
            interval=interval,
            as_of=as_of,
            seconds=answer.seconds,
            count=answer.count if question.priority else None,
            settled=settled,
            oldest=answer.oldest,
            findings=findings,
            link_rate=answer.link_rate,
        )

    def failed(self, question: Question, error: DatabaseError, interval: float) -> CheckResult:
        """Count a failure, and give it as a result."""
        self.asked[question.name] += 1
        self.failures[question.name, error.reason] += 1
        return unanswered(question, interval, str(error), error.reason)


def unanswered(question: Question, interval: float, error: str, reason: str | None = None) -> CheckResult:
    """A check of which nothing is known, and why."""
    return _result(question, ok=False, interval=interval, error=error, reason=reason)


def _result(question: Question, **known: object) -> CheckResult:
    file = question.file
    issue_type = file.issue_type if question.priority else None
    return CheckResult(file.name, issue_type, question.priority, file.entity, file.help, **known)  # type: ignore[arg-type]  # the callers above name the fields
