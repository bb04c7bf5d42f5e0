"""Durations and ages, as shown and as typed."""

from __future__ import annotations

import pytest

from oj_daemon.errors import OjError
from oj_daemon.wire.format import duration, elapsed, moment, parse_duration, since, uptime

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-1, "-"),
        (0, "0s"),
        (999, "0s"),
        (59_999, "59s"),
        (MINUTE, "1m"),
        (59 * MINUTE + 59 * SECOND, "59m"),
        (HOUR, "1h"),
        (2 * HOUR + 5 * MINUTE, "2h5m"),
        (23 * HOUR + 59 * MINUTE, "23h59m"),
        (24 * HOUR, "1d"),
        (400 * 24 * HOUR, "400d"),
    ],
)
def test_an_age_takes_few_characters(ms: int, text: str) -> None:
    assert elapsed(ms) == text


def test_the_age_of_never_is_a_dash_and_a_clock_that_is_behind_shows_zero() -> None:
    assert since(0, 5) == "-"
    assert since(10_000, 5_000) == "0s"
    assert since(5_000, 10_000) == "5s"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0s"),
        (59_000, "59s"),
        (61_000, "1m 1s"),
        (HOUR, "1h 0m"),
        (2 * HOUR + 10 * MINUTE + 5 * SECOND, "2h 10m"),
    ],
)
def test_a_step_shows_its_two_biggest_units(ms: int, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (65, "1m 5s"), (3600, "1h 0m 0s"), (90061, "25h 1m 1s")]
)
def test_an_uptime_shows_all_units(seconds: int, text: str) -> None:
    assert uptime(seconds) == text


def test_a_moment_that_never_came_is_a_dash() -> None:
    assert moment(0) == "-"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("10s1h", 3610),
        ("1h1h", 7200),
        ("7d", 604_800),
    ],
)
def test_durations_are_typed_in_any_order(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "0h0m", "-5", "1.5h", "5 m", "5w", "5m3", "m", "h5", "٣", "1_0"]
)
def test_anything_else_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(OjError) as caught:
        parse_duration(text)
    assert repr(text) in caught.value.message
    assert "1h30m" in caught.value.hint
