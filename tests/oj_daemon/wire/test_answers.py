"""Tests of oj_daemon/wire/answers.py."""

from __future__ import annotations

from oj_daemon.wire import answers
from tests.support.replies import asked, decision, options


def test_an_option_of_the_agent_is_none_of_ours_whatever_it_is_called() -> None:
    one = asked(False)
    one["options"] = [*options("Cancel", "Other"), *options("Other", "Cancel", "Dismiss", first=3)]
    view = decision(**one)
    assert [answers.own_label(view, number) for number in range(1, 6)] == [
        "", "", "Other", "Cancel", "Dismiss",
    ]  # fmt: skip
    assert answers.missing(view, [[2]], {}) == ""
    assert answers.missing(view, [[3]], {}) == "Other needs a message"


def test_an_answer_needs_a_choice_or_a_text() -> None:
    assert answers.missing(decision(), [], {}) == "nothing was chosen"
    assert answers.missing(decision(), [], {0: "go on"}) == ""
    assert answers.missing(decision(), [[1]], {}) == ""


def test_each_of_several_questions_needs_an_answer_and_other_a_text() -> None:
    view = decision(**asked(False, True))
    assert answers.missing(view, [[1], []], {}) == "question 2 has no answer yet"
    assert answers.missing(view, [[3], [1, 2]], {0: " "}) == "question 1: Other needs a text"
    assert answers.missing(view, [[3], [1, 2]], {0: "blue"}) == ""


def test_the_message_of_several_answers_holds_the_texts_of_those_that_are_other() -> None:
    groups = decision(**asked(False, False, False))["question_groups"]
    texts = {0: "blue", 1: "given up", 2: " big "}
    assert answers.message_of([[3], [1], [3]], texts, groups) == "blue; big"
