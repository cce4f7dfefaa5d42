"""Where the PostgreSQL binaries are, in a place that an unprivileged user may enter."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parts.machine import need, unprivileged, unprivileged_directory

CACHE = Path(__file__).parents[2] / ".cache" / "postgres"


@contextmanager
def usable_binaries(version: int) -> Iterator[Path]:
    """The `bin` directory of a major version.

    A checkout may lie below a directory that only root can enter, while the server runs as somebody else: then this
    is a copy, gone when the context ends.
    """
    # The directory is named by the exact version; after a change of the pinned one, an older one may still be there.
    found = max(CACHE.glob(f"{version}.*/bin/postgres"), key=_exact_version, default=None)
    postgres = need(found, f"PostgreSQL {version}; `make test` fetches it into .cache/postgres.")
    command = [postgres, "--version"]
    try:
        trial = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **unprivileged())
        need(postgres if trial.returncode == 0 else None, trial.stderr)
    except PermissionError:
        with unprivileged_directory() as directory:
            shutil.copytree(postgres.parents[1], directory / "postgres", symlinks=True)
            yield directory / "postgres" / "bin"
    else:
        yield postgres.parent


def _exact_version(postgres: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in postgres.parents[1].name.split("."))
