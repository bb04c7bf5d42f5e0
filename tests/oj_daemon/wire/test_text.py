"""Tests of oj_daemon/wire/text.py."""

from __future__ import annotations

from oj_daemon.wire.text import safe


def test_only_colours_pass() -> None:
    hostile = "a\x1b[31mb\x1b]0;x\x07\x1b[2J\x9b1mc\u202e"
    assert safe(hostile, 99, coloured=True) == "a\x1b[31mb^[]0;x^G^[[2J\\u009b1mc\\u202e\x1b[0m"
    assert safe(hostile, 99, coloured=False) == "ab^[]0;x^G^[[2J\\u009b1mc\\u202e"


def test_a_row_that_is_wider_than_the_terminal_is_cut() -> None:
    assert safe("abc\x1b[1mdefgh", 5, coloured=True) == "abc\x1b[1md…\x1b[0m"
