"""Tests of oj_tui/render_decision.py: by value."""

from __future__ import annotations

from oj_tui import render_decision
from tests.support.replies import JOB, NOW, asked, decision

MINUTE = 60_000


def test_a_row_tells_who_asks_what_and_what_happens_by_itself() -> None:
    view = decision(deadline_at_ms=NOW + 5 * MINUTE, default="Nudge")
    assert render_decision.decision_row(view, NOW) == [
        ("k3j5h7g9", "muted"),
        ("idle", "warn"),
        ("fix-login", "name"),
        ("code", ""),
        ("coder", "muted"),
        ("? open", "warn"),
        ("5m", "muted"),
        ("in 5m, then nudge", "warn"),
        ("idle, it said: Done?", ""),
    ]


def test_open_ones_stand_first_the_oldest_on_top_and_closed_ones_last_the_newest_on_top() -> None:
    views = [
        decision(id="closed-early", status="resolved", resolved_at_ms=NOW - 9),
        decision(id="aside", status="dismissed", created_at_ms=1),
        decision(id="young", created_at_ms=NOW - 1),
        decision(id="closed-late", status="obsolete", resolved_at_ms=NOW - 2),
        decision(id="old", created_at_ms=NOW - 2),
    ]
    order = [view["id"] for view in render_decision.in_order(views)]
    assert order == ["old", "young", "aside", "closed-late", "closed-early"]


def test_an_answered_decision_says_by_whom_and_what() -> None:
    view = decision(
        status="resolved", choices=[[1]], message="go on", by="ann", channel="cli",
        resolved_at_ms=NOW - 3 * MINUTE,
    )  # fmt: skip
    assert render_decision.outcome(view, NOW) == [
        [("✓ answered by ann (cli) 3m ago: ", "good"), ("Nudge: go on", "title")]
    ]


def test_a_decision_that_is_no_longer_asked_says_why() -> None:
    view = decision(status="obsolete", note="the agent went on")
    assert render_decision.outcome(view, NOW) == [
        [("⊘ no longer asked: ", "muted"), ("the agent went on", "")]
    ]


def test_one_that_was_put_aside_says_how_to_get_it_back() -> None:
    view = decision(status="dismissed", note="dismissed by ann", resolved_at_ms=NOW - MINUTE)
    assert render_decision.outcome(view, NOW) == [
        [("‖ put aside 1m ago: ", "warn"), ("dismissed by ann", "")],
        [("Its owner still waits; o opens it again.", "muted")],
    ]


def test_the_head_names_owner_step_agent_and_deadline() -> None:
    view = decision(owner_name=JOB, deadline_at_ms=NOW + MINUTE)
    assert render_decision.decision_head(view, NOW) == [
        [("Idle: ", "warn"), ("idle, it said: Done?", "title")],
        [("Decision  ", "muted"), ("k3j5h7g9", ""), (", asked 5m ago", "muted")],
        [("Job       ", "muted"), ("4f9h2k7m", "name"), (", step code", ""), (", agent coder", ""), (" in shop", "muted")],
        [("Deadline  ", "muted"), ("in 1m, then everybody is asked again", "warn")],
    ]  # fmt: skip


def test_a_plan_is_told_apart_from_what_stands_before_it() -> None:
    context = "Agent coder asks.\n\nPlan:\n# Do\n\nPlan:\nit"
    assert render_decision.split_plan(decision(source="plan", context=context)) == (
        "Agent coder asks.",
        "# Do\n\nPlan:\nit",
    )
    assert render_decision.split_plan(decision(context=context)) == (context, "")


def test_text_of_agents_cannot_act_on_the_terminal() -> None:
    assert render_decision.plain("a\tb\x1b[2J\n\u202ec\x07") == "a    b^[[2J\n\\u202ec^G"
    option = {"label": "x\ny", "description": "one\x1b[1m\ntwo\x07", "recommended": True}
    assert render_decision.option_lines(option) == [
        [("x\\ny", ""), ("  (recommended)", "good")],
        [("one", "muted")],
        [("two^G", "muted")],
    ]


def test_a_question_says_whether_several_may_be_chosen() -> None:
    groups = decision(**asked(False, True))["question_groups"]
    assert render_decision.question_title(groups[1], 2, 2) == [
        ("Question 2 of 2: ", "muted"),
        ("[H2] Which 2?", "title"),
        ("  (several may be chosen)", "muted"),
    ]


def test_how_many_are_left_is_said_in_words() -> None:
    words = [render_decision.left_open(count) for count in range(3)]
    assert words == ["", "1 more decision is open", "2 more decisions are open"]
