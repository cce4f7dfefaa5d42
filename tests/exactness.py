"""``make chaos``: thousands of polls under hostile writers, on each version of PostgreSQL, into docs/exactness.md.

Exit status: 0 when no poll differed from a full check of the same snapshot, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from chaos import Chaos
from parts.database import fresh_database
from parts.postgres import Server, running_server

PAGE = Path(__file__).parents[1] / "docs" / "exactness.md"
HEAD = """# How exact the incremental mode is

Written by `make chaos`. Six writers change a small set of orders and positions at random, with everything that a check
can be wrong about, and every way to commit: asynchronous, prepared, with savepoints, given up, stalled between the
write-ahead log and visibility. `TRUNCATE`, `VACUUM FULL`, column rewrites and bulk loads come between. Window and grace
are seconds, so that rows cross both. After each poll that the feed answered, the same checks are asked in full in the
same snapshot, and counts, ids, times and details of both are compared. *Carried* is how often a transaction was decoded
before a snapshot saw it.

| PostgreSQL | polls compared | different | drift | transactions | carried | polls that scanned | seed | date |
|---|--:|--:|--:|--:|--:|--:|--:|---|
"""


async def one(server: Server, polls: int, seed: int) -> tuple[str, int]:
    """A row of the table, and how many polls were wrong."""
    async with fresh_database(server) as database:
        chaos = Chaos(database, seed)
        following = await chaos.run(polls)
    wrong = following.incremental.wrong
    for line in wrong[:20]:
        print(line, file=sys.stderr)
    version = server.psql("SHOW server_version")
    cells = (
        version, f"{following.incremental.compared:,}", len(wrong), following.incremental.drift,
        f"{chaos.transactions:,}", f"{chaos.carried:,}", f"{chaos.modes['scan']:,}", seed,
        f"{datetime.now(UTC):%Y-%m-%d}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |", len(wrong)


def main() -> int:
    """Run it for each version, and put its rows into the page in place of those of the same versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--polls", type=int, default=5000)
    parser.add_argument("--versions", default="14,15,16,17,18")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    rows = {int(row.split(".")[0].strip("| ")): row for row in re.findall(r"^\| \d.*$", text, re.MULTILINE)}
    wrong = 0
    for version in map(int, asked.versions.split(",")):
        with running_server(version) as server:
            rows[version], differing = asyncio.run(one(server, asked.polls, asked.seed))
        wrong += differing
        print(rows[version], flush=True)
        PAGE.write_text(HEAD + "\n".join(rows[key] for key in sorted(rows)) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
