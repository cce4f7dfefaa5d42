"""Who may see what: tokens and their scopes; without them, what shows rows is for this machine alone."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from po_exporter.errors import ConfigError, Fault

METRICS = "metrics.read"
ROWS = "positions.read"
ADMIN = "admin.reconcile"
NOTIFY = "notify.write"
SCOPES = frozenset({METRICS, ROWS, ADMIN, NOTIFY, "orders.write"})

_FORM = "should read `name scope[,scope] token`"
_REALM = 'realm="po-exporter"'

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Token:
    """One line of the tokens file. The token itself is not kept, only its SHA-256."""

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered: an HTTP status, a sentence, and the schemes that a client could try."""

    status: int
    sentence: str
    challenges: tuple[str, ...] = ()


def load_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. Raises ConfigError with every malformed line's number, and never with a token."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([Fault(str(path), f"cannot be read: {error.strerror}.")]) from None
    except UnicodeDecodeError:
        raise ConfigError([Fault(str(path), "is not UTF-8 text.")]) from None
    tokens: dict[bytes, Token] = {}
    faults: list[Fault] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        token = _parse(line)
        if isinstance(token, str):
            faults.append(Fault(f"{path}:{number}", token))
        elif token.digest in tokens:
            faults.append(Fault(f"{path}:{number}", "holds the same token as a line above it."))
        else:
            tokens[token.digest] = token
    if not tokens and not faults:
        faults.append(Fault(str(path), f"holds no token; a line {_FORM}."))
    if faults:
        raise ConfigError(faults)
    return tuple(tokens.values())


def _parse(line: str) -> Token | str:
    """A token, or what is wrong with its line."""
    parts = line.split(maxsplit=3)
    if len(parts) < 3 or parts[2].startswith("#") or (len(parts) == 4 and not parts[3].startswith("#")):
        return f"{_FORM}."
    name, scopes, token = parts[0], frozenset(parts[1].split(",")), parts[2]
    if unknown := sorted(scopes - SCOPES):
        return f"names {unknown[0]!r}, which is no scope; there are {', '.join(sorted(SCOPES))}."
    if not re.fullmatch(r"[!-~]+", token):
        return "holds a token that cannot stand in an HTTP header: visible ASCII characters only."
    return Token(name, scopes, _digest(token))


def _digest(token: str) -> bytes:
    # aiohttp hands on bytes that are no UTF-8 as surrogates: such a header is merely a wrong token.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


class TokensFile:
    """The tokens of a file, read again when it changes. While it cannot be used, the last good ones hold."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError like ``load_tokens``."""
        self._path = path
        self._version = self._look()
        self._tokens = load_tokens(path)

    def holder(self, presented: str) -> Token | None:
        """The token that was presented, compared with each of ours in constant time."""
        digest = _digest(presented)
        held = [token for token in self._current() if hmac.compare_digest(token.digest, digest)]
        return held[0] if held else None

    def _current(self) -> tuple[Token, ...]:
        version = self._look()
        if version != self._version:
            self._version = version
            try:
                self._tokens = load_tokens(self._path)
            except ConfigError as error:
                log.warning("tokens_file_unusable", kept="the last good tokens", faults=[str(f) for f in error.faults])
        return self._tokens

    def _look(self) -> tuple[int, int, int] | None:
        try:
            seen = self._path.stat()
        except OSError:
            return None
        return seen.st_mtime_ns, seen.st_size, seen.st_ino


@dataclass(frozen=True, slots=True)
class Caller:
    """What a decision rests on: the request line, the headers, and the address that the request came from."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    address: str | None

    def header(self, name: str) -> list[str]:
        """The values of every header of that name."""
        return [value for each, value in self.headers if each.lower() == name.lower()]


class Access:
    """Decides whether a request may have what a scope covers."""

    def __init__(self, tokens: TokensFile | None) -> None:
        """Without tokens the loopback rule decides about rows, and nothing else is guarded."""
        self._tokens = tokens

    def refuse(self, scope: str | None, caller: Caller) -> Refusal | None:
        """None when the answer may be given. ``scope`` None is open to all."""
        if scope is None:
            return None
        if self._tokens is None:
            return None if scope == METRICS else _refuse_from_afar(caller)
        reading = caller.method in ("GET", "HEAD")
        presented = _presented(caller, basic=reading)
        token = self._tokens.holder(presented) if presented else None
        if token is None:
            challenges = (f"Bearer {_REALM}", f'Basic {_REALM}, charset="UTF-8"')
            how = "as Bearer, or as the password of HTTP Basic" if reading else "as Bearer"
            return Refusal(401, f"Send a token of server.tokens_file {how}.", challenges if reading else challenges[:1])
        if scope not in token.scopes:
            return Refusal(403, f"The token {token.name!r} does not have the scope {scope}.")
        return None


def _presented(caller: Caller, *, basic: bool) -> str | None:
    """The token in the Authorization header; None without exactly one that can be read."""
    values = caller.header("Authorization")
    if len(values) != 1:
        return None
    scheme, _, credentials = values[0].partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() == "basic" and basic:
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _refuse_from_afar(caller: Caller) -> Refusal | None:
    why = _why_afar(caller)
    if why is None:
        return None
    return Refusal(
        403,
        f"Rows are shown to clients on loopback alone, and {why}. To see them from elsewhere, set server.tokens_file "
        f"and send a token with the scope {ROWS}.",
    )


def _why_afar(caller: Caller) -> str | None:
    """What tells that a request does not come from this machine; None for one that does."""
    if not _is_loopback(caller.address or ""):
        return "this request comes from another address"
    for header, _ in caller.headers:
        if _tells_of_a_proxy(header.lower()):
            return f"the header {header} says that a proxy passed this request on"
    if not caller.target.startswith("/"):  # a whole URL, whose host would count instead of the Host header
        return "it is written in the form that is meant for a proxy"
    hosts = caller.header("Host")
    if len(hosts) != 1 or not _is_loopback_name(_host_name(hosts[0])):
        return "the host that this request names is neither localhost nor a loopback address"
    return None


def _tells_of_a_proxy(header: str) -> bool:
    return header in ("forwarded", "via", "x-real-ip") or header.startswith("x-forwarded")


def _host_name(host: str) -> str:
    """The name in a Host header, without its port; '' where it makes no sense."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+))(?::[0-9]*)?", host.strip())
    return (match[1] or match[2]) if match else ""


def _is_loopback_name(name: str) -> bool:
    return name.lower().removesuffix(".") == "localhost" or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback
