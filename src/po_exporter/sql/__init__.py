"""The SQL that po-exporter runs, in files that a DBA can read, and the loader of the checks and fixes among them.

A check is one file: a header of ``-- key: value`` lines, then one query over the canonical relations that returns
``id, since, details``. docs/own-checks.md says what both may use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import dropwhile
from pathlib import Path
from typing import Literal, get_args

from po_exporter.mapping import CANONICAL
from po_exporter.model import Entity, Priority

Scope = Literal["window", "all"]
LINK_RATE = "link_rate"
OPTIONAL = "?"
"""Behind a needed column: it is needed only where it is mapped."""
KEPT_FLAT = "@kept_flat"
"""Behind a needed column: it is needed only where closed positions keep their size and their orders net to zero."""

RESERVED = ("database", "digest")
"""What summaries are about besides checks: no check is called so."""
KEYS = "help issue_type entity priority scope settles incremental group tolerance needs uses off_when runbook".split()
_HEADER = re.compile(r"--\s*([a-z_]+):\s*(.*)")
_NO_CODE = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
MARKS = re.compile(rf"({re.escape(OPTIONAL)}|{re.escape(KEPT_FLAT)})$")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")


class CheckFileError(Exception):
    """A check file that cannot be used: where, and why."""

    def __init__(self, path: str, line: int, message: str) -> None:
        self.path, self.line, self.message = path, line, message
        super().__init__(f"{path}:{line}: {message}")


@dataclass(frozen=True, slots=True)
class CheckFile:
    """One check as its file describes it.

    ``needs`` and ``uses`` name canonical columns (``orders.filled``, ``ledger``). A check is off where one that it
    needs is not mapped, unless it is written with a ``?`` behind it: then it reads as NULL where it is not mapped, and
    is needed where it is. What is only used is shown; where it cannot be read, it is NULL. ``off_when`` is a (setting
    of the positions mapping, value) under which the check has no meaning. ``tolerance`` is the default of the check's
    own setting of that name. ``incremental`` says that what the check says of a row changes only with that row, with
    the position that its link names (or an order that names it), and as filled orders without a link grow old; or,
    where there is a ``group``, with another order that has the same value in that canonical column.
    """

    name: str
    issue_type: str
    help: str
    entity: Entity
    priority: Priority | None
    scope: Scope
    sql: str
    needs: frozenset[str]
    uses: frozenset[str] = frozenset()
    settles: bool = False
    incremental: bool = False
    group: str | None = None
    tolerance: Decimal | None = None
    off_when: tuple[str, str] | None = None
    runbook: str | None = None


@dataclass(frozen=True, slots=True)
class FixFile:
    """One fix as its file describes it: the checks whose findings it mends, and the canonical columns that it needs.

    Its query yields every row that it could be about: the order's ``id``, its ``link``, the ``target`` of the link that
    it would have, its ``quantity``, the ``proof`` that this is safe, and the ``refusal`` where it is not.
    """

    name: str
    help: str
    mends: tuple[str, ...]
    needs: frozenset[str]

    @property
    def path(self) -> str:
        """Where ``read`` finds its query."""
        return f"fixes/{self.name}.sql"


def load_fixes() -> dict[str, FixFile]:
    """Our fixes by name, in the order in which they are made: what takes away before what adds."""
    found = {}
    for name in ("unlink_orphan", "link_order"):
        header, _ = _read_header(read(f"fixes/{name}.sql"), name, ("help", "mends", "needs"))
        found[name] = FixFile(name, header["help"], tuple(header["mends"].split()), frozenset(header["needs"].split()))
    return found


def read(name: str) -> str:
    """The text of one of our own SQL files, by its path below this folder."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def newest_schema() -> int:
    """The version of the sidecar's own schema that install makes: that of the last of its steps."""
    steps = (re.fullmatch(r"schema_(\d+)\.sql", file.name) for file in files(__name__).joinpath("install").iterdir())
    return max(int(step[1]) for step in steps if step)


def load_checks(directory: Path | None = None, faults: list[CheckFileError] | None = None) -> dict[str, CheckFile]:
    """Our checks and those of a user's directory, by name, ours first.

    Raises CheckFileError for a file that cannot be used or takes the name of one of ours; given ``faults``, it adds
    one for each such file there instead, and leaves the file out.
    """
    found = _load_directory(files(__name__).joinpath("checks"), {}, None)
    if directory is None:
        return found
    if not directory.is_dir():
        raise CheckFileError(str(directory), 0, "is not a directory that can be read")
    return _load_directory(directory, found, faults)


