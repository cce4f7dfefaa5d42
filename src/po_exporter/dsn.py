"""Connection strings as libpq reads them, and what asyncpg needs to be told to mean the same.

asyncpg understands only the URI form, and sends every parameter that it does not know to the server as a setting. So
we read both forms ourselves and hand asyncpg explicit arguments. No message of this file holds any of the text that it
read: a password with an unescaped character turns up in the strangest of places.
"""

from __future__ import annotations

import getpass
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlencode

_SCHEMES = ("postgresql://", "postgres://")
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
# asyncpg builds the TLS context from these, anew at each connect, in the way of libpq: it takes them in a URI only.
_TLS = (
    "sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
)  # fmt: skip
_USED = (
    "host", "hostaddr", "port", "dbname", "user", "password", "passfile", "connect_timeout", "application_name",
    "fallback_application_name", "options", "target_session_attrs", "krbsrvname", "requiressl",
)  # fmt: skip
# These promise something about the connection that asyncpg cannot keep: the configuration says so at start.
_PROMISES = ("channel_binding", "gssencmode", "require_auth", "requirepeer", "sslcrldir", "sslcertmode")
_HARMLESS = {"", "prefer", "disable", "allow"}
_IGNORED = (
    "client_encoding", "gssdelegation", "gsslib", "keepalives", "keepalives_count", "keepalives_idle",
    "keepalives_interval", "load_balance_hosts", "max_protocol_version", "min_protocol_version", "oauth_client_id",
    "oauth_client_secret", "oauth_issuer", "oauth_scope", "replication", "scram_client_key", "scram_server_key",
    "sslcompression", "sslkeylogfile", "sslsni", "tcp_user_timeout",
)  # fmt: skip
_KNOWN = frozenset([*_TLS, *_USED, *_PROMISES, *_IGNORED])
_SECRET = {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
_OTHER_WORDS = {"database": "dbname", "username": "user", "pass": "password", "timeout": "connect_timeout"}
_ESCAPE = "write an @, / or % in the user name or password as %40, %2F or %25"


@dataclass(frozen=True, slots=True)
class Dsn:
    """Where a database is and how to reach it: libpq's parameters by libpq's names, only those that are set."""

    parameters: Mapping[str, str] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Dsn:
        """Reads ``postgresql://user@host/database?...`` or ``host=... dbname=...``.

        Raises ValueError with a sentence that holds nothing of the text.
        """
        text = text.strip()
        if text.startswith(_SCHEMES):
            parameters = _parse_uri(text.split("://", 1)[1])
        elif re.match(r"[A-Za-z][A-Za-z0-9+.:-]*://", text):
            raise ValueError("should begin with postgresql:// or postgres://.")
        elif "=" in text:
            parameters = dict(_parse_keywords(text))
        else:
            raise ValueError("should read postgresql://user@host:port/database, or host=... user=... dbname=...")
        return cls(_checked(parameters))

    @property
    def database(self) -> str:
        """The database's name: ``dbname``, else PGDATABASE, else the user's name, as in libpq.

        Raises ValueError where the system does not know who its own user is either.
        """
        return self.parameters.get("dbname") or os.environ.get("PGDATABASE") or self.user

    @property
    def place(self) -> tuple[tuple[str, ...], tuple[int, ...], str]:
        """Hosts, ports, database. Raises ValueError as ``database`` does."""
        return tuple(self._hosts()), tuple(self._ports()), self.database

    @property
    def user(self) -> str:
        """Who logs in: ``user``, else PGUSER, else whoever runs this, as in libpq.

        Raises ValueError where the system does not know who its own user is either.
        """
        try:
            return self.parameters.get("user") or os.environ.get("PGUSER") or getpass.getuser()
        except (OSError, KeyError):
            raise ValueError("names neither a database nor a user.") from None

    @property
    def unkept(self) -> tuple[str, ...]:
        """Names of parameters that ask for a protection which the driver cannot give."""
        return tuple(name for name in _PROMISES if self.parameters.get(name, "") not in _HARMLESS)

    def masked(self) -> str:
        """The same as a URI in which every secret reads ``***``."""
        rest = {name: "***" if name in _SECRET else value for name, value in self.parameters.items()}
        user, password = quote(rest.pop("user", ""), safe=""), rest.pop("password", None)
        login = user + (f":{password}" if password else "")
        address = ""
        if not rest.get("host", "").startswith("/") and "hostaddr" not in rest:
            rest.pop("host", None)
            rest.pop("port", None)
            ports: list[int | None] = [*self._ports()] or [None] * len(self._hosts())
            names = (f"[{host}]" if ":" in host else quote(host, safe="") for host in self._hosts())
            address = ",".join(f"{name}:{port}" if port else name for name, port in zip(names, ports, strict=True))
        path = f"/{quote(rest.pop('dbname'), safe='')}" if "dbname" in rest else ""
        query = f"?{urlencode(rest, safe='/*', quote_via=quote)}" if rest else ""
        return f"postgresql://{login}{'@' if login else ''}{address}{path or ('/' if query else '')}{query}"

    def __repr__(self) -> str:
        return f"Dsn({self.masked()!r})"

    def connect_arguments(self, password: str | None = None) -> dict[str, Any]:
        """Keyword arguments for ``asyncpg.connect``. ``password`` wins over the one in the connection string.

        Raises ValueError for what only shows now: a client certificate that cannot be loaded, or no user at all.
        """
        given = self.parameters
        settings = {"application_name": given.get("application_name") or given.get("fallback_application_name"),
                    "options": given.get("options")}  # fmt: skip
        tls = {name: given[name] for name in _TLS if name in given}
        system = tls.get("sslrootcert") == "system"
        arguments = {
            "host": self._hosts(),
            "port": self._ports(),
            "user": given.get("user"),
            "password": password or given.get("password"),
            "database": self.database,
            "passfile": Path(given["passfile"]) if "passfile" in given else None,
            "krbsrvname": given.get("krbsrvname"),
            "target_session_attrs": given.get("target_session_attrs"),
            "timeout": float(given["connect_timeout"]) if int(given.get("connect_timeout", 0)) > 0 else None,
            "server_settings": {name: value for name, value in settings.items() if value},
            "dsn": f"postgresql://?{urlencode(tls, quote_via=quote)}" if tls and not system else None,
            "ssl": _system_trust(tls) if system else None,
            "direct_tls": (tls.get("sslnegotiation") == "direct") if system else None,
        }
        return {name: value for name, value in arguments.items() if value not in (None, [], {})}

    def _hosts(self) -> list[str]:
        """hostaddr is where to connect to; host alone is looked up."""
        hosts = self.parameters.get("hostaddr") or self.parameters.get("host")
        return hosts.split(",") if hosts else []

    def _ports(self) -> list[int]:
        """One port a host; none where the connection string names none, so that PGPORT can."""
        if "port" not in self.parameters:
            return []
        ports = [int(port) if port else 5432 for port in self.parameters["port"].split(",")]
        return ports * max(len(self._hosts()), 1) if len(ports) == 1 else ports


def _parse_uri(rest: str) -> dict[str, str]:
    """What follows the scheme, read from left to right as libpq does: a ? or # before the @ belongs to the password."""
    parameters: dict[str, str] = {}
    before = re.match(r"[^@/]*@", rest)
    if before:
        user, _, password = rest[: before.end() - 1].partition(":")
        parameters.update(user=_unquote(user), password=_unquote(password))
        rest = rest[before.end() :]
    path, _, query = rest.partition("?")
    address, _, database = path.partition("/")
    if "@" in path:
        raise ValueError(f"has an @ where no user name or password ends: {_ESCAPE}.")
    hosts, ports = [], []
    for spec in address.split(","):
        match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]*))(?::([^:]*))?", spec)
        if match is None:
            raise ValueError(f"has a host that cannot be read: {_ESCAPE}, and an IPv6 address in [].")
        hosts.append(_unquote(match[1] or match[2] or ""))
        ports.append(_unquote(match[3] or ""))
    parameters.update(host=",".join(hosts), port=",".join(ports) if any(ports) else "", dbname=_unquote(database))
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise ValueError("has a part after the ? that does not read name=value.")
        parameters[_unquote(name)] = _unquote(value)
    if parameters.get("ssl") == "true":  # libpq takes this one for the sake of JDBC's addresses
        del parameters["ssl"]
        parameters["sslmode"] = "require"
    return parameters


