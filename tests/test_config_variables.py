"""The environment: a variable for every key, PO_EXPORTER_DSN, and names that look like ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config_samples import DSN, ConfigFile, whole
from po_exporter.config import Config, load, masked
from po_exporter.config.shape import keys, variable
from po_exporter.config.tree import dotted
from po_exporter.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path)


def refused(environ: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refusal:
        load(None, environ)
    return [str(fault) for fault in refusal.value.faults]


# Values for every key, as YAML has them: by file and by variable they must come to the same.
TEXTS = ["x y", "null", "on", "7", "ä: [b", "#c"]
COLUMNS: list[Any] = ["Col", "on", "7", {"sql": "a || 'b'"}]
DSNS = [DSN, "host=h user=u password='p w'", "postgresql://u:a%40b@[::1]/d?sslmode=require"]
DURATIONS = ["5s", "90", "250ms", "2h"]
SWITCHES = [True, False, "yes", "0"]
WORDS = [["filled", "on", "7"], ["filled"]]
BY_ENDING: dict[str, list[Any]] = {
    "dsn": DSNS,
    "password": TEXTS,
    "schema": ["desk", "gal-friday"],
    "environment": ["staging", "on", "7"],
    "orders.table": ['oms."Order"', "orders", '"My Orders"'],
    "positions.table": ["oms.book", '"on"'],
    "filled_statuses": WORDS,
    "complete_statuses": [["filled"], []],
    "buy_sides": [["buy", "1"], ["on"]],
    "sell_sides": [["sell", "2"]],
    "timezone": ["UTC", "Europe/Zurich"],
    "quantity": ["by_side", "signed"],
    "long_sides": [["LONG"]],
    "short_sides": [["SHORT", "S"]],
    "closed_quantity": ["zero", "kept", "kept_flat"],
    "one_active_per_pair": SWITCHES,
    "interval": DURATIONS,
    "mode": ["scan", "incremental", "auto"],
    "window": DURATIONS,
    "grace": [*DURATIONS, "0"],
    "statement_timeout": DURATIONS,
    "lock_timeout": DURATIONS,
    "poll_timeout": [*DURATIONS, None],
    "enabled": SWITCHES,
    "evidence": ["1", "500"],
    "identity_budget": ["0", "7"],
    "state_budget": ["64MB", "1GB", "5"],
    "priority": ["high", "medium", "low"],
    "threshold": ["0", "2.5"],
    "tolerance": ["0.5"],
    "directory": ["."],
    "listen": [":1", "[::1]:9843", "0.0.0.0:0"],
    "external_url": ["https://h/x?y#z"],
    "dashboard_url": ["https://g/d/x?orgId=1"],
    "reload": SWITCHES,
    "leader": ["auto", "off"],
    "incidents": SWITCHES,
    "open_after": ["1"],
    "close_after": ["9"],
    "change_factor": ["1.5"],
    "token": TEXTS,
    "webhook_url": ["https://h/#x"],
    "api_url": ["https://slack-gov.com/api/"],
    "channel": ["#desk", "on"],
    "email.host": ["mail", "on"],
    "email.port": ["25"],
    "starttls": ["required", "optional", "off"],
    "username": TEXTS,
    "from": ["a@b.c"],
    "to.high": [["a@b.c", "d@e.f"], []],
    "to.medium": [["a@b.c"]],
    "to.low": [[]],
    "webhook.url": ["http://h:1/"],
    "webhook.secret": TEXTS,
    "schedule": ["0 2 * * *", "* * * * *", "*/5 1-3 1 jan mon"],
    "templates": ["."],
    "allow": [["unlink_orphan"], [], ["link_order", "unlink_orphan"]],
    "max_per_run": ["0", "3"],
    "max_per_hour": ["4"],
    "max_quantity": ["0.1", None],
    "quiet_period": ["0", "5m"],
    "attempts": ["1"],
    "stop": SWITCHES,
    "auto_fix": SWITCHES,
    "verify": SWITCHES,
    "rollout_percentage": ["0", "100"],
    "environments": [["staging", "on"], []],
}
NAMES = {"databases": "trading", "schemas": "desk", "checks": "overfilled_order"}
PATHS = [
    tuple(NAMES[key.path[0]] if part == "*" else part for part in key.path)
    for key in keys()
    if not key.is_file
    and not key.path[-1].endswith("_file")  # those name files; they have tests of their own
    and key.path[0] not in ("thresholds", "position_order_integration")  # those say what other keys say, too
]


def _values(path: tuple[str, ...]) -> list[Any]:
    if "columns" in path:
        return COLUMNS
    name = dotted(path)
    return next(BY_ENDING[end] for end in sorted(BY_ENDING, key=len, reverse=True) if name.endswith(end))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(chosen=st.dictionaries(st.sampled_from(PATHS), st.integers(0, 20), min_size=1, max_size=20))
def test_any_setting_is_the_same_by_file_and_by_variable(file: ConfigFile, chosen: dict[tuple[str, ...], int]) -> None:
    by_file, environ = _base(), {}
    for path, index in chosen.items():
        value = _values(path)[index % len(_values(path))]
        parent: Any = by_file
        for part in path[:-1]:
            parent = parent.setdefault(part, {})
        parent[path[-1]] = value
        as_yaml = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("...\n")
        environ[variable(path)] = value if isinstance(value, str) else as_yaml.strip()
    one, other = file.load(_base(), environ), file.load(by_file)
    assert masked(one) == masked(other)
    assert _secrets(one) == _secrets(other)


def _base() -> dict[str, Any]:
    return {"databases": {"trading": {"dsn": DSN, "schema": "desk"}}, "schemas": whole()["schemas"]}


def _secrets(config: Config) -> list[str | None]:
    database, notify = config.databases["trading"], config.notify
    secrets = [database.dsn, database.password, notify.slack.token, notify.email.password, notify.webhook.secret]
    return [secret and secret.reveal() for secret in secrets]


def test_every_key_has_a_variable_of_its_own() -> None:
    names = [variable(path) for path in PATHS]
    assert len(names) == len(set(names))
    assert "PO_EXPORTER_MONITOR__INTERVAL" in names


def test_the_dsn_alone_is_enough() -> None:
    assert list(load(None, {"PO_EXPORTER_DSN": "postgresql://po_reader@db/trading"}).databases) == ["trading"]
    assert list(load(None, {"PO_EXPORTER_DSN": "host=db user=po_reader"}).databases) == ["po_reader"]


def test_the_dsn_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text(f"{DSN}\n")
    database = load(None, {"PO_EXPORTER_DSN_FILE": str(path)}).databases["trading"]
    assert database.dsn.path == path
    path.write_text("postgresql://po_reader@elsewhere/trading\n")
    assert "elsewhere" in database.dsn.reveal()


def test_the_dsn_takes_the_place_of_the_one_in_the_file(file: ConfigFile, tmp_path: Path) -> None:
    environ = {"PO_EXPORTER_DSN": "postgresql://new@h/d"}
    config = file.load(f"databases: {{desk: {{dsn: '{DSN}', environment: x}}}}", environ)
    assert config.databases["desk"].dsn.reveal() == "postgresql://new@h/d"
    assert config.databases["desk"].environment == "x"
    config = file.load(f"databases: {{desk: {{dsn_file: {tmp_path / 'none'}}}}}", environ)
    assert config.databases["desk"].dsn.reveal() == "postgresql://new@h/d"


def test_the_dsn_cannot_choose_among_several(file: ConfigFile) -> None:
    text = f"databases: {{a: {{dsn: '{DSN}'}}, b: {{dsn: '{DSN}'}}}}"
    assert file.faults(text, {"PO_EXPORTER_DSN": DSN}) == [
        "PO_EXPORTER_DSN: there are 2 databases; which one it is for cannot be known."
    ]


def test_a_dsn_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "dsn"
    path.write_text(DSN)
    twice = {"PO_EXPORTER_DSN": DSN, "PO_EXPORTER_DSN_FILE": str(path)}
    assert refused(twice) == ["PO_EXPORTER_DSN: is set, and so is PO_EXPORTER_DSN_FILE; keep one of the two."]
    other = {"PO_EXPORTER_DSN": DSN, "PO_EXPORTER_DATABASES__A__DSN": DSN}
    assert refused(other) == ["PO_EXPORTER_DSN: is set, and so is PO_EXPORTER_DATABASES__A__DSN; keep one of the two."]


def test_a_faulty_dsn_is_told_once() -> None:
    assert refused({"PO_EXPORTER_DSN": "db.internal"}) == [
        "PO_EXPORTER_DSN: should read postgresql://user@host:port/database, or host=... user=... dbname=..."
    ]
    (fault,) = refused({"PO_EXPORTER_DSN_FILE": "/none/at/all"})
    assert fault.startswith("PO_EXPORTER_DSN_FILE: cannot read the secret in /none/at/all")


def test_a_secret_is_given_in_one_form_whatever_the_places(file: ConfigFile, tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("x")
    text = f"databases: {{t: {{dsn: '{DSN}', password: y}}}}"
    assert file.faults(text, {"PO_EXPORTER_DATABASES__T__PASSWORD_FILE": str(tmp_path / "pw")}) == [
        "PO_EXPORTER_DATABASES__T__PASSWORD_FILE: password is set, too; keep one of the two."
    ]


def test_names_in_the_file_are_found_whatever_their_spelling(file: ConfigFile) -> None:
    text = f"databases: {{Desk-One: {{dsn: '{DSN}'}}}}"
    config = file.load(
        text, {"PO_EXPORTER_DATABASES__DESK_ONE__ENVIRONMENT": "x", "PO_EXPORTER_DATABASES__NEW__DSN": DSN}
    )
    assert [(name, database.environment) for name, database in config.databases.items()] == [
        ("Desk-One", "x"),
        ("new", None),
    ]


def test_two_names_that_look_the_same_cannot_be_told_apart(file: ConfigFile) -> None:
    text = f"databases: {{a-b: {{dsn: '{DSN}'}}, a_b: {{dsn: '{DSN}'}}}}"
    assert len(file.load(text).databases) == 2
    assert file.faults(text, {"PO_EXPORTER_DATABASES__A_B__ENVIRONMENT": "x"}) == [
        "PO_EXPORTER_DATABASES__A_B__ENVIRONMENT: could mean a-b or a_b; rename one of them."
    ]


def test_a_whole_section_can_be_a_variable_and_a_key_of_it_still_wins() -> None:
    environ = {
        "PO_EXPORTER_DSN": DSN,
        "PO_EXPORTER_CHECKS": "{quantity_mismatch: {enabled: false, threshold: 3}}",
        "PO_EXPORTER_CHECKS__QUANTITY_MISMATCH__THRESHOLD": "4",
    }
    check = load(None, environ).checks["quantity_mismatch"]
    assert (check.enabled, check.threshold) == (False, 4)
    (fault,) = refused(environ | {"PO_EXPORTER_CHECKS": "{quantity_mismatch: {enabld: false}}"})
    assert fault == "PO_EXPORTER_CHECKS: quantity_mismatch.enabld: is unknown. Did you mean 'enabled'?"


def test_an_empty_variable_is_not_set() -> None:
    assert load(None, {"PO_EXPORTER_DSN": DSN, "PO_EXPORTER_MONITOR__INTERVAL": " ", "PO_EXPORTER_NONSENSE": ""})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PO_EXPORTER_MONITOR__INTERVALL", "is no setting. Did you mean 'PO_EXPORTER_MONITOR__INTERVAL'?"),
        ("PO_EXPORTER_MONITOR_INTERVAL", "Did you mean 'PO_EXPORTER_MONITOR__INTERVAL'?"),
        ("PO_EXPORTER_DNS", "Did you mean 'PO_EXPORTER_DSN'?"),
        ("PO_EXPORTER_DATABASES__TRADING__PASWORD", "Did you mean 'PO_EXPORTER_DATABASES__TRADING__PASSWORD'?"),
        ("PO_EXPORTER_NOTIFY__EMIAL__PORT", "Did you mean 'PO_EXPORTER_NOTIFY__EMAIL__PORT'?"),
    ],
)
def test_a_name_that_looks_like_ours_but_is_not_is_a_fault(file: ConfigFile, name: str, words: str) -> None:
    (fault,) = file.faults(f"databases: {{trading: {{dsn: '{DSN}'}}}}", {name: "x"})
    assert fault.startswith(f"{name}: ")
    assert words in fault


def test_what_kubernetes_says_of_a_service_of_our_name_is_none_of_ours() -> None:
    environ = {
        "PO_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "PO_EXPORTER_SERVICE_PORT": "9843",
        "PO_EXPORTER_SERVICE_PORT_HTTP_METRICS": "9843",
        "PO_EXPORTER_PORT": "tcp://10.0.0.1:9843",
        "PO_EXPORTER_PORT_9843_TCP": "tcp://10.0.0.1:9843",
        "PO_EXPORTER_PORT_9843_TCP_PROTO": "tcp",
        "PO_EXPORTER_PORT_9843_TCP_PORT": "9843",
        "PO_EXPORTER_PORT_9843_TCP_ADDR": "10.0.0.1",
        "PO_EXPORTER_HEADLESS_SERVICE_HOST": "10.0.0.1",
        "PO_EXPORTER_CONFIG": "/etc/po.yaml",
        "PO_EXPORTER_PG_BIN": "/usr/bin",
        "PO_EXPORTER_TEST_PG": "15",
        "PATH": "/bin",
    }
    assert load(None, environ | {"PO_EXPORTER_DSN": DSN}).warnings == load(None, {"PO_EXPORTER_DSN": DSN}).warnings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MONITOR__INTERVAL", "soon", "PO_EXPORTER_MONITOR__INTERVAL: should be a duration"),
        ("SERVER__LISTEN", "9843", "PO_EXPORTER_SERVER__LISTEN: should read host:port"),
        ("FEATURE_FLAGS", "{a: [", "PO_EXPORTER_FEATURE_FLAGS: is not YAML"),
        ("FIX__ALLOW", "[unlink_orphan, no]", "PO_EXPORTER_FIX__ALLOW: 1: should be"),
        ("MONITOR", "x", "PO_EXPORTER_MONITOR: should be a mapping"),
    ],
)
def test_a_faulty_value_is_told_by_its_variables_name(name: str, value: str, words: str) -> None:
    (fault,) = refused({"PO_EXPORTER_DSN": DSN, f"PO_EXPORTER_{name}": value})
    assert fault.startswith(words)
