"""How many writes are sent in which time, in the virtual time of a loop that is always late."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from oj_daemon.adapters.kubernetes.bucket import Bucket

PER_SECOND, BURST = 20.0, 30
LATE = 0.02
"""How much later than it asked for everything is woken up."""


class LateSelector(selectors.DefaultSelector):
    """Waits for nothing: time passes instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self.now += timeout + LATE
        return found


def on_a_late_loop(
    scenario: Callable[[Callable[[], float]], Coroutine[Any, Any, None]],
) -> None:
    selector = LateSelector()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]  # virtual
    try:
        loop.run_until_complete(scenario(loop.time))
    finally:
        loop.close()


def test_being_woken_up_late_costs_no_write_and_there_are_never_more_than_allowed() -> None:
    sent: list[float] = []

    async def scenario(now: Callable[[], float]) -> None:
        bucket = Bucket(PER_SECOND, BURST)

        async def write() -> None:
            await bucket.take()
            sent.append(now())

        await asyncio.gather(*(write() for _ in range(400)))

    on_a_late_loop(scenario)
    assert len(sent) == 400
    due = [max(0.0, (number + 1 - BURST) / PER_SECOND) for number in range(400)]
    early = [at for at, earliest in zip(sent, due, strict=True) if at < earliest - 1e-6]
    assert not early
    assert sent[-1] <= due[-1] + LATE + 1e-6  # late once, not 370 times


def test_after_a_long_silence_no_more_than_the_burst_is_sent_at_once() -> None:
    sent: list[float] = []

    async def scenario(now: Callable[[], float]) -> None:
        bucket = Bucket(PER_SECOND, BURST)
        await asyncio.sleep(3600)
        began = now()
        for _ in range(BURST + 1):
            await bucket.take()
            sent.append(now() - began)

    on_a_late_loop(scenario)
    assert sent[:BURST] == [0.0] * BURST
    assert sent[BURST] >= 1 / PER_SECOND


def test_one_that_gives_up_takes_no_write_from_the_others() -> None:
    async def scenario(now: Callable[[], float]) -> None:
        bucket = Bucket(PER_SECOND, 1)
        await bucket.take()
        tired = asyncio.ensure_future(bucket.take())
        await asyncio.sleep(0)
        tired.cancel()
        began = now()
        await bucket.take()
        assert now() - began <= 1 / PER_SECOND + LATE + 1e-6

    on_a_late_loop(scenario)
