"""The sinks of a daemon: which one gets an order, and what logs, status and metrics hear of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from oj_daemon import settings
from oj_daemon.adapters.notify import Notices, sinks
from oj_daemon.core.effects import ReportDrop
from oj_daemon.core.events import NotificationDelivered, NotificationFailed
from oj_daemon.core.state import Delivery, Notification, State
from oj_daemon.wire.names import NotificationId, Severity
from tests.oj_daemon.adapters.test_webhook import KEY, NOW, ORDER
from tests.support.receiver import Answer, Receiver


def notices(url: str) -> tuple[Notices, list[tuple[str, str]]]:
    heard: list[tuple[str, str]] = []
    made = Notices(
        settings.load({"OJ_STATE_DIR": "/nowhere", "OJ_NOTIFY_WEBHOOK_URL": url}), now=lambda: NOW
    )
    made.note_notified = lambda sink, outcome: heard.append((sink, outcome))
    return made, heard


def waiting(**delivery: Any) -> State:
    state = State()
    state.put_notification(
        Notification(
            id=KEY,
            event="job:failed",
            severity=Severity.WARNING,
            title="t",
            text="x",
            at=1,
            deliveries={"webhook": Delivery(**delivery)},
        )
    )
    return state


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ("desktop",)),
        ({"OJ_NOTIFY_DESKTOP": "0"}, ()),
        ({"OJ_NOTIFY_WEBHOOK_URL": "https://h/x"}, ("webhook", "desktop")),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, ()),
        (
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OJ_NOTIFY_WEBHOOK_URL": "https://h/x"},
            ("webhook",),
        ),
    ],
)
def test_the_settings_say_which_sinks_there_are(
    environ: dict[str, str], expected: tuple[str, ...]
) -> None:
    assert sinks(settings.load({"OJ_STATE_DIR": "/nowhere", **environ})) == expected


def test_a_receiver_that_is_away_costs_one_line_and_one_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with Receiver(Answer(503), Answer(503), Answer(200)) as receiver:
        made, heard = notices(receiver.url)

        async def run() -> None:
            assert isinstance(await made.deliver(ORDER), NotificationFailed)
            assert isinstance(await made.deliver(ORDER), NotificationFailed)
            assert list(made.warnings(waiting(attempts=2, reason="HTTP 503"))) == [
                "1 notification waits for the webhook; last failure: HTTP 503 Service Unavailable"
            ]
            assert isinstance(await made.deliver(ORDER), NotificationDelivered)
            assert list(made.warnings(State())) == []

        asyncio.run(run())
    assert heard == [("webhook", "failed"), ("webhook", "failed"), ("webhook", "delivered")]
    assert [record.getMessage() for record in caplog.records] == [
        f"webhook 127.0.0.1 did not take notification {KEY}, which is tried again: HTTP 503 Service Unavailable",
        "webhook 127.0.0.1 takes notifications again",
    ]


def test_what_was_given_up_is_said_in_the_log_and_with_the_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, heard = notices("https://h/x")
    made.report_drop(
        ReportDrop(notification_id=NotificationId("ntf-1"), sink="webhook", reason="HTTP 404")
    )
    assert heard == [("webhook", "dropped")]
    assert caplog.messages == ["notification ntf-1 was not delivered by webhook: HTTP 404"]
    assert list(made.warnings(State())) == [
        "the webhook did not take the last notification: HTTP 404"
    ]


def test_a_desktop_that_is_not_there_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    made, heard = notices("https://h/x")
    made.report_drop(
        ReportDrop(notification_id=NotificationId("ntf-1"), sink="desktop", reason="no desktop")
    )
    assert (heard, caplog.messages) == ([("desktop", "dropped")], [])
    assert list(made.warnings(State())) == []


def test_after_a_restart_the_status_knows_from_the_log_why_something_waits() -> None:
    made, _ = notices("https://h/x")
    assert list(made.warnings(waiting(attempts=1, reason="HTTP 502"))) == [
        "1 notification waits for the webhook; last failure: HTTP 502"
    ]
    assert list(made.warnings(waiting())) == []  # it is on its way for the first time
