"""The image, built by buildah on a base of this machine's Debian, and run out of its own files with a read-only root.

There is no container runtime here: a mount namespace and chroot do of what one does that which an image can notice.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parts.machine import need

ROOT = Path(__file__).parents[2]
STORAGE = ROOT / ".cache" / "image-base"
NAME = "localhost/po-exporter-under-test"
REVISION = "0123abc"


def buildah(*arguments: str | Path, **options: Any) -> str:
    """What it says."""
    need(STORAGE / "root", "`make .cache/image-base/root`, as root, with buildah and debootstrap")
    places = ["--root", STORAGE / "root", "--runroot", STORAGE / "run", "--storage-driver", "vfs"]
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
    finished = subprocess.run(
        ["buildah", *places, *arguments], capture_output=True, text=True, env=environment, check=False, **options
    )
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return finished.stdout


@dataclass(frozen=True)
class Image:
    """One that was built: its configuration as Docker has it, and its files under ``root``."""

    config: Mapping[str, Any]
    root: Path
    layers: int
    size: int

    def command(self, *arguments: str, hidden: Sequence[str] = (), files: Path | None = None) -> list[str]:
        """How to run it, as its own user and with its own environment.

        Its root is read-only, /tmp included; ``hidden`` programs cannot be run; ``files`` are at /etc/po-exporter.
        """
        root = shlex.quote(str(self.root))
        mounts = [f"mount --bind {root} {root}"]
        if files:
            mounts += [f"mount --bind {shlex.quote(str(files))} {root}/etc/po-exporter"]
        mounts += [f"mount --bind /dev/null {root}{program}" for program in hidden]
        mounts += [f"mount -o remount,bind,ro {root}", f"mount -t proc proc {root}/proc"]
        user = self.config["User"]
        environment = " ".join(shlex.quote(each) for each in self.config["Env"])
        inside = f"exec chroot --userspec={user} --groups= {root} /usr/bin/env -i {environment} {shlex.join(arguments)}"
        return ["unshare", "--mount", "--propagation", "private", "bash", "-c", " && ".join([*mounts, inside])]

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*arguments, **options), capture_output=True, text=True, timeout=60, check=False
        )


@contextmanager
def built(directory: Path) -> Iterator[Image]:
    """Build it as a release does; it is gone afterwards."""
    buildah(
        "bud", "--pull-never", "--format", "docker", "--tag", NAME, "--build-arg", "BASE_IMAGE=localhost/base",
        "--build-arg", f"REVISION={REVISION}", "--build-arg", "VERSION=1.2.3", *_pip(directory), ROOT,
    )  # fmt: skip
    container = buildah("from", "--pull-never", NAME).strip()
    try:
        about = json.loads(buildah("inspect", "--type", "image", NAME))
        # What a runtime makes before it mounts something there.
        root = Path(buildah("mount", container).strip())
        (root / "etc" / "po-exporter").mkdir()
        layers = len(about["Docker"]["rootfs"]["diff_ids"])
        yield Image(about["Docker"]["config"], root, layers, sum(_sizes(root)))
    finally:
        buildah("rm", container)
        buildah("rmi", NAME)


def _sizes(root: Path) -> Iterator[int]:
    """Bytes of every file, once each."""
    seen = set()
    for directory, _, names in os.walk(root):
        for name in names:
            status = os.lstat(os.path.join(directory, name))
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                yield status.st_size


def _pip(directory: Path) -> list[str]:
    """Options by which pip in the build finds packages where pip on this machine does."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(line.split("=", 1) for line in listed.splitlines())
    values = {key.rpartition(".")[2]: value.strip("'") for key, value in settings.items()}
    file = directory / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    words = [word for value in values.values() for word in value.split()]
    # The pages of an index link to files that lie beside them.
    paths = {Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")}
    paths |= {Path(word) for word in words if word.startswith("/")}
    return [
        f"--volume={file}:/etc/pip.conf:ro",
        *(f"--volume={path}:{path}:ro" for path in sorted(paths) if path.exists()),
    ]
