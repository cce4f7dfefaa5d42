"""The demo's database: its roles, its tables and the day before."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

import asyncpg

from po_exporter.database.session import Target
from po_exporter.demo.history import History, make_history
from po_exporter.demo.server import Server
from po_exporter.errors import PoExporterError
from po_exporter.install.installer import install
from po_exporter.install.wanted import FIXER as FIXERS
from po_exporter.install.wanted import READER as READERS
from po_exporter.install.wanted import Wanted
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.secret import Secret

DATABASE = "demo"
WRITER = "trading_api"
READER = "po_reader"
FEED = "po_feed"
FIXER = "po_fixer"


@dataclass(frozen=True, slots=True)
class TradingDatabase:
    """Addresses with passwords, one a role: the trading API owns the tables, the sidecar may SELECT from the two, its
    change feed may do nothing but replicate, and who mends may change the link and what a position comes to."""

    writer_dsn: str
    reader_dsn: str
    feed_dsn: str
    fix_dsn: str
    history: History


async def create_trading_database(server: Server, rng: random.Random) -> TradingDatabase:
    """Roles, tables and history, in a new server."""
    # Both are safe between quotes: token_urlsafe uses letters, digits, - and _ only.
    passwords = {role: secrets.token_urlsafe(24) for role in (WRITER, READER, FEED, FIXER)}
    connection = await asyncpg.connect(server.superuser_dsn)
    try:
        for role, password in passwords.items():
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        await connection.execute(f"ALTER ROLE {FEED} REPLICATION")
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {WRITER}")
        await connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {READER}, {FEED}, {FIXER}")
    finally:
        await connection.close()

    writer_dsn, reader_dsn, feed_dsn, fix_dsn = (
        server.dsn(role, passwords[role], DATABASE) for role in (WRITER, READER, FEED, FIXER)
    )
    history = await make_history(datetime.now(UTC).replace(tzinfo=None), rng)
    connection = await asyncpg.connect(writer_dsn)
    try:
        await connection.execute(files("po_exporter.demo").joinpath("schema.sql").read_text(encoding="utf-8"))
        await history.write(connection)
    finally:
        await connection.close()
    owner = Target(DATABASE, Secret(server.dsn("postgres", server.password, DATABASE)))
    made = await install(owner, Wanted(GAL_FRIDAY, feed=False, members=((READER, READERS), (FIXER, FIXERS))))
    if made.refusals:
        raise PoExporterError(f"the demo's schema could not be made: {'; '.join(made.refusals)}")
    return TradingDatabase(writer_dsn, reader_dsn, feed_dsn, fix_dsn, history)
