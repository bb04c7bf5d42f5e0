"""Durations."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.runbook.durations import MAX_MS, UNITS, parse_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45", 45_000),
        ("0", 0),
        ("90s", 90_000),
        ("250ms", 250),
        ("1h30m", 5_400_000),
        ("1h 30m 5s", 5_405_000),
        ("2 days", 172_800_000),
        ("  5 min ", 300_000),
        ("1H", 3_600_000),
        ("30m1h", 5_400_000),
    ],
)
def test_a_duration_is_read(text: str, expected: int) -> None:
    assert parse_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "duration is empty"),
        ("  ", "duration is empty"),
        ("-5s", "`-5s` is not a duration"),
        ("1.5h", "`1.5h` is not a duration"),
        ("s", "`s` is not a duration"),
        ("5 fortnights", "unknown unit `fortnights`"),
        ("5 10", "every part needs a unit"),
        ("1h30", "every part needs a unit"),
        ("5s!", "`5s!` is not a duration"),
        ("٣s", "is not a duration"),
        ("9" * 5000, "is not a duration"),
        ("99999d", "longer than ten years"),
    ],
)
def test_what_is_no_duration_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_ms(text)
    assert message in str(caught.value)


@given(
    st.lists(
        st.tuples(st.integers(0, 999), st.sampled_from(sorted(UNITS.keys() - {""}))),
        min_size=1,
        max_size=4,
    )
)
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    total = sum(number * UNITS[unit] for number, unit in parts)
    text = " ".join(f"{number}{unit}" for number, unit in parts)
    if total <= MAX_MS:
        assert parse_ms(text) == total


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_ms(text) <= MAX_MS
