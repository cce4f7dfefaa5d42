"""The benchmark: what asking costs, for po-exporter and for the exporters that people use for this today."""
