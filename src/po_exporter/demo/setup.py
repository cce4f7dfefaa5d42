"""The demo's database: its roles, its tables and the day before."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files

import asyncpg

from po_exporter.demo.history import History, make_history
from po_exporter.demo.server import Server

DATABASE = "demo"
WRITER = "trading_api"
READER = "po_reader"
FEED = "po_feed"


@dataclass(frozen=True, slots=True)
class TradingDatabase:
    """Addresses with passwords, one a role: the trading API owns the tables, the sidecar may SELECT from the two, and
    its change feed may do nothing but replicate."""

    writer_dsn: str
    reader_dsn: str
    feed_dsn: str
    history: History


async def create_trading_database(server: Server, rng: random.Random) -> TradingDatabase:
    """Roles, tables and history, in a new server."""
    # Both are safe between quotes: token_urlsafe uses letters, digits, - and _ only.
    passwords = {role: secrets.token_urlsafe(24) for role in (WRITER, READER, FEED)}
    connection = await asyncpg.connect(server.superuser_dsn)
    try:
        for role, password in passwords.items():
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        await connection.execute(f"ALTER ROLE {FEED} REPLICATION")
        await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {WRITER}")
        await connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        await connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {READER}, {FEED}")
    finally:
        await connection.close()

    writer_dsn, reader_dsn, feed_dsn = (server.dsn(role, passwords[role], DATABASE) for role in (WRITER, READER, FEED))
    history = await make_history(datetime.now(UTC).replace(tzinfo=None), rng)
    connection = await asyncpg.connect(writer_dsn)
    try:
        await connection.execute(files("po_exporter.demo").joinpath("schema.sql").read_text(encoding="utf-8"))
        await history.write(connection)
    finally:
        await connection.close()
    return TradingDatabase(writer_dsn, reader_dsn, feed_dsn, history)
