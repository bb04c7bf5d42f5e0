"""Keys and signals by name."""

from __future__ import annotations

import signal

import pytest

from oj_daemon.sidecar import keys
from oj_daemon.sidecar.keys import Reach


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("Enter", b"\r"),
        ("backspace", b"\x7f"),
        ("up", b"\x1b[A"),
        ("PageUp", b"\x1b[5~"),
        ("f4", b"\x1bOS"),
        ("f5", b"\x1b[15~"),
        ("f12", b"\x1b[24~"),
        ("ctrl-a", b"\x01"),
        ("Ctrl-Z", b"\x1a"),
    ],
)
def test_a_key_has_its_bytes_in_any_case(name: str, data: bytes) -> None:
    assert keys.encode([name]) == data


@pytest.mark.parametrize("name", ["nope", "ctrl-cc", "ctrl-", "f13", ""])
def test_an_unknown_key_is_refused_with_all_others(name: str) -> None:
    with pytest.raises(KeyError):
        keys.encode(["up", name])


@pytest.mark.parametrize("text", ["INT", "SIGINT", "sigint", "2", " int "])
def test_a_signal_may_be_written_in_many_ways(text: str) -> None:
    assert keys.signal_of(text) == (signal.SIGINT, Reach.FOREGROUND)


@pytest.mark.parametrize("text", ["TERM", "KILL", "HUP"])
def test_signals_that_end_reach_the_whole_group(text: str) -> None:
    assert keys.signal_of(text)[1] is Reach.GROUP


@pytest.mark.parametrize("text", ["SEGV", "11", "0", "-9", "", "SIG"])
def test_other_signals_are_refused(text: str) -> None:
    with pytest.raises(KeyError):
        keys.signal_of(text)
