"""Notifications on the desktop of whoever started the daemon.

Rule: best effort: one try each, and a desktop that is not there is found out once and is no fault. The library never
says that it failed, it only logs: so its log is listened to here, and goes nowhere else.
"""

from __future__ import annotations

import asyncio
import html
import importlib
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from oj_daemon.core.effects import DeliverNotification
from oj_daemon.core.events import NotificationDelivered, NotificationDropped
from oj_daemon.errors import AdapterError
from oj_daemon.wire.names import Severity

if TYPE_CHECKING:
    from desktop_notifier.backends.base import DesktopNotifierBackend

logger = logging.getLogger(__name__)

TRY_SECONDS: Final = 5.0
LONGEST_TEXT: Final = 400
"""Characters: what fits into the corner of a screen."""
LIBRARY: Final = "desktop_notifier"
BUS_NAMES: Final = ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY")
"""Variables by which freedesktop.org's back end finds the bus of the session."""


class Desktop:
    """The desktop, once somebody is to be told."""

    label = "desktop"

    def __init__(self, environ: Mapping[str, str], seconds: float = TRY_SECONDS) -> None:
        self._environ = environ
        self._seconds = seconds
        self._backend: DesktopNotifierBackend | None = None
        self._unavailable = ""
        """Why there is none."""
        self._complaints = _Complaints()

    async def deliver(
        self, order: DeliverNotification
    ) -> NotificationDelivered | NotificationDropped:
        """Show it, if that can be."""
        key, sink = order.notification_id, order.sink
        try:
            await self._show(await self._open(), order)
        except AdapterError as error:
            return NotificationDropped(notification_id=key, sink=sink, reason=error.message)
        return NotificationDelivered(notification_id=key, sink=sink)

    def close(self) -> None:
        """Let go of the bus; the next notification looks for it again."""
        bus = getattr(self._backend, "bus", None)  # of freedesktop.org's back end only
        self._backend = None
        if bus is not None:
            bus.disconnect()

    async def _open(self) -> DesktopNotifierBackend:
        """The back end of this system, once it is known that it works."""
        if self._unavailable:
            raise AdapterError(self._unavailable)
        if self._backend is not None:
            return self._backend
        try:
            async with asyncio.timeout(self._seconds):
                return await self._probed()
        except Exception as error:  # each system's back end has errors of its own
            self.close()
            why = error.message if isinstance(error, AdapterError) else repr(error)
            self._unavailable = f"no desktop: {why}"
            logger.info("notifications do not appear on a desktop: %s", self._unavailable)
            raise AdapterError(self._unavailable) from error

    async def _probed(self) -> DesktopNotifierBackend:
        if sys.platform.startswith("linux") and not any(map(self._environ.get, BUS_NAMES)):
            # Most servers: they need not pay for the library.
            raise AdapterError(f"neither {' nor '.join(BUS_NAMES)} is set")
        # 110 ms and 14 MB, only for who is told something, and off the loop's thread.
        await asyncio.to_thread(importlib.import_module, "desktop_notifier")
        from desktop_notifier import Capability  # noqa: PLC0415 - loaded by now
        from desktop_notifier.main import get_backend_class  # noqa: PLC0415 - loaded by now

        library = logging.getLogger(LIBRARY)
        library.propagate = False
        library.handlers = [self._complaints]
        # Not through DesktopNotifier: it hides the connection, which somebody has to close.
        backend = self._backend = get_backend_class()("oj", None)
        if Capability.TITLE not in await backend.get_capabilities():
            raise AdapterError("this system shows notifications of app bundles only")
        await backend.request_authorisation()
        return backend

    async def _show(self, backend: DesktopNotifierBackend, order: DeliverNotification) -> None:
        from desktop_notifier import (  # noqa: PLC0415 - loaded by now
            Notification,
            Urgency,
        )

        urgencies = {Severity.INFO: Urgency.Low, Severity.CRITICAL: Urgency.Critical}
        urgency = urgencies.get(order.severity, Urgency.Normal)
        self._complaints.last = ""
        try:
            async with asyncio.timeout(self._seconds):
                await backend.send(Notification(order.title, _message(order), urgency=urgency))
        except TimeoutError:
            self._complaints.last = f"no answer within {self._seconds:g} s"
        if self._complaints.last:
            self.close()  # the bus may be gone
            raise AdapterError(self._complaints.last)


class _Complaints(logging.Handler):
    """Remembers the last warning of the library."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        cause = record.exc_info[1] if record.exc_info else None
        self.last = record.getMessage() + (f": {type(cause).__name__}: {cause}" if cause else "")


def _message(order: DeliverNotification) -> str:
    text = order.text
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]} ..."
    if order.answer:
        text = f"{text}\n{order.answer}"
    # Desktops of freedesktop.org read the text as markup; elsewhere it is plain.
    return html.escape(text, quote=False) if sys.platform.startswith("linux") else text
