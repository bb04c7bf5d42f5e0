"""A token bucket: how many writes may be sent to the API server in which time (kubernetes.md 4).

Rule: whoever asks first is served first. That the loop wakes somebody up late costs no token: what came meanwhile is kept.
"""

from __future__ import annotations

import asyncio


class Bucket:
    """So many tokens a second, and at most so many at once."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._left = float(burst)
        self._at = asyncio.get_running_loop().time()
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Return when there is a token for the caller."""
        async with self._lock:
            self._fill()
            while self._left < 1:
                await asyncio.sleep((1 - self._left) / self._per_second)
                self._fill()
            self._left -= 1

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
