"""No password is ever shown: on no terminal, in no log, on no page."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from here import Here, sql
from sidecar import POPULATION, settings

SECRET = "Xq7-distinctive"
WELL_FORMED = {
    "a URI": "postgresql://po_reader:{secret}@{host}/{name}",
    "a parameter of a URI": "postgresql://po_reader@{host}/{name}?password={secret}",
    "an unescaped #": "postgresql://po_reader:#{secret}@{host}/{name}",
    "keywords": "host=127.0.0.1 port={port} user=po_reader password='{secret}' dbname={name}",
}
MALFORMED = {
    "an unescaped /": "postgresql://po_reader:{secret}/x@{host}/{name}",
    "an unescaped @": "postgresql://po_reader:{secret}@x@{host}/{name}",
    "an unescaped %": "postgresql://po_reader:%{secret}@{host}/{name}",
    "an open quote": "host=127.0.0.1 port={port} user=po_reader dbname={name} password='{secret}",
    "a host that is none": "postgresql://po_reader:{secret}@a..b/{name}",
    "a port that is none": "postgresql://po_reader:{secret}@127.0.0.1:5x/{name}",
    "another scheme": "mysql://po_reader:{secret}@{host}/{name}",
}


@pytest.fixture
def po(capsys, monkeypatch, po_exporter) -> Here:
    return Here(capsys, monkeypatch, po_exporter)


@pytest.mark.parametrize("form", WELL_FORMED | MALFORMED)
def test_no_command_prints_a_password(form, database, po):
    port = database.server.port
    dsn = (WELL_FORMED | MALFORMED)[form].format(secret=SECRET, host=f"127.0.0.1:{port}", port=port, name=database.name)
    for command in ("check", "check --format json", "doctor", "trail 1", "config show", "config check"):
        for where in ({"dsn": dsn}, {"config": settings(dsn)}):
            finished = po(*command.split(), **where)
            assert SECRET not in finished.stdout + finished.stderr
            refused = form in MALFORMED and form != "a host that is none"
            assert finished.status in ((2,) if refused else (0, 3)), finished


async def test_no_page_and_no_log_shows_a_password(database, exporter, tmp_path):
    sql(database, POPULATION)
    right = database.server.create_role(database.name, SECRET, "SELECT ON orders, positions", database=database.name)
    assert quote(SECRET) in right
    dsn_file = tmp_path / "dsn"
    dsn_file.write_text(right)
    config = settings(right, right.replace(SECRET, f"{SECRET}-wrong"), interval="100ms")
    config["databases"]["third"] = {"dsn_file": str(dsn_file)}
    running = await exporter(config=config)
    dsn_file.write_text(f"garbage {SECRET}")
    paths = ["/", "/metrics", "/-/ready"]
    paths += [f"/api/v1/{what}?database={name}" for what in ("status", "findings") for name in config["databases"]]
    for path in paths:
        answer = await running.get(path)
        assert answer.status in (200, 503), answer
        assert SECRET not in answer.text
    assert await running.stop() == 0
    assert "password authentication failed" in running.log
    assert SECRET not in running.log
    sql(database, f"DROP OWNED BY {database.name}; DROP ROLE {database.name}")
