"""What the file and the variables say, before it is understood: plain values, each with the place it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from po_exporter.errors import ConfigError, Fault

KeyPath = tuple[str, ...]


def dotted(path: KeyPath) -> str:
    """A key path as people write it."""
    return ".".join(path)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was given: ``origin`` is file:line, a variable's name or the command line.

    ``path`` is the key as it stands there; a variable's name says that already.
    """

    origin: str
    path: KeyPath = ()

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, dotted(self.path)) if part)


@dataclass(slots=True)
class Tree:
    """Nested dicts and lists of text, switches and None; numbers are left as text, exact as they were written."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def get(self, path: KeyPath) -> Any:
        """The value at a path; None where there is none."""
        value: Any = self.values
        for part in path:
            if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, dict):
                value = value.get(part)
            else:
                return None
        return value

    def put(self, path: KeyPath, value: Any, place: Place) -> None:
        """Sets a value in place of what was there, unless something above it is no mapping: that is its own fault."""
        parent: Any = self.values
        for part in path[:-1]:
            if parent.get(part) is None:
                parent[part] = {}
            parent = parent[part]
            if not isinstance(parent, dict):
                return
        parent[path[-1]] = value
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]
        self.places[path] = place

    def remove(self, path: KeyPath) -> None:
        """Takes a value away, if it is there."""
        parent = self.get(path[:-1])
        if isinstance(parent, dict):
            parent.pop(path[-1], None)

    def merge(self, other: Tree) -> None:
        """Lets everything that the other one says win."""
        for path, place in sorted(other.places.items(), key=lambda item: len(item[0])):
            self.put(path, other.get(path), place)

    def place(self, path: KeyPath) -> Place:
        """Where the value at a path was given, or what is nearest above it."""
        for length in range(len(path), 0, -1):
            known = self.places.get(path[:length])
            if known:
                return Place(known.origin, (*known.path, *path[length:]))
        return Place("", path)

    def fault(self, path: KeyPath, message: str) -> Fault:
        """A fault at a key."""
        return Fault(str(self.place(path)), message)


class _Loader(yaml.SafeLoader):
    """Resolves switches, null and merge keys; whatever else is not quoted stays the text that it is."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - yaml's own way


for _tag, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))

_SCALARS = {f"tag:yaml.org,2002:{tag}" for tag in ("str", "int", "float", "timestamp", "value")}


def read_file(path: Path, faults: list[Fault]) -> Tree:
    """The file's content. Adds to the faults what is wrong here and there; raises ConfigError where nothing is left."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([Fault(str(path), f"cannot be read: {error.strerror}.")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Fault(str(path), "is not UTF-8 text.")]) from None
    reader, values, problem = _Reader(str(path)), None, None
    try:
        root = yaml.compose(text, _Loader)
        values = reader.value(root, ()) if root else None
    except yaml.YAMLError as error:
        problem = _syntax(str(path), error)
    except RecursionError:
        problem = Fault(str(path), "is nested too deeply.")
    if problem is None and values is None:
        problem = Fault(str(path), "is empty: it should name at least one database; see `po-exporter config example`.")
    elif problem is None and not isinstance(values, dict):
        problem = Fault(f"{path}:1", "should be a mapping such as `databases: ...` at its top.")
    if problem or not isinstance(values, dict):  # not inside `except`: the parser's error holds pieces of the file
        raise ConfigError([problem] if problem else [])
    faults.extend(reader.faults)
    return Tree(values, reader.places)


def read_text(text: str) -> Any:
    """The YAML of a variable. Raises ValueError with a sentence that holds nothing of the text."""
    reader, value = _Reader(""), None
    try:
        root = yaml.compose(text, _Loader)
        value = reader.value(root, ()) if root else None
        problem = reader.faults[0].message if reader.faults else ""
    except yaml.YAMLError as error:
        problem = f"is not YAML: {_syntax('', error).message}"
    except RecursionError:
        problem = "is nested too deeply."
    if problem:
        raise ValueError(problem)
    return value


class _Reader:
    """Turns YAML's nodes into plain values, noting the line of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[KeyPath, Place] = {}
        self.faults: list[Fault] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        if id(node) in self._open:
            self._fault(node, path, "refers to something that contains it.")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._at(item, item, (*path, str(index))) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _at(self, where: yaml.Node, node: yaml.Node, path: KeyPath) -> Any:
        self.places[path] = Place(f"{self.name}:{where.start_mark.line + 1}", path)
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, child in node.value:
            if key.tag.endswith(":merge"):
                bases = child.value if isinstance(child, yaml.SequenceNode) else [child]
                for base in reversed(bases):
                    found = self.value(base, path)
                    merged |= found if isinstance(found, dict) else {}
                continue
            name = self._scalar(key, path) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                self._fault(
                    key, path, "has a key that is not text; quote it (YAML reads yes, no, on and off as a switch)."
                )
            elif name in own:
                first = self.places[(*path, name)].origin.rpartition(":")[2]
                self._fault(key, (*path, name), f"stands twice; the first one is in line {first}.")
            else:
                own[name] = self._at(key, child, (*path, name))
        return merged | own

    def _scalar(self, node: yaml.Node, path: KeyPath) -> str | bool | None:
        if node.tag.endswith(":bool") and node.tag.startswith("tag:yaml.org"):
            return bool(yaml.SafeLoader.bool_values.get(node.value.lower(), False))
        if node.tag == "tag:yaml.org,2002:null":
            return None
        if node.tag not in _SCALARS:
            self._fault(node, path, "has a tag (a word that begins with !), and none is known here; quote a text that "
                                    "begins with !.")  # fmt: skip
            return None
        return str(node.value)

    def _fault(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        line = f"{self.name}:{node.start_mark.line + 1}"
        self.faults.append(Fault(f"{line}: {dotted(path)}" if path else line, message))


def _syntax(name: str, error: yaml.YAMLError) -> Fault:
    """A syntax error in words, without the pieces of text that YAML's own message may hold."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read as YAML")
    if "\\t" in problem:
        problem = "a tab stands where YAML wants spaces"
    elif "alias" in problem:
        problem = "an alias (*name) refers to nothing; quote a text that begins with *"
    elif "mapping values are not allowed" in problem:
        problem = "a colon and a space where no key can be; quote a text that holds them, and look at the indentation"
    problem = re.sub(r"'[^']*\w[^']*'", "…", problem)
    return Fault(f"{name}:{mark.line + 1}" if mark else name, f"{problem}.")


def concrete(values: Any, pattern: KeyPath) -> Iterator[KeyPath]:
    """The paths that a pattern stands for, ``*`` being any name that the values have there."""
    below = values if isinstance(values, dict) else {}
    for name in below if pattern[0] == "*" else [pattern[0]]:
        for rest in concrete(below.get(name), pattern[1:]) if pattern[1:] else [()]:
            yield (name, *rest)
