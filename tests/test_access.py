"""Who may see what."""

from __future__ import annotations

import base64
import os

import pytest
from structlog.testing import capture_logs

from po_exporter.errors import ConfigError
from po_exporter.expose.access import ADMIN, METRICS, ROWS, Access, Caller, TokensFile, load_tokens

GOOD = """\
# who      what                          token
prometheus metrics.read                  s3cret-of-prometheus
oncall     positions.read,metrics.read   s3cret-of-oncall # since March

admin      admin.reconcile               s3cret-of-admin
"""


@pytest.fixture
def tokens_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(GOOD)
    return path


def caller(*headers, method="GET", target="/", address="127.0.0.1", host="localhost:9843"):
    with_host = [("Host", host)] if host is not None else []
    return Caller(method, target, (*with_host, *headers), address)


def bearer(token):
    return ("Authorization", f"Bearer {token}")


def basic(token, user="anyone"):
    return ("Authorization", "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode())


def status_of(access, scope, who):
    refusal = access.refuse(scope, who)
    return refusal.status if refusal else 200


def test_a_tokens_file_is_read(tokens_file):
    tokens = load_tokens(tokens_file)
    assert {token.name: set(token.scopes) for token in tokens} == {
        "prometheus": {"metrics.read"},
        "oncall": {"positions.read", "metrics.read"},
        "admin": {"admin.reconcile"},
    }
    assert "s3cret" not in repr(tokens)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a metrics.read", 1),
        ("a metrics.read # no token", 1),
        ("# first\na metrics.read s3cret and more", 2),
        ("a metrics.write s3cret", 1),
        ("a metrics.read, s3cret", 1),
        ("a metrics.read s3crét", 1),
        ("a metrics.read s3cret\nb positions.read s3cret", 2),
        ("a metrics.read fine\n\nb", 3),
    ],
)
def test_a_malformed_line_is_named_by_its_number_and_not_by_its_token(tmp_path, text, line):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_tokens(path)
    assert [fault.place for fault in refused.value.faults] == [f"{path}:{line}"]
    assert "s3cr" not in str(refused.value)


