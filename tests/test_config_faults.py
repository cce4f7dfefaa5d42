"""What is wrong with a configuration: all of it at once, in words, with its place, and without a secret."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config_samples import DSN, ConfigFile, whole
from po_exporter.config import load, masked
from po_exporter.config.shape import children, keys, kind_at
from po_exporter.config.tree import dotted
from po_exporter.errors import ConfigError

ONE = f"databases: {{t: {{dsn: '{DSN}'}}}}\n"
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path)


def test_every_fault_is_told_at_once_with_its_line(file: ConfigFile) -> None:
    assert file.faults(
        """\
databases:
  trading:
    dsn: postgresql://h/d?sslmod=require
    schema: gal-frday
    enviroment: x
  other:
    password: x
monitor:
  interval: 0
  intervall: 5s
  grace: 1y
interval: 5s
checks:
  quantity_mismatch: {tolerance: some}
  overfilled_orders: {enabled: false}
server: {listen: "9843"}
schemas:
  gal-friday: {}
"""
    ) == [
        "po.yaml:3: databases.trading.dsn: has a parameter that libpq does not know; did you mean sslmode?",
        "po.yaml:4: databases.trading.schema: there is no schema 'gal-frday'. Did you mean 'gal-friday'?",
        "po.yaml:5: databases.trading.enviroment: is unknown. Did you mean 'environment'?",
        "po.yaml:6: databases.other.dsn: is missing (or dsn_file).",
        "po.yaml:18: schemas.gal-friday.orders: is missing.",
        "po.yaml:18: schemas.gal-friday.positions: is missing.",
        "po.yaml:9: monitor.interval: should be longer than 0.",
        "po.yaml:11: monitor.grace: should be a duration such as 500ms, 30s, 5m, 24h or 7d; a bare whole number is "
        "seconds.",
        "po.yaml:10: monitor.intervall: is unknown. Did you mean 'interval'?",
        "po.yaml:14: checks.quantity_mismatch.tolerance: should be a number.",
        'po.yaml:16: server.listen: should read host:port, as in "0.0.0.0:9843", "[::1]:9843" or ":9843" for every '
        "address.",
        "po.yaml:12: interval: is unknown. Did you mean monitor.interval or checks.*.interval?",
        "po.yaml:18: schemas.gal-friday: is the name of a built-in schema; call yours something else.",
        "po.yaml:15: checks.overfilled_orders: there is no such check. Did you mean 'overfilled_order'?",
    ]


NOT_A_FILE_OF_OURS = {
    "": "po.yaml: is empty",
    "# nothing but a comment\n": "po.yaml: is empty",
    "- databases": "po.yaml:1: should be a mapping",
    "databases": "po.yaml:1: should be a mapping",
    "databases:\n\ttrading: x": "po.yaml:2: a tab stands where YAML wants spaces",
    "databases:\n  t: {dsn: [": "po.yaml:2: ",
    "databases:\n  t: x: y": "po.yaml:2: a colon and a space",
    "databases:\n  t: {password: *secret}": "po.yaml:2: an alias",
    "a: 1\n---\nb: 2": "po.yaml:2: ",
    "a: " + "[" * 1000: "po.yaml: is nested too deeply.",
    "a: &a [*a]": "refers to something that contains it",
    "a: \0": "po.yaml: ",
}


@pytest.mark.parametrize(("text", "fault"), NOT_A_FILE_OF_OURS.items(), ids=range(len(NOT_A_FILE_OF_OURS)))
def test_a_file_that_is_none_of_ours_is_refused_in_one_line(file: ConfigFile, text: str, fault: str) -> None:
    first = file.faults(text)[0]
    assert fault in first
    assert "\n" not in first


def test_a_file_that_cannot_be_read_is_named(file: ConfigFile, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", {})
    file.path.write_bytes(b"databases: \xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load(file.path, {})


def test_files_that_it_names_must_be_readable(file: ConfigFile, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    gone = tmp_path / "gone"
    faults = file.faults(
        f"""\
databases:
  t: {{dsn_file: {gone}, password_file: {tmp_path / "empty"}}}
