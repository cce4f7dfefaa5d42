"""po-exporter: tells Prometheus, and the on-call, whether orders and positions still agree."""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path

__version__ = version("po-exporter")
_revision = Path(__file__).with_name("REVISION")
__revision__ = _revision.read_text(encoding="utf-8").strip() if _revision.exists() else "unknown"
"""Of the source; what builds an image or a package writes it down."""

if "rich" not in sys.modules:
    # structlog imports rich wherever it finds it, for tracebacks, of which none reaches a user. The sidecar is smaller
    # and starts sooner without; the commands that draw tables import it themselves.
    sys.modules["rich"] = None  # type: ignore[assignment]  # Python's own way to say that there is none
    importlib.import_module("structlog")
    del sys.modules["rich"]
