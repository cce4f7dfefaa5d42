"""po-exporter: tells Prometheus, and the on-call, whether orders and positions still agree."""

import importlib
import sys
from importlib.metadata import version

__version__ = version("po-exporter")

if "rich" not in sys.modules:
    # structlog imports rich wherever it finds it, for tracebacks, of which none reaches a user. The sidecar is smaller
    # and starts sooner without; the commands that draw tables import it themselves.
    sys.modules["rich"] = None  # type: ignore[assignment]  # Python's own way to say that there is none
    importlib.import_module("structlog")
    del sys.modules["rich"]
