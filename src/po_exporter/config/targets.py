"""Values that point at something outside: addresses, files and secrets. Read like those in ``kinds``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import PlainValidator

from po_exporter.config.kinds import text, word
from po_exporter.dsn import Dsn
from po_exporter.errors import CredentialsUnreadable
from po_exporter.secret import Secret


class Listen(NamedTuple):
    """Where the HTTP server listens; an empty host is every address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listen(value: object) -> Listen:
    """host:port, [IPv6]:port or :port."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]/]*)):(\d{1,5})", word(value), re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise ValueError('should read host:port, as in "0.0.0.0:9843", "[::1]:9843" or ":9843" for every address.')
    return Listen(match[1] or match[2], int(match[3]))


def url(value: object) -> str:
    """An http or https address."""
    found = word(value)
    try:
        parts = urlsplit(found)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or re.search(r"\s", found):
        raise ValueError("should be an address that begins with http:// or https://.")
    return found


def address(value: object) -> str:
    """An e-mail address."""
    found = word(value)
    if not re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", found):
        raise ValueError("should be an e-mail address, without a name around it.")
    return found


def file(value: object) -> Path:
    """A file that can be read now."""
    path = Path(word(value))
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a file name"
        raise ValueError(f"names a file that cannot be read: {path}: {why}.") from None
    return path


def directory(value: object) -> Path:
    """A directory that can be listed now."""
    path = Path(word(value))
    try:
        os.scandir(path).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a directory name"
        raise ValueError(f"names a directory that cannot be read: {path}: {why}.") from None
    return path


def secret(value: object) -> Secret:
    """A secret from its text, or from the Path of the file that holds it, which must be readable now."""
    found = Secret(path=value) if isinstance(value, Path) else Secret(value=text(value))
    try:
        revealed = found.reveal()
    except CredentialsUnreadable as error:
        raise ValueError(str(error)) from None
    if not revealed:
        raise ValueError("should not be empty.")
    return found


def dsn(value: object) -> Secret:
    """A connection string, as text or in a file."""
    found = secret(value)
    _ = Dsn.parse(found.reveal()).database
    return found


def secret_url(value: object) -> Secret:
    """An address that lets whoever knows it in."""
    found = secret(value)
    url(found.reveal())
    return found


ListenAddress = Annotated[Listen, PlainValidator(listen)]
Url = Annotated[str, PlainValidator(url)]
Address = Annotated[str, PlainValidator(address)]
File = Annotated[Path, PlainValidator(file)]
Directory = Annotated[Path, PlainValidator(directory)]
SecretText = Annotated[Secret, PlainValidator(secret)]
SecretDsn = Annotated[Secret, PlainValidator(dsn)]
SecretUrl = Annotated[Secret, PlainValidator(secret_url)]
