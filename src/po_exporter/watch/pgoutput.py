"""pgoutput, the output of PostgreSQL's logical decoding: bytes in, values out. Version 1 of its protocol.

Source: https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Unchanged:
    """The value of a column that is stored out of line and was not touched: the stream leaves it out."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged()
Row: TypeAlias = "tuple[str | Unchanged | None, ...]"
"""The values of a row as the server writes them as text, in the order of the relation's columns."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins. ``xid`` has 32 bits; ``committed`` is the server's clock at its commit."""

    xid: int
    committed: datetime


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction ends."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What the changes of one table look like from here on. ``identity`` is pg_class.relreplident."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One row came (no ``old``), changed, or went (no ``new``).

    ``whole`` says that the old row is all there: without REPLICA IDENTITY FULL it holds a key at most.
    """

    oid: int
    old: Row | None
    new: Row | None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Truncate:
    """These tables were emptied."""

    oids: tuple[int, ...]


Message: TypeAlias = "Begin | Commit | Relation | Change | Truncate"


class Undecodable(ValueError):
    """Bytes that are no message of this protocol."""


def decode(data: bytes) -> Message | None:
    """One message; None for those that say nothing about rows (types, origins). Raises Undecodable."""
    reader, kind = _Reader(data), data[:1]
    if kind in (b"Y", b"O", b"M"):
        return None
    try:
        message = _KINDS[reader.take(1)](reader)
    except (KeyError, IndexError, UnicodeDecodeError, OverflowError):
        raise Undecodable(f"no message of the pgoutput protocol: {data[:40]!r}") from None
    if not reader.at_end:
        raise Undecodable(f"more bytes than a message of kind {kind!r} has: {data[:40]!r}")
    return message


class _Reader:
    """Reads the parts of a message in order. Raises IndexError beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, length: int) -> bytes:
        end = self._at + length
        if length < 0 or end > len(self._data):
            raise IndexError
        part, self._at = self._data[self._at : end], end
        return part

    def integer(self, length: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(length), "big", signed=signed)

    def mark(self, *known: bytes) -> bytes:
        """One byte that says what follows. Raises KeyError for one that is not known."""
        found = self.take(1)
        if found not in known:
            raise KeyError(found)
        return found

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        part = self.take(end - self._at)
        self.take(1)
        return part.decode()

    def row(self) -> Row:
        data, size = self._data, len(self._data)  # the inmost loop of a large transaction: no calls
        count, at = self.integer(2), self._at
        values: list[str | Unchanged | None] = []
        for _ in range(count):
            kind, start = data[at], at + 5
            if kind == _TEXT:
                at = start + int.from_bytes(data[at + 1 : start], "big")
                if start > size or at > size:
                    raise IndexError
                values.append(data[start:at].decode())
            else:
                values.append(_ABSENT[kind])
                at += 1
        self._at = at
        return tuple(values)


_TEXT = ord("t")
_ABSENT: dict[int, Unchanged | None] = {ord("n"): None, ord("u"): UNCHANGED}


def _begin(reader: _Reader) -> Begin:
    reader.integer(8)  # the LSN of the commit
    committed = POSTGRES_EPOCH + timedelta(microseconds=reader.integer(8, signed=True))
    return Begin(reader.integer(4), committed)


def _commit(reader: _Reader) -> Commit:
    reader.take(1 + 8 + 8 + 8)  # flags, two LSNs, the time once more
    return Commit()


def _relation(reader: _Reader) -> Relation:
    oid, schema, name, identity = reader.integer(4), reader.text(), reader.text(), reader.take(1).decode()
    columns = []
    for _ in range(reader.integer(2)):
        reader.take(1)  # whether it is part of the identity
        columns.append(reader.text())
        reader.take(4 + 4)  # type and modifier
    return Relation(oid, schema, name, identity, tuple(columns))


def _insert(reader: _Reader) -> Change:
    oid = reader.integer(4)
    reader.mark(b"N")
    return Change(oid, None, reader.row())


def _update(reader: _Reader) -> Change:
    oid, kind, old = reader.integer(4), reader.mark(b"O", b"K", b"N"), None
    whole = kind == b"O"
    if kind != b"N":
        old = reader.row()
        reader.mark(b"N")
    return Change(oid, old, reader.row(), whole)


def _delete(reader: _Reader) -> Change:
    oid, kind = reader.integer(4), reader.mark(b"O", b"K")
    return Change(oid, reader.row(), None, kind == b"O")


def _truncate(reader: _Reader) -> Truncate:
    count = reader.integer(4)
    reader.take(1)  # CASCADE, RESTART IDENTITY
    return Truncate(tuple(reader.integer(4) for _ in range(count)))


_KINDS: dict[bytes, Callable[[_Reader], Message]] = {
    b"B": _begin,
    b"C": _commit,
    b"R": _relation,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
}