def _load_directory(
    directory: Traversable, known: Mapping[str, CheckFile], faults: list[CheckFileError] | None
) -> dict[str, CheckFile]:
    found = dict(known)
    for file in sorted((f for f in directory.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name):
        try:
            check = _load_file(file, known, found)
        except CheckFileError as error:
            if faults is None:
                raise
            faults.append(error)
        else:
            found[check.name] = check
    return found


def _load_file(file: Traversable, known: Mapping[str, CheckFile], found: Mapping[str, CheckFile]) -> CheckFile:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckFileError(str(file), 0, f"cannot be read as text: {error}") from None
    check = parse_check(file.name.removesuffix(".sql"), text, str(file))
    if check.name in known:
        raise CheckFileError(str(file), 1, f"{check.name} is the name of a built-in check; rename the file")
    twin = next((other.name for other in found.values() if other.issue_type == check.issue_type), None)
    if twin:
        raise CheckFileError(str(file), 1, f"{check.issue_type} is the issue type of {twin} already")
    return check


def parse_check(name: str, text: str, path: str) -> CheckFile:
    """One check from the text of its file. Raises CheckFileError."""

    def fault(line: int, message: str) -> CheckFileError:
        return CheckFileError(path, line, message)

    if not _NAME.fullmatch(name):
        raise fault(0, "a check is called by lower-case letters, digits and _, 50 at most; rename the file")
    if name in RESERVED:
        raise fault(0, f"summaries are about a {name}, too, so that no check is called so; rename the file")
    header, lines = _read_header(text, path)

    def value(key: str, choices: tuple[str, ...] | None = None) -> str:
        if key not in header:
            raise fault(1, f"the header has no line '-- {key}: ...'")
        if choices and header[key] not in choices:
            raise fault(lines[key], f"{key} is one of {', '.join(choices)}, not {header[key]!r}")
        return header[key]

    def flag(key: str) -> bool:
        return key in header and value(key, ("true", "false")) == "true"

    def columns(key: str) -> frozenset[str]:
        names = header.get(key, "").replace(",", " ").split()
        for column in names:
            if MARKS.sub("", column) not in CANONICAL:
                near = get_close_matches(column, CANONICAL, 1)
                hint = f"; did you mean {near[0]!r}?" if near else " such as orders.filled or ledger.quantity"
                raise fault(lines[key], f"{column!r} is not a canonical column{hint}")
        return frozenset(names)

    tolerance = None
    if "tolerance" in header:
        try:
            tolerance = Decimal(header["tolerance"])
        except InvalidOperation:
            raise fault(lines["tolerance"], f"tolerance is a decimal number, not {header['tolerance']!r}") from None
    off_when = tuple(part.strip() for part in header.get("off_when", "").split("="))
    if "off_when" in header and len(off_when) != 2:
        raise fault(lines["off_when"], "off_when is 'setting = value', a setting of the positions mapping")
    query = "\n".join(dropwhile(lambda line: line.startswith("--"), text.splitlines())).strip().rstrip(";")
    if not query:
        raise fault(len(text.splitlines()), "there is no query below the header")
    needs, uses, entity = columns("needs"), columns("uses"), value("entity", get_args(Entity))
    undeclared = _undeclared(query, needs | uses, entity)
    if undeclared:
        raise fault(lines.get("needs", 1), undeclared)
    if flag("incremental") and (clock := re.search(r":(as_of|window_start|grace_start)\b", query)):
        raise fault(
            lines["incremental"], f"a check that reads {clock.group()} changes with the clock; it is not incremental"
        )
    if "group" in header and (header["group"] not in CANONICAL or not header["group"].startswith("orders.")):
        raise fault(lines["group"], f"group is a canonical column of orders, not {header['group']!r}")
    rate = name == LINK_RATE
    window = {f"{entity}s.in_window"} if header.get("scope") == "window" else set()
    return CheckFile(
        name=name,
        issue_type=header.get("issue_type", name.upper()),
        help=value("help"),
        entity="position" if entity == "position" else "order",
        priority=None if rate else _priority(value("priority", get_args(Priority))),
        scope="all" if value("scope", get_args(Scope)) == "all" else "window",
        sql=query,
        needs=needs | window,
        uses=uses,
        settles=flag("settles"),
        incremental=flag("incremental"),
        group=header.get("group"),
        tolerance=tolerance,
        off_when=(off_when[0], off_when[1]) if len(off_when) == 2 else None,
        runbook=header.get("runbook"),
    )


def _undeclared(query: str, declared: frozenset[str], entity: str) -> str | None:
    """What the query reads without the header saying so: it would work only beside a check that does say so."""
    code = _NO_CODE.sub(" ", query)
    other = "position" if entity == "order" else "order"
    if re.search(rf"\bscoped_{other}s\b", code):
        return f"a check of entity {entity} cannot use scoped_{other}s; it looks things up in {other}s"
    for role in ("orders", "positions", "ledger"):
        if re.search(rf"\b{role}\b", code) and not any(name.startswith(f"{role}.") for name in declared):
            return f"the query reads {role}, but needs and uses name no column of it"
    known = {name.split(".")[-1] for name in CANONICAL}
    named = {MARKS.sub("", name).split(".")[-1] for name in declared} | {"position_id"}  # the ledger's own key
    missing = sorted((set(re.findall(r"\.\s*([a-z_]+)", code)) & known) - named)
    return f"the query reads {', '.join(missing)}, but needs and uses do not name it" if missing else None


def _priority(text: str) -> Priority:
    return "high" if text == "high" else "medium" if text == "medium" else "low"


def _read_header(text: str, path: str, keys: Sequence[str] = KEYS) -> tuple[dict[str, str], dict[str, int]]:
    """The header's values and the line of each; it ends at the first line that is no comment, or an
    empty one: what follows that is for the reader."""
    header: dict[str, str] = {}
    lines: dict[str, int] = {}
    last = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("--") or line.strip() == "--":
            break
        match = _HEADER.fullmatch(line.rstrip())
        if match is None:
            if last:  # a comment line without a key goes on with the value above it
                header[last] = f"{header[last]} {line.lstrip('- ').rstrip()}".strip()
            continue
        key, value = match.groups()
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; a header has {', '.join(keys)}"
            raise CheckFileError(path, number, f"unknown key {key!r} in the header{hint}")
        if key in header:
            raise CheckFileError(path, number, f"{key} stands twice in the header")
        header[key], lines[key], last = value, number, key
    return header, lines
