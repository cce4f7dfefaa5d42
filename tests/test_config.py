"""The configuration as a whole: what is read, what wins, what is shown."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

import config_reference
from config_samples import DSN, WHOLE, ConfigFile, whole
from parts.database import Database
from po_exporter.config import Config, example, kinds, load, masked
from po_exporter.config.shape import Settings, keys
from po_exporter.config.targets import listen
from po_exporter.mapping import GAL_FRIDAY, Column, OrdersMapping, PositionsMapping, SchemaMapping, TableName
from po_exporter.sql import load_checks

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    return ConfigFile(tmp_path)


def test_every_key_of_the_interface_is_understood_and_has_its_default(file: ConfigFile) -> None:
    written = file.load(WHOLE)
    bare = load(None, {"PO_EXPORTER_DSN": DSN, "PO_EXPORTER_DATABASES__TRADING__ENVIRONMENT": "production"})
    for part in ("monitor", "checks", "server", "leader", "notify", "fix", "reconcile", "link", "feature_flags"):
        assert getattr(written, part) == getattr(bare, part)


def test_the_defaults_are_those_that_are_promised() -> None:
    config = load(None, {"PO_EXPORTER_DSN": DSN})
    monitor = config.monitor
    assert (monitor.interval, monitor.window, monitor.grace) == (
        timedelta(seconds=60),
        timedelta(hours=24),
        timedelta(seconds=30),
    )
    assert (monitor.statement_timeout, monitor.lock_timeout, monitor.poll_timeout) == (
        timedelta(seconds=30),
        timedelta(seconds=1),
        timedelta(seconds=60),
    )
    assert (monitor.evidence, monitor.identity_budget, monitor.state_budget) == (100, 100_000, 64 * 1024**2)
    assert (config.server.host, config.server.port) == ("0.0.0.0", 9843)
    assert config.databases["trading"].mapping == GAL_FRIDAY


def test_every_check_has_settings_and_the_guides_have_its_thresholds() -> None:
    config = load(None, {"PO_EXPORTER_DSN": DSN})
    files = load_checks()
    assert set(config.checks) == set(files)
    guides = {"link_rate": 95, "unlinked_filled_order": 10, "orphaned_position_reference": 0, "quantity_mismatch": 1}
    for name, check in config.checks.items():
        assert check.threshold == guides.get(name, 0)
        assert (check.enabled, check.priority, check.tolerance) == (True, files[name].priority, files[name].tolerance)


def test_a_poll_may_take_twice_a_statement_unless_it_is_told_otherwise(file: ConfigFile) -> None:
    assert file.load(
        f"databases: {{t: {{dsn: '{DSN}'}}}}\nmonitor: {{statement_timeout: 4s}}"
    ).monitor.poll_timeout == (timedelta(seconds=8))
    text = f"databases: {{t: {{dsn: '{DSN}'}}}}\nmonitor: {{statement_timeout: 4s, poll_timeout: 5s}}"
    assert file.load(text).monitor.poll_timeout == timedelta(seconds=5)


def test_a_flag_wins_over_the_environment_and_that_over_the_file(file: ConfigFile) -> None:
    environ = {"PO_EXPORTER_SERVER__LISTEN": ":2", "PO_EXPORTER_MONITOR__INTERVAL": "2s"}
    text = f"databases: {{t: {{dsn: '{DSN}'}}}}\nserver: {{listen: ':1'}}\nmonitor: {{interval: 1s, grace: 1s}}"
    config = file.load(
        text, environ, server__listen="127.0.0.1:3", monitor__window=timedelta(hours=2), monitor__mode=None
    )
    assert (config.server.host, config.server.port) == ("127.0.0.1", 3)
    assert config.monitor.interval == timedelta(seconds=2)
    assert config.monitor.grace == timedelta(seconds=1)
    assert config.monitor.window == timedelta(hours=2)


def test_a_schema_of_ones_own_is_resolved(file: ConfigFile) -> None:
    values = whole()
    values["databases"]["trading"]["schema"] = "desk"
    values["schemas"]["desk"]["orders"]["timezone"] = "Europe/Zurich"
    columns = {
        "id": Column("order_no"),
        "position_id": Column("book_id"),
        "trading_pair": Column("symbol"),
        "side": Column("side"),
        "status": Column("state"),
        "quantity": Column("qty"),
        "filled_quantity": Column("exec_qty - coalesce(base_fee, 0)", is_sql=True),
        "created_at": Column("entered"),
    }
    assert file.load(values).databases["trading"].mapping == SchemaMapping(
        name="desk",
        orders=OrdersMapping(
            table=TableName("Order", "oms"),
            columns=columns,
            filled_statuses=("filled", "partial", "cancelled"),
            complete_statuses=("filled",),
            buy_sides=("buy",),
            sell_sides=("sell",),
            timezone="Europe/Zurich",
        ),
        positions=PositionsMapping(
            table=TableName("book", "oms"),
            columns={
                name: Column(column)
                for name, column in values["schemas"]["desk"]["positions"]["columns"].items()
            },
            quantity="by_side",
            long_sides=("LONG",),
            short_sides=("SHORT",),
            closed_quantity="zero",
            one_active_per_pair=False,
            timezone="Europe/Zurich",
        ),
    )  # fmt: skip


def test_numbers_in_a_list_of_words_are_words_as_they_were_written(file: ConfigFile) -> None:
    values = whole()
    values["databases"]["trading"]["schema"] = "desk"
    text = yaml.safe_dump(values).replace("- buy\n", "- 007\n      - 1.10\n      - 2026-01-27\n      - 'on'\n")
    assert file.load(text).databases["trading"].mapping.orders.buy_sides == ("007", "1.10", "2026-01-27", "on")


def test_a_decimal_keeps_its_digits_without_quotes(file: ConfigFile) -> None:
    digits = "0.00000000000000000012345678901234567890"
    text = f"databases: {{t: {{dsn: '{DSN}'}}}}\nchecks: {{quantity_mismatch: {{tolerance: {digits}}}}}"
    assert file.load(text).checks["quantity_mismatch"].tolerance == Decimal(digits)


def test_sections_can_be_shared_by_yamls_own_means(file: ConfigFile) -> None:
    text = f"""
