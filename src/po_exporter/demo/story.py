"""What the demo tells the person who started it: where to look, what goes wrong, and what the sidecar makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from po_exporter.model import Status, Verdict

STYLES = {"breaks": "red", "heals": "green", "verdict": "bold"}
LOOK_EVERY = 0.2
"""Seconds between two looks at the sidecar's latest result."""


class Story:
    """Lines on stdout, each whole: a terminal wraps them, a file gets them as they are."""

    def __init__(self, *, grace: str) -> None:
        self._console = Console(highlight=False)
        self._grace = grace

    def line(self, text: str = "", style: str = "") -> None:
        """A line as it is."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def event(self, kind: str, text: str) -> None:
        """Something that happened just now."""
        self.line(f"{datetime.now().astimezone():%H:%M:%S}  {kind:<8} {text}", STYLES[kind])

    def opening(  # noqa: PLR0913  # each is told in a line of its own
        self, listen: str, port: int, *, rate: float, dsn: str, fix_dsn: str, position: str
    ) -> None:
        """Where to look and what to try. The passwords in the DSNs are worth nothing outside this demo."""
        url = _address(listen, port)
        for text in (
            f"A trading API that makes {rate:g} orders a second, its PostgreSQL, and the sidecar that watches them:",
            "",
            f"  {url}/           what is wrong now",
            f"  {url}/metrics    what Prometheus sees",
            "",
            "To ask by hand, in another shell:",
            "",
            f"  export PO_EXPORTER_DSN='{dsn}' PO_EXPORTER_MONITOR__GRACE={self._grace}",
            "  po-exporter check",
            f"  po-exporter trail {position}",
            '  psql "$PO_EXPORTER_DSN"',
            "",
            "And to mend, what can be mended without judgement (break something first: po-exporter fix unlink ORDER):",
            "",
            f"  export PO_EXPORTER_DATABASES__DEMO__FIX_DSN='{fix_dsn}' PO_EXPORTER_DATABASES__DEMO__ENVIRONMENT=demo",
            "  export PO_EXPORTER_FIX__ALLOW='[unlink_orphan, link_order]' PO_EXPORTER_FIX__QUIET_PERIOD=3s",
            "  po-exporter fix plan",
            "",
            "Ctrl-C stops all of it and leaves nothing behind.",
            "",
        ):
            self.line(text)

    async def follow(self, statuses: Callable[[], tuple[Status, ...]]) -> None:
        """Tells when the verdict, or the checks behind it, change. Ends only by being cancelled."""
        told = ""
        while True:
            for status in statuses():
                if status.up is not None and (saying := _verdict(status)) != told:
                    self.event("verdict", saying)
                    told = saying
            await asyncio.sleep(LOOK_EVERY)


def _verdict(status: Status) -> str:
    if status.verdict is Verdict.OK or status.result is None:
        return status.verdict + (f": {status.error}" if status.error else "")
    unknown = [f"{check.name} has no answer ({check.error})" for check in status.result.checks if not check.ok]
    wrong = [f"{check.count} {check.name}" for check in status.result.checks if check.ok and check.count]
    return f"{status.verdict}: {', '.join(unknown + wrong)}"


def _address(listen: str, port: int) -> str:
    """A URL for a browser on this machine: one cannot open 0.0.0.0."""
    host = urlsplit(f"//{listen}").hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
