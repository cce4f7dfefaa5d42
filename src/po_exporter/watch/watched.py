"""What there is to be known about watching one database, and what a change of it means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from po_exporter.database.session import Target
from po_exporter.mapping import SchemaMapping
from po_exporter.watch.answer import Question, Terms

WantedMode = Literal["scan", "incremental", "auto"]


@dataclass(frozen=True, slots=True)
class Watched:
    """One database and everything that is to be known about watching it.

    ``feed`` is where the change feed connects, the reader's own place if None; ``control`` where the lead is held, and
    what is kept is written, None for one that is only asked; without ``elects`` this replica always leads;
    ``state_budget`` is in bytes.
    """

    target: Target
    environment: str | None
    mapping: SchemaMapping
    questions: tuple[Question, ...]
    terms: Terms
    interval: timedelta
    polls: bool = True
    mode: WantedMode = "scan"
    feed: Target | None = None
    control: Target | None = None
    elects: bool = False
    state_budget: int = 64_000_000

    @property
    def name(self) -> str:
        """The value of the ``database`` label."""
        return self.target.name


def wider(before: Watched, after: Watched) -> set[str]:
    """The checks that may find more from now on in what was there all the time."""
    terms, were = after.terms, before.terms
    asked = {question.name: (question.file, question.tolerance) for question in before.questions}
    moved = (after.target, after.mapping) != (before.target, before.mapping)
    # A narrower window counts as well: more is too old for it.
    everything = moved or terms.window != were.window or terms.grace < were.grace
    return {q.name for q in after.questions if everything or asked.get(q.name) != (q.file, q.tolerance)}
