"""The ways in which people are told: which sink an order goes to, and how the sinks fare.

Rule: a sink answers each order with one fact and raises nothing that it can foresee; what it answers, and what is logged
here, holds neither the address nor a secret. A sink is made, and its library loaded, with its first notification.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from oj_daemon import log
from oj_daemon.core.effects import DeliverNotification, ReportDrop
from oj_daemon.core.events import (
    NotificationDelivered,
    NotificationDropped,
    NotificationEvent,
    NotificationFailed,
)
from oj_daemon.core.state import State
from oj_daemon.settings import Settings

logger = logging.getLogger(__name__)

WEBHOOK: Final = "webhook"
DESKTOP: Final = "desktop"
DELIVERED, FAILED, DROPPED = "delivered", "failed", "dropped"
"""Outcomes: taken, not taken this time, given up."""

Told = NotificationDelivered | NotificationFailed | NotificationDropped


class Sink(Protocol):
    """One way to tell people."""

    label: str
    """What logs call it."""

    async def deliver(self, order: DeliverNotification) -> Told:
        """Try once."""
        ...


class Notices:
    """All sinks of one daemon."""

    def __init__(self, settings: Settings, *, now: Callable[[], int]) -> None:
        self.note_notified: Callable[[str, str], None] = _ignore
        """Called with the sink and the outcome of each try, and of each notification that was given up."""
        self._settings = settings
        self._now = now
        self._sinks: dict[str, Sink] = {}
        self._failures: dict[str, str] = {}
        """Sink -> why it did not take the last notification; gone when it takes one."""

    async def deliver(self, order: DeliverNotification) -> NotificationEvent:
        """Hand it to its sink once; answers how that went."""
        sink = self._sinks.get(order.sink)
        if sink is None:
            sink = self._sinks[order.sink] = self._make(order.sink)
        told = await sink.deliver(order)
        match told:
            case NotificationDelivered():
                self.note_notified(order.sink, DELIVERED)
                if self._failures.pop(order.sink, None) is not None:
                    logger.info("%s takes notifications again", sink.label)
            case NotificationFailed(reason=reason):
                self.note_notified(order.sink, FAILED)
                # One line when it begins, not one for each try: a receiver may be away for a day.
                level = logging.DEBUG if order.sink in self._failures else logging.WARNING
                text = "%s did not take notification %s, which is tried again: %s"
                logger.log(
                    level, text, sink.label, order.notification_id, reason, extra=log.ids(order)
                )
                self._failures[order.sink] = reason
            case NotificationDropped():
                pass  # the core says it with ReportDrop, as it does when it gives up itself
        return told

    def report_drop(self, order: ReportDrop) -> None:
        """Say that nobody was told."""
        self.note_notified(order.sink, DROPPED)
        is_expected = order.sink == DESKTOP  # many machines have none; the sink has said so once
        level = logging.DEBUG if is_expected else logging.WARNING
        text = "notification %s was not delivered by %s: %s"
        logger.log(
            level, text, order.notification_id, order.sink, order.reason, extra=log.ids(order)
        )
        if not is_expected:
            self._failures[order.sink] = order.reason

    def warnings(self, state: State) -> Iterator[str]:
        """What everybody should see: sinks that do not work."""
        for sink, ids in state.undelivered.items():
            count = len(ids)
            if count and sink != DESKTOP:
                tried = (state.notifications[id_].deliveries[sink].reason for id_ in ids)
                why = self._failures.get(sink) or next(filter(None, tried), "")
                waiting = f"{count} {'notification waits' if count == 1 else 'notifications wait'}"
                if why:
                    yield f"{waiting} for the {sink}; last failure: {why}"
        for sink, why in self._failures.items():
            if not state.undelivered.get(sink):
                yield f"the {sink} did not take the last notification: {why}"

    def _make(self, name: str) -> Sink:
        settings = self._settings
        if name == WEBHOOK:
            from oj_daemon.adapters.webhook import (  # noqa: PLC0415 - see the rule
                Webhook,
            )

            return Webhook(settings.webhook, settings.webhook_secret, now=self._now)
        from oj_daemon.adapters.desktop import Desktop  # noqa: PLC0415 - see the rule

        return Desktop(settings.inherited.reveal())


def sinks(settings: Settings) -> tuple[str, ...]:
    """The ways that the settings allow."""
    return (WEBHOOK,) * bool(settings.webhook) + (DESKTOP,) * settings.desktop_notify


def waiting(state: State) -> int:
    """How many notifications some sink has not taken yet."""
    return len(state.notifications)


def _ignore(_sink: str, _outcome: str) -> None:
    """Stand in for the metrics where there are none."""
