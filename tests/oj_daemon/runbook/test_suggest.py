"""The nearest valid spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.runbook.suggest import did_you_mean, distance, nearest


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("biuld", ["build", "test"], "build"),
        ("on_don", ["on_done", "on_fail"], "on_done"),
        ("on_failure", ["on_done", "on_fail"], "on_fail"),
        ("time", ["run", "timeout"], "timeout"),
        ("Timeout", ["timeout"], "timeout"),
        ("rn", ["run", "name"], "run"),
        ("HOME", ["name"], None),
        ("x", ["w", "run"], None),
        ("completely", ["run", "different"], None),
        ("", ["run"], None),
        ("run", [], None),
        ("a" * 5000, ["run", "a" * 5001], None),
    ],
)
def test_only_what_was_plausibly_meant_is_suggested(
    word: str, known: list[str], expected: str | None
) -> None:
    assert nearest(word, known) == expected


def test_without_a_near_spelling_everything_valid_is_listed() -> None:
    assert did_you_mean("zzz", ["run", "args"], "keys here") == "keys here: `run`, `args`"
    assert did_you_mean("zzz", []) == ""
    assert did_you_mean("zzz", [f"name{number}" for number in range(30)]).endswith("`name23` ...")


@given(st.text(max_size=8), st.text(max_size=8))
def test_a_distance_is_symmetric_and_zero_only_for_equal_words(left: str, right: str) -> None:
    assert distance(left, right) == distance(right, left)
    assert (distance(left, right) == 0) == (left == right)
    assert distance(left, right) <= max(len(left), len(right))


@given(st.text("ab", min_size=2, max_size=8), st.integers(0, 6))
def test_swapped_neighbours_are_one_step(word: str, at: int) -> None:
    at %= len(word) - 1
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    assert distance(word, swapped) <= 1
