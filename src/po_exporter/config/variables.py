"""The environment: one variable a key, those of PO_EXPORTER_DSN, and the guide's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from po_exporter.config import guide
from po_exporter.config.kinds import near
from po_exporter.config.shape import PREFIX, Settings, is_text, key_of, keys, kind_at, variable
from po_exporter.config.targets import dsn
from po_exporter.config.tree import KeyPath, Place, Tree, concrete, read_text
from po_exporter.dsn import Dsn
from po_exporter.errors import Fault
from po_exporter.mapping import Column

DSN, DSN_FILE = f"{PREFIX}DSN", f"{PREFIX}DSN_FILE"
_OTHERS = {DSN, DSN_FILE, f"{PREFIX}CONFIG", f"{PREFIX}INSTALL_DSN", f"{PREFIX}PG_BIN"}
# Kubernetes tells every pod about every service of its namespace, such as one that is called po-exporter.
_KUBERNETES = re.compile(
    r"PO_EXPORTER(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9]+)*|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def read_variables(environ: Mapping[str, str], file: Tree, faults: list[Fault]) -> Tree:
    """What the variables say. An empty one is not set; one that looks like ours but is not is a fault."""
    tree = Tree()
    found: list[tuple[KeyPath, str]] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or not environ[name].strip() or name in _OTHERS:
            continue
        if name.startswith(f"{PREFIX}TEST_"):
            continue
        try:
            path = key_of(name.removeprefix(PREFIX), Settings, file.values)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
            continue
        if path:
            found.append((path, name))
        elif not _KUBERNETES.fullmatch(name):
            faults.append(Fault(name, f"is no setting.{near(name, [*_OTHERS, *_all_variables(file)])}"))
    for path, name in sorted(found, key=lambda item: len(item[0])):  # a section first, then single keys of it
        try:
            tree.put(path, _value(environ[name], kind_at(path)), Place(name))
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    guide.read_variables(environ, tree, faults)
    return tree


def _value(text: str, kind: Any) -> Any:
    if kind is Column:
        try:
            value = read_text(text)
        except ValueError:
            return text
        return value if isinstance(value, dict) else text
    return text if is_text(kind) else read_text(text)


def _all_variables(file: Tree) -> list[str]:
    """One for each key under each name that the file holds."""
    return [variable(path) for key in keys() for path in concrete(file.values, key.path)]


def place_dsn(environ: Mapping[str, str], settings: Tree, variables: Tree, faults: list[Fault]) -> None:
    """PO_EXPORTER_DSN: the dsn of the one database there is, or all that is needed where there is none."""
    given = [name for name in (DSN, DSN_FILE) if environ.get(name, "").strip()]
    if not given:
        return
    if len(given) == 2:
        faults.append(Fault(DSN, f"is set, and so is {DSN_FILE}; keep one of the two."))
    name = given[0]
    databases = settings.get(("databases",))
    labels = list(databases) if isinstance(databases, dict) else []
    if len(labels) > 1:
        faults.append(Fault(name, f"there are {len(labels)} databases; which one it is for cannot be known."))
        return
    try:
        secret = dsn(environ[name] if name == DSN else Path(environ[name].strip()))
        label = labels[0] if labels else Dsn.parse(secret.reveal()).database
    except ValueError as error:
        faults.append(Fault(name, str(error)))
        label = labels[0] if labels else "unknown"
    for form in ("dsn", "dsn_file"):
        path = ("databases", label, form)
        if variables.get(path) is not None:
            faults.append(Fault(name, f"is set, and so is {variables.place(path)}; keep one of the two."))
        settings.remove(path)
    settings.put(("databases", label, "dsn" if name == DSN else "dsn_file"), environ[name].strip(), Place(name))
