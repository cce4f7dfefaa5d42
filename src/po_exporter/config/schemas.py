"""The ``schemas`` part of the configuration: a user's own tables, described by the user."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationInfo, create_model, field_validator

from po_exporter.config.kinds import AnyColumn, Switch, Table, TimeZone, Word
from po_exporter.config.settings import Section, optional, required
from po_exporter.mapping import (
    ORDER_COLUMNS,
    ORDER_REQUIRED,
    POSITION_COLUMNS,
    POSITION_REQUIRED,
    Column,
    OrdersMapping,
    PositionsMapping,
    SchemaMapping,
)


class Columns(Section):
    """Canonical name -> column or expression."""

    def mapped(self) -> dict[str, Column]:
        """Those that are mapped, by canonical name."""
        return {name: column for name, column in self if column is not None}


def _columns(title: str, names: list[str], needed: tuple[str, ...]) -> type[Columns]:
    """A section with one key a canonical column."""
    fields: dict[str, Any] = {
        name: (AnyColumn, required("Required."))
        if name in needed
        else (AnyColumn | None, optional(None, "Where there is one."))
        for name in names
    }
    return create_model(title, __base__=Columns, **fields)


OrderColumns = _columns("OrderColumns", ORDER_COLUMNS, ORDER_REQUIRED)
PositionColumns = _columns("PositionColumns", POSITION_COLUMNS, POSITION_REQUIRED)


def folded(words: tuple[str, ...]) -> set[str]:
    """As the database compares them: trimmed and without case."""
    return {word.strip().casefold() for word in words}


def _not_empty(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise ValueError("should name at least one.")
    return words


def _apart(words: tuple[str, ...], others: tuple[str, ...], name: str) -> None:
    both = folded(words) & folded(others)
    if both:
        raise ValueError(f"{', '.join(sorted(both))} stands in {name}, too.")


Words = tuple[Word, ...]
SomeWords = Annotated[Words, AfterValidator(_not_empty)]


class Orders(Section):
    """The orders table."""

    table: Table = required("The table; what is not in double quotes folds to lower case.")
    columns: OrderColumns = required("Canonical name -> column, or `{sql: expression}`.")  # type: ignore[valid-type]
    filled_statuses: SomeWords = required("Under which an order may have changed its position.")
    complete_statuses: Words = optional([], "Those of them that promise a fill.")
    buy_sides: SomeWords = required("What says buy.")
    sell_sides: SomeWords = required("What says sell.")
    timezone: TimeZone = optional("UTC", "What a timestamp without time zone means.")

    @field_validator("complete_statuses")
    @classmethod
    def _are_filled(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        strange = folded(value) - folded(info.data.get("filled_statuses", value))
        if strange:
            raise ValueError(f"{', '.join(sorted(strange))} should stand in filled_statuses, too.")
        return value

    @field_validator("sell_sides")
    @classmethod
    def _are_no_buys(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        _apart(value, info.data.get("buy_sides", ()), "buy_sides")
        return value


class Positions(Section):
    """The positions table."""

    table: Table = required("The table; what is not in double quotes folds to lower case.")
    quantity: Literal["signed", "by_side"] = optional(
        "signed", "signed: sells make it negative; by_side: `side` says long or short."
    )
    columns: PositionColumns = required("Canonical name -> column, or `{sql: expression}`.")  # type: ignore[valid-type]
    long_sides: Words = optional([], "What says long; for by_side.")
    short_sides: Words = optional([], "What says short; for by_side.")
    closed_quantity: Literal["zero", "kept", "kept_flat"] = optional(
        "zero",
        "What a closed position stores: zero; kept, its last size, which is not compared; kept_flat, its last size, "
        "while its orders net to 0.",
    )
    one_active_per_pair: Switch = optional("false", "For netting accounts: true.")
    timezone: TimeZone | None = optional(
        None, "What a timestamp without time zone means; by default as for the orders."
    )

    @field_validator("columns")
    @classmethod
    def _complete(cls, value: Columns, info: ValidationInfo) -> Columns:
        if info.data.get("quantity") == "by_side" and "side" not in value.mapped():
            raise ValueError("quantity is by_side, which needs the column side, too.")
        return value

    @field_validator("closed_quantity")
    @classmethod
    def _can_close(cls, value: str, info: ValidationInfo) -> str:
        columns = info.data.get("columns")
        if value != "zero" and columns is not None and not {"is_active", "closed_at"} & set(columns.mapped()):
            raise ValueError(f"is {value}, but neither is_active nor closed_at is mapped: nothing says what is closed.")
        return value

    @field_validator("long_sides", "short_sides")
    @classmethod
    def _named(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("quantity") == "by_side":
            _not_empty(value)
            if info.field_name == "short_sides":
                _apart(value, info.data.get("long_sides", ()), "long_sides")
        return value


class Schema(Section):
    """Both tables."""

    orders: Orders = required("")
    positions: Positions = required("")

    def mapping(self, name: str) -> SchemaMapping:
        """The same as the values that the queries are made from."""
        orders, positions = self.orders, self.positions
        return SchemaMapping(
            name=name,
            orders=OrdersMapping(
                table=orders.table,
                columns=orders.columns.mapped(),  # type: ignore[attr-defined]
                filled_statuses=orders.filled_statuses,
                complete_statuses=orders.complete_statuses,
                buy_sides=orders.buy_sides,
                sell_sides=orders.sell_sides,
                timezone=orders.timezone,
            ),
            positions=PositionsMapping(
                table=positions.table,
                columns=positions.columns.mapped(),  # type: ignore[attr-defined]
                quantity=positions.quantity,
                long_sides=positions.long_sides,
                short_sides=positions.short_sides,
                closed_quantity=positions.closed_quantity,
                one_active_per_pair=positions.one_active_per_pair,
                timezone=positions.timezone or orders.timezone,
            ),
        )
