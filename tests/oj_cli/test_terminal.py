"""Tests of oj_cli/terminal.py: what may reach this terminal. The rest is tests/e2e/test_agent_live.py."""

from __future__ import annotations

import pytest

from oj_cli.terminal import CLEAR, LEAVE_KEYS, SOFT_RESET, Filter


def shown(*pieces: bytes) -> bytes:
    filter_ = Filter()
    return b"".join(map(filter_.feed, pieces))


def test_output_passes_as_it_is() -> None:
    data = "\x1b[31mrot ä 漢\x1b[0m\x1b[?2004h\x1b[?25l\x1b]0;title\x07".encode()
    assert shown(data) == data


def test_a_hard_reset_becomes_one_that_leaves_other_screens_alone() -> None:
    assert shown(b"a\x1bcb") == b"a\x18" + SOFT_RESET + CLEAR + b"b"


@pytest.mark.parametrize("mode", [b"1049", b"1047", b"47"])
def test_nobody_leaves_our_screen_and_what_was_there_is_drawn_again(mode: bytes) -> None:
    filter_ = Filter()
    assert filter_.feed(b"\x1b[?" + mode + b"h") == CLEAR
    assert not filter_.wants_redraw
    assert filter_.feed(b"\x1b[?" + mode + b";25lx") == b"\x1b[?25l" + CLEAR + b"x"
    assert filter_.wants_redraw


def test_leaving_a_screen_that_was_not_entered_asks_for_nothing() -> None:
    filter_ = Filter()
    assert filter_.feed(b"\x1b[?1049l") == b""
    assert not filter_.wants_redraw


@pytest.mark.parametrize(
    "sequence", [b"\x1bc", b"\x1b[?1049h", b"\x1b[?25;1049l", b"\x1b[?25h", b"\x1b[1m"]
)
def test_a_sequence_may_be_cut_anywhere(sequence: bytes) -> None:
    for at in range(1, len(sequence)):
        assert shown(b"a" + sequence[:at], sequence[at:] + b"b") == shown(b"a" + sequence + b"b")


@pytest.mark.parametrize(
    ("typed", "is_leaving"),
    [(b"ab\x1d", True), (b"\x1b[93;5u", True), (b"\x1b[27;5;93~", True), (b"]", False), (b"\x1b", False)],
)  # fmt: skip
def test_control_bracket_leaves_however_the_terminal_says_it(
    typed: bytes, is_leaving: bool
) -> None:
    assert bool(LEAVE_KEYS.search(typed)) is is_leaving
