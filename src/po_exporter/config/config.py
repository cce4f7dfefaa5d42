"""The configuration as the rest of the program sees it: complete, checked and frozen."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from po_exporter.config import kinds
from po_exporter.config.guide import THRESHOLDS
from po_exporter.config.settings import CheckSettings, FeatureFlags, Fix, Link, Monitor, Notify, Reconcile, Server
from po_exporter.config.shape import Settings, children
from po_exporter.config.targets import Listen
from po_exporter.dsn import Dsn
from po_exporter.mapping import Column, SchemaMapping, TableName
from po_exporter.secret import Secret
from po_exporter.sql import CheckFile

LOADED = object()
"""What only ``load`` passes to Config."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database: how to reach it, and how to read it. ``name`` is the value of the ``database`` label."""

    name: str
    dsn: Secret
    password: Secret | None
    direct_dsn: Secret | None
    feed_dsn: Secret | None
    fix_dsn: Secret | None
    mapping: SchemaMapping
    environment: str | None


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that can be set. Only ``load`` makes one, so there is none that was not checked."""

    databases: dict[str, Database]
    monitor: Monitor
    checks: dict[str, CheckSettings]
    check_files: dict[str, CheckFile] = field(repr=False)
    server: Server
    leader: str
    notify: Notify
    fix: Fix
    reconcile: Reconcile
    link: Link
    feature_flags: FeatureFlags
    warnings: tuple[str, ...]
    settings: Settings = field(repr=False)
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not LOADED:
            raise TypeError("a Config comes from po_exporter.config.load() alone")

    def polls(self, database_name: str) -> bool:
        """Whether that database is polled. One without an environment is in no flag's list, and is polled all the
        same: a flag is there to hold writes back, not to hide what is wrong."""
        flag = self.feature_flags.position_order_monitoring
        environment = self.databases[database_name].environment
        return self.monitor.enabled and (
            flag is None or (flag.enabled and (environment is None or flag.covers(environment)))
        )


def masked(config: Config) -> dict[str, Any]:
    """The merged result as plain values for YAML or JSON, in the file's own form, with every secret as ``***``."""
    shown: dict[str, Any] = _plain(config.settings)
    shown["checks"] |= {name: _plain(check) for name, check in config.checks.items()}
    shown["thresholds"] = {name: _plain(config.checks[check].threshold) for name, check in THRESHOLDS.items()}
    del shown["position_order_integration"]  # said in our own keys already
    return shown


def _plain(value: Any) -> Any:
    """A value as it could stand in the file."""
    keys, _ = children(type(value))
    if keys:
        shown: dict[str, Any] = {}
        for attribute, info in type(value).model_fields.items():
            name, item = info.alias or attribute, getattr(value, attribute)
            if isinstance(item, Secret):
                shown |= {f"{name}_file": str(item.path)} if item.path else {name: _mask(name, item.reveal())}
            else:
                shown[name] = _plain(item)
        return shown
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple) and not isinstance(value, Listen):
        return [_plain(item) for item in value]
    return _leaf(value)


def _leaf(value: object) -> object:
    match value:
        case timedelta():
            return kinds.duration_text(value)
        case Column():
            return {"sql": value.text} if value.is_sql else value.text
        case TableName():
            return kinds.table_text(value)
        case Decimal():
            return int(value) if value == int(value) else f"{value:f}"
        case Path() | Listen() | kinds.Bytes():
            return str(value)
        case _:
            return value


def _mask(name: str, secret: str) -> str:
    """A connection string still shows where it leads to."""
    return Dsn.parse(secret).masked() if name.endswith("dsn") else "***"
