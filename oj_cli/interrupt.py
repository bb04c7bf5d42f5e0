"""What Ctrl-C does to this process.

Rule: it is never lost. KeyboardInterrupt can be: one that is raised inside a weakref callback or `__del__` (importing a
module runs such callbacks) is printed and forgotten. So while commands are loaded, and in commands that wait, an
interrupt ends the process at once; all they have to say has been flushed, and the system closes their connection.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

INTERRUPTED = 130


def loading() -> None:
    """From now on an interrupt ends the process, until `loaded` is called."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def loaded() -> None:
    """From now on an interrupt is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def exits(code: int) -> Iterator[None]:
    """Inside of this an interrupt ends the process with `code`, unless it was started with interrupts ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(code))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
