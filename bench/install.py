"""Fetches the exporters that we measure beside: from Debian's packages and from PyPI, into the cache."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from pathlib import Path

from bench.server import cache_directory

QUERY_EXPORTER = ("query-exporter==5.2.2", "psycopg2-binary==2.9.13")
DEBIAN_PACKAGE = "prometheus-postgres-exporter"
PYTHONS = ("python3.14", "python3.13", "python3.12", "python3")
PYTHON_PLACES = (
    "~/.pyenv/versions/3.1[2-9]*/bin/python3",
    "~/.local/share/uv/python/cpython-3.1[2-9]*/bin/python3",
    "/usr/local/bin/python3.1[2-9]",
    "/opt/*/bin/python3.1[2-9]",
)


class MissingError(Exception):
    """A peer cannot be had here; the text says why."""


def postgres_exporter() -> Path:
    """The program: the installed one, or Debian's package unpacked into the cache, which needs no root."""
    if found := shutil.which(DEBIAN_PACKAGE):
        return Path(found)
    home = cache_directory() / "postgres-exporter"
    program = home / "usr" / "bin" / DEBIAN_PACKAGE
    if not program.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise MissingError(f"there is no {DEBIAN_PACKAGE} here and no apt-get to fetch it with")
        home.mkdir(exist_ok=True)
        for update in (False, True):  # the lists of packages may be missing or old; only root may renew them
            if update:
                subprocess.run(["apt-get", "update"], check=False, capture_output=True, timeout=300)
            fetched = subprocess.run(
                ["apt-get", "download", DEBIAN_PACKAGE], cwd=home, check=False, capture_output=True, timeout=300
            )
            if fetched.returncode == 0:
                break
        else:
            raise MissingError(f"apt-get download {DEBIAN_PACKAGE} failed: {fetched.stderr.decode().strip()}")
        package = next(home.glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, home], check=True, timeout=60)
        package.unlink()
    return program


def query_exporter() -> Path:
    """The program in an environment of its own. It needs Python 3.12, which may be newer than ours."""
    home = cache_directory() / "query-exporter"
    program = home / "bin" / "query-exporter"
    if not program.exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([_new_python(), "-m", "venv", home], check=True, timeout=120)
        installed = subprocess.run(
            [home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *QUERY_EXPORTER],
            check=False, capture_output=True, timeout=600,
        )  # fmt: skip
        if installed.returncode:
            shutil.rmtree(home)
            raise MissingError(
                f"pip install {' '.join(QUERY_EXPORTER)} failed: {installed.stderr.decode().strip()[-500:]}"
            )
    return program


def _new_python() -> str:
    named = [found for name in PYTHONS if (found := shutil.which(name))]
    placed = [found for place in PYTHON_PLACES for found in sorted(glob.glob(os.path.expanduser(place)), reverse=True)]
    for python in [*named, *placed]:
        # A name on the path may be a version manager's stand-in that runs nothing, so each is asked.
        wanted = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))"
        if subprocess.run([python, "-c", wanted], check=False, capture_output=True, timeout=30).returncode == 0:
            return python
    raise MissingError(
        "query-exporter needs Python 3.12 or newer, and none was found on the path or in the usual places"
    )
