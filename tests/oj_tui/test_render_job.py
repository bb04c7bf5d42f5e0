from __future__ import annotations

from typing import Any

import pytest

from oj_daemon.wire.format import moment
from oj_tui import render_job
from tests.support.replies import (
    AGENT,
    JOB,
    NOW,
    OTHER,
    agent,
    decision,
    detail,
    node,
    step,
    summary,
    workspace,
)

EVIL = "\x1b[2J\x1b]0;x\x07"


def text(rows: list[tuple[str, list[tuple[str, str]]]]) -> list[str]:
    return ["".join(piece for piece, _ in line) for _, line in rows]


def test_the_headline_says_which_job_how_it_is_why_and_where() -> None:
    rows = render_job.headline(detail(reason="test runs", workspace=workspace(), retries=2), NOW)
    assert rows == [
        ("", [
            ("fix-login", "title"), ("  4f9h2k7m  ", "muted"), ("● running", "busy"), ("  1h 0m", "muted"),
            ("  shop · build · 2 retries", "muted"),
        ]),
        ("", [("Why:    ", "muted"), ("test runs", "")]),
        ("", [
            ("Place:  ", "muted"), ("/state/workspaces/wks-8a7b6c5d4e3f2g1h  ", ""), ("• ready", "good"),
            ("  worktree, branch ws-8a7b", "muted"),
        ]),
    ]  # fmt: skip


def test_the_headline_of_a_failed_job_without_a_place_of_its_own() -> None:
    job = detail(status="failed", error="test: exit 1\nmore", finished_at_ms=NOW - 1800_000)
    assert text(render_job.headline(job, NOW, is_gone=True)) == [
        "fix-login  4f9h2k7m  ✗ failed  30m 0s  shop · build",
        "Why:    test: exit 1\\nmore",
        "Place:  /home/me/shop",
        render_job.GONE,
    ]


def test_what_a_place_waits_for_is_told_unless_the_reason_tells_it() -> None:
    place = workspace(status="creating", place="oj-4f", waits_for="no node has room", branch="")
    job = detail(status="running", reason="test runs", workspace=place)
    assert text(render_job.headline(job, NOW))[2:] == [
        "Place:  pod oj-4f  • creating  worktree",
        "Waits:  no node has room",
    ]
    job = detail(reason="test runs: its place waits: no node has room", workspace=place)
    assert len(render_job.headline(job, NOW)) == 3


def test_a_summary_has_a_headline_too() -> None:
    assert text(render_job.headline(summary(), NOW)) == [
        "fix-login  4f9h2k7m  ● running  1h 0m  shop · build"
    ]


def test_a_clock_that_is_behind_makes_no_negative_times() -> None:
    job = detail(steps=[step("test", "running", started_at_ms=NOW)], updated_at_ms=NOW)
    assert text(render_job.steps(job, NOW - 90_000, 60)) == ["  ⠋ test    0.0s"]


def test_steps_have_their_names_as_keys_and_a_long_error_stands_below() -> None:
    job = detail(
        status="failed",
        error=f"test: {EVIL}\nline two is rather long",
        steps=[step("prepare"), step("test", "failed", detail=f"exit {EVIL}")],
        graph=[node("prepare", "test"), node("test")],
    )
    rows = render_job.steps(job, NOW, 20)
    assert [key for key, _ in rows] == ["prepare", "test", "", "", "", ""]
    assert text(rows) == [
        "  ✓ prepa…    3.0s",
        "  ✗ test      3.0s  exit ^[[2J^[]0;x^G",
        "",
        "test: ^[[2J^[]0;x^G",
        "line two is rather l",
        "ong",
    ]


def test_a_job_without_steps_says_so() -> None:
    assert text(render_job.steps(detail(), NOW, 60)) == ["No steps yet."]


@pytest.mark.parametrize(
    ("line", "step_name", "shown"),
    [
        ("2026-11-24T06:37:08Z [build] ok", "", "build ok"),
        ("2026-11-24T06:37:08Z [build#2] ", "build", "build#2 "),
        ("2026-11-24T06:37:08Z [test] ok", "build", None),
        ("someThing else", "", "someThing else"),
        ("someThing else", "build", None),
    ],
)
def test_log_lines_are_read_short_and_of_one_step(
    line: str, step_name: str, shown: str | None
) -> None:
    read = render_job.reader(step_name)(line)
    if line.startswith("2026") and shown is not None:
        at = 1_795_502_228_000
        shown = f"{moment(at)[11:]} {shown}"
    assert read == shown


