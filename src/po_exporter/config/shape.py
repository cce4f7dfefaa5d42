"""The configuration as a whole, and the ways to go through it: by key, by variable, by what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from po_exporter.config.guide import GuideBlock
from po_exporter.config.kinds import Word
from po_exporter.config.schemas import Schema
from po_exporter.config.settings import (
    Checks,
    CheckSettings,
    DatabaseSettings,
    FeatureFlags,
    Fix,
    Link,
    Monitor,
    Notify,
    Reconcile,
    Section,
    Server,
    Thresholds,
    off,
    optional,
    section,
)
from po_exporter.config.targets import Listen
from po_exporter.config.tree import KeyPath, dotted
from po_exporter.mapping import Column, TableName
from po_exporter.secret import Secret

PREFIX = "PO_EXPORTER_"


class Settings(Section):
    """The whole file, understood key by key; what the keys mean together is checked where it is loaded."""

    databases: dict[Word, DatabaseSettings] = section()
    schemas: dict[Word, Schema] = section()
    monitor: Monitor = section()
    checks: Checks = section()
    thresholds: Thresholds = section()
    server: Server = section()
    leader: Annotated[Literal["auto", "off"], BeforeValidator(off)] = optional(
        "auto", "Whether replicas elect one among them that polls: auto or off."
    )
    notify: Notify = section()
    fix: Fix = section()
    reconcile: Reconcile = section()
    link: Link = section()
    feature_flags: FeatureFlags = section()
    position_order_integration: GuideBlock = section()


class Key(NamedTuple):
    """One key: its path, with ``*`` for a name that the user gives, and its field; ``is_file`` for ``..._file``."""

    path: KeyPath
    field: FieldInfo
    is_file: bool = False

    @property
    def kind(self) -> Any:
        """The type of its value."""
        return Path if self.is_file else base(self.field.annotation)


def base(annotation: Any) -> Any:
    """An annotation without ``| None`` and ``Annotated``."""
    if get_origin(annotation) is Annotated:
        return base(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return base(next(kind for kind in get_args(annotation) if kind is not type(None)))
    return annotation


def children(kind: Any) -> tuple[dict[str, Key], Any]:
    """The keys of a section, and the kind of the entries under names that the user gives, if it takes such names."""
    if get_origin(kind) is dict:
        return {}, base(get_args(kind)[1])
    if not (isinstance(kind, type) and issubclass(kind, Section)):
        return {}, None
    keys: dict[str, Key] = {}
    for attribute, field in kind.model_fields.items():
        name = field.alias or attribute
        keys[name] = Key((name,), field)
        if base(field.annotation) is Secret:
            keys[f"{name}_file"] = Key((f"{name}_file",), field, is_file=True)
    return keys, CheckSettings if kind is Checks else None


def keys(kind: Any = Settings, path: KeyPath = ()) -> Iterator[Key]:
    """Every key that holds a value of its own."""
    known, entries = children(kind)
    if entries is not None:
        yield from keys(entries, (*path, "*"))
    for name, key in known.items():
        below = list(keys(key.kind, (*path, name)))
        yield from below or [key._replace(path=(*path, name))]


def kind_at(path: KeyPath) -> Any:
    """The kind of section or value at a path; None where there is none."""
    kind: Any = Settings
    for part in path:
        known, entries = children(kind)
        kind = known[part].kind if part in known else entries
    return kind


def variable(path: KeyPath) -> str:
    """The environment variable of a key."""
    return PREFIX + "__".join(_variable_part(part) for part in path)


def _variable_part(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


def key_of(rest: str, kind: Any, values: Any) -> KeyPath | None:
    """The path that the rest of a variable's name stands for; None when there is none.

    Names that the values hold are found whatever their spelling; new ones are taken in lower case. Raises ValueError
    where two names look the same.
    """
    known, entries = children(kind)
    below: Mapping[str, Any] = values if isinstance(values, dict) else {}
    for names, is_known in ((known, True), (below if entries is not None else {}, False)):
        found = [name for name in names if rest == _variable_part(name) or rest.startswith(f"{_variable_part(name)}__")]
        exact = [name for name in found if _variable_part(name) == max((_variable_part(n) for n in found), key=len)]
        if len(exact) > 1 and not is_known:
            raise ValueError(f"could mean {' or '.join(exact)}; rename one of them.")
        if exact:
            name = exact[0]
            tail = rest[len(_variable_part(name)) + 2 :]
            inner = known[name].kind if is_known else entries
            deeper = key_of(tail, inner, below.get(name)) if tail else ()
            return None if deeper is None else (name, *deeper)
    head, _, tail = rest.partition("__")
    if entries is None or not head:
        return None
    deeper = key_of(tail, entries, {}) if tail else ()
    return None if deeper is None else (head.lower(), *deeper)


def is_text(kind: Any) -> bool:
    """Whether a variable of that kind is taken as it stands; the others are read as YAML."""
    return kind in (str, Path, Secret, Listen, TableName, Column) or get_origin(kind) is Literal


def hint(path: KeyPath, names: list[str]) -> str:
    """What was probably meant by an unknown key; ``names`` are more names that are known beside it."""
    *parents, name = path
    known, _ = children(kind_at(tuple(parents)))
    everywhere: dict[str, list[str]] = {}
    for key in keys():
        for length in range(1, len(key.path) + 1):
            shown = everywhere.setdefault(key.path[length - 1], [])
            if dotted(key.path[:length]) not in shown:
                shown.append(dotted(key.path[:length]))
    here = [*(name for name, key in known.items() if not key.is_file), *names]
    beside = get_close_matches(name, [*known, *names], 1, 0.6)
    elsewhere = [name] if name in everywhere else [] if beside else get_close_matches(name, everywhere, 1, 0.7)
    if beside and (not elsewhere or get_close_matches(name, beside, 1, 0.75)):
        return f" Did you mean {beside[0]!r}?"
    if elsewhere:
        return f" Did you mean {' or '.join(everywhere[elsewhere[0]][:3])}?"
    return f" Known here: {', '.join(here)}." if here else ""
