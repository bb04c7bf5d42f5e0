"""Cron expressions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.runbook import schedule

ALL = [set(range(60)), set(range(24)), set(range(1, 32)), set(range(1, 13)), set(range(8))]


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("* * * * *", 0, set(range(60))),
        ("5 * * * *", 0, {5}),
        ("*/20 * * * *", 0, {0, 20, 40}),
        ("10/20 * * * *", 0, {10, 30, 50}),
        ("1,2,5-7 * * * *", 0, {1, 2, 5, 6, 7}),
        ("0 8-18/5 * * *", 1, {8, 13, 18}),
        ("0 0 1 jan,Dec *", 3, {1, 12}),
        ("0 0 * * mon-FRI", 4, {1, 2, 3, 4, 5}),
        ("0 0 * * 7", 4, {7}),
        ("  0\t0  29 2 * ", 2, {29}),
        ("0 0 31 4,5 *", 3, {4, 5}),
        ("0 0 31 2 mon", 2, {31}),
    ],
)
def test_an_expression_is_read(text: str, field: int, expected: set[int]) -> None:
    assert schedule.check(text)[field] == expected


@pytest.mark.parametrize(
    ("text", "token", "message"),
    [
        ("* * * *", "* * * *", "has five fields, this has 4"),
        ("* * * * * *", "* * * * * *", "has five fields, this has 6"),
        ("60 * * * *", "60", "minute 60 is not between 0 and 59"),
        ("0 24 * * *", "24", "hour 24 is not between 0 and 23"),
        ("0 0 0 * *", "0", "day of month 0 is not between 1 and 31"),
        ("0 0 1 13 *", "13", "month 13 is not between 1 and 12"),
        ("0 0 1 foo *", "foo", "`foo` cannot be a month"),
        ("0 0 1 1 8", "8", "day of week 8 is not between 0 and 7"),
        ("jan * * * *", "jan", "`jan` cannot be a minute"),
        ("5-1 * * * *", "5-1", "range `5-1` of minute runs backwards"),
        ("*/0 * * * *", "*/0", "step of minute is 0"),
        ("1,,2 * * * *", ",", "`` cannot be a minute"),
        ("*-5 * * * *", "*-5", "`*-5` cannot be a minute"),
        ("@daily", "@daily", "has five fields, this has 1"),
        ("0 0 30 2 *", "30 2", "there is no such day in these months"),
        ("0 0 31 4,6 *", "31 4,6", "there is no such day in these months"),
    ],
)
def test_an_impossible_expression_says_what_and_where(text: str, token: str, message: str) -> None:
    with pytest.raises(schedule.ScheduleError) as caught:
        schedule.check(text)
    assert message in str(caught.value)
    assert text[caught.value.start : caught.value.end] == token


@given(st.text("0123456789*/-, janmonfri", max_size=25))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        found = schedule.check(text)
    except schedule.ScheduleError as exc:
        found = []
        span = (exc.start, exc.end)
        assert 0 <= span[0] < span[1] <= max(1, len(text))
    assert all(
        values and values <= allowed for values, allowed in zip(found, ALL, strict=bool(found))
    )


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/New_York"])
def test_known_time_zones(name: str) -> None:
    assert schedule.is_timezone(name)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "a\0b", "Europe"]
)
def test_what_is_no_time_zone(name: str) -> None:
    assert not schedule.is_timezone(name)