def _unquote(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise ValueError("has a % that no two hexadecimal digits follow: write a plain % as %25.")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("has an escape (%..) that is not UTF-8 text.") from None


def _parse_keywords(text: str) -> Iterator[tuple[str, str]]:
    pair = re.compile(r"\s*([^\s=]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?)(?=\s|$)", re.S)
    at = 0
    while at < len(text):
        match = pair.match(text, at)
        if match is None:
            raise ValueError("has a part that does not read name=value; a value with spaces stands in single quotes.")
        yield match[1], re.sub(r"\\(.)", r"\1", match[2] if match[2] is not None else match[3] or "", flags=re.S)
        at = match.end()


def _checked(parameters: dict[str, str]) -> dict[str, str]:
    """Only what is set, once everything in it is known to make sense."""
    for name in parameters:
        if name in {"service", "servicefile"}:
            raise ValueError("names a service; service files are not read here, so write host, dbname and user out.")
        if name not in _KNOWN:
            near = [_OTHER_WORDS[name]] if name in _OTHER_WORDS else get_close_matches(name, _KNOWN, 1)
            hint = f"did you mean {near[0]}?" if near else "settings of the server belong into options=-c name=value."
            raise ValueError(f"has a parameter that libpq does not know; {hint}")
    given = {name: value for name, value in parameters.items() if value}
    for name, choices in _CHOICES.items():
        if given.get(name, choices[0]) not in choices:
            raise ValueError(f"has an unknown {name}; it is one of {', '.join(choices)}.")
    if given.pop("requiressl", "") == "1":
        given.setdefault("sslmode", "require")
    if "://" in given.get("dbname", ""):
        raise ValueError("has a whole address as its dbname: give the address alone.")
    if not re.fullmatch(r"[+-]?\d{1,9}", given.get("connect_timeout", "0")):
        raise ValueError("has a connect_timeout that is not a number of seconds.")
    _check_addresses(given)
    _check_tls(given)
    return given


def _check_addresses(given: Mapping[str, str]) -> None:
    hosts = (given.get("hostaddr") or given.get("host", "")).split(",")
    ports = given.get("port", "").split(",")
    if len(hosts) > 1 and not all(hosts):
        raise ValueError("has an empty name in its list of hosts.")
    if not all(port == "" or (port.isdecimal() and 0 < int(port) < 65536) for port in ports):
        raise ValueError(f"has a port that is not a number from 1 to 65535: {_ESCAPE}.")
    if len(ports) not in (1, len(hosts)):
        raise ValueError(f"names {len(hosts)} hosts, but {len(ports)} ports.")
    if "hostaddr" in given and "host" in given and given.get("sslmode") == "verify-full":
        raise ValueError(
            "has host and hostaddr: with sslmode=verify-full give host alone, it is looked up and verified."
        )


def _check_tls(given: dict[str, str]) -> None:
    if given.get("sslrootcert") == "system":
        if given.setdefault("sslmode", "verify-full") != "verify-full":
            raise ValueError("has sslrootcert=system, which needs sslmode=verify-full.")
        if "sslcrl" in given:
            raise ValueError("has sslrootcert=system and sslcrl; the two do not work together here.")
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if given.get(name, "TLSv1.2") not in {"TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"}:
            raise ValueError(f"has an unknown {name}; it is one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3.")
    if given.get("sslnegotiation") == "direct" and given.get("sslmode") not in {"require", "verify-ca", "verify-full"}:
        raise ValueError("has sslnegotiation=direct, which needs sslmode=require, verify-ca or verify-full.")


def _system_trust(tls: Mapping[str, str]) -> ssl.SSLContext:
    """verify-full against the certificates that the operating system trusts."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    for bound in ("minimum_version", "maximum_version"):
        name = f"ssl_{bound[:3]}_protocol_version"
        if name in tls:
            setattr(context, bound, ssl.TLSVersion[tls[name].replace(".", "_")])
    if "sslcert" in tls:
        try:
            context.load_cert_chain(tls["sslcert"], tls.get("sslkey"), tls.get("sslpassword", ""))
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"has an sslcert or sslkey that cannot be loaded: {error.strerror}.") from None
    return context
