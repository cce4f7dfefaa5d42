"""Commands in the test's own process, which saves a second each."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from parts.database import Database
from parts.program import Finished, Program
from po_exporter.cli import main


class Here:
    """Runs a command with a configuration or with the DSN of a database. For tests that are no coroutines."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch, program: Program) -> None:
        self._capsys = capsys
        self._patch = patch
        self._program = program
        for name in os.environ:
            if name.startswith(("PO_EXPORTER", "PG")):
                patch.delenv(name)

    def __call__(self, *args: str, config: Any = None, dsn: str | None = None) -> Finished:
        with self._patch.context() as only_now:
            only_now.setattr(sys, "argv", ["po-exporter", *args])
            if config is not None:
                only_now.setenv("PO_EXPORTER_CONFIG", str(self._program.config_file(config)))
            if dsn is not None:
                only_now.setenv("PO_EXPORTER_DSN", dsn)
            with pytest.raises(SystemExit) as ended:
                main()
        printed = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Finished(ended.value.code, printed.out, printed.err)


def sql(database: Database, statements: str) -> str:
    """Run statements in a database; what psql prints."""
    return database.server.psql(statements, database.name)
