# ruff: noqa: TRY004 - pydantic collects ValueErrors; a TypeError would end the reading
"""The kinds of values that a configuration holds, read from the text that stands in the file or a variable.

Every reader raises ValueError with half a sentence for a person, which never repeats the value: it may be a secret.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from annotated_types import Ge, Le
from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, PlainValidator

from po_exporter.mapping import Column, TableName

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
    """Text that ``duration`` reads as this value, in a unit of which there are two at least: 60s, 5m, 24h."""
    milliseconds = value // timedelta(milliseconds=1)
    for unit in ("d", "h", "m"):
        if milliseconds % _UNITS[unit] == 0 and milliseconds >= 2 * _UNITS[unit]:
            return f"{milliseconds // _UNITS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def _above_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("should be longer than 0.")
    return value


def _fits_postgres(value: timedelta) -> timedelta:
    if value > _POSTGRES_LONGEST:
        raise ValueError("should be at most 24d, which is as long as PostgreSQL's own timeouts go.")
    return value


class Bytes(int):
    """A number of bytes; as text, in the largest unit that divides it."""

    def __str__(self) -> str:
        unit = next(unit for unit in ("GB", "MB", "kB", "B") if self % _SIZES[unit.lower()] == 0)
        return f"{self // _SIZES[unit.lower()]}{unit}"


def size(value: object) -> Bytes:
    """Bytes, in PostgreSQL's units: 1kB is 1024."""
    match = re.fullmatch(r"(\d{1,15})\s*([kmg]?b?)", value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in _SIZES or int(match[1]) == 0:
        raise ValueError("should be a size such as 512kB, 64MB or 1GB.")
    return Bytes(int(match[1]) * _SIZES[match[2]])


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
        meant = near(name, list(available_timezones()))
        raise ValueError(f"should be a time zone such as UTC or Europe/Zurich.{meant}")
    return name


def cron(value: object) -> str:
    """A cron expression of five fields."""
    fields = word(value).split()
    problem = "it has five fields"
    if len(fields) == 5:
        try:
            CronSim(" ".join(fields), datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            problem = str(error).lower()
        else:
            return " ".join(fields)
    raise ValueError(f'should be a cron expression such as "0 2 * * *" (02:00 every day): {problem}.')


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
        raise ValueError('should be a table such as orders, oms."Order" or \'"My Orders"\' (double quotes and all).')
    schema, name = match.groups()
    return TableName(_identifier(name), _identifier(schema) if schema else None)


def _identifier(written: str) -> str:
    quoted = written.startswith('"')
    name = written[1:-1].replace('""', '"') if quoted else re.sub("[A-Z]+", lambda upper: upper[0].lower(), written)
    return name.encode()[:63].decode(errors="ignore")  # PostgreSQL cuts a longer one


def table_text(value: TableName) -> str:
    """The text that ``table`` reads as this value."""
    parts = [part for part in (value.schema, value.name) if part]
    return ".".join(p if re.fullmatch("[a-z_][a-z0-9_]*", p) else '"' + p.replace('"', '""') + '"' for p in parts)


Text = Annotated[str, BeforeValidator(text)]
Word = Annotated[str, BeforeValidator(word)]
Switch = Annotated[bool, PlainValidator(switch)]
Count = Annotated[int, BeforeValidator(integer), Ge(1)]
CountOrZero = Annotated[int, BeforeValidator(integer), Ge(0)]
Percentage = Annotated[int, BeforeValidator(integer), Ge(0), Le(100)]
Port = Annotated[int, BeforeValidator(integer), Ge(1), Le(65535)]
Number = Annotated[Decimal, BeforeValidator(number), Ge(0)]
Factor = Annotated[Decimal, BeforeValidator(number), Ge(1)]
DurationOrZero = Annotated[timedelta, PlainValidator(duration)]
Duration = Annotated[timedelta, PlainValidator(duration), AfterValidator(_above_zero)]
Timeout = Annotated[Duration, AfterValidator(_fits_postgres)]
Size = Annotated[Bytes, PlainValidator(size)]
TimeZone = Annotated[str, PlainValidator(time_zone)]
Cron = Annotated[str, PlainValidator(cron)]
AnyColumn = Annotated[Column, PlainValidator(column)]
Table = Annotated[TableName, PlainValidator(table)]
