"""The users' guide's own block, variables and thresholds, said again in our own keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from po_exporter.config import kinds
from po_exporter.config.kinds import Count, Cron, Number, Switch
from po_exporter.config.settings import Section, optional, section
from po_exporter.config.tree import KeyPath, Place, Tree, read_text
from po_exporter.errors import Fault


class GuideMonitoring(Section):
    """The guide's ``data_quality_monitoring``."""

    enabled: Switch | None = optional(None, "The same as `monitor.enabled`.")
    check_interval_minutes: Count | None = optional(None, "The same as `monitor.interval`, in minutes.")
    alert_threshold: Number | None = optional(None, "The same as `thresholds.unlinked_filled_orders`.")


class GuideReconciliation(Section):
    """The guide's ``reconciliation``."""

    enabled: Switch | None = optional(None, "The same as `reconcile.enabled`.")
    schedule: Cron | None = optional(None, "The same as `reconcile.schedule`.")
    auto_fix_safe_issues: Switch | None = optional(None, "The same as `reconcile.auto_fix`.")


class GuideBlock(Section):
    """The guide's ``position_order_integration``."""

    enabled: Switch | None = optional(None, "false: `fix.stop: true` and `link.enabled: false`; the watching goes on.")
    auto_linking: Switch | None = optional(None, "The same as `link.enabled`.")
    data_quality_monitoring: GuideMonitoring = section()
    reconciliation: GuideReconciliation = section()


@dataclass(frozen=True, slots=True)
class _Alias:
    """``source`` says the same as ``target``; ``written`` turns the one's text into the other's."""

    source: KeyPath
    target: KeyPath
    written: Callable[[Any], Any] = lambda value: value


def _path(text: str) -> KeyPath:
    return tuple(text.split("."))


SWITCH = _path("position_order_integration.enabled")
_AUTO_LINKING = _path("position_order_integration.auto_linking")
_MONITORING = _path("position_order_integration.data_quality_monitoring")
_RECONCILIATION = _path("position_order_integration.reconciliation")
_WHEN_OFF = ((_path("fix.stop"), True), (_path("link.enabled"), False))
THRESHOLDS = {
    "link_rate": "link_rate",
    "unlinked_filled_orders": "unlinked_filled_order",
    "orphaned_references": "orphaned_position_reference",
    "quantity_mismatches": "quantity_mismatch",
}
"""The guide's thresholds and the checks that they belong to."""
_ALIASES = (
    _Alias(_AUTO_LINKING, _path("link.enabled")),
    _Alias((*_MONITORING, "enabled"), _path("monitor.enabled")),
    _Alias((*_MONITORING, "check_interval_minutes"), _path("monitor.interval"), lambda text: f"{kinds.integer(text)}m"),
    _Alias((*_MONITORING, "alert_threshold"), _path("thresholds.unlinked_filled_orders")),
    _Alias((*_RECONCILIATION, "enabled"), _path("reconcile.enabled")),
    _Alias((*_RECONCILIATION, "schedule"), _path("reconcile.schedule")),
    _Alias((*_RECONCILIATION, "auto_fix_safe_issues"), _path("reconcile.auto_fix")),
    *(_Alias(("thresholds", name), ("checks", check, "threshold")) for name, check in THRESHOLDS.items()),
)
VARIABLES: Mapping[str, KeyPath] = {
    "POSITION_ORDER_INTEGRATION_ENABLED": SWITCH,
    "POSITION_ORDER_AUTO_LINKING": _path("link.enabled"),
    "POSITION_ORDER_LINK_VERIFICATION": _path("link.verify"),
    "POSITION_ORDER_MONITORING_ENABLED": _path("monitor.enabled"),
    "POSITION_ORDER_MONITORING_INTERVAL": _path("monitor.interval"),
    "POSITION_ORDER_RECONCILIATION_ENABLED": _path("reconcile.enabled"),
    "POSITION_ORDER_AUTO_FIX_ENABLED": _path("reconcile.auto_fix"),
}
"""The guide's variables and the keys that they set."""
_READ: dict[KeyPath, Callable[[object], object]] = dict.fromkeys(
    [*VARIABLES.values(), *(alias.target for alias in _ALIASES), *(target for target, _ in _WHEN_OFF)], kinds.switch
)
_READ |= {path: kinds.number for path in _READ if path[0] in {"thresholds", "checks"}}
_READ |= {_path("monitor.interval"): kinds.duration, _path("reconcile.schedule"): kinds.cron}


def read_variables(environ: Mapping[str, str], tree: Tree, faults: list[Fault]) -> None:
    """Adds the guide's variables to those of our own, which must not say something else."""
    for name, target in VARIABLES.items():
        if not environ.get(name, "").strip():
            continue
        try:
            value = read_text(environ[name])
            _READ[target](value)
        except ValueError as error:
            faults.append(Fault(name, str(error)))
        else:
            faults += _settle(tree, target, value, Place(name))


def spread(file: Tree, variables: Tree, faults: list[Fault]) -> None:
    """Says in our own keys what the guide's keys say, in the file and in the variables, each for itself."""
    switch = variables if variables.get(SWITCH) is not None else file
    off = _is_off(switch.get(SWITCH))
    if off and switch is file:
        for target, value in _WHEN_OFF:
            faults += _settle(file, target, value, file.place(SWITCH))
    for tree in (file, variables):
        for alias in _ALIASES:
            value = tree.get(alias.source)
            if value is None or (off and alias.source == _AUTO_LINKING):
                continue
            try:
                written = alias.written(value)
                _READ[alias.target](written)
            except ValueError:
                continue  # the shape of the guide's own keys is checked with all the others
            faults += _settle(tree, alias.target, written, tree.place(alias.source))
    if off and switch is variables:  # somebody's hand on the emergency stop: it wins over any other variable
        for target, value in _WHEN_OFF:
            variables.put(target, value, variables.place(SWITCH))


def _is_off(value: object) -> bool:
    try:
        return value is not None and not kinds.switch(value)
    except ValueError:
        return False


def _settle(tree: Tree, target: KeyPath, value: object, place: Place) -> list[Fault]:
    """Sets the target, or checks that it says the same already."""
    other = tree.get(target)
    if other is None:
        tree.put(target, value, place)
        return []
    try:
        same = _READ[target](other) == _READ[target](value)
    except ValueError:
        return []  # the other one is a fault of its own
    return [] if same else [Fault(str(place), f"says something else than {tree.place(target)}; keep one of the two.")]
