"""A session bus of its own with a desktop that shows nothing, but writes down what it is asked to show.

Rule: the bus is a process of ours, ended with the test; the desktop answers raw messages of the freedesktop.org
specification, and nothing else of it is known here.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from dbus_fast import Message, MessageType
from dbus_fast.aio.message_bus import MessageBus

NAME: Final = "org.freedesktop.Notifications"
PATH: Final = "/org/freedesktop/Notifications"
INTROSPECTION: Final = f"""
<node>
  <interface name="{NAME}">
    <method name="Notify">
      <arg direction="in" type="s"/><arg direction="in" type="u"/><arg direction="in" type="s"/>
      <arg direction="in" type="s"/><arg direction="in" type="s"/><arg direction="in" type="as"/>
      <arg direction="in" type="a{{sv}}"/><arg direction="in" type="i"/>
      <arg direction="out" type="u"/>
    </method>
    <method name="GetCapabilities"><arg direction="out" type="as"/></method>
    <method name="GetServerInformation">
      <arg direction="out" type="s"/><arg direction="out" type="s"/>
      <arg direction="out" type="s"/><arg direction="out" type="s"/>
    </method>
    <signal name="NotificationClosed"><arg type="u"/><arg type="u"/></signal>
    <signal name="ActionInvoked"><arg type="u"/><arg type="s"/></signal>
  </interface>
</node>
"""


@contextlib.contextmanager
def session_bus() -> Iterator[str]:
    """A bus with nobody on it; yields its address."""
    if shutil.which("dbus-run-session") is None:
        pytest.skip("dbus-run-session is not installed")
    child = subprocess.Popen(
        ["dbus-run-session", "--", "sh", "-c", "echo $DBUS_SESSION_BUS_ADDRESS; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.communicate()


class FakeDesktop:
    """What was shown; with `refuses` or `hangs`, what could not be."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.refuses = False
        self.hangs = False

    def answer(self, message: Message) -> Message | bool | None:
        """Answer one message of the bus."""
        if message.message_type is not MessageType.METHOD_CALL or message.path != PATH:
            return None
        fixed: dict[str, tuple[str, list[Any]]] = {
            "Introspect": ("s", [INTROSPECTION]),
            "GetCapabilities": ("as", [["body", "body-markup"]]),
            "GetServerInformation": ("ssss", ["fake", "oj", "1", "1.2"]),
        }
        if message.member in fixed:
            return Message.new_method_return(message, *fixed[message.member])
        return self._notify(message) if message.member == "Notify" else None

    def _notify(self, message: Message) -> Message | bool:
        if self.refuses:
            return Message.new_error(message, f"{NAME}.Error", "the screen is locked")
        if self.hangs:
            return True  # handled, and never answered
        app, _, _, title, body, _, hints, _ = message.body
        urgency = hints["urgency"].value
        self.shown.append({"app": app, "title": title, "body": body, "urgency": urgency})
        return Message.new_method_return(message, "u", [len(self.shown)])


@contextlib.asynccontextmanager
async def fake_desktop(address: str) -> AsyncIterator[FakeDesktop]:
    """A desktop on the bus."""
    bus = await MessageBus(bus_address=address).connect()
    desktop = FakeDesktop()
    try:
        bus.add_message_handler(desktop.answer)
        await bus.request_name(NAME)
        yield desktop
    finally:
        bus.disconnect()
        await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # the library says so
