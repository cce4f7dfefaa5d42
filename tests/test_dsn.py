"""Connection strings: read like libpq, told to asyncpg in its own words, and never repeated with a password in them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from parts.database import Database
from po_exporter.dsn import Dsn


@pytest.fixture(autouse=True)
def _no_pg_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATABASE", "PGUSER", "PGHOST", "PGPORT", "PGPASSWORD"):
        monkeypatch.delenv(name, raising=False)


READ = {
    "postgresql://u:p%40ss@h:5433/d": {"user": "u", "password": "p@ss", "host": ["h"], "port": [5433], "database": "d"},
    "postgres://u@h": {"user": "u", "host": ["h"], "database": "u"},
    "postgresql://u@[::1]:6/d": {"user": "u", "host": ["::1"], "port": [6], "database": "d"},
    "postgresql://u@a,b:5433/d": {"user": "u", "host": ["a", "b"], "port": [5432, 5433], "database": "d"},
    "postgresql://u@%2Frun%2Fpg/d": {"user": "u", "host": ["/run/pg"], "database": "d"},
    "postgresql:///d?host=/run/pg&port=7&user=u": {"user": "u", "host": ["/run/pg"], "port": [7], "database": "d"},
    "postgresql://u:a?b#c:d@h/d": {"user": "u", "password": "a?b#c:d", "host": ["h"], "database": "d"},
    r"host=h user = u password='it\'s a \\' dbname=d": {
        "host": ["h"], "user": "u", "password": "it's a \\", "database": "d",
    },
    r"host=h user=u password=a\ b": {"host": ["h"], "user": "u", "password": "a b", "database": "u"},
    "host=a,b port=5,6 user=u": {"host": ["a", "b"], "port": [5, 6], "user": "u", "database": "u"},
    "host=a,b port=5 user=u": {"host": ["a", "b"], "port": [5, 5], "user": "u", "database": "u"},
    "host=db hostaddr=10.0.0.1 user=u": {"host": ["10.0.0.1"], "user": "u", "database": "u"},
    "postgresql://u@h/d?connect_timeout=3&options=-c%20jit%3Doff&application_name=x": {
        "user": "u", "host": ["h"], "database": "d", "timeout": 3.0,
        "server_settings": {"options": "-c jit=off", "application_name": "x"},
    },
    "postgresql://u@h/d?connect_timeout=0&target_session_attrs=read-write": {
        "user": "u", "host": ["h"], "database": "d", "target_session_attrs": "read-write",
    },
    # What the driver has no word for must not reach the server as one of its settings.
    "postgresql://u@h/d?keepalives=1&keepalives_idle=9&channel_binding=require&gssencmode=disable&replication=1": {
        "user": "u", "host": ["h"], "database": "d",
    },
    "postgresql://u@h/d?sslmode=verify-full&sslrootcert=/a b.pem": {
        "user": "u", "host": ["h"], "database": "d",
        "dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fa%20b.pem",
    },
    "postgresql://u@h/d?ssl=true": {"user": "u", "host": ["h"], "database": "d", "dsn": "postgresql://?sslmode=require"},
}  # fmt: skip


@pytest.mark.parametrize(("text", "arguments"), READ.items())
def test_asyncpg_is_told_what_libpq_would_read(text: str, arguments: dict[str, Any]) -> None:
    assert Dsn.parse(text).connect_arguments() == arguments


def test_the_password_setting_wins() -> None:
    assert Dsn.parse("postgresql://u:old@h/d").connect_arguments("new")["password"] == "new"


def test_the_database_is_named_by_the_rules_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Dsn.parse("postgresql://u@h/d").database == "d"
    assert Dsn.parse("postgresql://u@h").database == "u"
    monkeypatch.setenv("PGUSER", "from-the-environment")
    assert Dsn.parse("host=h").database == "from-the-environment"
    monkeypatch.setenv("PGDATABASE", "also")
    assert Dsn.parse("host=h user=u").database == "also"
    assert Dsn.parse("host=h user=u").user == "u"
    assert Dsn.parse("host=h").user == "from-the-environment"
    assert Dsn.parse("host=h user=u dbname=d").database == "d"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "should read postgresql://"),
        ("db.internal", "should read postgresql://"),
        ("jdbc:postgresql://h/d", "begin with postgresql://"),
        ("postgresql+asyncpg://h/d", "begin with postgresql://"),
        ("postgresql://h/d?sslmod=require", "did you mean sslmode?"),
        ("postgresql://h/d?database=d", "did you mean dbname?"),
        ("postgresql://h/d?search_path=oms", "options=-c"),
        ("postgresql://h/d?sslmode=full", "one of disable, allow"),
        ("postgresql://h/d?target_session_attrs=master", "one of any, read-write"),
        ("postgresql://h:0/d", "from 1 to 65535"),
        ("postgresql://h:1,i:2,j/d?port=5,6", "3 hosts, but 2 ports"),
        ("postgresql://a,,b/d", "empty name"),
        ("postgresql://h/d?connect_timeout=soon", "number of seconds"),
        ("postgresql://u:12/half@h/d", "as %40, %2F or %25"),
        ("postgresql://u%zz@h/d", "two hexadecimal digits"),
        ("postgresql://h/d?sslmode", "name=value"),
        ("host=h sslrootcert=system sslmode=require", "needs sslmode=verify-full"),
        ("host=h hostaddr=1.2.3.4 sslmode=verify-full", "give host alone"),
        ("host=h sslnegotiation=direct", "which needs sslmode"),
        ("service=trading", "service files are not read"),
        ("dbname=postgresql://h/d", "whole address"),
        ("host='h", "single quotes"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Dsn.parse(text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://u:S3cret@h:5433/d", "postgresql://u:***@h:5433/d"),
        ("postgres://u@h/d", "postgresql://u@h/d"),
        ("postgresql://u@h/d?password=S3cret&sslmode=require", "postgresql://u:***@h/d?sslmode=require"),
        ("host=h user=u password=S3cret dbname=d", "postgresql://u:***@h/d"),
        ("host=/run/pg user=u password='S3cret' dbname=d", "postgresql://u:***@/d?host=/run/pg"),
        ("postgresql://u@h/d?sslkey=/k&sslpassword=S3cret", "postgresql://u@h/d?sslkey=/k&sslpassword=***"),
        ("postgresql://u:S3cret@[::1],h/d", "postgresql://u:***@[::1],h/d"),
    ],
)
def test_a_masked_one_shows_where_it_leads_to(text: str, masked: str) -> None:
    assert Dsn.parse(text).masked() == masked
    assert "S3cret" not in repr(Dsn.parse(text))
    hidden = {name: "***" if value == "S3cret" else value for name, value in Dsn.parse(text).parameters.items()}
    assert Dsn.parse(masked).parameters == hidden


def test_a_lost_protection_is_named() -> None:
    assert Dsn.parse("host=h channel_binding=require gssencmode=prefer sslcrldir=/c").unkept == (
        "channel_binding",
        "sslcrldir",
    )


anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)
SECRET = "Xy7"


@given(
    user=anything, password=anything, host=st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True), database=anything
)
def test_any_names_survive_in_both_forms(user: str, password: str, host: str, database: str) -> None:
    escaped = {name: quote(value, safe="") for name, value in (("u", user), ("p", password), ("d", database))}
    quoted = {
        name: "'" + value.replace("\\", r"\\").replace("'", r"\'") + "'"
        for name, value in (("u", user), ("p", password), ("d", database))
    }
    if "://" in database:
        return
    expected = {"user": user, "password": password, "host": [host], "database": database}
    uri = f"postgresql://{escaped['u']}:{escaped['p']}@{host}/{escaped['d']}"
    keywords = f"host={host} user={quoted['u']} password={quoted['p']} dbname={quoted['d']}"
    assert Dsn.parse(uri).connect_arguments() == Dsn.parse(keywords).connect_arguments() == expected


@given(before=st.text("a:/@?#=&% '\\,[]"), after=st.text("a:/@?#=&% '\\,[]"), form=st.integers(0, 3))
def test_no_password_is_repeated_however_it_is_mistyped(before: str, after: str, form: int) -> None:
    password = f"{before}{SECRET}{after}"
    text = (
        f"postgresql://u:{password}@h/d",
        f"postgresql://u@h/d?password={password}",
        f"host=h password={password} user=u",
        f"host=h password='{password}' user=u",
    )[form]
    dsn, refusal = _parsed(text)
    assert SECRET not in str(refusal)
    if dsn and [name for name, value in dsn.parameters.items() if SECRET in value] == ["password"]:
        assert SECRET not in dsn.masked() + repr(dsn) + str(dsn)


def _parsed(text: str) -> tuple[Dsn | None, ValueError | None]:
    try:
        return Dsn.parse(text), None
    except ValueError as error:
        return None, error


async def _asked(dsn: str, query: str, **arguments: Any) -> Any:
    connection = await asyncpg.connect(**{**Dsn.parse(dsn).connect_arguments(), **arguments})
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_real_server_takes_every_form(database: Database) -> None:
    uri = database.reader_dsn
    given_ = Dsn.parse(uri).parameters
    keywords = " ".join(f"{name}='{value}'" for name, value in given_.items())
    for dsn in (uri, keywords):
        assert await _asked(dsn, "SELECT current_database()") == database.name
    rare = f"{uri}?keepalives=1&tcp_user_timeout=9&gssencmode=disable&fallback_application_name=us&sslmode=prefer"
    assert await _asked(rare, "SHOW application_name") == "us"
    assert await _asked(f"{uri}?options=-c%20work_mem%3D7MB", "SHOW work_mem") == "7MB"


async def test_the_next_host_is_tried(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    port = database.server.port
    dsn = f"{database.reader_dsn}?host=127.0.0.1,127.0.0.1&port={dead},{port}&target_session_attrs=primary"
    assert await _asked(dsn, "SELECT 1") == 1


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
        self.certificate = directory / "ca.pem"
        signed = self._sign(self._name, self._key, [], is_authority=True)
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Path:
        """A file with a certificate for a host or a user, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path = self._directory / f"{name}.pem"
        path.write_bytes(
            self._sign(subject, key, [x509.DNSName(name)]).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return path

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName], *,
        is_authority: bool = False,
    ) -> x509.Certificate:  # fmt: skip
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@contextlib.asynccontextmanager
async def _tls_in_front_of(database: Database, certificate: Path, clients: Path | None = None) -> AsyncIterator[int]:
    """The port of a server that answers PostgreSQL's request for TLS and passes what it decrypts on to the real one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(certificate)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        try:
            await writer.start_tls(context)
        except (OSError, asyncio.CancelledError):
            writer.close()
            return
        inner = await asyncio.open_connection("127.0.0.1", database.server.port)
        pipes.update({asyncio.create_task(pipe(reader, inner[1])), asyncio.create_task(pipe(inner[0], writer))})

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)


async def test_tls_verifies_what_it_was_asked_to_verify(database: Database, tmp_path: Path) -> None:
    ours, strange = Authority(tmp_path), Authority(_made(tmp_path / "strange"))
    async with _tls_in_front_of(database, ours.issue("localhost")) as port:

        async def answers(host: str, tls: str) -> bool:
            try:
                return await _asked(f"{database.reader_dsn}?host={host}&port={port}&{tls}", "SELECT 1") == 1
            except OSError:
                return False

        good, bad = f"sslrootcert={ours.certificate}", f"sslrootcert={strange.certificate}"
        assert await answers("localhost", f"sslmode=verify-full&{good}")
        assert not await answers("127.0.0.1", f"sslmode=verify-full&{good}")
        assert await answers("127.0.0.1", f"sslmode=verify-ca&{good}")
        assert not await answers("localhost", f"sslmode=verify-ca&{bad}")
        assert not await answers("localhost", "sslmode=verify-full&sslrootcert=system")
        assert await answers("localhost", "sslmode=require")


async def test_a_client_certificate_is_shown(database: Database, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine = authority.issue("po_reader")
    async with _tls_in_front_of(database, authority.issue("localhost"), authority.certificate) as port:
        dsn = (
            f"{database.reader_dsn}?host=localhost&port={port}&sslmode=verify-full&sslrootcert={authority.certificate}"
        )
        assert await _asked(f"{dsn}&sslcert={mine}&sslkey={mine}", "SELECT 1") == 1
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await _asked(dsn, "SELECT 1")


async def test_the_systems_trust_can_be_used(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    async with _tls_in_front_of(database, authority.issue("localhost")) as port:
        dsn = f"{database.reader_dsn}?port={port}&sslrootcert=system"
        assert await _asked(f"{dsn}&host=localhost", "SELECT 1") == 1
        with pytest.raises(ssl.SSLError):
            await _asked(f"{dsn}&host=127.0.0.1", "SELECT 1")


def test_a_client_certificate_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    dsn = Dsn.parse(f"host=h sslrootcert=system sslcert={tmp_path / 'none.pem'}")
    with pytest.raises(ValueError, match="cannot be loaded: No such file"):
        dsn.connect_arguments()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
