"""Where everything that is told comes together: a teller a database, a courier a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from po_exporter.model import ChannelStatus, Status
from po_exporter.tell.channel import Channel
from po_exporter.tell.outbox import Courier
from po_exporter.tell.teller import Ask, Teller, Terms


class Office:
    """Tells of every database, by every channel; of none where there is no channel. Its tasks are in ``group``."""

    def __init__(self, channels: Sequence[Channel], terms: Terms, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}
        self._tellers: dict[str, Teller] = {}
        self.configure(channels, terms)

    @property
    def channels(self) -> tuple[ChannelStatus, ...]:
        """How each channel does."""
        return tuple(courier.status for courier, _ in self._couriers.values())

    def configure(self, channels: Sequence[Channel], terms: Terms) -> None:
        """Go on like this from now on. What waits for a channel that stays is sent as that is now."""
        self._terms = terms
        wanted = {channel.name: channel for channel in channels}
        for name in self._couriers.keys() - wanted.keys():
            _, task = self._couriers.pop(name)
            task.cancel()
        for name, channel in wanted.items():
            if name in self._couriers:
                self._couriers[name][0].channel = channel
            else:
                courier = Courier(channel)
                self._couriers[name] = courier, self._group.create_task(courier.run(), name=f"courier {name}")
        for teller in self._tellers.values():
            teller.terms = terms

    async def observe(self, status: Status, still_wrong: Ask) -> None:
        """Tell what there is to tell of a status; ``still_wrong`` asks its database."""
        if not self._couriers:
            self._tellers = {}
            return
        teller = self._tellers.setdefault(status.database, Teller(self._terms))
        for summary in await teller.observe(status, still_wrong):
            for courier, _ in self._couriers.values():
                courier.put(summary)

    def forget(self, database: str) -> None:
        """Its incidents are told no more."""
        self._tellers.pop(database, None)

    def close(self) -> None:
        """Send no more."""
        for _, task in self._couriers.values():
            task.cancel()
