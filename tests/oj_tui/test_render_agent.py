"""Tests of oj_tui/render_agent.py: by value."""

from __future__ import annotations

import pytest

from oj_tui import render_agent
from tests.support.replies import HOUR, NOW, agent

USAGE = {
    "input_tokens": 1_200, "output_tokens": 340, "cache_read_tokens": 9_000, "cache_write_tokens": 2_000,
    "total_cost_usd": 0.127,
}  # fmt: skip


def test_a_row_tells_what_an_agent_does_and_what_it_cost() -> None:
    view = agent(files_read=3, files_written=1, commands=7, usage=USAGE)
    assert render_agent.agent_row(view, NOW) == [
        ("7m2n4p6q", "muted"),
        ("coder", "name"),
        ("● running", "busy"),
        ("▸ working", "busy"),
        ("fix-login", ""),
        ("code", ""),
        ("shop", "muted"),
        ("3/1/7", ""),
        ("12k/340", "muted"),
        ("$0.13", ""),
        ("1h", "muted"),
        ("", "warn"),
    ]


def test_what_is_not_known_is_left_empty() -> None:
    row = render_agent.agent_row(agent(), NOW)
    assert [text for text, _ in row[7:10]] == ["", "", ""]


def test_an_agent_that_waits_says_for_what() -> None:
    view = agent(
        status="waiting", state="prompt", detail="may I?", decision_id="dec-k3j5h7g9f1d2c4b6"
    )
    assert render_agent.waits_for(view) == "decision k3j5h7g9: may I?"
    assert render_agent.waits_for({**view, "detail": ""}) == "decision k3j5h7g9"
    own = {**view, "detail": "waits for a decision (question): Which?"}
    assert render_agent.waits_for(own) == "decision k3j5h7g9 (question): Which?"
    assert render_agent.waits_for(agent(detail="a free slot")) == "a free slot"


def test_an_agent_that_has_ended_has_no_state_and_says_why_and_how_long_it_was() -> None:
    view = agent(
        status="failed", detail="no login", exit_reason="exit code 1", created_at_ms=NOW - HOUR,
        finished_at_ms=NOW - HOUR + 90_000,
    )  # fmt: skip
    assert render_agent.state(view) == ("", "")
    assert render_agent.waits_for(view) == "no login; exit code 1"
    assert render_agent.age(view, NOW) == "1m"


def test_what_an_agent_says_of_itself_cannot_act_on_the_terminal() -> None:
    view = agent(name="a\x1b[2Jb", detail="x\ny\u202e", last_message="one\x1b]0;t\x07\ntwo")
    row = render_agent.agent_row(view, NOW)
    assert (row[1][0], row[11][0]) == ("a^[[2Jb", "x\\ny\\u202e")
    lines = render_agent.agent_lines(view, NOW)
    assert lines[-2:] == [[("  one^[]0;t^G", "")], [("  two", "")]]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (9_949, "9.9k"),
        (9_950, "10k"),
        (999_499, "999k"),
        (999_500, "1.0M"),
    ],
)
def test_amounts_take_few_characters(count: int, text: str) -> None:
    assert render_agent.amount(count) == text


def test_words_that_are_typed_all_have_to_be_found() -> None:
    assert render_agent.matches(agent(), "SHOP cod")
    assert not render_agent.matches(agent(), "shop nothing")
    assert render_agent.matches(agent(), "")
    assert render_agent.matches(agent(), "step:code")
    assert not render_agent.matches(agent(), "step:shop")


def test_beside_the_terminal_stands_what_there_is_to_say() -> None:
    view = agent(
        status="waiting", state="idle", files_read=1, commands=2, usage=USAGE, attempts={"nudge": 2}
    )
    assert render_agent.agent_lines(view, NOW) == [
        [("Agent     ", "muted"), ("7m2n4p6q", ""), (" coder", "name")],
        [("Job       ", "muted"), ("4f9h2k7m", "muted"), (" fix-login", "")],
        [("Step      ", "muted"), ("code", "")],
        [("Project   ", "muted"), ("shop", "")],
        [("Status    ", "muted"), ("? waiting", "warn"), ("  for 1h 0m", "muted")],
        [("State     ", "muted"), ("○ idle", "warn")],
        [("Did       ", "muted"), ("1 file read, 2 commands run", "")],
        [("Tokens    ", "muted"), ("1.2k in, 340 out, 11k cached", "")],
        [("Cost      ", "muted"), ("$0.13", "")],
        [("Attempts  ", "muted"), ("nudge 2", "")],
    ]


def test_in_little_room_the_same_is_said_in_few_lines() -> None:
    view = agent(
        status="waiting", state="idle", detail="Done?", commands=2, usage=USAGE, last_message="a\nb"
    )
    texts = ["".join(text for text, _ in line) for line in render_agent.agent_brief(view, NOW)]
    assert texts == [
        "? waiting for 1h 0m  ○ idle  coder 7m2n4p6q",
        "Job 4f9h2k7m fix-login, step code in shop",
        "Waits for Done?",
        "2 commands run, 1.2k in, 340 out, 11k cached, $0.13",
        "Last message",
        "  a",
        "  b",
    ]


@pytest.mark.parametrize(
    ("screen", "words"),
    [
        ({"live": True, "lines": [], "status": "running"}, "● live"),
        ({"live": False, "lines": ["x"], "status": "completed"}, "■ last screen, completed"),
        ({"live": False, "lines": [], "status": "queued"}, "no screen yet: it does not run"),
        ({"live": False, "lines": [], "status": "gone"}, "no screen was kept: it is gone"),
    ],
)
def test_the_title_of_a_terminal_says_whether_it_is_live(
    screen: dict[str, object], words: str
) -> None:
    assert render_agent.screen_title({"name": "coder", **screen})[0][0] == words
