"""Is this database ready to be watched, what would help, and what will watching it cost?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import asyncpg

from po_exporter import sql
from po_exporter.database.catalog import quote, quote_table
from po_exporter.database.expressions import with_expressions
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.schema import Presenter
from po_exporter.database.session import Session, Snapshot
from po_exporter.doctor.remark import Level, Remark
from po_exporter.errors import DatabaseError, DeadlinePassed
from po_exporter.watch.answer import Question
from po_exporter.watch.asking import Asking
from po_exporter.watch.readiness import PUBLICATION, Facts, lacks, stopped
from po_exporter.watch.statement import compose_query
from po_exporter.watch.watched import Watched

FEED = "incremental feed"
KEPT = "schema po_exporter"
CLOCKS_APART = 1.0
"""Seconds between the database's clock and ours that are worth a word."""
WANTED_INDEXES = {
    ("orders", "id"): "evidence is looked up by it",
    ("orders", "position_id"): "without it each position's orders are found by reading the whole table",
    ("orders", "created_at"): "without it every poll reads the whole table to find the window",
    ("orders", "exchange_order_id"): "without it duplicate_exchange_order reads the whole table",
    ("positions", "id"): "links are looked up by it",
}


async def examine(watched: Watched) -> list[Remark]:
    """Everything worth saying about one database. A database that cannot be asked is one UNKNOWN remark."""
    session, remarks = Session(watched.target), []
    try:
        async with asyncio.timeout(watched.terms.limits.poll.total_seconds()):
            async with session.snapshot(watched.terms.limits, watched.mapping) as snapshot:
                async for remark in _examine(watched, session, snapshot):
                    remarks.append(remark)  # noqa: PERF401  # what was found before a failure is kept
    except TimeoutError:
        remarks.append(_unknown(DeadlinePassed("the examination took longer than monitor.poll_timeout")))
    except DatabaseError as error:
        remarks.append(_unknown(error))
    finally:
        await session.close()
    return remarks


def _unknown(error: DatabaseError) -> Remark:
    return Remark(Level.UNKNOWN, "connection", str(error), "mend this first; nothing behind it could be examined")


async def _examine(watched: Watched, session: Session, snapshot: Snapshot) -> AsyncIterator[Remark]:
    mapping = watched.mapping
    presenter = Presenter(mapping, await with_expressions(snapshot, mapping))
    keeper = watched.control.user if watched.control and watched.control != watched.target else None
    server = (await snapshot.fetch(sql.read("doctor.sql"), keeper))[0]
    kind = "standby" if snapshot.standby else "primary"
    through = "directly" if session.direct else "through a transaction pooler"
    yield Remark(Level.OK, "connection", f"PostgreSQL {server['version']}, a {kind}, reached {through}")
    if watched.elects and watched.control == watched.target and not session.direct:
        yield Remark(
            Level.ADVICE,
            "leader",
            "through a transaction pooler there is no leader's lock: this is taken for the only replica",
            "set direct_dsn past the pooler to run several",
        )
    for remark in _server(server, watched):
        yield remark
    if watched.mode != "scan":
        async for remark in _feed(watched, snapshot):
            yield remark
    orders, positions = mapping.orders.table, mapping.positions.table
    tables = await snapshot.fetch(
        sql.read("doctor_tables.sql"), orders.schema, orders.name, positions.schema, positions.name
    )
    for remark in _tables(presenter, tables):
        yield remark
    if snapshot.why_unlocked:
        yield Remark(
            Level.ADVICE,
            "lock",
            f"the tables cannot be locked ({snapshot.why_unlocked}), so that a TRUNCATE during a poll can look like an "
            "empty table",
            "GRANT SELECT on both whole tables, or map tables instead of views of other kinds",
        )
    if mapping.positions.closed_quantity == "kept" and presenter.obstacle(["positions.compared"]) is None:
        query, arguments = compose_query(
            presenter,
            sql.read("doctor_kept.sql"),
            ["positions.compared", "orders.in_window"],
            presenter.parameters | {"window_start": (snapshot.as_of, "timestamptz")},
        )
        count = (await snapshot.fetch(query, *arguments))[0][0]
        yield Remark(Level.OK, "positions", f"{count} closed positions keep their last size and are not compared")
    asking = Asking(snapshot, presenter, watched.terms, [])
    for question in watched.questions:
        yield await _check(asking, question)


