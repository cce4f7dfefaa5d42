"""Can what is wrong be mended there, by the role that is to write?"""

from __future__ import annotations

from po_exporter import sql
from po_exporter.database.catalog import quote
from po_exporter.database.failures import DRIVER_ERRORS, translate
from po_exporter.database.session import Session, Target
from po_exporter.doctor.remark import Level, Remark
from po_exporter.errors import DatabaseError
from po_exporter.mapping import SchemaMapping

FIXES = "fixes"


async def examine_fixes(target: Target, mapping: SchemaMapping) -> list[Remark]:
    """Everything worth saying about the role in ``fix_dsn``."""
    column = mapping.orders.columns["position_id"]
    if column.is_sql:
        where = f"schemas.{mapping.name}.orders.columns.position_id"
        return [Remark(Level.PROBLEM, FIXES, f"{where} is an SQL expression, which cannot be written", "map a column")]
    orders, positions = mapping.orders.table, mapping.positions.table
    names = (orders.schema, orders.name, positions.schema, positions.name, column.text)
    session = Session(target)
    try:
        row = dict((await (await session.connect()).fetch(sql.read("doctor_fixes.sql"), *names, timeout=10))[0])
    except (DatabaseError, *DRIVER_ERRORS) as error:
        return [Remark(Level.PROBLEM, FIXES, f"fix_dsn cannot connect: {translate(error)}", "correct it")]
    finally:
        await session.close()
    found, needed = [], sql.newest_schema()
    if row["standby"]:
        found.append(Remark(Level.PROBLEM, FIXES, "fix_dsn leads to a standby", "let it lead to the primary"))
    if not row["version"] or row["version"] < needed:
        has = f"version {row['version']} of the" if row["version"] else "no"
        message = f"there is {has} schema po_exporter, which has the record: nothing can be written"
        found.append(Remark(Level.PROBLEM, FIXES, message, "run po-exporter install"))
    lacks = [
        what
        for what, has in (
            ("SELECT on both tables", row["reads"]), (f"UPDATE of {orders}.{column.text}", row["links"]),
            (f"UPDATE of {positions}, which takes a lock, too", row["positions"]),
            ("USAGE of the schema po_exporter", row["enters"] or not row["version"]),
            ("INSERT into po_exporter.record", row["records"] or not row["version"]),
        )
        if not has
    ]  # fmt: skip
    if lacks:
        action = f"GRANT po_exporter_fixer TO {quote(row['role'])}, or run po-exporter install"
        found.append(Remark(Level.PROBLEM, FIXES, f"{row['role']} lacks {', '.join(lacks)}", action))
    if row["superuser"]:
        action = "use one that may do no more than po_exporter_fixer"
        found.append(Remark(Level.ADVICE, FIXES, f"{row['role']} is a superuser", action))
    return found or [Remark(Level.OK, FIXES, f"{row['role']} may write what fixes write, and the record of it")]
