"""Comments as help."""

from __future__ import annotations

import pytest

from oj_daemon.runbook import help as help_text
from oj_daemon.runbook.tree import Source


@pytest.mark.parametrize(
    ("text", "short", "long"),
    [
        ("", "", ""),
        ("x = 1\n# later\n", "", ""),
        ("# One\n# two\n#\n# Three\n#\n#   four\n\nx = 1\n", "One\ntwo", "Three\n\n  four"),
        ("\n\n# One\nx = 1\n", "One", ""),
        ("#\n# One\n", "One", ""),
        ("#!/usr/bin/oj\n# One\n", "One", ""),
        ("#One\n#  two\n", "One\n two", ""),
    ],
)
def test_the_comment_at_the_head_speaks_for_the_file(text: str, short: str, long: str) -> None:
    assert help_text.of_file(Source("x.hcl", text)) == (short, long)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("# File\n\n# Block\nBLOCK", "Block"),
        ("# Block\n\n\nBLOCK", "Block"),
        ("# Not mine\nx = 1\nBLOCK", ""),
        ("x = 1 # not mine\nBLOCK", ""),
        ("BLOCK", ""),
        ("# One\n# two\n#\n# long\nBLOCK", "One\ntwo"),
    ],
)
def test_the_comment_above_a_block_speaks_for_the_block(text: str, short: str) -> None:
    assert help_text.of_block(Source("x.hcl", text), text.index("BLOCK"))[0] == short


@pytest.mark.parametrize(
    ("short", "line"), [("", ""), ("One", "One"), ("One\n two \nthree", "two")]
)
def test_a_listing_shows_the_second_line_or_else_the_first(short: str, line: str) -> None:
    assert help_text.describe(short) == line
