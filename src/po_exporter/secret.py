"""A value that is never printed: given as text, or as a file that is read again at every use."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from po_exporter.errors import CredentialsUnreadable


@dataclass(frozen=True, slots=True)
class Secret:
    """Exactly one of ``value`` and ``path`` is set."""

    value: str | None = field(default=None, repr=False)
    path: Path | None = None

    def reveal(self) -> str:
        """The secret itself, without the newline that editors leave behind.

        Raises CredentialsUnreadable when the file cannot be read or is empty.
        """
        if self.path is None:
            return self.value or ""
        try:
            text = self.path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise CredentialsUnreadable(f"cannot read the secret in {self.path}: {why}.") from None
        if not text:
            raise CredentialsUnreadable(f"the file {self.path} should hold a secret, but is empty.")
        return text
