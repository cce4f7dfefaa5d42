"""The kinds of values that a configuration holds, read from the text that stands in the file or a variable.

Every reader raises ValueError with half a sentence for a person, which never repeats the value: it may be a secret.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from annotated_types import Ge, Le
from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, PlainValidator

from po_exporter.dsn import Dsn
from po_exporter.errors import CredentialsUnreadable
from po_exporter.mapping import Column, TableName
from po_exporter.secret import Secret

_UNITS = {"": 1000, "ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZES = {"": 1, "b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30}
_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_LONGEST = timedelta(days=36500)
_POSTGRES_LONGEST = timedelta(days=24)  # its timeouts are 32-bit integers of milliseconds


def near(name: str, choices: list[str]) -> str:
    """A sentence that offers the closest of the choices; empty when none is close."""
    match = get_close_matches(name, choices, 1, 0.6)
    return f" Did you mean {match[0]!r}?" if match else ""


def text(value: object) -> str:
    """Text; a number counts as its own text, but what YAML turned into a switch or nothing cannot be guessed."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise ValueError("should be text, but YAML reads yes, no, on, off, true and false as a switch: quote it.")
    if value is None:
        raise ValueError("should be text, but YAML reads null, ~ and nothing as no value: quote it.")
    raise ValueError(f"should be text, not a {'list' if isinstance(value, list) else 'mapping'}.")


def word(value: object) -> str:
    """Text that is not blank."""
    found = text(value).strip()
    if not found:
        raise ValueError("should not be empty.")
    return found


def switch(value: object) -> bool:
    """true or false, as YAML or the guide's variables write it."""
    if isinstance(value, bool):
        return value
    found = _SWITCHES.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError("should be true or false.")
    return found


def integer(value: object) -> int:
    """A whole number."""
    if not isinstance(value, str) or not re.fullmatch(r"[+-]?\d{1,18}", value.strip(), re.ASCII):
        raise ValueError("should be a whole number.")
    return int(value)


def number(value: object) -> Decimal:
    """A decimal number, exact to its last digit."""
    try:
        found = Decimal(value.strip()) if isinstance(value, str) else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or abs(found.adjusted()) > 100:
        raise ValueError("should be a number.")
    return found


def duration(value: object) -> timedelta:
    """A whole number and a unit: ms, s, m, h or d; without one, seconds."""
    match = re.fullmatch(r"(\d{1,18})(ms|[smhd]?)", value.strip(), re.ASCII) if isinstance(value, str) else None
    if match is None:
        raise ValueError("should be a duration such as 500ms, 30s, 5m, 24h or 7d; a bare whole number is seconds.")
    milliseconds = int(match[1]) * _UNITS[match[2]]
    if milliseconds > _LONGEST / timedelta(milliseconds=1):
        raise ValueError("should be a duration of at most 36500d.")
    return timedelta(milliseconds=milliseconds)


def duration_text(value: timedelta) -> str:
    """The shortest text that ``duration`` reads as this value."""
    milliseconds = value // timedelta(milliseconds=1)
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % _UNITS[unit] == 0 and milliseconds)
    return f"{milliseconds // _UNITS[unit]}{unit}"


def _above_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("should be longer than 0.")
    return value


def _fits_postgres(value: timedelta) -> timedelta:
    if value > _POSTGRES_LONGEST:
        raise ValueError("should be at most 24d, which is as long as PostgreSQL's own timeouts go.")
    return value


