"""Builds the one statement of a poll: the canonical relations once, then each check as a branch of a UNION ALL.

Every branch returns the same row: the check's name, its exact count, the oldest ``since``, the hashed ids (up to the
identity budget) and the first findings as JSON: id, ``since``, details, and for a check over the window when its row
came into it. Details are asked for the shown findings alone, where that is cheap. Of what was touched, all findings are
shown, and nothing else is returned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from po_exporter.database.schema import Presenter
from po_exporter.sql import LINK_RATE, CheckFile

Parameters = Mapping[str, tuple[object, str]]
"""Name -> (value, SQL type)."""

_COMMENT = r"/\*(?:[^*/]|\*(?!/)|/(?!\*)|{inner})*\*/"  # block comments nest in PostgreSQL
for _ in range(3):
    _COMMENT = _COMMENT.replace("{inner}", _COMMENT)
# What may hold a colon that is no parameter comes first: strings, quoted names, comments, dollar quotes, casts.
_TOKEN = re.compile(
    r"\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|"
    + _COMMENT.replace("|{inner}", "")
    + r"|\$(\w*)\$.*?\$\1\$|::|:([a-z_]+)",
    re.DOTALL,
)
# Infinite times, and those that no calendar of ours has, are as good as unknown.
_KNOWN_TIME = (
    "CASE WHEN since >= timestamptz '0001-01-02Z' AND since < timestamptz '9999-12-31Z' THEN since END AS since"
)
_SCOPED = re.compile(r"\bscoped_(orders|positions)\b")

LONGEST_DETAILS = 8192
"""Bytes of a finding's details; longer ones are left out, and say so."""
OMITTED = '{"omitted": "the details are too long to show"}'
ENTERED = {"order": "orders.created_at", "position": "positions.opened_at"}
"""The column by which a row is in the window or not."""


Extent = Literal["some", "all", "touched"]
"""How much is wanted: some of the findings, most of them, or all about the ids in ``:orders`` and ``:positions`` and
nothing else (the link rate cannot be asked so)."""
EVERYTHING = "SELECT * FROM orders"
"""What ``scoped_orders`` are in our own queries, unless they are told otherwise."""


@dataclass
class Binder:
    """Turns ``:name`` into ``$1`` and collects the arguments in that order."""

    arguments: list[object] = field(default_factory=list)
    _places: dict[tuple[str, str], str] = field(default_factory=dict)

    def bind(self, text: str, parameters: Parameters, owner: str = "") -> str:
        """The text with its known parameters numbered; those of one ``owner`` have places of their own."""

        def place(match: re.Match[str]) -> str:
            name = match.group(2)
            if name is None or name not in parameters:
                return match.group(0)
            if (owner, name) not in self._places:
                value, kind = parameters[name]
                self.arguments.append(value)
                self._places[owner, name] = f"${len(self.arguments)}::{kind}"
            return self._places[owner, name]

        return _TOKEN.sub(place, text)


def compose(
    presenter: Presenter,
    checks: Sequence[CheckFile],
    parameters: Parameters,
    own: Mapping[str, Parameters],
    *,
    extent: Extent = "some",
) -> tuple[str, list[object]]:
    """The statement that asks all these checks, and its arguments.

    ``parameters`` are shared, ``own`` holds each check's (its tolerance), by name.
    """
    touched = extent == "touched"
    binder = Binder()
    readers = {check.name for check in checks if presenter.reads_ledger(check.needs)}
    needed = needed_by(checks) | {ENTERED[check.entity] for check in checks if check.scope == "window"}
    relations = [
        presenter.relations(needed, readers_of_ledger=len(readers), touched=touched),
        *_scopes(checks, touched=touched),
    ]
    ctes = [binder.bind(relation, parameters) for relation in relations]
    branches = []
    for check in checks:
        query = binder.bind(check.sql, own[check.name], check.name)
        body = binder.bind(_scoped(check, query), parameters)
        if check.name == LINK_RATE:
            ctes.append(f"{LINK_RATE} AS MATERIALIZED (SELECT * FROM ({body}) AS answer)")
            branches.append(f"SELECT '{LINK_RATE}', eligible, NULL::text, NULL::bytea, links::text FROM {LINK_RATE}")
        else:
            order = presenter.id_order(f"{check.entity}s")
            # What reads the ledger would compute it again for the details; their number is that of positions at most.
            # Where everything is shown, looking the shown ones up again would cost the square of their number.
            whole = extent != "some" or check.name in readers
            kept = f"id, {_KNOWN_TIME}, details" if whole else f"id, {_KNOWN_TIME}"
            ctes.append(f"check_{check.name} AS MATERIALIZED (SELECT {kept} FROM ({body}) AS answer)")
            shown = f"SELECT * FROM check_{check.name}" if whole else _again(check.name, body, order)
            branches.append(
                _touched_branch(check) if touched else binder.bind(_branch(check, shown, order), parameters)
            )
    header = "AS result (name, count, oldest, identities, evidence)"
    return "WITH " + ",\n".join(ctes) + "\nSELECT * FROM (\n" + "\nUNION ALL\n".join(
        branches
    ) + f"\n) {header}", binder.arguments


