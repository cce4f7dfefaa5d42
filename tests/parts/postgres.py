"""A PostgreSQL server of a given major version, run from binaries that `make test` puts into .cache."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from parts.machine import free_port, unprivileged, unprivileged_directory
from parts.postgres_binaries import usable_binaries

ADMIN = "postgres"
READER = "po_reader"
PASSWORDS = {ADMIN: "admin-of-the-tests", READER: "reader-of-the-tests"}
TEMPLATE = "gal_friday_template"

# Durability is of no use to a server that is thrown away, and an autovacuum at a random moment changes plans.
SETTINGS = """
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
autovacuum = off
timezone = 'UTC'
max_connections = 60
wal_level = logical
max_wal_senders = 10
max_replication_slots = 10
max_prepared_transactions = 10
shared_preload_libraries = 'pg_stat_statements'
"""


def versions_under_test() -> list[int]:
    """The major versions in PO_EXPORTER_TEST_PG, separated by commas; 18 where it is not set."""
    return [int(version) for version in os.environ.get("PO_EXPORTER_TEST_PG", "18").split(",")]


class Server:
    """One server on the loopback address. Its administrator and its roles log in by password."""

    def __init__(self, version: int, binaries: Path, directory: Path) -> None:
        self.version = version
        self.bin = binaries
        self.directory = directory
        self.data = directory / "data"
        self.port = free_port()

    @property
    def admin_dsn(self) -> str:
        """The administrator, in the database `postgres`."""
        return self.dsn("postgres")

    def dsn(self, database: str, user: str = ADMIN, password: str | None = None) -> str:
        """How to reach ``database`` as ``user``; the tests' own roles need no password here."""
        secret = quote(PASSWORDS[user] if password is None else password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers. A server that runs already is left alone."""
        if not self.is_running():
            self._run("pg_ctl", "start", "--wait", "-D", self.data, "-l", self.directory / "log", "-o", self._options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `smart`, `fast`, or `immediate` as in a crash. A server that is down already is left alone."""
        if self.is_running():
            self._run("pg_ctl", "stop", "--wait", "-D", self.data, "-m", mode)

    def restart(self) -> None:
        """Stop and start it on the same port."""
        self.stop()
        self.start()

    def is_running(self) -> bool:
        """Whether its postmaster is there."""
        status = subprocess.run(
            [self.bin / "pg_ctl", "status", "-D", self.data],
            capture_output=True,
            check=False,
            cwd="/",
            **unprivileged(),
        )
        return status.returncode == 0

    def promote(self) -> None:
        """Make a standby the primary and wait until it writes."""
        self._run("pg_ctl", "promote", "--wait", "-D", self.data)

    def psql(self, sql: str, database: str = "postgres") -> str:
        """What psql prints for ``sql``, unaligned and without headings."""
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database)]
        return self._run(*command, stdin=sql).strip()

    def create_role(self, name: str, password: str, *grants: str, database: str = "postgres") -> str:
        """A role that may log in and has ``grants`` ("SELECT ON orders") in ``database``; its DSN there.

        It belongs to the whole server: a name is free for one test alone.
        """
        literal = password.replace("'", "''")
        statements = [f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{literal}'"]
        statements += [f'GRANT {grant} TO "{name}"' for grant in grants]
        self.psql(";\n".join(statements), database)
        return self.dsn(database, name, password)

    def initialise(self) -> None:
        """Create the data directory, the reader's role and the template that each test's database is cloned from."""
        password_file = self.directory / "password"
        password_file.write_text(PASSWORDS[ADMIN])
        self._run(
            "initdb", "-D", self.data, "-U", ADMIN, "--pwfile", password_file, "--auth=scram-sha-256", "--no-sync",
            "--encoding=UTF8", "--locale=C",
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.write(SETTINGS)
        self.start()
        self.create_role(READER, PASSWORDS[READER])
        self.psql("CREATE EXTENSION pg_stat_statements")
        self.psql(f"CREATE DATABASE {TEMPLATE}")
        self.psql(Path(__file__).with_name("gal_friday.sql").read_text(), TEMPLATE)

    @contextmanager
    def standby(self) -> Iterator[Server]:
        """A streaming standby with a replication slot of its own, as a context."""
        with unprivileged_directory(in_memory=True) as directory:
            standby = Server(self.version, self.bin, directory)
            slot = f"standby_{standby.port}"
            backup = ["pg_basebackup", "-D", standby.data, "-d", self.admin_dsn, "-c", "fast", "--no-sync"]
            self._run(*backup, "-R", "-C", "-S", slot)
            try:
                standby.start()
                yield standby
            finally:
                standby.stop("immediate")
                # A slot without a reader keeps write-ahead log for ever. The walsender may take a moment to let go.
                self.psql(
                    "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                    f" WHERE slot_name = '{slot}' AND active; SELECT pg_drop_replication_slot('{slot}')"
                )

    @property
    def _options(self) -> str:
        return f"-p {self.port} -k {self.directory}"

    def _run(self, command: str, *args: object, stdin: str | None = None) -> str:
        # The server's own libraries (walreceiver, postgres_fdw) would load another version's libpq from the system.
        environment = {"LC_ALL": "C", "LD_LIBRARY_PATH": str(self.bin.parent / "lib")}
        done = subprocess.run(
            [self.bin / command, *map(str, args)],
            input=stdin, capture_output=True, text=True, check=False, timeout=60, cwd="/", env=environment,
            **unprivileged(),
        )  # fmt: skip
        if done.returncode != 0:
            log = self.directory / "log"
            tail = log.read_text()[-2000:] if log.exists() else ""
            raise AssertionError(f"{command} failed on PostgreSQL {self.version}: {done.stderr.strip()}\n{tail}")
        return done.stdout


@contextmanager
def running_server(version: int) -> Iterator[Server]:
    """A server that is ready for tests, gone when the context ends."""
    with usable_binaries(version) as binaries, unprivileged_directory(in_memory=True) as directory:
        server = Server(version, binaries, directory)
        server.initialise()
        try:
            yield server
        finally:
            server.stop("immediate")
