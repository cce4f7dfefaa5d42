"""The canonical schema: a user's two tables as the checks see them, whatever they are called and typed.

What is mapped comes from the configuration, what exists from the catalogs; ``Presenter`` puts the two together into the
SQL of the canonical relations, and says in one sentence what stands in a check's way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from po_exporter.database.canonical import (
    ALL_THAT_COUNT,
    BROKEN_LINKS_COLUMNS,
    LEDGER,
    LEDGER_COLUMNS,
    NO_LEDGER,
    TOUCHED_THAT_COUNT,
    Templates,
    broken_links,
    derived,
)
from po_exporter.database.catalog import Catalog, quote, quote_table
from po_exporter.errors import DatabaseError, Missing, NoRight, QueryFailed
from po_exporter.mapping import Column, OrdersMapping, PositionsMapping, SchemaMapping
from po_exporter.sql import KEPT_FLAT, OPTIONAL, CheckFile

INTEGERS = frozenset({"smallint", "integer", "bigint"})
TEXTS = frozenset({"text", "character varying", "character", "citext", "name"})
FLOATS = frozenset({"real", "double precision"})
NUMBERS = frozenset({"quantity", "filled_quantity", "average_fill_price", "commission", "entry_price", "realized_pnl"})
TIMES = frozenset({"created_at", "filled_at", "updated_at", "opened_at", "closed_at"})
ROLES = ("orders", "positions")
_PLACEHOLDER = re.compile(r"\{(raw:)?(\w+)\}")


def _folded(words: Iterable[str]) -> set[str]:
    """Words as the server's lower() may leave them: where its locale is C, that changes ASCII letters only."""
    stripped = [word.strip() for word in words]
    return {word.lower() for word in stripped} | {_ascii_lower(form) for w in stripped for form in (w, w.upper())}