def _server(row: asyncpg.Record, watched: Watched) -> Iterator[Remark]:
    if row["superuser"]:
        yield Remark(
            Level.ADVICE,
            "role",
            f"{row['role']} is a superuser",
            "use a role that may do nothing but SELECT on the two tables",
        )
    if row["tls"]:
        yield Remark(Level.OK, "TLS", "the connection is encrypted")
    elif row["local"]:
        yield Remark(Level.OK, "TLS", "the connection is not encrypted, and does not leave this machine")
    else:
        yield Remark(Level.ADVICE, "TLS", "the connection is not encrypted", "add sslmode=verify-full to the DSN")
    apart = (row["clock"] - datetime.now(UTC)).total_seconds()
    if abs(apart) > CLOCKS_APART:
        yield Remark(
            Level.ADVICE,
            "clock",
            f"the database's clock is {apart:+.1f} s from this machine's",
            "synchronise both; polls use the database's",
        )
    yield _kept(row)
    free = row["max_connections"] - row["connections"]
    limit = row["connection_limit"]
    wanted = {"the reader": True, "the change feed": watched.mode != "scan", "the leader's lock": watched.elects,
              KEPT: row["kept_version"] and not watched.elects}  # fmt: skip
    users = [user for user, is_wanted in wanted.items() if is_wanted]
    yield Remark(
        Level.OK if limit != 0 and free > 0 else Level.PROBLEM,
        "connections",
        f"{len(users)} will be used ({', '.join(users)}); "
        f"{row['connections']} of {row['max_connections']} are taken now"
        + (f", and {row['role']} may have {limit}" if limit >= 0 else ""),
    )


def _kept(row: asyncpg.Record) -> Remark:
    """Whether there is a place in the database for what a restart must not forget."""
    version, needed = row["kept_version"], sql.newest_schema()
    if version is None:
        message = "not installed: incidents, and summaries that wait to be sent, are kept in memory and end with it"
        return Remark(Level.ADVICE, KEPT, message, "po-exporter install gives them a place in the database")
    if not version:
        message = "somebody else's: install has not made it, so that incidents and summaries are kept in memory"
        return Remark(Level.ADVICE, KEPT, message, "rename it, and run po-exporter install")
    if version < needed:
        message = f"version {version}, older than this sidecar needs ({needed})"
        return Remark(Level.PROBLEM, KEPT, message, "run po-exporter install")
    if not row["may_keep"]:
        message = f"installed, but {row['keeper']} has no rights in it: it lacks the role po_exporter_reader"
        return Remark(
            Level.PROBLEM, KEPT, message, f"GRANT po_exporter_reader TO {quote(row['keeper'])}, or run install"
        )
    return Remark(Level.OK, KEPT, f"version {version}, with a place for what a restart must not forget")


