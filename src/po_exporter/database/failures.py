"""Driver errors become ours, once and here: one sentence, a reason, and whether the session is of any more use."""

from __future__ import annotations

import ssl

import asyncpg

from po_exporter.errors import (
    Conflict,
    DatabaseError,
    LockTimeout,
    LoginRefused,
    Missing,
    NoRight,
    QueryFailed,
    StatementTimeout,
    Unreachable,
)

DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)
"""Everything that asyncpg raises: the server's errors, its own, and the network's."""

# SQLSTATE classes and codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
_CODES: dict[str, type[DatabaseError]] = {
    "28": LoginRefused,  # invalid authorization, invalid password
    "3D000": LoginRefused,  # no such database
    "08": Unreachable,
    "57P": Unreachable,  # shutdown, crash, cannot connect now, database dropped, idle session timeout
    "53300": Unreachable,  # too many connections
    "25P03": Unreachable,  # idle in transaction for too long
    "25P04": Unreachable,  # transaction_timeout
    "55P03": LockTimeout,
    "57014": StatementTimeout,
    "40": Conflict,
    "42501": NoRight,
    "42P01": Missing,
    "42703": Missing,
    "3F000": Missing,
}


def translate(error: BaseException) -> DatabaseError:  # noqa: PLR0911  # one kind of error, one line
    """The error as one of ours; a DatabaseError stays what it is."""
    if isinstance(error, DatabaseError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        kind = _CODES.get(code) or _CODES.get(code[:3]) or _CODES.get(code[:2]) or QueryFailed
        return kind(f"{_sentence(str(error.args[0]) if error.args else 'error')} (SQLSTATE {code})")
    if isinstance(error, TimeoutError):
        return Unreachable("the server did not answer in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(f"the server's certificate is not accepted: {error.verify_message}")
    if isinstance(error, PermissionError) and error.filename:  # the driver looks for certificates below HOME
        return Unreachable(f"may not look at {error.filename}; set HOME to a directory that this user may enter")
    if isinstance(error, OSError):
        # asyncpg's own sentence for a connection that ends before its time is about a call inside of it.
        early = "connection_lost()" in str(error)
        why = "it ended the connection at once" if early else error.strerror or error
        return Unreachable(f"cannot reach the server: {why}")
    # asyncpg's internal errors (it learned of the end while it was about to send) tell a user nothing.
    why = "" if isinstance(error, asyncpg.InternalClientError) else f": {_sentence(str(error))}"
    return Unreachable(f"the connection was lost{why}")


def _sentence(message: str) -> str:
    return " ".join(message.split()).rstrip(".")