checks: {{directory: {gone}}}
server: {{tokens_file: {gone}, tls: {{cert_file: {gone}, key_file: {gone}}}}}
notify: {{templates: {gone}, slack: {{token_file: {gone}}}}}
"""
    )
    assert [fault.split(": ")[1] for fault in faults] == [
        "databases.t.dsn_file",
        "databases.t.password_file",
        "checks.directory",
        "server.tokens_file",
        "server.tls.cert_file",
        "server.tls.key_file",
        "notify.slack.token_file",
        "notify.templates",
    ]
    assert all(str(tmp_path) in fault for fault in faults)


def test_a_faulty_check_file_is_named_with_its_line(file: ConfigFile, tmp_path: Path) -> None:
    (tmp_path / "odd.sql").write_text("-- help: A test.\n-- entity: trade\n-- priority: low\nSELECT 1\n")
    (fault,) = file.faults(f"{ONE}checks: {{directory: {tmp_path}, odd: {{enabled: true}}}}")
    assert fault.startswith(f"{tmp_path / 'odd.sql'}:2: entity is one of")


SMALL_FAULTS = {
    "monitor: {interval: 5s}\nmonitor: {grace: 5s}": "po.yaml:3: monitor: stands twice; the first one is in line 2.",
    "yes: 1": "has a key that is not text; quote it",
    "listen: ':1'": "po.yaml:2: listen: is unknown. Did you mean server.listen?",
    "monitor: {listen: ':1'}": "Did you mean server.listen?",
    "monitor: [60s]": "monitor: should be a mapping of keys to values.",
    "checks: {oops: 3}": "checks.oops: is unknown.",
    "monitor: {mode: fast}": "should be 'scan', 'incremental' or 'auto'.",
    "monitor: {evidence: 0}": "should be at least 1.",
    "monitor: {evidence: 1.5}": "should be a whole number.",
    "monitor: {intervall: }": "po.yaml:2: monitor: has an unknown key without a value.",
    "notify: {slack: {token: ''}}": "po.yaml:2: notify.slack.token: should not be empty.",
    "monitor: {enabled: maybe}": "should be true or false.",
    "monitor: {window: 99999999999d}": "at most 36500d",
    "monitor: {statement_timeout: 30d}": "at most 24d",
    "monitor: {lock_timeout: 0}": "longer than 0",
    "monitor: {state_budget: 64 sheep}": "should be a size",
    "thresholds: {link_rate: 101}": "po.yaml:2: thresholds.link_rate: should be at most 100",
    "thresholds: {link_rate: -1}": "should be at least 0.",
    "thresholds: {link_rate: .nan}": "should be a number.",
    "thresholds: {unlinked_filled_order: 1}": "Did you mean 'unlinked_filled_orders'?",
    "checks: {unlinked_filled_order: {tolerance: 1}}": "compares no quantities",
    "checks: {link_rate: {priority: urgent}}": "should be 'high', 'medium' or 'low'.",
    "checks: {quantity_mismatch: {threshold: 2}}\nthresholds: {quantity_mismatches: 3}": (
        "po.yaml:3: thresholds.quantity_mismatches: says something else than po.yaml:2: "
        "checks.quantity_mismatch.threshold; keep one of the two."
    ),
    "server: {tls: {cert_file: /dev/null}}": "cert_file and key_file belong together",
    "server: {tls: {client_ca_file: /dev/null}}": "needs cert_file and key_file.",
    "server: {external_url: example.com}": "begins with http:// or https://",
    "leader: maybe": "should be 'auto' or 'off'.",
    "reconcile: {schedule: daily}": "it has five fields",
    "reconcile: {schedule: 0 25 * * *}": "bad hour",
    "reconcile: {timezone: Europe/Zurch}": "Did you mean 'Europe/Zurich'?",
    "fix: {allow: [unlink_orphans]}": "should be 'unlink_orphan' or 'link_order'.",
    "fix: {allow: unlink_orphan}": "should be a list such as [a, b].",
    "notify: {email: {from: A <a@b>}}": "e-mail address",
    "notify: {email: {to: {high: [nobody]}}}": "po.yaml:2: notify.email.to.high.0: should be an e-mail address",
    "feature_flags: {position_order_monitor: {}}": "Did you mean 'position_order_monitoring'?",
    "feature_flags: {position_order_monitoring: {rollout_percentage: 101}}": "should be at most 100.",
    "position_order_integration: {alert_threshold: 3}": "data_quality_monitoring.alert_threshold",
    "monitor: {interval: !env X}": "has a tag",
}


@pytest.mark.parametrize(("text", "words"), SMALL_FAULTS.items(), ids=range(len(SMALL_FAULTS)))
def test_what_is_wrong_is_said_in_words(file: ConfigFile, text: str, words: str) -> None:
    faults = file.faults(ONE + text)
    assert words in faults[0]
    assert len(faults) == 1


def test_without_a_database_there_is_nothing_to_do(file: ConfigFile) -> None:
    assert file.faults("databases: {}") == [
        "po.yaml:1: databases: should name at least one; or set PO_EXPORTER_DSN."
    ]  # fmt: skip
    assert file.faults("monitor: {interval: 5s}") == ["databases: should name at least one; or set PO_EXPORTER_DSN."]


ORDERS, POSITIONS = ("schemas", "desk", "orders"), ("schemas", "desk", "positions")
SCHEMA_FAULTS: list[tuple[tuple[str, ...], Any, str]] = [
    ((*ORDERS, "table"), "a.b.c", "table: should be a table such as"),
    ((*ORDERS, "table"), "My Orders", "double quotes and all"),
    ((*ORDERS, "columns", "status"), None, "columns.status: is missing."),
    ((*ORDERS, "columns", "statu"), "x", "Did you mean 'status'?"),
    ((*ORDERS, "columns", "status"), True, "quote it"),
    ((*ORDERS, "columns", "status"), {"sql": "x", "cast": "y"}, "{sql: expression} and nothing else"),
    ((*ORDERS, "columns", "status"), {"sql": ""}, "should not be empty."),
    ((*ORDERS, "filled_statuses"), [], "filled_statuses: should name at least one."),
    ((*ORDERS, "filled_statuses"), ["filled", False], "filled_statuses.1: should be text, but YAML reads yes, no, on"),
    ((*ORDERS, "filled_statuses"), ["filled", None], "filled_statuses.1: should be text, but YAML reads null"),
    ((*ORDERS, "filled_statuses"), ["filled", " "], "filled_statuses.1: should not be empty."),
    ((*ORDERS, "complete_statuses"), ["Filled ", "done"], "complete_statuses: done should stand in filled_statuses"),
    ((*ORDERS, "buy_sides"), [True], "quote it"),
    ((*ORDERS, "sell_sides"), ["sell", " BUY"], "sell_sides: buy stands in buy_sides, too."),
    ((*ORDERS, "timezone"), "Mars/Olympus", "should be a time zone"),
    ((*POSITIONS, "columns", "side"), None, "quantity is by_side, which needs the column side, too."),
    ((*POSITIONS, "columns", "quantity"), None, "columns.quantity: is missing."),
    ((*POSITIONS, "long_sides"), [], "long_sides: should name at least one."),
    ((*POSITIONS, "short_sides"), ["long"], "short_sides: long stands in long_sides, too."),
    ((*POSITIONS, "closed_quantity"), "flat", "should be 'zero', 'kept' or 'kept_flat'."),
    (("databases", "trading", "schema"), "dek", "Did you mean 'desk'?"),
]


@pytest.mark.parametrize(("path", "value", "words"), SCHEMA_FAULTS)
def test_a_schema_that_cannot_be_meant_is_refused(
    file: ConfigFile, path: tuple[str, ...], value: object, words: str
) -> None:
    values = whole()
    _at(values, path[:-1])[path[-1]] = value
    faults = file.faults(values)
    assert words in faults[0]
    assert len(faults) == 1


@pytest.mark.parametrize("word", ["yes", "No", "ON", "off", "OFF", "Off", "true", "False"])
def test_a_word_that_yaml_takes_for_a_switch_is_refused_until_it_is_quoted(file: ConfigFile, word: str) -> None:
    text = yaml.safe_dump(whole()).replace("- buy\n", f"- {word}\n")
    (fault,) = file.faults(text)
    assert "buy_sides.0: should be text" in fault
    assert fault.endswith("quote it.")
    assert file.load(text.replace(f"- {word}\n", f"- '{word}'\n"))


def _at(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for part in path:
        values = values.setdefault(part, {}) if isinstance(values.get(part, {}), dict) else {}
    return values


NAMES = {"databases": "trading", "schemas": "desk", "checks": "link_rate"}
PATHS = [tuple(NAMES[key.path[0]] if part == "*" else part for part in key.path) for key in keys()]


@reused
@given(path=st.sampled_from(PATHS), at=st.integers(0, 30), letter=st.sampled_from("aexz_-"), upto=st.integers(1, 6))
def test_any_typing_error_in_a_key_is_found_with_its_path(
    file: ConfigFile, path: tuple[str, ...], at: int, letter: str, upto: int
) -> None:
    path = path[:upto]
    mistyped = path[-1][: at % len(path[-1])] + letter + path[-1][at % len(path[-1]) :]
    known, entries = children(kind_at(path[:-1]))
    if mistyped in known or (entries is not None and path[0] != "checks"):
        return
    values = whole()
    _at(values, path[:-1])[mistyped] = "x"
    faults = file.faults(values)
    assert any(re.search(rf"^po\.yaml:\d+: {re.escape(dotted((*path[:-1], mistyped)))}: ", fault) for fault in faults)


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@reused
@given(path=st.sampled_from(PATHS), value=odd, upto=st.integers(1, 6))
def test_any_value_anywhere_is_taken_or_refused_in_words(
    file: ConfigFile, path: tuple[str, ...], value: object, upto: int
) -> None:
    values = whole()
    _at(values, path[: upto - 1] if upto < len(path) else path[:-1])[path[min(upto, len(path)) - 1]] = value
    with contextlib.suppress(ConfigError):
        json.dumps(masked(file.load(values)))


SECRET = "hunter2-Xy7"
HIDING_PLACES = [
    f"databases: {{t: {{dsn: 'postgresql://u:{SECRET}@h/d'}}}}",
    f"databases: {{t: {{dsn: 'postgres://u@h/d?password={SECRET}'}}}}",
    f"databases: {{t: {{dsn: 'host=h user=u password={SECRET}'}}}}",
    f"databases: {{t: {{dsn: \"host=h user=u password='{SECRET} x'\"}}}}",
    f"databases: {{t: {{dsn: '{DSN}', password: {SECRET}}}}}",
    f"databases: {{t: {{dsn: '{DSN}', fix_dsn: 'postgresql://u:{SECRET}@h/d'}}}}",
    f"{ONE}notify: {{slack: {{token: {SECRET}, webhook_url: 'https://h/{SECRET}'}}}}",
    f"{ONE}notify: {{email: {{password: {SECRET}}}, webhook: {{url: 'https://h/{SECRET}', secret: {SECRET}}}}}",
    # and where something is wrong with it, or with what stands beside it
    f"databases: {{t: {{dsn: 'postgresql://u:{SECRET}@h/d@e'}}}}",
    f"databases: {{t: {{dsn: 'postgresql://u:a/{SECRET}@h/d'}}}}",
    f"databases: {{t: {{dsn: 'host=h password=a {SECRET}'}}}}",
    f"databases: {{t: {{dsn: 'host=h password=a {SECRET}=b'}}}}",
    f"databases: {{t: {{dsn: 'mysql://u:{SECRET}@h/d'}}}}",
    f"databases: {{t: {{dsn: {SECRET}}}}}",
    f"databases: {{t: {{dsn: ['{SECRET}']}}}}",
    f"databases: {{t: {{dsn: {{a: '{SECRET}'}}}}}}",
    f"databases: {{t: '{SECRET}'}}",
    f"databases: '{SECRET}'",
    f"databases: {{t: {{dsn: '{DSN}', password: a,{SECRET}}}}}",
    f"databases: {{t: {{dsn: '{DSN}', password: *{SECRET}}}}}",
    f"databases: {{t: {{dsn: '{DSN}', password: !{SECRET} x}}}}",
    f"databases: {{t: {{dsn: '{DSN}', password: '{SECRET}', password_file: /none}}}}",
    f"databases:\n  t:\n    dsn: x: {SECRET}",
    f"databases:\n  t:\n    password: '{SECRET}",
    f'databases:\n  t:\n    password: "\\{SECRET}"',
    f"databases:\n  t:\n    password: @{SECRET}",
    f"databases:\n  t:\n    password: '{SECRET}'\n\tdsn: x",
    f"databases:\n  t:\n    password: !{SECRET}!x y",
    f"{ONE}notify: {{webhook: {{url: '{SECRET}'}}}}",
    f"{ONE}notify: {{slack: {{token: ['{SECRET}']}}}}",
]


@pytest.mark.parametrize("text", HIDING_PLACES, ids=range(len(HIDING_PLACES)))
def test_no_secret_is_ever_repeated(file: ConfigFile, text: str) -> None:
    try:
        config = file.load(text)
    except ConfigError as refusal:
        told = f"{refusal} {refusal!r} {refusal.faults!r} {refusal.__context__!r}"
    else:
        told = f"{config!r} {yaml.safe_dump(masked(config))} {config.settings!r} {config.warnings}"
        assert "***" in told
    assert SECRET not in told


@pytest.mark.parametrize("text", HIDING_PLACES, ids=range(len(HIDING_PLACES)))
def test_no_secret_of_a_variable_is_ever_repeated(file: ConfigFile, text: str) -> None:
    values = text.split("databases:", 1)[1].split("\nnotify:", maxsplit=1)[0].strip()
    for environ in (
        {"PO_EXPORTER_DATABASES": values},
        {"PO_EXPORTER_DATABASES__T__DSN": values, "PO_EXPORTER_DSN": text},
    ):
        try:
            config = load(None, environ)
        except ConfigError as refusal:
            told = f"{refusal} {refusal!r} {refusal.__context__!r}"
        else:
            told = f"{config!r} {masked(config)} {config.warnings}"
        assert SECRET not in told
