"""Many links at once, from a file, as a person wants them: in transactions of a stated size, to be gone on with."""

from __future__ import annotations

import csv
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from po_exporter.database.session import Target
from po_exporter.errors import DatabaseError, Stopped, UsageError
from po_exporter.repair.apply import LINK, Made, Order, by_hand, existing, orders, swapped, within
from po_exporter.repair.ids import plain_id
from po_exporter.repair.writer import Writer
from po_exporter.watch.watched import Watched

COLUMNS = ("order", "position")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of the file."""

    line: int
    order: str
    position: str


def read_links(path: Path) -> list[Wanted]:
    """The links of a CSV file with the columns ``order`` and ``position``, or of JSON lines with these keys.

    Raises UsageError with the line of the first that is neither, or that names an order a second time.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}.") from None
    rows = _json_lines(path, text) if text.lstrip().startswith("{") else _csv(path, text)
    wanted, seen = [], dict[str, int]()
    for line, row in rows:
        order, position = (row.get(name) for name in COLUMNS)
        if not (isinstance(order, str) and isinstance(position, str) and order and position):
            raise UsageError(f"{path}:{line}: should have an order and a position.")
        if order in seen:
            raise UsageError(f"{path}:{line}: order {order} stands in line {seen[order]} already.")
        seen[order] = line
        wanted.append(Wanted(line, order, position))
    return wanted


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(f"{path}:1: the first line should name the columns order and position.")
    for row in reader:
        yield reader.line_num, {str(name): value and value.strip() for name, value in row.items()}


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, object]]]:
    for line, each in enumerate(text.splitlines(), 1):
        if not each.strip():
            continue
        try:
            row = json.loads(each)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UsageError(f"{path}:{line}: should be a JSON object.")
        yield line, {name: str(value) if isinstance(value, int) else value for name, value in row.items()}


async def link_all(  # noqa: PLR0913  # each is another thing
    watched: Watched,
    target: Target,
    wanted: Sequence[Wanted],
    actor: str,
    *,
    size: int,
    after: Callable[[Sequence[Made]], None],
) -> tuple[str, list[Made]]:
    """Make these links, ``size`` a transaction; ``after`` is told of each when it is committed.

    One that is as wanted already is passed over, so that the same file goes on where it was interrupted; one that is
    linked elsewhere is refused. Raises UsageError for what is no id, before anything is written.
    """
    run, outcomes = secrets.token_hex(8), list[Made]()

    async def check(writer: Writer) -> list[Wanted]:
        presenter = writer.asking.presenter
        return [
            Wanted(w.line, plain_id(presenter, "orders", w.order), plain_id(presenter, "positions", w.position))
            for w in wanted
        ]

    links = await within(watched, target, "", "", check)
    for start in range(0, len(links), size):
        part = links[start : start + size]

        async def work(writer: Writer, part: Sequence[Wanted] = part) -> list[Made]:
            await writer.begin()
            known = await orders(writer, [link.order for link in part])
            there = await existing(writer, [link.position for link in part])
            return [await _link(writer, link, known, there) for link in part]

        try:
            made = await within(watched, target, run, actor, work)
        except (DatabaseError, Stopped) as error:
            if not outcomes:
                raise
            so_far = f"{len(outcomes):,} before line {part[0].line} are done (run {run}), and the same file goes on"
            raise type(error)(f"{error}; that is of the transaction: {so_far}") from None
        after(made)
        outcomes += made
    return run, outcomes


async def _link(writer: Writer, link: Wanted, known: dict[str, Order], there: set[str]) -> Made:
    order = known.get(link.order)
    if order is None:
        return Made(LINK, link.order, {}, {"position_id": link.position}, None, "there is no such order")
    before, after = {"position_id": order.link}, {"position_id": link.position}
    if order.link == link.position:
        return Made(LINK, link.order, before, after, None)
    if order.link is not None:
        return Made(LINK, link.order, before, after, None, f"it is linked to {order.link}; unlink it first")
    if link.position not in there:
        return Made(LINK, link.order, before, after, None, f"there is no position {link.position}")
    return await swapped(writer, by_hand(writer, order, link.position))
