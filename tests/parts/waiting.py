"""Waiting for something to become true, instead of sleeping and hoping, and for processes to be gone."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any


async def until(condition: Callable[[], Any], timeout: float = 15, what: str | Callable[[], str] = "") -> Any:  # noqa: ASYNC109 - the name that every caller expects
    """Poll ``condition``, a plain or an async function, until what it returns is true; return that.

    Raises AssertionError, naming ``what`` was waited for and the last answer, after ``timeout`` seconds.
    """
    give_up = time.monotonic() + timeout
    while True:
        answer: Any = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return answer
        if time.monotonic() > give_up:
            awaited = what() if callable(what) else what or condition
            raise AssertionError(f"Waited {timeout:g} s for {awaited}; the last answer was {answer!r}.")
        await asyncio.sleep(0.02)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a process that still runs."""
    if process.returncode is None:
        process.kill()
        await process.wait()
