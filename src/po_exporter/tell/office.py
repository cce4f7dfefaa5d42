"""Where everything that is told comes together: a desk a database, a courier a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from po_exporter.model import ChannelStatus
from po_exporter.tell.channel import Channel
from po_exporter.tell.desk import Desk, Watch
from po_exporter.tell.outbox import Courier
from po_exporter.tell.summary import Summary
from po_exporter.tell.teller import Terms


class Office:
    """Tells of every database, by every channel; of none where there is no channel. Its tasks are in ``group``."""

    def __init__(self, channels: Sequence[Channel], terms: Terms, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._couriers: dict[str, Courier] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._desks: dict[str, Desk] = {}
        self.configure(channels, terms)

    @property
    def channels(self) -> tuple[ChannelStatus, ...]:
        """How each channel does."""
        return tuple(courier.status for courier in self._couriers.values())

    def configure(self, channels: Sequence[Channel], terms: Terms) -> None:
        """Go on like this from now on. What waits for a channel that stays is sent as that is now."""
        self._terms = terms
        wanted = {channel.name: channel for channel in channels}
        for name in self._couriers.keys() - wanted.keys():
            self._group.create_task(self._couriers.pop(name).retire(self._tasks.pop(name)), name=f"retiring {name}")
        for name, channel in wanted.items():
            if name in self._couriers:
                self._couriers[name].channel = channel
            else:
                courier = self._couriers[name] = Courier(channel)
                self._tasks[name] = self._group.create_task(courier.run(), name=f"courier {name}")
        for desk in self._desks.values():
            desk.teller.terms = terms

    async def observe(self, watch: Watch) -> None:
        """Tell what there is to tell of a database now."""
        if not self._couriers:
            self._desks = {}
            return
        await self._desk(watch).observe()
        for courier in self._couriers.values():
            courier.stir()

    async def answer(self, watch: Watch, told: Sequence[Summary]) -> None:
        """Have these sent, which are about one database. Raises NotLeading where they have to be asked for again."""
        if self._couriers:
            await self._desk(watch).answer(told)

    def _desk(self, watch: Watch) -> Desk:
        name = watch.status.database
        if name not in self._desks:
            self._desks[name] = Desk(watch, self._terms, self._couriers)
        return self._desks[name]

    async def end(self, database: str) -> None:
        """It will not be watched any more; nothing is told of it until it is forgotten."""
        if desk := self._desks.get(database):
            await desk.end()

    def forget(self, database: str) -> None:
        """What is told under its name from now on is about another one."""
        self._desks.pop(database, None)

    def close(self) -> None:
        """Send no more."""
        for task in self._tasks.values():
            task.cancel()
