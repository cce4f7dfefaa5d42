"""A PostgreSQL server for as long as the demo lasts: in a temporary directory, and gone with it, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from po_exporter.demo.binaries import Account, find_binaries, make_reachable, server_account
from po_exporter.errors import PoExporterError

CREATE_TIMEOUT = 60.0
"""Seconds that initdb may take; it needs less than one."""
START_TIMEOUT = 30.0
"""Seconds until the server must answer."""
STOP_TIMEOUT = 7.0
"""Seconds that it may take to stop: PostgreSQL itself kills what is left after five."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    # Nothing here outlives the demo, so nothing has to reach the disk.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "40",
    "shared_buffers": "32MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "dynamic_shared_memory_type": "mmap",  # inside the directory: nothing in /dev/shm to leave behind
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Waits until our end of its standard input is closed, which also happens when we are killed, and then takes away
# what is still there. It has a session of its own: Ctrl-C in a terminal does not reach it.
GUARD = """
trap '' HUP INT TERM
read -r _
for _ in $(seq 100); do
    [ -e "$1" ] || exit 0
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
    case $pid in '' | *[!0-9]*) ;; *) kill -QUIT "$pid" ;; esac
    rm -rf "$1"
    sleep 0.1
done
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: on 127.0.0.1, with a superuser whose password exists nowhere else."""

    port: int
    password: str
    process: asyncio.subprocess.Process
    log: Path

    def dsn(self, user: str, password: str, database: str) -> str:
        """The address of a database of this server, with the password in it.

        Without TLS, which the server does not offer: the driver would look for certificates below a home directory,
        and fail where it may not enter that.
        """
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    @property
    def superuser_dsn(self) -> str:
        """For preparing databases and roles; neither the trading API nor the sidecar uses it."""
        return self.dsn("postgres", self.password, "postgres")

    async def died(self) -> None:
        """Returns never; raises PoExporterError when the server ends by itself."""
        await self.process.wait()
        raise PoExporterError(f"the demo's PostgreSQL has stopped by itself:\n{_last_lines(self.log)}")


@contextlib.asynccontextmanager
async def embedded_server() -> AsyncIterator[Server]:
    """Creates and starts a server; stops it and removes its directory at the end, and also when we are killed.

    Raises UsageError when no PostgreSQL can be found or run, PoExporterError when it does not start.
    """
    account = server_account()
    binaries = find_binaries()
    async with _guarded_directory(account) as home:
        try:
            binaries = make_reachable(binaries, account, home / "postgres")
            password = secrets.token_urlsafe(24)
            await _create(binaries, home, account, password)
            server = await _start(binaries, home, account, password)
        except OSError as error:
            raise PoExporterError(f"the demo's PostgreSQL could not be set up: {error}.") from None
        try:
            yield server
        finally:
            await _stop(server.process)


@contextlib.asynccontextmanager
async def _guarded_directory(account: Account) -> AsyncIterator[Path]:
    """A directory that belongs to the server's user, and that is gone at the end even if we are killed."""
    parents = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes it private
    parent = next((place for place in parents if place.is_dir() and account.can_enter(place)), parents[0])
    home = Path(tempfile.mkdtemp(prefix="po-exporter-demo-", dir=parent))
    guard = None
    try:
        if account.uid is not None and account.gid is not None:
            os.chown(home, account.uid, account.gid)
        guard = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", GUARD, "po-exporter-demo-guard", str(home),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)  # what is left, the guard takes
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            await guard.wait()


async def _create(binaries: Path, home: Path, account: Account, password: str) -> None:
    password_file = home / "password"
    password_file.touch(mode=0o600)
    if account.uid is not None and account.gid is not None:
        os.chown(password_file, account.uid, account.gid)
    password_file.write_text(password, encoding="ascii")
    log = home / "initdb.log"
    process = await _spawn(
        [binaries / "initdb", "-D", home / "data", "-U", "postgres", "--auth=scram-sha-256",
         f"--pwfile={password_file}", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"],
        account, log,
    )  # fmt: skip
    try:
        async with asyncio.timeout(CREATE_TIMEOUT):
            status = await process.wait()
    except TimeoutError:
        raise PoExporterError(f"the demo's PostgreSQL was not set up within {CREATE_TIMEOUT:g} seconds.") from None
    finally:
        await _stop(process)
    password_file.unlink()
    if status != 0:
        raise PoExporterError(f"the demo's PostgreSQL could not be set up:\n{_last_lines(log)}")


async def _start(binaries: Path, home: Path, account: Account, password: str) -> Server:
    for _ in range(3):  # somebody else may take the free port between our look and the server's
        log = home / "postgres.log"
        port = _free_port()
        settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
        process = await _spawn([binaries / "postgres", "-D", home / "data", "-p", str(port), *settings], account, log)
        server = Server(port, password, process, log)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                if await _answers(server):
                    return server
        except TimeoutError:
            await _stop(process)
            raise PoExporterError(
                f"the demo's PostgreSQL did not answer within {START_TIMEOUT:g} seconds:\n{_last_lines(log)}"
            ) from None
        except BaseException:
            await _stop(process)
            raise
        if "Address already in use" not in log.read_text(encoding="utf-8", errors="replace"):
            break
    raise PoExporterError(f"the demo's PostgreSQL did not start:\n{_last_lines(log)}")


async def _answers(server: Server) -> bool:
    """True once it lets us in, False when it has ended instead."""
    while server.process.returncode is None:
        try:
            connection = await asyncpg.connect(server.superuser_dsn)
        except (ConnectionError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return True
    return False


async def _spawn(command: list[str | Path], account: Account, log: Path) -> asyncio.subprocess.Process:
    # The user's PGDATA, PGPORT and the like must not reach a server of ours; messages in English are asserted on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    groups: list[int] | None = None if account.uid is None else []
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", env=environment,
            user=account.uid, group=account.gid, extra_groups=groups,
            start_new_session=True,  # Ctrl-C is for us: the server stops last
        )  # fmt: skip


async def _stop(process: asyncio.subprocess.Process) -> None:
    """At once, and without a checkpoint: the data are thrown away."""
    for way in (signal.SIGQUIT, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(way)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-8:]) or "(it said nothing)"