def test_every_malformed_line_is_named_at_once(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("a\nb metrics.read fine\nc nothing s3cret\n")
    with pytest.raises(ConfigError) as refused:
        load_tokens(path)
    assert [fault.place for fault in refused.value.faults] == [f"{path}:1", f"{path}:3"]


@pytest.mark.parametrize("text", [b"", b"\n# only a comment\n", b"\xff\xfe\x00"])
def test_a_file_without_a_token_is_a_fault(tmp_path, text):
    path = tmp_path / "tokens"
    path.write_bytes(text)
    with pytest.raises(ConfigError):
        load_tokens(path)


def test_a_missing_file_is_a_fault(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        TokensFile(tmp_path / "tokens")


def test_a_changed_file_is_read_again(tokens_file):
    tokens = TokensFile(tokens_file)
    assert tokens.holder("s3cret-of-admin")
    tokens_file.write_text("admin admin.reconcile another\n")
    assert tokens.holder("s3cret-of-admin") is None
    assert tokens.holder("another")


def test_a_file_that_another_takes_the_place_of_is_read_again(tokens_file):
    """As Kubernetes does it, here even with the same size and time."""
    tokens = TokensFile(tokens_file)
    before = tokens_file.stat()
    new = tokens_file.with_name("new")
    new.write_text(GOOD.replace("s3cret-of-admin", "S3CRET-OF-ADMIN"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(tokens_file)
    assert tokens.holder("s3cret-of-admin") is None
    assert tokens.holder("S3CRET-OF-ADMIN")


def test_a_file_that_becomes_unusable_leaves_the_last_good_tokens(tokens_file):
    tokens = TokensFile(tokens_file)
    tokens_file.write_text("nonsense s3cret\n")
    with capture_logs() as logs:
        for _ in range(2):
            assert tokens.holder("s3cret-of-admin")
            assert tokens.holder("s3cret") is None
    assert [entry["event"] for entry in logs] == ["tokens_file_unusable"]
    assert "s3cret" not in str(logs)
    tokens_file.unlink()
    assert tokens.holder("s3cret-of-admin")


@pytest.mark.parametrize("credentials", [bearer, basic])
def test_a_token_opens_what_its_scopes_cover(tokens_file, credentials):
    access = Access(TokensFile(tokens_file))
    oncall = caller(credentials("s3cret-of-oncall"), address="192.0.2.1", host="exporter.example")
    assert status_of(access, ROWS, oncall) == 200
    assert status_of(access, METRICS, oncall) == 200
    assert status_of(access, ADMIN, oncall) == 403


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (bearer("wrong"),),
        (bearer(""),),
        (("Authorization", "Bearer"),),
        (("Authorization", "s3cret-of-oncall"),),
        (("Authorization", "Digest s3cret-of-oncall"),),
        (("Authorization", "Basic %%%"),),
        (("Authorization", "Basic " + base64.b64encode(b"\xff:\xff").decode()),),
        (basic("x", user="s3cret-of-oncall"),),
        (bearer("s3cret-of-oncall"), bearer("s3cret-of-oncall")),
        (bearer("\udcff"),),
    ],
)
def test_whatever_is_no_known_token_is_refused_and_told_how(tokens_file, headers):
    refusal = Access(TokensFile(tokens_file)).refuse(ROWS, caller(*headers))
    assert refusal is not None
    assert refusal.status == 401
    assert [challenge.split()[0] for challenge in refusal.challenges] == ["Bearer", "Basic"]


def test_with_tokens_loopback_is_no_excuse(tokens_file):
    assert status_of(Access(TokensFile(tokens_file)), ROWS, caller()) == 401
    assert status_of(Access(TokensFile(tokens_file)), METRICS, caller()) == 401


def test_what_changes_state_takes_bearer_alone(tokens_file):
    access = Access(TokensFile(tokens_file))
    assert status_of(access, ADMIN, caller(bearer("s3cret-of-admin"), method="POST")) == 200
    refusal = access.refuse(ADMIN, caller(basic("s3cret-of-admin"), method="POST"))
    assert refusal is not None
    assert (refusal.status, len(refusal.challenges)) == (401, 1)


def test_a_scheme_is_read_without_case(tokens_file):
    who = caller(("Authorization", "bEARER s3cret-of-oncall"))
    assert status_of(Access(TokensFile(tokens_file)), ROWS, who) == 200


def test_a_refusal_does_not_repeat_the_token(tokens_file):
    refusal = Access(TokensFile(tokens_file)).refuse(ROWS, caller(bearer("s3cret-of-prometheus")))
    assert refusal is not None
    assert refusal.status == 403
    assert "s3cret" not in refusal.sentence


@pytest.mark.parametrize("scope", [METRICS, None])
def test_without_tokens_metrics_and_probes_are_open(scope):
    afar = caller(("X-Forwarded-For", "192.0.2.7"), address="192.0.2.1", host="exporter.example")
    assert status_of(Access(None), scope, afar) == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "::1%lo"])
@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LocalHost", "localhost.", "localhost:9843", "localhost.:9843", "127.0.0.1", "127.1.2.3:1",
        "[::1]", "[::1]:9843", "[::ffff:127.0.0.1]:9843",
    ],
)  # fmt: skip
def test_without_tokens_rows_are_shown_on_loopback(address, host):
    assert status_of(Access(None), ROWS, caller(address=address, host=host)) == 200


@pytest.mark.parametrize(
    "who",
    [
        caller(address="192.0.2.1"),
        caller(address="::ffff:192.0.2.1"),
        caller(address="10.0.0.1", host="127.0.0.1"),
        caller(address=None),
        caller(address=""),
        caller(host=None),
        caller(host=""),
        caller(host="exporter.example"),
        caller(host="localhost.example"),
        caller(host="localhost@exporter.example"),
        caller(host="127.0.0.1.example:9843"),
        caller(host="127.1"),
        caller(host="2130706433"),
        caller(host="192.0.2.1:9843"),
        caller(host="0.0.0.0:9843"),
        caller(host="[::]"),
        caller(host="[::1"),
        caller(host="::1"),
        caller(host="[::ffff:192.0.2.1]"),
        caller(host="localhost:9843:9843"),
        caller(host="localhost, exporter.example"),
        caller(("Host", "localhost")),
        caller(target="http://localhost/"),
        caller(("Forwarded", "for=127.0.0.1")),
        caller(("forwarded", "")),
        caller(("Via", "1.1 proxy")),
        caller(("X-Forwarded-For", "127.0.0.1")),
        caller(("x-forwarded-proto", "https")),
        caller(("X-Forwarded-Anything", "")),
        caller(("X-Real-IP", "127.0.0.1")),
    ],
)
def test_without_tokens_nobody_else_is_shown_rows(who):
    refusal = Access(None).refuse(ROWS, who)
    assert refusal is not None
    assert refusal.status == 403
    assert "server.tokens_file" in refusal.sentence
