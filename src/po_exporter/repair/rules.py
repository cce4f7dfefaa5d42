"""What may be written in one database, as far as the configuration says; what the database says comes on top."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Rules:
    """``allow``: the fixes that may be made unasked; ``max_quantity``: the largest that one may be about; ``attempts``:
    how often one is made on the same order; ``tolerance``: how far a position may be from the sum of its orders without
    being wrong; ``stopped``: why nothing at all may be written, None where it may.
    ``closed`` says of a fix why a feature flag holds it back; ``shares``: for which share of the orders, in percent,
    it is let through.
    """

    allow: frozenset[str]
    max_per_run: int
    max_per_hour: int
    max_quantity: Decimal | None
    quiet_period: timedelta
    attempts: int
    tolerance: Decimal
    stopped: str | None
    closed: Mapping[str, str]
    shares: Mapping[str, int]

    def holds_back(self, fix: str, order: str, quantity: str | None) -> str | None:
        """Why a fix that is safe is not made; None where it may be."""
        if self.stopped:
            return self.stopped
        if fix not in self.allow:
            return f"fix.allow does not name {fix}"
        if fix in self.closed:
            return self.closed[fix]
        share = self.shares.get(fix, 100)
        if place_of(order) >= share:
            return f"the rollout is for {share} % of the orders, and this is none of them"
        if self.max_quantity is not None and (quantity is None or not Decimal(quantity) <= self.max_quantity):
            return f"its quantity is above fix.max_quantity ({self.max_quantity})"
        return None


def place_of(order: str) -> int:
    """Where an order stands in a rollout, 0 to 99: always the same, and the same for every flag."""
    return int.from_bytes(hashlib.sha256(order.encode()).digest()[:8], "big") % 100