def _ascii_lower(text: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


@dataclass(frozen=True)
class Presenter:
    """The canonical relations ``orders``, ``positions`` and ``ledger`` over one mapping and one catalog.

    ``unbounded`` puts everything in the window.
    """

    mapping: SchemaMapping
    catalog: Catalog
    unbounded: bool = False

    def why_off(self, check: CheckFile) -> str | None:
        """Why this schema gives the check no meaning; None when it does."""
        if check.off_when:
            setting, value = check.off_when
            if str(getattr(self.mapping.positions, setting, "")).lower() == value:
                return f"schemas.{self.mapping.name}.positions.{setting} is {value}"
        return self.unmapped(check.needs)

    def unmapped(self, needs: Iterable[str]) -> str | None:
        """Which of the canonical columns named is not mapped; None where each is that has to be."""
        for role, column in sorted(self._sources(name for name in needs if not name.endswith(OPTIONAL))):
            if column not in self._side(role).columns:
                return f"schemas.{self.mapping.name}.{role}.columns.{column} is not mapped"
        return None

    def obstacle(self, needs: Iterable[str]) -> DatabaseError | None:
        """What, of the canonical columns named, is missing or forbidden in the database although it is mapped; None
        when nothing is."""
        sources = self._sources(needs)
        for role in sorted({role for role, _ in sources}):
            table = self.catalog.tables.get(role)
            name = self._side(role).table
            if table is None:
                return Missing(
                    f"there is no table {name}; correct schemas.{self.mapping.name}.{role}.table, "
                    "or the search_path of the role"
                )
            if table.rows_may_be_hidden:
                return NoRight(
                    f"row-level security is active for this role on {name}: rows that a policy hides would be missing "
                    "from every answer; ALTER ROLE ... BYPASSRLS"
                )
            if not table.usage:
                return NoRight(f"the role may not look into the schema of {name}; GRANT USAGE ON SCHEMA to it")
        problems = (self._problem(role, name) for role, name in sorted(sources) if name in self._side(role).columns)
        return next((problem for problem in problems if problem), None)

    def relations(self, needed: Iterable[str], *, readers_of_ledger: int = 1, touched: bool = False) -> str:
        """The CTEs of the canonical relations, with just the columns named (``orders.filled``, ``ledger.quantity``).

        ``readers_of_ledger`` is how often the statement reads the ledger; for one it need not be kept. ``touched``
        confines the ledger to the positions in ``:cold`` and ``:hot``, and broken links to ``touched_orders``, those in
        ``:orders``; there are ``touched_positions``, too.
        """
        named = set(needed)
        names = self._effective(named)
        parts, columns = [], {}
        with_ledger = self.reads_ledger(named)
        if with_ledger:
            names |= set(LEDGER_COLUMNS)
        if "broken_links" in names:
            names |= set(BROKEN_LINKS_COLUMNS)
        for role in ROLES:
            columns[role] = sorted(name.split(".")[1] for name in names if name.startswith(f"{role}."))
            projected = ", ".join(f"{self.expression(role, name)} AS {name}" for name in columns[role])
            if projected:  # a table that nothing needs may be missing
                table = quote_table(self._side(role).table)
                parts.append(f"{role} AS NOT MATERIALIZED (SELECT {projected} FROM {table})")
            if touched and "id" in columns[role]:  # looked up once for all the checks
                parts.append(f"touched_{role} AS MATERIALIZED (SELECT * FROM {role} WHERE id = ANY(:{role}))")
        if with_ledger:
            kept = "MATERIALIZED" if readers_of_ledger > 1 else "NOT MATERIALIZED"
            counted = TOUCHED_THAT_COUNT if touched else ALL_THAT_COUNT
            parts.append(LEDGER.format(materialized=kept, counted=counted))
        elif any(name.startswith("ledger.") for name in named):
            parts.append(NO_LEDGER)
        if "broken_links" in names:
            pairs = "positions.trading_pair" in names
            accounts = "positions.account" in names and self.compares_accounts
            source = "touched_orders" if touched else "orders"
            parts.append(broken_links(columns["orders"], pairs=pairs, accounts=accounts, source=source))
        return ",\n".join(parts)

    def reads_ledger(self, needed: Iterable[str]) -> bool:
        """Whether that takes the ledger, under this mapping."""
        return any(name.startswith("ledger.") for name in self._effective(needed))

    def expression(self, role: str, name: str) -> str:
        """The SQL of a canonical column, plain or derived; a typed NULL where it is not mapped or cannot be read."""
        template = self._templates.get(f"{role}.{name}")
        if template is None:
            return self._plain(role, name)

        def replaced(match: re.Match[str]) -> str:
            raw, column = match.groups()
            return self._raw(role, column) if raw else self.expression(role, column)

        return _PLACEHOLDER.sub(replaced, template)

    def id_type(self, role: str) -> str:
        """The SQL type in which a table's id is compared, for arrays of ids bound as parameters."""
        converted = self._plain(role, "id") != self._raw(role, "id")
        return "text" if converted else self._type(role, "id") or "text"

    def ids(self, role: str, keys: Iterable[str]) -> tuple[list[str], str]:
        """Ids of a table as text, as a parameter that is compared with its canonical id: (value, SQL type)."""
        kind = self.id_type(role)
        found = list(keys)
        if role == "positions" and self.folds_ids:
            found = [key.lower() for key in found]
        elif kind == "character":  # the text of one leaves the padding out
            found = [key.rstrip(" ") for key in found]
            kind = "bpchar"  # its other name: ``character`` without a length is one letter
        return found, f"text[]::{kind}[]"

    def column_type(self, role: str, name: str) -> str | None:
        """The type of a mapped column, without modifiers; None where that is not known."""
        return self._type(role, name)

    def id_order(self, role: str) -> str:
        """What follows a table's id where rows are put in its order: text goes by code point, whatever the locale."""
        return ' COLLATE "C"' if self.id_type(role) in TEXTS else ""

    @cached_property
    def parameters(self) -> dict[str, tuple[object, str]]:
        """What the relations and the checks are told of the mapping, by name: (value, SQL type)."""
        orders, positions = self.mapping.orders, self.mapping.positions
        words = {
            "filled_statuses": orders.filled_statuses,
            "complete_statuses": orders.complete_statuses,
            "buy_sides": orders.buy_sides,
            "sell_sides": orders.sell_sides,
            "long_sides": positions.long_sides,
            "short_sides": positions.short_sides,
        }
        named: dict[str, tuple[object, str]] = {name: (list(values), "text[]") for name, values in words.items()}
        named |= {f"{name}_folded": (sorted(_folded(values)), "text[]") for name, values in words.items()}
        named["has_filled_at"] = ("filled_at" in orders.columns, "boolean")
        named["compares_accounts"] = (self.compares_accounts, "boolean")
        named["closed_quantity"] = (positions.closed_quantity, "text")
        return named

    @property
    def compares_accounts(self) -> bool:
        """Whether both tables say whose account it is."""
        return "account" in self.mapping.orders.columns and "account" in self.mapping.positions.columns

    @cached_property
    def _templates(self) -> Templates:
        naive = frozenset(
            f"{role}.{name}"
            for role in ROLES
            for name in ("created_at", "opened_at")
            if name in self._side(role).columns and self._type(role, name) == "timestamp without time zone"
        )
        return derived(self.mapping, naive, unbounded=self.unbounded)

    def _side(self, role: str) -> OrdersMapping | PositionsMapping:
        return self.mapping.orders if role == "orders" else self.mapping.positions

    def _effective(self, needed: Iterable[str]) -> set[str]:
        """What is needed under this mapping, without the marks."""
        kept_flat = self.mapping.positions.closed_quantity == "kept_flat"
        return {
            name.removesuffix(OPTIONAL).removesuffix(KEPT_FLAT)
            for name in needed
            if kept_flat or not name.endswith(KEPT_FLAT)
        }

    def _sources(self, needed: Iterable[str]) -> set[tuple[str, str]]:
        """The plain columns behind canonical ones, as (role, column)."""
        found: set[tuple[str, str]] = set()
        for name in self._effective(needed):
            role, _, column = name.partition(".")
            template = self._templates.get(name)
            if role == "broken_links":
                found |= self._sources(BROKEN_LINKS_COLUMNS)
            elif role == "ledger":
                found |= self._sources(LEDGER_COLUMNS)
            elif template is None:
                found.add((role, column))
            else:
                found |= self._sources(f"{role}.{inner}" for _, inner in _PLACEHOLDER.findall(template))
        return found

    def _column(self, role: str, name: str) -> Column:
        return self._side(role).columns[name]

    def _raw(self, role: str, name: str) -> str:
        column = self._column(role, name)
        # The newlines keep a comment at the end of an expression from taking our parenthesis with it.
        return f"(\n{column.text}\n)" if column.is_sql else quote(column.text)

    def _type(self, role: str, name: str) -> str | None:
        column = self._column(role, name)
        if column.is_sql:
            kind = self.catalog.expressions.get((role, name))
            return kind if isinstance(kind, str) else None
        table = self.catalog.tables.get(role)
        return table.columns[column.text][0] if table and column.text in table.columns else None

    def _problem(self, role: str, name: str) -> DatabaseError | None:
        """Why a mapped column cannot be read as what it should be."""
        column, table = self._column(role, name), self._side(role).table
        where = f"schemas.{self.mapping.name}.{role}.columns.{name}"
        if column.is_sql:
            kind = self.catalog.expressions.get((role, name))
            if isinstance(kind, DatabaseError):
                return type(kind)(f"the SQL of {where} cannot be used on {table}: {kind}")
        elif role not in self.catalog.tables or column.text not in self.catalog.tables[role].columns:
            return Missing(f"there is no column {column.text} in {table}; correct {where}, or add the column")
        else:
            kind, allowed = self.catalog.tables[role].columns[column.text]
            if not allowed:
                return NoRight(
                    f"the role may not read {column.text} of {table}; GRANT SELECT ON {quote_table(table)} to it"
                )
        if kind is not None and self._convert(role, name, "x", kind) is None:
            wanted = "a number" if name in NUMBERS else "a time" if name in TIMES else "true or false"
            return QueryFailed(
                f"{where} should be {wanted}, but it is {kind} in {table}; map an SQL expression instead"
            )
        return None

    def _plain(self, role: str, name: str) -> str:
        if name not in self._side(role).columns or self._problem(role, name):
            kind = "numeric" if name in NUMBERS else "timestamptz" if name in TIMES else "text"
            return "NULL::boolean" if name == "is_active" else f"NULL::{kind}"
        raw, found = self._raw(role, name), self._type(role, name)
        if (role, name) in (("orders", "position_id"), ("positions", "id")):
            return self._link_key(raw)
        return raw if name == "id" else self._convert(role, name, raw, found or "") or raw

    def _link_key(self, raw: str) -> str:
        """A link or what it names, so that the two can be compared whatever their types."""
        ends = self._link_types
        if len(ends) == 1 or None in ends or ends <= INTEGERS or ends <= TEXTS:
            return raw
        return f"lower({raw}::text)" if self.folds_ids else f"{raw}::text"

    @property
    def folds_ids(self) -> bool:
        """Whether positions' ids are compared in lower case: a uuid's text is, text that names one need not be."""
        return "uuid" in self._link_types and len(self._link_types) > 1

    @property
    def _link_types(self) -> set[str | None]:
        return {self._type("orders", "position_id"), self._type("positions", "id")}

    def _convert(self, role: str, name: str, raw: str, kind: str) -> str | None:
        """A raw value as the canonical type; None when there is no sound way."""
        zone = "'" + self._side(role).timezone.replace("'", "''") + "'"
        if name in NUMBERS:
            # A plain cast keeps 15 digits of a double and 6 of a real; their text keeps all.
            exact = raw if kind == "numeric" else f"{raw}::text::numeric" if kind in FLOATS else None
            return exact or (f"{raw}::numeric" if kind in INTEGERS | TEXTS | {"money"} else None)
        if name in TIMES:
            if kind == "timestamp with time zone":
                return raw
            if kind in ("timestamp without time zone", "date"):
                return f"({raw}::timestamp AT TIME ZONE {zone})"
            return None
        if name == "is_active":
            return raw if kind == "boolean" else f"({raw} <> 0)" if kind in INTEGERS else None
        return raw if kind in ("text", "character varying") else f"{raw}::text"
