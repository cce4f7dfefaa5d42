"""A database in which the sidecar keeps what it must not forget."""

from __future__ import annotations

from parts.database import Database
from po_exporter import sql

ROLES = "admin reader fixer sealer"


async def installed(database: Database) -> None:
    """The schema, and the reader's right to it."""
    for role in ROLES.split():
        database.server.psql(
            f"DO $$ BEGIN CREATE ROLE po_exporter_{role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    await database.execute("CREATE SCHEMA po_exporter AUTHORIZATION po_exporter_admin")
    for step in (1, 2):
        await database.execute(sql.read(f"install/schema_{step}.sql"))
    await database.execute("""COMMENT ON SCHEMA po_exporter IS '{"made_by": "po-exporter install", "version": 2}';
        GRANT po_exporter_reader TO po_reader""")
