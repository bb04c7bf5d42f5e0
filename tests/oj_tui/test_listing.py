from __future__ import annotations

from typing import Any

import pytest

from oj_tui import listing
from oj_tui.listing import JOB_FIELDS, Wish
from oj_tui.store import View
from tests.support.replies import NOW, summary

LETTERS = {"a": "job-aaaa000000000000", "b": "job-bbbb000000000000", "c": "job-cccc000000000000"}


def job(letter: str, **changes: Any) -> View:
    """A job that is told by one letter."""
    at = NOW - ord(letter)
    return summary(
        **{"id": LETTERS[letter], "name": f"name-{letter}", "updated_at_ms": at, **changes}
    )


def shown(jobs: list[View], wish: Wish) -> str:
    """The letters of the rows, and the lines between them."""
    by_id = {id_: letter for letter, id_ in LETTERS.items()}
    rows = listing.jobs(jobs, wish)
    return " ".join(row.get("heading") or by_id[row["id"]] for row in rows)


ABC = [
    job("c", project="alpha", status="waiting", step="deploy", retries=2),
    job("a", project="Beta", status="running", step="build", name=LETTERS["a"], kind="zeta"),
    job("b", project="alpha", status="failed", step="Check", reason="exit 3"),
]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("AGE", "a b c"),
        ("NAME", "b c a"),
        ("PROJECT", "b c a"),
        ("STEP", "a b c"),
        ("STATUS", "c b a"),
        ("TRY", "c a b"),
    ],
)
def test_jobs_are_sorted_by_a_column_and_equal_ones_by_their_last_change(
    order: str, expected: str
) -> None:
    assert shown(ABC, Wish(order=order)) == expected
    assert shown(ABC, Wish(order=order, is_reversed=True)) == " ".join(reversed(expected.split()))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "a b c"),
        ("NAME-", "b c"),
        ("zeta", "a"),
        ("alpha", "b c"),
        ("alpha exit", "b"),
        ("exit alpha", "b"),
        ("deploy", "c"),
        ("waiting", "c"),
        ("bbbb", "b"),
        ("job-bb", "b"),
        ("project:beta", "a"),
        ("status:wait step:deploy", "c"),
        ("name:alpha", ""),
        ("cost:3", ""),
        ("nothing", ""),
    ],
)
def test_a_filter_matches_words_of_all_fields_in_whichever_case(words: str, expected: str) -> None:
    assert shown(ABC, Wish(words=words)) == expected


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("", "a b c"),
        ("project", "Beta (1) a alpha (2) b c"),
        ("status", "waiting (1) c failed (1) b running (1) a"),
        ("kind", "build (2) b c zeta (1) a"),
    ],
)
def test_jobs_stand_under_lines_with_the_name_of_their_group(group: str, expected: str) -> None:
    assert shown(ABC, Wish(group=group)) == expected


def test_groups_without_a_name_and_with_a_harmful_one_can_be_shown() -> None:
    rows = listing.grouped([job("a", project=""), job("b", project="x\x1b[2J\ny")], "project")
    assert [row["heading"] for row in rows if "heading" in row] == ["none (1)", "x^[[2J\\ny (1)"]


def test_lines_of_a_list_have_ids_of_their_own() -> None:
    rows = listing.jobs(ABC, Wish(group="project"))
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_views_themselves_are_left_as_they_were() -> None:
    before = list(ABC)
    listing.jobs(ABC, Wish(order="NAME", is_reversed=True))
    assert before == ABC
    assert listing.matching(ABC, "", JOB_FIELDS) is not ABC


@pytest.mark.parametrize(
    ("shown_count", "known", "wish", "expected"),
    [
        (3, 3, Wish(), "3 jobs"),
        (1, 1, Wish(), "1 job"),
        (1, 1, Wish(words="x"), "1 of 1 job · filter 'x' (Esc clears)"),
        (2, 30, Wish(words="x", group="kind"), "2 of 30 jobs · filter 'x' (Esc clears) · by kind"),
    ],
)
def test_the_line_below_says_how_many_of_how_many(
    shown_count: int, known: int, wish: Wish, expected: str
) -> None:
    assert listing.told(shown_count, known, wish, "jobs") == expected