def compose_query(
    presenter: Presenter, query: str, needed: Iterable[str], parameters: Parameters, scoped: str = EVERYTHING
) -> tuple[str, list[object]]:
    """One of our own queries over the canonical relations, and its arguments; ``scoped`` selects ``scoped_orders``."""
    binder = Binder()
    relations = f"{presenter.relations(needed)},\nscoped_orders AS NOT MATERIALIZED ({scoped})"
    return f"WITH {binder.bind(relations, parameters)}\n{binder.bind(query, parameters)}", binder.arguments


def needed_by(checks: Iterable[CheckFile]) -> set[str]:
    """The canonical columns that these checks need or show."""
    return {name for check in checks for name in check.needs | check.uses}


def _scopes(checks: Sequence[CheckFile], *, touched: bool) -> list[str]:
    wanted = sorted({(check.scope, f"{check.entity}s") for check in checks})
    return [
        f"{scope}_{relation} AS NOT MATERIALIZED"
        f" (SELECT * FROM {'touched_' if touched else ''}{relation}"
        f" WHERE {'in_window' if scope == 'window' else 'true'})"
        for scope, relation in wanted
    ]


def _scoped(check: CheckFile, query: str) -> str:
    """The check's query with ``scoped_orders`` and ``scoped_positions`` named for its scope.

    By name and not by a WITH around the query, which would keep the planner from looking into it.
    """
    named = _SCOPED.sub(lambda match: f"{check.scope}_{match.group(1)}", query)
    return f"SELECT * FROM (\n{named}\n) AS asked"


def _branch(check: CheckFile, shown: str, order: str) -> str:
    name = check.name
    return f"""SELECT '{name}', (SELECT count(*) FROM check_{name}),
  (SELECT extract(epoch FROM min(since))::text FROM check_{name}),
  (SELECT string_agg(decode(md5(id::text), 'hex'), '') FROM check_{name} HAVING count(*) <= :identity_budget),
  (SELECT json_agg({_finding(check)} ORDER BY since NULLS LAST, id{order})::text
   FROM ({shown} ORDER BY since NULLS LAST, id{order} LIMIT :evidence) AS shown)"""


def _again(name: str, body: str, order: str) -> str:
    """The findings to be shown, asked once more, with their details."""
    return f"""SELECT id, {_KNOWN_TIME}, details FROM ({body}) AS answer
         WHERE id = ANY (ARRAY(SELECT id FROM check_{name} ORDER BY since NULLS LAST, id{order} LIMIT :evidence))"""


def _touched_branch(check: CheckFile) -> str:
    """All that is found of what was touched, in no order: no more is needed of it, and planning it costs less."""
    return f"""SELECT '{check.name}', count(*), NULL::text, ''::bytea, json_agg({_finding(check)})::text
  FROM check_{check.name} AS shown"""


def _finding(check: CheckFile) -> str:
    role = f"{check.entity}s"
    entered = (
        f"(SELECT extract(epoch FROM entity.{ENTERED[check.entity].split('.')[1]})::text"
        f" FROM {role} AS entity WHERE entity.id = shown.id)"
        if check.scope == "window"
        else "NULL"
    )
    return f"""json_build_array(id::text, extract(epoch FROM since)::text,
            CASE WHEN octet_length(details::text) > {LONGEST_DETAILS}
                 THEN '{OMITTED}' ELSE details::jsonb::text END, {entered})"""
