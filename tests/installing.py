"""What install leaves in a database and on its server, and a server without it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from here import Here, sql
from parts.database import Database
from parts.postgres import Server

ADMIN, READER, FIXER, SEALER = ROLES = (
    "po_exporter_admin", "po_exporter_reader", "po_exporter_fixer", "po_exporter_sealer",
)  # fmt: skip
CATALOGS = Path(__file__).with_name("catalogs.sql").read_text()


def catalogs(database: Database) -> str:
    """Everything that install could leave behind."""
    return sql(database, CATALOGS)


def role_of(dsn: str) -> str:
    """The role in the DSN of one of the tests' own."""
    return dsn.split("//")[1].split(":", maxsplit=1)[0]


def refused(po: Here, database: Database, *args: str, dsn: str | None = None, config: Any = None) -> str:
    """Why an install is refused. Nothing was changed."""
    before = catalogs(database)
    finished = po("install", "--format", "json", *args, config=config, dsn=None if config else dsn or database.dsn)
    assert (finished.status, finished.stderr) == (1, ""), finished
    said = finished.json
    assert (said["status"], said["changes"], said["advice"]) == ("refused", [], [])
    assert catalogs(database) == before
    return "; ".join(said["refusals"])


@contextmanager
def without_roles(server: Server) -> Iterator[None]:
    """Whatever has used our roles, its databases are gone afterwards, and so are they."""
    server.start()
    drop = "; ".join(f"DROP ROLE IF EXISTS {role}" for role in ROLES)
    server.psql(drop)
    yield
    server.start()
    server.psql(drop)
