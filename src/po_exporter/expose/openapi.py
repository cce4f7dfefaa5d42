"""The description that `/api/v1/openapi.json` answers: openapi.yaml, less what this server does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def describe(*, version: str, external_url: str | None, guarded: bool, reload: bool, several: bool) -> dict[str, Any]:
    """The OpenAPI document of a server: ``guarded`` by tokens or not, with ``reload`` or without, of one database or
    ``several``."""
    document: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
    document["info"]["version"] = version
    document["servers"] = [{"url": external_url or "/"}]
    document["components"]["parameters"]["database"]["required"] = several
    if not reload:
        del document["paths"]["/-/reload"]
    if not guarded:
        del document["paths"]["/hooks/alertmanager"]
        del document["components"]["securitySchemes"]
        for operations in document["paths"].values():
            for operation in operations.values():
                if operation.pop("security", None):
                    del operation["responses"]["401"]
        del document["components"]["responses"]["Unauthorized"]
        del document["paths"]["/metrics"]["get"]["responses"]["403"]
    return document
