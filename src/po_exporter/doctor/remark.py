"""What doctor says: one remark for each thing that it found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a remark matters."""

    OK = "ok"
    ADVICE = "advice"
    PROBLEM = "problem"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that doctor found, and what to do about it (None: nothing)."""

    level: Level
    subject: str
    message: str
    action: str | None = None
