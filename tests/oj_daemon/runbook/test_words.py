"""Slugs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.runbook.words import SLUG_LENGTH, slug


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Fix the login button", "fix-login-button"),
        ("Implement User Authentication System", "implement-user"),
        ("Don't break the login", "break-login"),
        ("fix the fix", "fix"),
        ("café résumé", "caf-r-sum"),
        ("the a an is are", ""),
        ("", ""),
        ("--- !!! ---", ""),
        ("feature/ABC-123_do it", "feature-abc-123"),
        ("x" * 40, "x" * 28),
        ("exactly twenty eight letters", "exactly-twenty-eight-letters"),
        ("exactly twenty eight letters more", "exactly-twenty-eight-letters"),
        ("exactly twenty eight letterss", "exactly-twenty-eight"),
    ],
)
def test_a_slug_keeps_the_telling_words(text: str, want: str) -> None:
    assert slug(text) == want


@given(st.text())
def test_a_slug_is_always_safe_as_a_name(text: str) -> None:
    made = slug(text)
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", made)
    assert len(made) <= SLUG_LENGTH
