"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(
    condition: Callable[[], object],
    seconds: float,
    what: str | Callable[[], str],
    pause: float = 0.02,
) -> None:
    """Look again and again until the condition holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {seconds} s: {what if isinstance(what, str) else what()}"
            )
        threading.Event().wait(pause)
