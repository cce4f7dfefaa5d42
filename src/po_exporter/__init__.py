"""po-exporter: tells Prometheus, and the on-call, whether orders and positions still agree."""

from importlib.metadata import version

__version__ = version("po-exporter")
