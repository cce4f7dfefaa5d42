"""``make corpus``: hundreds of thousands of situations with a known truth, judged, into docs/ambiguity.md.

Exit status: 0 when no link that would be made is wrong where one more thing is wrong at most, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from parts.database import fresh_database
from parts.postgres import Server, running_server
from test_corpus import grown, judged

PAGE = Path(__file__).parents[1] / "docs" / "ambiguity.md"
BATCH = 20_000
HEAD = """# Links that are never guessed

Written by `make corpus`. Each situation is one pair with one to three positions, one after the other or, with accounts,
side by side, of one to six fills each, in few sizes, so that much of what differs is of the same size; fills of the
same size in the same second; partial fills, cancelled ones; times that were touched later, or never. One to three
orders have lost their link. Besides, as many things are wrong as the table says, drawn from: nothing; a fee taken in
the base asset; a fill reported after its position had closed; a position that flips through zero; an order that belongs
to no position; a position that was deleted; a link to another position; a position that was not updated for an order;
an order that fills at that moment. The truth is known of each; what nobody could know counts as wrong, wherever it is
linked.

*Wrong* is what matters. *Made* of *lost* is how many of the orders whose position there is `link_order` would link; it
leaves the others to a person, with the reason. Where **two** independent things are wrong beside the lost link, and
happen to be of the same size, no rule could tell: a position that was not updated for one order, and another order of
that size whose position was deleted, look like one lost link. That is measured, too.

| tables | also wrong, at most | situations | lost | made | wrong | PostgreSQL | seed | date |
|---|--:|--:|--:|--:|--:|---|--:|---|
"""


async def one(server: Server, *, accounts: bool, faults: int, situations: int, seed: int) -> tuple[str, int]:
    """A row of the table, and how many links were wrong."""
    right, wrong, lost = 0, 0, 0
    for batch in range(situations // BATCH):
        async with fresh_database(server) as database:
            corpus = await grown(database, accounts=accounts, situations=BATCH, seed=seed + batch, faults=faults)
            found = await judged(corpus, database)
        right, wrong, lost = right + found[0], wrong + len(found[1]), lost + found[2]
        for line in found[1][:3]:
            print(line, file=sys.stderr)
    tables = "accounts, both directions, fill times" if accounts else "the guide's"
    cells = (
        tables, faults, f"{situations:,}", f"{lost:,}", f"{right + wrong:,}", wrong, server.psql("SHOW server_version"),
        seed, f"{datetime.now(UTC):%Y-%m-%d}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", wrong


def main() -> int:
    """Judge all of them, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--situations", type=int, default=120_000, help="for each row of the table")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    rows, guessed = [], 0
    with running_server(18) as server:
        for faults in (1, 2):
            for accounts in (False, True):
                row, wrong = asyncio.run(
                    one(server, accounts=accounts, faults=faults, situations=asked.situations, seed=asked.seed)
                )
                rows.append(row)
                guessed += wrong if faults == 1 else 0
                print(row, flush=True)
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return 1 if guessed else 0


if __name__ == "__main__":
    sys.exit(main())
