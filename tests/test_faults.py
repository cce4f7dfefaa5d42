"""What breaks the whole poll: each fault withdraws everything, is said once, and heals without a restart."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from asking import watched
from parts.database import Database
from parts.proxy import Proxy
from po_exporter.mapping import GAL_FRIDAY
from po_exporter.watch.monitor import Monitor
from sidecar import COUNTED, DOMAIN, FOUND, Sidecar, counted_connections, populate, settings


@dataclass
class Stage:
    """What a fault may lay hands on."""

    database: Database
    proxy: Proxy
    role: str
    password_file: Path

    async def end_sessions(self) -> None:
        await self.database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", self.role
        )


@pytest.fixture
async def stage(database, proxy, tmp_path):
    await populate(database)
    role = urlsplit(database.create_role("SELECT ON orders, positions")).username
    password_file = tmp_path / "password"
    password_file.write_text("a secret\n")
    return Stage(database, proxy, role, password_file)


@asynccontextmanager
async def server_stopped(stage: Stage) -> AsyncIterator[None]:
    stage.database.server.stop()
    yield
    stage.database.server.start()


@asynccontextmanager
async def server_crashed(stage: Stage) -> AsyncIterator[None]:
    stage.database.server.stop("immediate")
    yield
    stage.database.server.start()


@asynccontextmanager
async def black_hole(stage: Stage) -> AsyncIterator[None]:
    stage.proxy.black_hole()
    yield
    stage.proxy.heal()


@asynccontextmanager
async def slow_wire(stage: Stage) -> AsyncIterator[None]:
    stage.proxy.latency(1)
    yield
    stage.proxy.heal()


@asynccontextmanager
async def wrong_password(stage: Stage) -> AsyncIterator[None]:
    await stage.database.execute(f"ALTER ROLE {stage.role} PASSWORD 'another secret'")
    await stage.end_sessions()
    yield
    stage.password_file.write_text("another secret")


@asynccontextmanager
async def password_file_missing(stage: Stage) -> AsyncIterator[None]:
    stage.password_file.unlink()
    await stage.end_sessions()
    yield
    stage.password_file.write_text("a secret")


@asynccontextmanager
async def role_may_not_log_in(stage: Stage) -> AsyncIterator[None]:
    await stage.database.execute(f"ALTER ROLE {stage.role} NOLOGIN")
    await stage.end_sessions()
    yield
    await stage.database.execute(f"ALTER ROLE {stage.role} LOGIN")


@asynccontextmanager
async def role_dropped(stage: Stage) -> AsyncIterator[None]:
    # Our session goes on, as nobody; the role that comes back is another one of the same name.
    await stage.database.execute(f"DROP OWNED BY {stage.role}; DROP ROLE {stage.role}")
    yield
    await stage.database.execute(
        f"CREATE ROLE {stage.role} LOGIN PASSWORD 'a secret'; GRANT SELECT ON orders, positions TO {stage.role}"
    )


@asynccontextmanager
async def too_many_connections(stage: Stage) -> AsyncIterator[None]:
    await stage.database.execute(f"ALTER ROLE {stage.role} CONNECTION LIMIT 0")
    await stage.end_sessions()
    yield
    await stage.database.execute(f"ALTER ROLE {stage.role} CONNECTION LIMIT -1")


@asynccontextmanager
async def database_renamed(stage: Stage) -> AsyncIterator[None]:
    name, psql = stage.database.name, stage.database.server.psql
    await stage.database.close()
    psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    psql(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
    psql(f"ALTER DATABASE {name} RENAME TO {name}_away")
    yield
    psql(f"ALTER DATABASE {name}_away RENAME TO {name}")
    psql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@asynccontextmanager
async def table_locked(stage: Stage) -> AsyncIterator[None]:
    other = await asyncpg.connect(stage.database.dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("LOCK TABLE positions IN ACCESS EXCLUSIVE MODE")
    yield
    await transaction.rollback()
    await other.close()


@asynccontextmanager
async def no_rights_at_all(stage: Stage) -> AsyncIterator[None]:
    await stage.database.execute(f"REVOKE SELECT ON orders, positions FROM {stage.role}")
    yield
    await stage.database.execute(f"GRANT SELECT ON orders, positions TO {stage.role}")


@asynccontextmanager
async def both_tables_elsewhere(stage: Stage) -> AsyncIterator[None]:
    await stage.database.execute(
        f"CREATE SCHEMA away; GRANT USAGE ON SCHEMA away TO {stage.role};"
        "ALTER TABLE orders SET SCHEMA away; ALTER TABLE positions SET SCHEMA away"
    )
    yield
    # It heals by what doctor advises, for which our old session is of no use.
    await stage.database.execute(f"ALTER ROLE {stage.role} SET search_path = away")


Fault = Callable[[Stage], AbstractAsyncContextManager[None]]
FAULTS: dict[Fault, str] = {
    server_stopped: "connection",
    server_crashed: "connection",
    black_hole: "deadline",
    slow_wire: "deadline",
    wrong_password: "authentication",
    password_file_missing: "credentials",
    role_may_not_log_in: "authentication",
    role_dropped: "",
    too_many_connections: "connection",
    database_renamed: "authentication",
    table_locked: "lock_timeout",
    no_rights_at_all: "permission",
    both_tables_elsewhere: "missing",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_withdraws_everything_is_said_once_and_heals(fault, stage, exporter):
    dsn = f"postgresql://{stage.role}@127.0.0.1:{stage.proxy.port}/{stage.database.name}"
    config: dict[str, Any] = settings(dsn)
    config["databases"]["trading"]["password_file"] = str(stage.password_file)
    async with counted_connections(stage.database, [stage.role]) as connections:
        sidecar = Sidecar(await exporter(config=config))
        await sidecar.until_settled()
        before = await sidecar.metrics()
        assert {issue: count for issue, count in (await sidecar.open_issues()).items() if count} == FOUND
        async with fault(stage):
            await sidecar.until_up(0)
            await sidecar.polls()
            broken = await sidecar.metrics()
            assert broken.names() & DOMAIN == set()
            assert set((await sidecar.successful()).values()) == {0}
            assert await sidecar.issues_total() == COUNTED
            assert (await sidecar.exporter.get("/-/ready")).status == 503
            assert (await sidecar.exporter.get("/-/healthy")).status == 200
            reasons = [line["reason"] for line in sidecar.said("database_lost", "check_failed")]
            assert FAULTS[fault] in reasons or not FAULTS[fault]
            # A server that goes down may be seen going, and then gone.
            whys = [(line.get("check"), line["error"]) for line in sidecar.said("database_lost", "check_failed")]
            assert len(whys) == len(set(whys)), "each reason once, not once a poll"
            assert len(sidecar.said("database_lost")) <= 3
        await sidecar.until_up(1)
        await sidecar.until_failing()
        after = await sidecar.metrics()
        assert after.names() >= DOMAIN
        assert after.keys() >= before.keys()
        assert {issue: count for issue, count in (await sidecar.open_issues()).items() if count} == FOUND
        assert await sidecar.issues_total() == COUNTED, "an outage is no reason to count anything again"
        assert await sidecar.exporter.stop() == 0
    assert 0 < connections.most <= 3
    assert "Traceback" not in sidecar.exporter.log


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


WELCOME = message(b"R", struct.pack("!i", 0))
IMPOSTORS = {
    "hangs up": b"",
    "speaks HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "wants a login of another kind": message(b"R", struct.pack("!i", 99)),
    "has no version": WELCOME + message(b"Z", b"I"),
    "has an odd version": WELCOME + message(b"S", b"server_version\0banana\0") + message(b"Z", b"I"),
    "has an odd encoding": WELCOME + message(b"S", b"client_encoding\0BANANA\0") + message(b"Z", b"I"),
    "refuses without a reason": message(b"E", b"SFATAL\0Mgo away\0\0"),
    "is too old": WELCOME + message(b"S", b"server_version\x009.6.1\0") + message(b"Z", b"I"),
}


# asyncpg's half-made connection complains when it is collected; nobody can reach it to close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("impostor", IMPOSTORS)
async def test_what_is_no_postgresql_is_said_in_a_sentence(impostor):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(IMPOSTORS[impostor])
        if IMPOSTORS[impostor]:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    told = watched(f"postgresql://u:p@127.0.0.1:{port}/x?sslmode=disable&connect_timeout=1", GAL_FRIDAY)
    monitor = Monitor(told)
    assert (await monitor.poll()).up is False
    assert monitor.status.error
    assert "\n" not in monitor.status.error
    await monitor.close()
    server.close()
