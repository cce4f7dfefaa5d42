"""Where everything that is told comes together: a teller a database, a courier a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from po_exporter.model import ChannelStatus, Status
from po_exporter.tell.channel import Channel
from po_exporter.tell.incidents import Sensitivity
from po_exporter.tell.outbox import Courier
from po_exporter.tell.summary import Links
from po_exporter.tell.teller import Ask, Teller


@dataclass(frozen=True)
class Telling:
    """What there is to know about telling people. ``links`` by check; ``replica`` names this one."""

    channels: tuple[Channel, ...]
    sensitivity: Sensitivity
    links: Mapping[str, Links] = field(default_factory=dict)
    replica: str = ""


class Office:
    """Tells of every database, by every channel; of none where there is no channel. Its tasks are in ``group``."""

    def __init__(self, telling: Telling, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}
        self._tellers: dict[str, Teller] = {}
        self.configure(telling)

    @property
    def channels(self) -> tuple[ChannelStatus, ...]:
        """How each channel does."""
        return tuple(courier.status for courier, _ in self._couriers.values())

    def configure(self, telling: Telling) -> None:
        """Go on as told from now on. What waits for a channel that stays is sent as that is now."""
        self._telling = telling
        channels = {channel.name: channel for channel in telling.channels}
        for name in self._couriers.keys() - channels.keys():
            _, task = self._couriers.pop(name)
            task.cancel()
        for name, channel in channels.items():
            if name in self._couriers:
                self._couriers[name][0].channel = channel
            else:
                courier = Courier(channel)
                self._couriers[name] = courier, self._group.create_task(courier.run(), name=f"courier {name}")
        for teller in self._tellers.values():
            teller.sensitivity, teller.links, teller.replica = telling.sensitivity, telling.links, telling.replica

    async def observe(self, status: Status, still_wrong: Ask) -> None:
        """Tell what there is to tell of a status; ``still_wrong`` asks its database."""
        if not self._couriers:
            self._tellers = {}
            return
        if status.database not in self._tellers:
            telling = self._telling
            self._tellers[status.database] = Teller(telling.sensitivity, telling.links, telling.replica)
        for summary in await self._tellers[status.database].observe(status, still_wrong):
            for courier, _ in self._couriers.values():
                courier.put(summary)

    def close(self) -> None:
        """Send no more."""
        for _, task in self._couriers.values():
            task.cancel()
