"""Notifications on the desktop of whoever started the daemon.

Rule: best effort: one try each, and a desktop that is not there is found out once and is no fault. The library never
says that it failed, it only logs: so its log is listened to here, and goes nowhere else.
"""

from __future__ import annotations

import asyncio
import html
import logging
import sys
from typing import TYPE_CHECKING, Final

from oj_daemon.core.effects import DeliverNotification
from oj_daemon.core.events import NotificationDelivered, NotificationDropped
from oj_daemon.errors import AdapterError
from oj_daemon.wire.names import Severity

if TYPE_CHECKING:
    from desktop_notifier import DesktopNotifier

logger = logging.getLogger(__name__)

TRY_SECONDS: Final = 5.0
LONGEST_TEXT: Final = 400
"""Characters: what fits into the corner of a screen."""
LIBRARY: Final = "desktop_notifier"


class Desktop:
    """The desktop, once somebody is to be told."""

    label = "desktop"

    def __init__(self) -> None:
        self._notifier: DesktopNotifier | None = None
        self._unavailable = ""
        """Why there is none."""
        self._complaints = _Complaints()

    async def deliver(
        self, order: DeliverNotification
    ) -> NotificationDelivered | NotificationDropped:
        """Show it, if that can be."""
        key, sink = order.notification_id, order.sink
        try:
            notifier = await self._open()
            await self._show(notifier, order)
        except AdapterError as error:
            return NotificationDropped(notification_id=key, sink=sink, reason=error.message)
        return NotificationDelivered(notification_id=key, sink=sink)

    async def _open(self) -> DesktopNotifier:
        if self._unavailable:
            raise AdapterError(self._unavailable)
        if self._notifier is None:
            try:
                async with asyncio.timeout(TRY_SECONDS):
                    self._notifier = await self._probed()
            except Exception as error:  # each system's back end has errors of its own
                self._unavailable = f"no desktop: {type(error).__name__}: {error}"
                logger.info("notifications do not appear on a desktop: %s", self._unavailable)
                raise AdapterError(self._unavailable) from error
        return self._notifier

    async def _probed(self) -> DesktopNotifier:
        from desktop_notifier import (  # noqa: PLC0415 - 110 ms and 14 MB, only for who is told something
            Capability,
            DesktopNotifier,
        )

        library = logging.getLogger(LIBRARY)
        library.propagate = False
        library.handlers = [self._complaints]
        notifier = DesktopNotifier(app_name="oj", app_icon=None)
        if Capability.TITLE not in await notifier.get_capabilities():
            raise AdapterError("this system shows notifications of app bundles only")
        return notifier

    async def _show(self, notifier: DesktopNotifier, order: DeliverNotification) -> None:
        from desktop_notifier import Urgency  # noqa: PLC0415 - as above; loaded by now

        urgencies = {Severity.INFO: Urgency.Low, Severity.CRITICAL: Urgency.Critical}
        self._complaints.last = ""
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await notifier.send(
                    title=order.title,
                    message=_message(order),
                    urgency=urgencies.get(order.severity, Urgency.Normal),
                )
        except TimeoutError:
            self._complaints.last = f"no answer within {TRY_SECONDS:g} s"
        if self._complaints.last:
            self._notifier = None  # its bus may be gone: the next one looks again
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
