"""One poll of a database, and what it said in words that a test can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from po_exporter.database.session import Limits, Target
from po_exporter.mapping import SchemaMapping
from po_exporter.model import CheckResult, Finding, LinkRate, Status
from po_exporter.secret import Secret
from po_exporter.sql import CheckFile, load_checks
from po_exporter.watch.answer import Question, Terms
from po_exporter.watch.monitor import Monitor
from po_exporter.watch.watched import Watched
from rows import SECOND, TICK, Rules


@dataclass(frozen=True)
class Asked:
    """What one poll said of a database."""

    status: Status
    off: dict[str, str] = field(default_factory=dict)

    def check(self, name: str) -> CheckResult:
        """The answer of a check that was asked."""
        assert self.status.result, f"nothing is known: {self.status.error}"
        found = self.status.result.check(name)
        assert found, f"{name} was not asked; off: {self.off}"
        return found

    @property
    def names(self) -> list[str]:
        """The checks that were asked, but for the link rate."""
        assert self.status.result, f"nothing is known: {self.status.error}"
        return [check.name for check in self.status.result.checks if check.name != "link_rate"]

    def good(self, name: str) -> CheckResult:
        """The answer of a check that did answer."""
        found = self.check(name)
        assert found.ok, f"{name}: {found.error}"
        return found

    def count(self, name: str) -> int | None:
        return self.good(name).count

    def ids(self, name: str) -> list[str]:
        """The ids in evidence, in its order."""
        return [finding.id for finding in self.good(name).findings]

    def finding(self, name: str) -> Finding:
        """The only finding of a check."""
        (only,) = self.good(name).findings
        return only

    @property
    def link_rate(self) -> LinkRate:
        rate = self.good("link_rate").link_rate
        assert rate is not None
        return rate

    @property
    def counts(self) -> dict[str, int]:
        """What is wrong: each check with findings, and how many."""
        assert self.status.result, f"nothing is known: {self.status.error}"
        return {check.name: check.count for check in self.status.result.checks if check.ok and check.count}

    @property
    def errors(self) -> dict[str, str]:
        """Each check without an answer, and why."""
        assert self.status.result, f"nothing is known: {self.status.error}"
        return {check.name: check.error or "" for check in self.status.result.checks if not check.ok}


def watched(
    dsn: str,
    schema: SchemaMapping,
    rules: Rules | None = None,
    *,
    evidence: int = 1000,
    checks: Sequence[CheckFile] | None = None,
) -> Watched:
    """One database and these checks, ours unless told otherwise. Each is asked at every poll, however soon it comes."""
    rules = rules or Rules()
    files = load_checks().values() if checks is None else checks
    questions = tuple(
        Question(each, each.priority, None if each.tolerance is None else rules.tolerance, interval=TICK)
        for each in files
    )
    limits = Limits(statement=30 * SECOND, lock=SECOND, poll=60 * SECOND)
    terms = Terms(rules.window, rules.grace, limits, evidence, identity_budget=100_000)
    return Watched(Target("test", Secret(dsn)), None, schema, questions, terms, timedelta(minutes=1))


async def ask(dsn: str, schema: SchemaMapping, rules: Rules | None = None, **options: Any) -> Asked:
    """One poll of a database."""
    monitor = Monitor(watched(dsn, schema, rules, **options))
    try:
        return Asked(await monitor.poll(), dict(monitor.off))
    finally:
        await monitor.close()
