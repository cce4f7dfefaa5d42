"""``python -m po_exporter``."""

from po_exporter.cli import main

main()
