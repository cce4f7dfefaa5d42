"""What the tests of the configuration share: a whole file, and ways to load one and to read its faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from po_exporter.config import Config, load
from po_exporter.errors import ConfigError

WHOLE = """
databases:
  trading:
    dsn: postgresql://po_reader@db:5432/trading?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca.pem
    direct_dsn: null
    feed_dsn: null
    fix_dsn: null
    schema: gal-friday
    environment: production
schemas:
  desk:
    orders:
      table: oms."Order"
      columns:
        id: order_no
        position_id: book_id
        trading_pair: symbol
        side: side
        status: state
        quantity: qty
        filled_quantity: {sql: "exec_qty - coalesce(base_fee, 0)"}
        created_at: entered
      filled_statuses: [filled, partial, cancelled]
      complete_statuses: [filled]
      buy_sides: [buy]
      sell_sides: [sell]
      timezone: UTC
    positions:
      table: oms.book
      columns: {id: id, trading_pair: symbol, side: dir, quantity: size, opened_at: opened, closed_at: closed,
                is_active: open}
      quantity: by_side
      long_sides: [LONG]
      short_sides: [SHORT]
      closed_quantity: zero
      one_active_per_pair: false
monitor:
  interval: 60s
  mode: auto
  window: 24h
  grace: 30s
  statement_timeout: 30s
  lock_timeout: 1s
  poll_timeout: null
  enabled: true
  evidence: 100
  identity_budget: 100000
  state_budget: 64MB
checks:
  quantity_mismatch: {tolerance: "0.00000001"}
  directory: null
thresholds: {link_rate: 95, unlinked_filled_orders: 10, orphaned_references: 0, quantity_mismatches: 1}
server:
  listen: 0.0.0.0:9843
  tokens_file: null
  tls: {cert_file: null, key_file: null, client_ca_file: null}
  external_url: null
  reload: false
leader: auto
notify:
  incidents: true
  open_after: 2
  close_after: 3
  change_factor: 2
  slack: {token: null, webhook_url: null, channel: null, api_url: "https://slack.com/api/"}
  email: {host: null, port: 587, starttls: required, username: null, password: null, ca_file: null, from: null,
          to: {high: [], medium: [], low: []}}
  webhook: {url: null, secret: null}
  digest: {schedule: null, timezone: UTC}
  dashboard_url: null
  templates: null
fix: {allow: [], max_per_run: 10, max_per_hour: 50, max_quantity: null, quiet_period: 5m, attempts: 3, stop: false}
reconcile: {enabled: false, schedule: "0 2 * * *", timezone: UTC, auto_fix: false}
link: {enabled: false, verify: true}
feature_flags: {}
"""
"""Every key of the interface, with its default where it has one."""
DSN = "postgresql://po_reader@db/trading"


def whole() -> dict[str, Any]:
    """WHOLE, as a dict of the test's own."""
    values: dict[str, Any] = yaml.safe_load(WHOLE)
    return values


class ConfigFile:
    """Loads a text as if it stood in po.yaml."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "po.yaml"

    def load(self, content: str | dict[str, Any], environ: Mapping[str, str] | None = None, **flags: object) -> Config:
        """The configuration; ``flags`` spell a dot as ``__``."""
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        self.path.write_text(text, encoding="utf-8")
        return load(self.path, environ or {}, {name.replace("__", "."): value for name, value in flags.items()})

    def faults(self, content: str | dict[str, Any], environ: Mapping[str, str] | None = None) -> list[str]:
        """Its faults as they are printed, the file called po.yaml whatever its directory."""
        with pytest.raises(ConfigError) as refusal:
            self.load(content, environ)
        assert refusal.value.exit_status == 2
        return [str(fault).replace(str(self.path), "po.yaml") for fault in refusal.value.faults]
