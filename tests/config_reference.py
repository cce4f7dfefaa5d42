"""The tables of docs/configuration.md, made from the models. `python tests/config_reference.py` writes them anew."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from po_exporter.config.guide import VARIABLES
from po_exporter.config.shape import Key, keys, variable
from po_exporter.config.tree import dotted
from po_exporter.secret import Secret

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"
_BLOCK = re.compile(r"(<!-- keys: (\S+) -->\n)(.*?)(<!-- end -->)", re.S)


def documented(text: str) -> list[str]:
    """The top-level keys that have a table in the text."""
    return [match[2] for match in _BLOCK.finditer(text)]


def renewed(text: str) -> str:
    """The text with every table as it should be."""
    tables = {name: _table(list(rows)) for name, rows in groupby(keys(), lambda key: key.path[0])}
    tables["guide-variables"] = _rows(
        ("Variable", "Sets"), [(f"`{name}`", f"`{dotted(path)}`") for name, path in VARIABLES.items()]
    )
    return _BLOCK.sub(lambda match: f"{match[1]}{tables[match[2]]}{match[4]}", text)


def _table(rows: list[Key]) -> str:
    return _rows(
        ("Key", "Variable", "Default", "Meaning"),
        [
            (f"`{dotted(key.path)}`", f"`{_variable(key)}`", _default(key), _meaning(key))
            for key in rows
            if not key.is_file
        ],
    )


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _variable(key: Key) -> str:
    return variable(tuple("NAME" if part == "*" else part for part in key.path))


def _default(key: Key) -> str:
    if key.field.is_required():
        return "required"
    return "-" if key.field.default is None else f"`{str(key.field.default).replace(chr(39), '')}`"


def _meaning(key: Key) -> str:
    also = " Also as `_file`." if key.kind is Secret else ""
    return f"{key.field.description}{also}"


if __name__ == "__main__":
    DOCS.write_text(renewed(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
