"""Every error that po-exporter raises on purpose: one clear sentence, an exit status, and whether to try again."""

from __future__ import annotations

from dataclasses import dataclass


class PoExporterError(Exception):
    """Base of them all. ``str(error)`` is a sentence for a person; it never holds a secret."""

    exit_status = 3


class UsageError(PoExporterError):
    """The command cannot be carried out as it was typed."""

    exit_status = 2


class Stopped(PoExporterError):
    """Somebody has stopped all writing."""

    exit_status = 2


class NotLeading(PoExporterError):
    """Another replica knows."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration: ``place`` is a key path, an environment variable or a file:line."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class ConfigError(PoExporterError):
    """The configuration cannot be used; ``faults`` lists everything that is wrong with it, at once."""

    exit_status = 2

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in faults))

    @classmethod
    def of(cls, place: str, message: str) -> ConfigError:
        """One with a single fault."""
        return cls([Fault(place, message)])


class DatabaseError(PoExporterError):
    """The database did not answer.

    ``reason`` is one of a short list and is the ``reason`` label of the failure counters. ``ends_poll`` says that
    nothing more can be learned from this session: the poll is over and older answers are not to be believed either.
    """

    reason = "query"
    ends_poll = False


class Unreachable(DatabaseError):
    """No connection, or it was lost."""

    reason = "connection"
    ends_poll = True


class LoginRefused(DatabaseError):
    """The server refused the user, the password or the database name."""

    reason = "authentication"
    ends_poll = True


class CredentialsUnreadable(DatabaseError):
    """A ``..._file`` that holds a DSN or a password cannot be read, or holds none."""

    reason = "credentials"
    ends_poll = True


class LockTimeout(DatabaseError):
    """Somebody holds a lock that even a reader waits for (DDL does) for longer than ``monitor.lock_timeout``."""

    reason = "lock_timeout"
    ends_poll = True


class DeadlinePassed(DatabaseError):
    """The poll as a whole took longer than ``monitor.poll_timeout``."""

    reason = "deadline"
    ends_poll = True


class StatementTimeout(DatabaseError):
    """One statement took longer than ``monitor.statement_timeout``, or somebody cancelled it on the server."""

    reason = "statement_timeout"


class Conflict(DatabaseError):
    """The server gave the statement up for the sake of others (recovery conflict, deadlock): worth another try."""

    reason = "conflict"


class NoRight(DatabaseError):
    """The role may not read a table or a column."""

    reason = "permission"


class Missing(DatabaseError):
    """A table or column of the schema mapping is not in the database."""

    reason = "missing"


class Refused(Conflict):
    """One change of a row is not made, and nothing of it has happened: why."""


class QueryFailed(DatabaseError):
    """The statement failed for a reason of its own text or data."""

    reason = "query"
