"""What the tests ask of the machine: programs, ports, an unprivileged user, a directory that it can read."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import pytest


def need(found: str | Path | None, what: str) -> Path:
    """The path of a real part. Where it is missing, the test is skipped with ``what`` to do; under CI it fails."""
    if found is not None and Path(found).exists():
        return Path(found)
    if os.environ.get("CI") == "true":
        pytest.fail(f"A real part is missing: {what}", pytrace=False)
    pytest.skip(f"A real part is missing: {what}")


def program(name: str) -> Path:
    """A program that ``make test`` installs as the Debian package of its name, or as part of one."""
    # Debian keeps daemons in sbin, which is not on every user's path.
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    return need(found, f"`make test` installs `{name}` where it can; otherwise install it by hand.")


def free_port() -> int:
    """A TCP port on the loopback address that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RunAs(TypedDict, total=False):
    """Arguments of subprocess.run and subprocess.Popen."""

    user: int
    group: int
    extra_groups: list[int]


def unprivileged() -> RunAs:
    """PostgreSQL and PgBouncer refuse to run as root: then they run as nobody, otherwise as whoever runs the tests."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def unprivileged_directory(*, in_memory: bool = False) -> Iterator[Path]:
    """A directory of the unprivileged user. It is not pytest's own: that lies below one that only root may enter.

    ``in_memory``: where the machine offers that, on a file system in memory. A database is 300 files, and creating
    them takes ten times as long on a disk. Programs cannot always be run from there.
    """
    directory = Path(tempfile.mkdtemp(prefix="po-exporter-", dir=_memory() if in_memory else None))
    try:
        give_away(directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _memory() -> str | None:
    shm = "/dev/shm"
    # Containers often have a tiny one.
    roomy = os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2 * 1024**3
    return shm if roomy else None


def give_away(path: Path) -> None:
    """Make the unprivileged user the owner of ``path``."""
    who = unprivileged()
    if who:
        os.chown(path, who["user"], who["group"])