databases:
  one: &one {{dsn: '{DSN}', environment: staging}}
  two:
    <<: *one
    environment: production
"""
    config = file.load(text)
    assert [(name, d.environment) for name, d in config.databases.items()] == [
        ("one", "staging"),
        ("two", "production"),
    ]
    assert config.databases["two"].dsn.reveal() == DSN


def test_an_empty_section_is_as_good_as_none(file: ConfigFile) -> None:
    config = file.load(f"databases:\n  t: {{dsn: '{DSN}'}}\nmonitor:\nchecks:\n  link_rate:\nnotify: {{slack: }}\n")
    assert config.monitor.interval == timedelta(seconds=60)
    assert config.checks["link_rate"].threshold == 95


def test_ones_own_checks_are_read_and_set_like_ours(file: ConfigFile, tmp_path: Path) -> None:
    query = "-- help: A test.\n-- entity: order\n-- priority: low\n-- scope: all\n-- needs: orders.id\n"
    (tmp_path / "odd_id.sql").write_text(
        f"{query}SELECT o.id, NULL::timestamptz AS since, '{{}}'::jsonb AS details FROM orders o\n"
    )
    text = (
        f"databases: {{t: {{dsn: '{DSN}'}}}}\nchecks: {{directory: {tmp_path}, odd_id: {{interval: 5m, threshold: 3}}}}"
    )
    config = file.load(text)
    assert config.check_files["odd_id"].help == "A test."
    assert config.checks["odd_id"].interval == timedelta(minutes=5)
    assert config.checks["odd_id"].threshold == 3
    assert config.checks["odd_id"].priority == "low"
    assert file.faults(text.replace("odd_id", "odd_ids"))[0].endswith("there is no such check. Did you mean 'odd_id'?")


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("[::1]:9843", "::1", 9843),
        (":9843", "", 9843),
        ("0.0.0.0:9843", "0.0.0.0", 9843),
        ("localhost:0", "localhost", 0),
    ],
)
def test_an_address_to_listen_on(written: str, host: str, port: int) -> None:
    assert listen(written) == (host, port)
    assert str(listen(written)) == written


@pytest.mark.parametrize(
    "written", ['oms."Order"', "Orders", '"My Orders"', '"a""b"."c.d"', "oms . Bücher", "_x$1", "x" * 70]
)
async def test_a_table_is_what_postgresql_would_take_it_for(database: Database, written: str) -> None:
    table = kinds.table(written)
    asked = [part[:63] for part in await database.fetchval("SELECT parse_ident($1)", written)]
    assert [part for part in (table.schema, table.name) if part] == asked
    assert kinds.table(kinds.table_text(table)) == table


def test_polls_follow_the_switch_and_the_flag(file: ConfigFile) -> None:
    def polled(flag: str, environment: str | None = "production", enabled: bool = True) -> bool:
        place = f", environment: {environment}" if environment else ""
        text = f"databases: {{t: {{dsn: '{DSN}'{place}}}}}\nmonitor: {{enabled: {enabled}}}\nfeature_flags: {{{flag}}}"
        return file.load(text).polls("t")

    name = "position_order_monitoring"
    assert polled("")
    assert not polled("", enabled=False)
    assert not polled(f"{name}: {{enabled: false}}")
    assert polled(f"{name}: {{environments: [staging, production]}}")
    assert not polled(f"{name}: {{environments: [staging]}}")
    assert not polled(f"{name}: {{environments: []}}")
    assert polled(f"{name}: {{rollout_percentage: 0}}")
    assert polled(f"{name}: {{environments: [staging]}}", environment=None)
    assert not polled(f"{name}: {{enabled: false}}", environment=None)
    assert polled("position_order_relationship: {enabled: false}, position_order_auto_linking: {enabled: false}")


WARNED = {
    "databases: {{t: {{dsn: '{dsn}'}}}}": "databases.t has no environment",
    "databases: {{t: {{dsn: '{dsn}?channel_binding=require', environment: x}}}}": "asks for channel_binding",
    "{d}monitor: {{enabled: false}}": "monitor.enabled is off",
    "{d}feature_flags: {{position_order_monitoring: {{rollout_percentage: 50}}}}": "rollout_percentage is ignored",
    "{d}feature_flags: {{position_order_monitoring: {{environments: [y]}}}}": "databases.t is not polled",
    "{d}feature_flags: {{position_order_monitoring: {{enabled: false}}}}": "position_order_monitoring is off",
    "{d}server: {{reload: true}}": "server.reload is on, but without server.tokens_file",
    "{d}notify: {{slack: {{token: x}}}}": "not notify.slack.channel: the bot has nowhere to post.",
    "{d}notify: {{slack: {{token: x, channel: y, webhook_url: 'http://x'}}}}": "the bot is used",
    "{d}notify: {{email: {{host: x, to: {{high: [a@b.example]}}}}}}": "not notify.email.from",
    "{d}notify: {{email: {{host: x, from: a@b.example}}}}": "nobody is named under notify.email.to",
    "{d}notify: {{email: {{password: x, starttls: optional}}}}": "may go over the network as it is",
    "{d}fix: {{allow: [unlink_orphan]}}": (
        "fix.allow names fixes: `po-exporter fix apply` makes them; the sidecar makes none by itself yet."
    ),
    "{d}checks: {{link_rate: {{priority: low}}}}": "has no effect",
}


@pytest.mark.parametrize(("text", "words"), WARNED.items())
def test_what_does_less_than_it_says_is_said_at_start(file: ConfigFile, text: str, words: str) -> None:
    database = f"databases: {{t: {{dsn: '{DSN}', environment: x}}}}\n"
    (warning,) = file.load(text.format(dsn=DSN, d=database)).warnings
    assert words in warning


def test_switches_that_ask_for_writes_are_told_what_writing_takes(file: ConfigFile) -> None:
    text = f"databases: {{t: {{dsn: '{DSN}', environment: x}}}}\nlink: {{enabled: true}}\nreconcile: {{auto_fix: true}}"
    assert file.load(text).warnings == (
        "link.enabled, reconcile.auto_fix: on, but that alone writes nothing; it takes fix_dsn and the fix in "
        "fix.allow, too.",
        "link.enabled is on, but this version makes no links yet.",
    )


def test_a_sound_file_is_not_talked_about(file: ConfigFile) -> None:
    assert file.load(f"databases: {{t: {{dsn: '{DSN}', environment: x}}}}").warnings == ()


def test_what_is_shown_is_plain_and_loads_again(file: ConfigFile) -> None:
    values = whole()
    values["databases"]["trading"]["schema"] = "desk"
    shown = masked(file.load(values))
    json.dumps(shown)
    again = file.load(yaml.safe_dump(shown))
    assert masked(again) == shown
    assert shown["monitor"]["interval"] == "60s"
    assert shown["monitor"]["state_budget"] == "64MB"
    assert shown["thresholds"]["link_rate"] == 95
    assert shown["checks"]["quantity_mismatch"]["tolerance"] == "0.00000001"
    assert shown["schemas"]["desk"]["orders"]["table"] == 'oms."Order"'


def test_there_is_no_other_way_to_a_config(file: ConfigFile) -> None:
    config = file.load(f"databases: {{t: {{dsn: '{DSN}'}}}}")
    parts = {each.name: getattr(config, each.name) for each in fields(config)}
    with pytest.raises(TypeError, match="comes from"):
        Config(**parts, made_by=None)
    with pytest.raises((TypeError, ValueError)):
        replace(config, warnings=())
    with pytest.raises(AttributeError):
        config.leader = "off"  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted(ROOT.glob("config/*.yaml")), ids=lambda path: path.name)
def test_the_shipped_files_load(path: Path) -> None:
    assert load(path, {}).databases


def test_the_guides_block_ships_as_it_stands_in_the_guide() -> None:
    config = load(ROOT / "config" / "guide.yaml", {})
    assert config.monitor.interval == timedelta(minutes=15)
    assert config.polls("trading")


def test_the_example_says_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "po.yaml"
    path.write_text(example(), encoding="utf-8")
    config = load(path, {})
    bare = load(None, {"PO_EXPORTER_DSN": config.databases["trading"].dsn.reveal()})
    assert masked(config) == masked(bare)


def test_the_example_holds_together_with_every_comment_of_the_schema_taken_away(tmp_path: Path) -> None:
    lines = example().splitlines()
    begin = lines.index("# schemas:")
    end = next(index for index in range(begin, len(lines)) if not lines[index].startswith("#"))
    lines[begin:end] = [line.removeprefix("# ") for line in lines[begin:end]]
    path = tmp_path / "po.yaml"
    path.write_text("\n".join(lines).replace("schema: gal-friday", "schema: desk"), encoding="utf-8")
    assert load(path, {}).databases["trading"].mapping.name == "desk"


def test_the_reference_names_every_key() -> None:
    text = config_reference.DOCS.read_text(encoding="utf-8")
    names = {*Settings.model_fields, "guide-variables"}
    assert set(config_reference.documented(text)) == names
    assert config_reference.renewed(text) == text, "run: python tests/config_reference.py"
    assert all(key.field.description for key in keys())
