"""The configuration: one YAML file, the environment and flags, checked as a whole."""

from po_exporter.config.config import Config, Database, masked
from po_exporter.config.load import example, load
from po_exporter.config.settings import CheckSettings

__all__ = ["CheckSettings", "Config", "Database", "example", "load", "masked"]