def size(value: object) -> int:
    """Bytes, in PostgreSQL's units: 1kB is 1024."""
    match = re.fullmatch(r"(\d{1,15})\s*([kmg]?b?)", value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in _SIZES or int(match[1]) == 0:
        raise ValueError("should be a size such as 512kB, 64MB or 1GB.")
    return int(match[1]) * _SIZES[match[2]]


def size_text(value: int) -> str:
    """The shortest text that ``size`` reads as this value."""
    unit = next(unit for unit in ("GB", "MB", "kB", "B") if value % _SIZES[unit.lower()] == 0)
    return f"{value // _SIZES[unit.lower()]}{unit}"


def time_zone(value: object) -> str:
    """The name of a time zone, as in Europe/Zurich."""
    name = word(value)
    try:
        ZoneInfo(name)
    except (OSError, ValueError):  # ZoneInfoNotFoundError is a KeyError only where no data is found at all
        known = False
    except KeyError:
        known = name == "UTC"  # needs no data
    else:
        known = True
    if not known:
        raise ValueError(f"should be a time zone such as UTC or Europe/Zurich.{near(name, list(available_timezones()))}")
    return name


def cron(value: object) -> str:
    """A cron expression of five fields."""
    found = " ".join(word(value).split())
    try:
        if len(found.split()) != 5:
            raise ValueError('should have five fields, as in "0 2 * * *" (02:00 every day).')
        CronSim(found.upper(), NOON)
    except CronSimError as error:
        raise ValueError(f'is no cron expression such as "0 2 * * *" (02:00 every day): {str(error).lower()}.') from None
    return found


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
    parsed = Dsn.parse(found.reveal())
    try:
        parsed.database  # noqa: B018 - it may need the name of the system's user
    except (OSError, KeyError):
        raise ValueError("names neither a database nor a user.") from None
    return found


def secret_url(value: object) -> Secret:
    """An address that lets whoever knows it in."""
    found = secret(value)
    url(found.reveal())
    return found


def column(value: object) -> Column:
    """A column by its exact name, or ``{sql: expression}``."""
    if not isinstance(value, dict):
        name = text(value)
        if not name or len(name.encode()) > 63:
            raise ValueError("should be a column's name of 1 to 63 bytes, or {sql: expression}.")
        return Column(name)
    if set(value) != {"sql"}:
        raise ValueError("should be a column's name, or {sql: expression} and nothing else.")
    return Column(word(value["sql"]), is_sql=True)


_IDENTIFIER = r'"(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*'


def table(value: object) -> TableName:
    """A table as PostgreSQL would read its name: what is not quoted folds to lower case."""
    match = re.fullmatch(rf"(?:({_IDENTIFIER})\s*\.\s*)?({_IDENTIFIER})", word(value), re.ASCII)
    if match is None:
        raise ValueError("should be a table such as orders, oms.\"Order\" or '\"My Orders\"' (double quotes and all).")
    schema, name = match.groups()
    return TableName(_identifier(name), _identifier(schema) if schema else None)


def _identifier(written: str) -> str:
    quoted = written.startswith('"')
    name = written[1:-1].replace('""', '"') if quoted else re.sub("[A-Z]+", lambda upper: upper[0].lower(), written)
    return name.encode()[:63].decode(errors="ignore")  # PostgreSQL cuts a longer one


def table_text(value: TableName) -> str:
    """The text that ``table`` reads as this value."""
    quote = lambda name: name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'  # noqa: E731
    return ".".join(quote(part) for part in (value.schema, value.name) if part)


Text = Annotated[str, BeforeValidator(text)]
Word = Annotated[str, BeforeValidator(word)]
Switch = Annotated[bool, PlainValidator(switch)]
Count = Annotated[int, BeforeValidator(integer), Ge(1)]
CountOrNone = Annotated[int, BeforeValidator(integer), Ge(0)]
Percentage = Annotated[int, BeforeValidator(integer), Ge(0), Le(100)]
Port = Annotated[int, BeforeValidator(integer), Ge(1), Le(65535)]
Number = Annotated[Decimal, BeforeValidator(number), Ge(0)]
Factor = Annotated[Decimal, BeforeValidator(number), Ge(1)]
DurationOrNone = Annotated[timedelta, PlainValidator(duration)]
Duration = Annotated[timedelta, PlainValidator(duration), AfterValidator(_above_zero)]
Timeout = Annotated[Duration, AfterValidator(_fits_postgres)]
Size = Annotated[int, PlainValidator(size)]
TimeZone = Annotated[str, PlainValidator(time_zone)]
Cron = Annotated[str, PlainValidator(cron)]
ListenAddress = Annotated[Listen, PlainValidator(listen)]
Url = Annotated[str, PlainValidator(url)]
Address = Annotated[str, PlainValidator(address)]
File = Annotated[Path, PlainValidator(file)]
Directory = Annotated[Path, PlainValidator(directory)]
SecretText = Annotated[Secret, PlainValidator(secret)]
SecretDsn = Annotated[Secret, PlainValidator(dsn)]
SecretUrl = Annotated[Secret, PlainValidator(secret_url)]
AnyColumn = Annotated[Column, PlainValidator(column)]
Table = Annotated[TableName, PlainValidator(table)]
