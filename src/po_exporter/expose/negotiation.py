"""What a client's Accept headers ask for."""

from __future__ import annotations

from collections.abc import Iterator


def wants_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics 1 is asked for, and not less than the plain text format."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for kind, parameters, quality in _choices(accept):
        understood = kind != "application/openmetrics-text" or parameters.get("version", "1.0.0").startswith("1.")
        if kind in best and understood:
            best[kind] = max(best[kind], quality)
    return best["application/openmetrics-text"] > 0 and best["application/openmetrics-text"] >= best["text/plain"]


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the answer may be compressed."""
    return any(kind == "gzip" and quality > 0 for kind, _, quality in _choices(accept_encoding))


def _choices(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """What a header lists: name, parameters and quality; a quality that is no number counts as none."""
    for item in header.split(","):
        name, *rest = (part.strip() for part in item.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip().lower(): value.strip().strip('"') for key, _, value in pairs}
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        yield name.lower(), parameters, quality
