"""A database in which the sidecar keeps what it must not forget."""

from __future__ import annotations

from parts.database import Database
from po_exporter.database.session import Target
from po_exporter.install.installer import install
from po_exporter.install.wanted import READER, Wanted
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret


async def installed(database: Database) -> None:
    """The schema, and the right of `po_reader` to it; not what the change feed needs."""
    outcome = await install(
        Target(database.name, Secret(database.dsn)), Wanted(GAL_FRIDAY, feed=False, members=(("po_reader", READER),))
    )
    assert outcome.status == "installed", outcome
