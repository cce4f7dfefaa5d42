"""Structured logs: one event a thing that happened, on stderr; readable on a terminal, JSON lines otherwise."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(*, terminal: bool | None = None, level: str = "info") -> None:
    """Set logging up once a process. ``terminal`` None: whatever stderr is."""
    on_terminal = sys.stderr.isatty() if terminal is None else terminal
    renderer = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # whatever stderr is when an event happens
        cache_logger_on_first_use=False,
    )
