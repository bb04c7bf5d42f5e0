"""`oj decision`: what is shown, what an answer sends, and the review."""

from __future__ import annotations

import io
import sys

import pytest

from oj_daemon.wire import answers
from tests.support.fake_daemon import Message, error
from tests.support.harness import Harness
from tests.support.replies import DECISION, HOUR, NOW, asked, decision, reply

DONE = reply("DecisionResolved", id=DECISION)
OTHER_DECISION = "dec-a1b2c3d4e5f6g7h8"


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "user_name", lambda: "ann")


def decisions(*every: Message) -> Message:
    return reply("Decisions", decisions=list(every))


def sent(cli: Harness) -> list[Message]:
    return [
        {"choices": each["choices"], "message": each["message"]}
        for each in cli.daemon.of("DecisionResolve")
    ]


# List and show


def test_open_decisions_are_listed(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DecisionList", decisions(decision(summary="x" * 60)))
    assert daemon_cli.oj("decision", "list") == (
        0,
        f"""\
ID        PROJECT  AGENT      AGE  SOURCE  SUMMARY
k3j5h7g9  shop     fix-login  5m   idle    {"x" * 49}…
""",
        "",
    )
    assert daemon_cli.daemon.of("DecisionList") == [{"project": None, "all": False}]


def test_deadlines_and_statuses_have_columns_where_there_are_any(daemon_cli: Harness) -> None:
    due = decision(deadline_at_ms=NOW + 3 * HOUR, default="skip")
    daemon_cli.daemon.answer("DecisionList", decisions(due, decision(status="resolved")))
    out = daemon_cli.oj("decision", "list", "--all").out
    assert out.splitlines()[0].split() == [
        "ID", "PROJECT", "AGENT", "AGE", "SOURCE", "DEADLINE", "STATUS", "SUMMARY",
    ]  # fmt: skip
    assert "in 3h, then skip  open" in out
    assert "-                 resolved" in out


def test_no_decisions_is_a_sentence(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DecisionList", decisions())
    assert daemon_cli.oj("decision", "list").out == "No pending decisions\n"
    assert daemon_cli.oj("decision", "list", "-o", "json").json == []


def test_show_gives_context_options_and_what_to_type(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "DecisionShow", decision(deadline_at_ms=NOW + 90 * 60_000, default="done")
    )
    assert daemon_cli.oj("decision", "show", "k3j") == (
        0,
        f"""\
Decision:  {DECISION}
Owner:     fix-login (4f9h2k7m), step code
Source:    Idle
Age:       5m
Agent:     coder (7m2n4p6q)
Project:   shop
Deadline:  in 1h30m, then done

Context:
  Agent coder is idle and waits.

  Last agent message:
  Done?

Options:
  1. Nudge (recommended)
  2. Done
  3. Cancel
  4. Dismiss

To answer: oj decision resolve k3j5h7g9 N [-m TEXT]
""",
        "",
    )
    shown = daemon_cli.oj("decision", "show", "k3j", "-o", "json").json
    assert (shown["id"], "type" in shown) == (DECISION, False)


def test_several_questions_are_shown_one_after_the_other(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DecisionShow", decision(**asked(False, True)))
    out = daemon_cli.oj("decision", "show", "k3j").out
    assert (
        out.partition("Question 1:")[2]
        == """\
 [H1] Which 1?
  1. first 1
     about first 1
  2. second 1
     about second 1
  3. Other

Question 2: [H2] Which 2? (several may be chosen)
  1. first 2
     about first 2
  2. second 2
     about second 2
  3. Other

To answer: oj decision resolve k3j5h7g9 N N [-m TEXT]  (one number for each of the 2 questions)
"""
    )


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        (
            {"choices": [[1]], "message": "go", "by": "ann", "channel": "cli"},
            ["Chosen:    Nudge", "Message:   go", "By:        ann (cli)"],
        ),
        (
            {"choices": [[2]], "by": "deadline", "channel": "deadline"},
            ["Chosen:    Done", "By:        deadline"],
        ),
        (
            {**asked(False, True), "choices": [[2], [1, 3]], "message": "docs"},
            ["Chosen:    H1: second 1; H2: first 2, Other"],
        ),
        ({**asked(False, True), "choices": [[2]]}, ["Chosen:    Cancel"]),
    ],
    ids=["choice", "deadline", "questions", "cancelled"],
)
def test_a_resolved_decision_says_how_it_was_decided(
    daemon_cli: Harness, changes: Message, lines: list[str]
) -> None:
    view = decision(status="resolved", resolved_at_ms=NOW, **changes)
    daemon_cli.daemon.answer("DecisionShow", view)
    out = daemon_cli.oj("decision", "show", "k3j").out
    assert "Status:    resolved 2027-01-15 08:00:00" in out
    assert "To answer" not in out
    for line in lines:
        assert line in out.splitlines(), out


def test_a_dismissed_decision_says_how_to_bring_it_back(daemon_cli: Harness) -> None:
    view = decision(status="dismissed", note="dismissed by ann", resolved_at_ms=NOW)
    daemon_cli.daemon.answer("DecisionShow", view)
    out = daemon_cli.oj("decision", "show", "k3j").out
    assert "Note:      dismissed by ann" in out
    assert out.endswith("To decide: oj decision reopen k3j5h7g9\n")


# Resolve and reopen


@pytest.mark.parametrize(
    ("words", "choices", "message"),
    [
        (["2"], [[2]], ""),
        (["1", "-m", "more tests"], [[1]], "more tests"),
        (["-m", "just text"], [], "just text"),
        (["2", "1,3"], [[2], [1, 3]], ""),
        ([], [], ""),
    ],
    ids=["number", "both", "text", "several", "nothing"],
)
def test_resolve_sends_numbers_and_text_and_who_said_so(
    daemon_cli: Harness, words: list[str], choices: list[list[int]], message: str
) -> None:
    daemon_cli.daemon.answer("DecisionResolve", DONE)
    assert daemon_cli.oj("decision", "resolve", "k3j", *words) == (
        0, "Resolved decision k3j5h7g9\n", "",
    )  # fmt: skip
    assert daemon_cli.daemon.of("DecisionResolve") == [
        {"id": "k3j", "choices": choices, "message": message, "by": "ann", "channel": "cli"}
    ]


@pytest.mark.parametrize("word", ["yes", "1,", "1.5", "²", "1;2"])
def test_what_is_no_number_is_refused_before_anything_is_sent(
    daemon_cli: Harness, word: str
) -> None:
    done = daemon_cli.oj("decision", "resolve", "k3j", word)
    assert done.code == 1
    assert f"'{word}' is no number of an option" in done.err
    assert daemon_cli.daemon.requests == []


def test_what_the_daemon_refuses_is_said(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("DecisionResolve", "choice 9 out of range (1..4)", code="invalid")
    done = daemon_cli.oj("decision", "resolve", "k3j", "9")
    assert done == (1, "", "Error: choice 9 out of range (1..4)\n")


def test_reopen_opens_a_decision_again(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("DecisionReopen", DONE)
    assert daemon_cli.oj("decision", "reopen", "k3j").out == "Reopened decision k3j5h7g9\n"
    assert daemon_cli.oj("decision", "reopen", "k3j", "-o", "json").json == {"id": DECISION}


# Review


class _Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


def review(
    cli: Harness, monkeypatch: pytest.MonkeyPatch, *typed: str, every: Message | None = None
) -> str:
    """Type these lines into a review; returns what was shown."""
    cli.daemon.answer("DecisionList", every or decisions(decision()))
    cli.daemon.answer("DecisionResolve", DONE)
    monkeypatch.setattr(sys, "stdin", _Typed("".join(f"{line}\n" for line in typed)))
    done = cli.oj("decision", "review")
    assert done.code == 0
    return done.out


def test_review_needs_a_terminal(daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    done = daemon_cli.oj("decision", "review")
    assert (done.code, "not a terminal" in done.err) == (1, True)
    assert daemon_cli.oj("decision", "review", "-o", "json").code == 1
    assert daemon_cli.daemon.requests == []


def test_review_goes_from_old_to_new_and_counts(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = decisions(decision(id=OTHER_DECISION), decision(), decision(), decision())
    out = review(daemon_cli, monkeypatch, "2", "", "q", every=every)
    assert [each["id"] for each in daemon_cli.daemon.of("DecisionResolve")] == [DECISION]
    assert out.endswith("\n1 resolved, 3 skipped\n")


@pytest.mark.parametrize("word", ["", "s", "S"])
def test_a_decision_can_be_skipped(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    assert review(daemon_cli, monkeypatch, word).endswith("0 resolved, 1 skipped\n")
    assert sent(daemon_cli) == []


@pytest.mark.parametrize(
    ("view", "typed", "answer"),
    [
        (decision(), ["2"], ([[2]], "")),
        (decision(), ["1", "go on"], ([[1]], "go on")),
        (decision(), ["1", ""], ([[1]], "")),
        (decision(), ["9", "0", "1,2", "z", "3"], ([[3]], "")),
        (decision(), ["please stop"], ([], "please stop")),
        (decision(**asked(False)), ["2"], ([[2]], "")),
        (decision(**asked(False)), ["3", "", "3", "green"], ([[3]], "green")),
        (decision(**asked(True)), ["1,2"], ([[1, 2]], "")),
        (decision(**asked(False, True)), ["2", "1,2"], ([[2], [1, 2]], "")),
        (decision(**asked(False, False)), ["green", "3", "blue"], ([[3], [3]], "green; blue")),
    ],
    ids=[
        "number", "message", "no-message", "slips", "text", "question", "other", "several", "questions", "texts",
    ],
)  # fmt: skip
def test_what_is_typed_becomes_an_answer(
    daemon_cli: Harness,
    monkeypatch: pytest.MonkeyPatch,
    view: Message,
    typed: list[str],
    answer: tuple[list[list[int]], str],
) -> None:
    out = review(daemon_cli, monkeypatch, *typed, every=decisions(view))
    assert sent(daemon_cli) == [{"choices": answer[0], "message": answer[1]}]
    assert out.endswith("1 resolved, 0 skipped\n")


def test_an_answer_that_comes_too_late_does_not_end_the_review(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon_cli.daemon.answer("DecisionList", decisions(decision(), decision()))
    late = error("decision k3j5h7g9 is already resolved", code="conflict")
    daemon_cli.daemon.answer("DecisionResolve", late, DONE)
    monkeypatch.setattr(sys, "stdin", _Typed("2\n2\n"))
    done = daemon_cli.oj("decision", "review")
    assert "already resolved" in done.err
    assert done.out.endswith("1 resolved, 1 skipped\n")


def test_the_end_of_the_input_ends_the_review(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert review(daemon_cli, monkeypatch).endswith("0 resolved, 1 skipped\n")
