"""Questions of a program do not reach a person's terminal."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.sidecar.queries import QueryFilter

QUERIES = [
    b"\x1b[c",
    b"\x1b[>c",
    b"\x1b[=0c",
    b"\x1b[6n",
    b"\x1b[?6n",
    b"\x1b[>q",
    b"\x1b[>0q",
    b"\x1b[?2026$p",
    b"\x1b[?u",
    b"\x1b[14t",
    b"\x1b]11;?\x07",
    b"\x1b]10;?\x1b\\",
    b"\x1b]4;7;?\x1b\\",
    b"\x1bP+q544e\x1b\\",
    b"\x1bP$qm\x1b\\",
]
SHOWN = [
    b"text",
    b"\x1b[31m",
    b"\x1b[2J",
    b"\x1b[5;5H",
    b"\x1b]0;title\x07",
    b"\x1b[?25l",
    "é漢".encode(),
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_question_is_taken_out(query: bytes) -> None:
    assert QueryFilter().feed(b"a" + query + b"b") == b"ab"


@given(
    st.lists(st.sampled_from([*QUERIES, *SHOWN]), max_size=12),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_wherever_the_stream_is_cut_the_same_is_shown(parts: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(parts)
    bounds = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    muted = QueryFilter()
    shown = b"".join(muted.feed(whole[a:b]) for a, b in itertools.pairwise(bounds))
    assert shown + muted.feed(b"!") == b"".join(part for part in parts if part in SHOWN) + b"!"
