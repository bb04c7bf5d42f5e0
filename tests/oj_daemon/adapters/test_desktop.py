"""The desktop: shown where there is one, found out once where there is none, and quiet about it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import pytest

from oj_daemon.adapters.desktop import Desktop
from oj_daemon.core.events import NotificationDelivered, NotificationDropped
from oj_daemon.wire.names import Severity
from tests.oj_daemon.adapters.test_webhook import DECISION, KEY, ORDER
from tests.support.desktop import FakeDesktop, fake_desktop, session_bus

SHOWN = NotificationDelivered(notification_id=KEY, sink="webhook")


@pytest.fixture(scope="module")
def bus() -> Iterator[str]:
    with session_bus() as address:
        yield address


def on_desktop(
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[FakeDesktop, Desktop], Awaitable[None]],
) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)

    async def run() -> None:
        desktop = Desktop(os.environ, seconds=10)
        async with asyncio.timeout(60), fake_desktop(address) as fake:
            try:
                await scenario(fake, desktop)
            finally:
                desktop.close()

    asyncio.run(run())


def test_it_appears_with_its_urgency_and_markup_is_only_text(
    bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(fake: FakeDesktop, desktop: Desktop) -> None:
        for severity in Severity:
            order = msgspec.structs.replace(ORDER, severity=severity, text="<b>a & b</b>")
            assert await desktop.deliver(order) == SHOWN
        assert [each["urgency"] for each in fake.shown] == [0, 1, 2]
        assert fake.shown[0] == {
            "app": "oj",
            "title": "auth",
            "body": "&lt;b&gt;a &amp; b&lt;/b&gt;",
            "urgency": 0,
        }

    on_desktop(bus, monkeypatch, scenario)


def test_a_decision_is_cut_to_the_size_of_a_screens_corner_and_says_how_to_answer(
    bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(fake: FakeDesktop, desktop: Desktop) -> None:
        await desktop.deliver(msgspec.structs.replace(DECISION, text="x" * 5000))
        (shown,) = fake.shown
        assert shown["body"] == f"{'x' * 400} ...\noj decision resolve 01234567 N [-m TEXT]"

    on_desktop(bus, monkeypatch, scenario)


def test_one_that_could_not_be_shown_is_given_up_quietly_and_the_next_is_shown(
    bus: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario(fake: FakeDesktop, desktop: Desktop) -> None:
        fake.refuses = True
        told = await desktop.deliver(ORDER)
        assert isinstance(told, NotificationDropped)
        assert told.reason == "Notification failed: DBusError: the screen is locked"
        fake.refuses = False
        assert await desktop.deliver(ORDER) == SHOWN
        assert len(fake.shown) == 1

    on_desktop(bus, monkeypatch, scenario)
    assert caplog.messages == []


def test_a_desktop_that_does_not_answer_holds_nothing_up(
    bus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(fake: FakeDesktop, _: Desktop) -> None:
        hasty = Desktop(os.environ, seconds=1)
        assert await hasty.deliver(ORDER) == SHOWN
        fake.hangs = True
        told = await hasty.deliver(ORDER)
        assert isinstance(told, NotificationDropped)
        assert told.reason == "no answer within 1 s"
        hasty.close()

    on_desktop(bus, monkeypatch, scenario)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "neither DBUS_SESSION_BUS_ADDRESS nor DISPLAY is set"),
        ("unix:path=/nowhere/bus", "FileNotFoundError"),
        ("nonsense", "InvalidAddressError"),
    ],
)
def test_without_a_bus_it_is_said_once(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    if address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)

    async def run() -> None:
        desktop = Desktop(os.environ, seconds=10)
        for _ in range(3):
            told = await desktop.deliver(ORDER)
            assert isinstance(told, NotificationDropped)
            assert told.reason.startswith(f"no desktop: {reason}")

    asyncio.run(run())
    (line,) = caplog.records
    assert line.levelname == "INFO"
    assert line.getMessage().startswith("notifications do not appear on a desktop: no desktop: ")
    assert line.exc_info is None


def test_a_bus_without_a_desktop_is_as_good_as_none(
    bus: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus)

    async def run() -> None:
        desktop = Desktop(os.environ, seconds=10)
        told = await desktop.deliver(ORDER)
        assert isinstance(told, NotificationDropped)

    asyncio.run(run())
    assert len(caplog.records) == 1