def test_a_stamp_that_is_no_time_stays_as_it_is() -> None:
    assert render_job.reader()("9999-99-99Z [x] y") == "9999-99-99Z x y"


def test_pieces_of_a_log_line_are_the_line_again() -> None:
    for line in ("06:37:08 build a b", "06:37:08 job job completed", "no stamp", "-- ours --", ""):
        assert "".join(piece for piece, _ in render_job.log_line(line)) == line
    assert render_job.log_line("06:37:08 build a b") == [
        ("06:37:08 ", "muted"),
        ("build ", "busy"),
        ("a b", ""),
    ]


def test_a_fact_of_the_story_is_a_row() -> None:
    data = {"job_id": JOB, "step": EVIL, "exit_code": 0, "next": ["a"]}
    line = {"seq": 7, "at_ms": NOW, "cause": "run", "fact": "step:exited", "data": data}
    assert render_job.story_row(line) == [
        ("7", "muted"),
        (moment(NOW), "muted"),
        ("step:exited", "name"),
        ("run", "muted"),
        ('step=^[[2J^[]0;x^G  next=["a"]', ""),
    ]


def test_a_fact_is_shown_in_full() -> None:
    data = {"error": f"one{EVIL}\ntwo", "code": 0}
    line = {"seq": 7, "at_ms": NOW, "cause": "#6", "fact": "step:exited", "data": data}
    assert text(render_job.fact(line, 60)) == [
        f"step:exited  record 7  {moment(NOW)}",
        "because of #6",
        "",
        "{",
        '  "error": "one\\u001b[2J\\u001b]0;x\\u0007',
        '    two",',
        '  "code": 0',
        "}",
    ]


def test_variables_stand_in_the_order_of_their_scopes_with_values_in_full() -> None:
    values = {"invoke.dir": "/x", "var.text": f"one{EVIL}\ntwo is long", "zzz.a": ""}
    assert text(render_job.variables(values, 12)) == [
        "var.text",
        "  one^[[2J^[",
        "  ]0;x^G",
        "  two is lon",
        "  g",
        "invoke.dir",
        "  /x",
        "zzz.a",
        "  ",
    ]
    assert text(render_job.variables({}, 12)) == ["No variables."]


def test_agents_and_decisions_are_rows() -> None:
    assert render_job.agent_row(agent(detail="writes\nmore"), NOW) == [
        ("7m2n4p6q", "muted"),
        ("coder", "name"),
        ("code", ""),
        ("● running", "busy"),
        ("1h", "muted"),
        ("writes\\nmore", "muted"),
    ]
    assert [piece for piece, _ in render_job.decision_row(decision(), NOW)] == [
        "k3j5h7g9", "code", "idle", "5m", "idle, it said: Done?",
    ]  # fmt: skip


def test_the_newest_agents_are_found() -> None:
    older = agent(id=AGENT[:-1] + "0", status="gone")
    job = detail(agents=[older, agent()], graph=[node("code", kind="agent")])
    assert render_job.agent_of_step(job, "code") == agent()
    assert render_job.agent_of_step(job, "test") is None
    assert render_job.newest_live_agent(job) == agent()
    assert render_job.newest_live_agent(detail(agents=[older])) is None
    assert render_job.has_agent_step(job)
    assert not render_job.has_agent_step(detail())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cancelled": [JOB, OTHER]}, "cancelled: 4f9h2k7m, z0y1x2w3"),
        ({"already_terminal": [JOB]}, "it had ended already"),
        ({"not_found": [JOB]}, "the daemon does not know it any more"),
    ],
)
def test_what_came_of_a_cancel_is_told(fields: dict[str, Any], words: str) -> None:
    none: dict[str, Any] = {"cancelled": [], "already_terminal": [], "not_found": []}
    assert render_job.ended_words({**none, **fields}, "cancelled") == words