async def _feed(watched: Watched, snapshot: Snapshot) -> AsyncIterator[Remark]:
    """Rule by rule, what the incremental mode lacks. Until all of it is there, polls scan: that is what each costs."""
    orders, positions = watched.mapping.orders.table, watched.mapping.positions.table
    names = (orders.schema, orders.name, positions.schema, positions.name, PUBLICATION)
    level = Level.PROBLEM if watched.mode == "incremental" else Level.ADVICE
    (row,) = await snapshot.fetch(sql.read("feed/ready.sql"), *names)
    lacking = [
        Remark(level, FEED, each.message, each.action) for each in lacks(Facts.parse(dict(row)), watched.mapping)
    ]
    # Not only the feed's matter: it stops the trading API.
    lacking += [
        Remark(Level.PROBLEM, FEED, each.message, each.action)
        for each in stopped(Facts.parse(dict(row)), watched.mapping)
    ]
    session = Session(watched.feed or watched.target)
    try:
        role = (await (await session.connect()).fetch(sql.read("feed/role.sql")))[0]
    except (DatabaseError, *DRIVER_ERRORS) as error:
        lacking.append(Remark(level, FEED, f"it cannot connect: {translate(error)}", "correct feed_dsn or direct_dsn"))
    else:
        if role["pid"] != (await session.connect()).get_server_pid():
            lacking.append(
                Remark(level, FEED, "it needs a session of its own", "set direct_dsn or feed_dsn past the pooler")
            )
        if not role["may_replicate"]:
            # Managed services grant a role of theirs instead, which only trying shows.
            action = f"ALTER ROLE {role['role']} REPLICATION, or give it a role of its own by feed_dsn"
            lacking.append(Remark(level, FEED, f"{role['role']} has no REPLICATION attribute", action))
        if role["most_wal"] == "-1":
            lacking.append(
                Remark(
                    Level.ADVICE,
                    FEED,
                    "max_slot_wal_keep_size is not set: a reading that hangs keeps write-ahead log without bound, "
                    "for as long as its connection lasts",
                    "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'",
                )
            )
    finally:
        await session.close()
    for remark in lacking:
        yield remark
    if not any(remark.level in (level, Level.PROBLEM) and "max_slot" not in remark.message for remark in lacking):
        yield Remark(Level.OK, FEED, "finds what it needs: polls cost what changed")


def _tables(presenter: Presenter, rows: list[asyncpg.Record]) -> Iterator[Remark]:
    mapping, found = presenter.mapping, {row["role"]: row for row in rows}
    for role, side in (("orders", mapping.orders), ("positions", mapping.positions)):
        if role not in found:
            yield Remark(
                Level.PROBLEM,
                role,
                f"there is no table {side.table}",
                f"correct schemas.{mapping.name}.{role}.table, or the search_path of the role",
            )
            continue
        row = found[role]
        yield Remark(Level.OK, role, f"{side.table}: {_rows(row['rows'])}, {row['bytes'] / 2**20:,.0f} MiB")
        if presenter.catalog.tables[role].may_write:
            yield Remark(
                Level.ADVICE,
                role,
                f"the role may write {side.table}",
                f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {quote_table(side.table)}; it needs only to read",
            )
        if row["kind"] != "r":
            continue
        leading = {index["column"] for index in json.loads(row["leading"] or "[]")}
        unique = {
            i["column"] for i in json.loads(row["leading"] or "[]") if i["unique"] and i["alone"] and not i["partial"]
        }
        for (table, name), why in WANTED_INDEXES.items():
            column = side.columns.get(name)
            if table != role or column is None or column.is_sql:
                continue
            if column.text not in leading:
                yield Remark(
                    Level.ADVICE,
                    f"{role}.{name}",
                    f"no index leads on {side.table}.{column.text}: {why}",
                    f'CREATE INDEX CONCURRENTLY ON {quote_table(side.table)} ("{column.text}")',
                )
            elif name == "id" and column.text not in unique:
                yield Remark(
                    Level.ADVICE,
                    f"{role}.id",
                    f"nothing makes {side.table}.{column.text} unique",
                    "make it a primary key: an id that occurs twice is counted twice",
                )


def _rows(estimate: int) -> str:
    """The planner's estimate in words; -1 is PostgreSQL's way to say that it has none."""
    return f"about {estimate:,} rows" if estimate >= 0 else "never analyzed, so that plans are guesses (ANALYZE helps)"


async def _check(asking: Asking, question: Question) -> Remark:
    subject = f"check {question.name}"
    off = asking.presenter.why_off(question.file)
    if off:
        return Remark(Level.OK, subject, f"off: {off}")
    obstacle = asking.presenter.obstacle(question.file.needs)
    if obstacle:
        return Remark(Level.PROBLEM, subject, str(obstacle))
    query, arguments = asking.statement([question])
    try:
        async with asking.snapshot.savepoint():
            rows = await asking.snapshot.fetch(f"EXPLAIN (FORMAT JSON) {query}", *arguments)
    except DatabaseError as error:
        if error.ends_poll:
            raise
        return Remark(Level.PROBLEM, subject, str(error))
    plan = json.loads(rows[0][0])[0]["Plan"]
    return Remark(Level.OK, subject, f"planner's cost {plan['Total Cost']:,.0f} ({question.file.scope})")
