from __future__ import annotations

from typing import Any

from oj_tui import render_overview
from oj_tui.store import Store
from tests.support.replies import (
    HOUR,
    JOB,
    NOW,
    OTHER,
    agent,
    decision,
    reply,
    summary,
    workspace,
)


def store(**fields: Any) -> Store:
    """What a daemon told."""
    kept = Store()
    kept.take(reply("Changes", seq=1, is_snapshot=True, **fields))
    return kept


def rows(**fields: Any) -> list[str]:
    """What needs a human, a line each."""
    found = render_overview.needs(store(**fields), NOW)
    return [
        row.get("heading")
        or "|".join(text for text, _ in render_overview.need_row(row, NOW) if text)
        for row in found
    ]


def test_open_decisions_come_first_oldest_first_with_what_is_left_of_their_time() -> None:
    young = decision(
        id="dec-2", source="gate", summary="deploy?\nnow", created_at_ms=NOW - 1000,
        deadline_at_ms=NOW + 240_000,
    )  # fmt: skip
    late = decision(id="dec-3", created_at_ms=NOW, deadline_at_ms=NOW - 5)
    assert rows(jobs=[summary(status="failed")], decisions=[late, young, decision()]) == [
        "Decisions (3)",
        "• open|fix-login|shop|5m|idle: idle, it said: Done?",
        "• open|fix-login|shop|1s|in 4m|gate: deploy?\\nnow",
        "• open|fix-login|shop|0s|now|idle: idle, it said: Done?",
        "Failed lately (1)",
        "✗ failed|fix-login|shop|5s",
    ]


def test_decisions_that_were_put_aside_still_hold_up_their_jobs() -> None:
    assert rows(decisions=[decision(status="dismissed")]) == [
        "Put aside, their jobs wait (1)",
        "• dismissed|fix-login|shop|5m|idle: idle, it said: Done?",
    ]


def test_failures_are_news_for_half_a_day() -> None:
    old = summary(id=OTHER, status="failed", updated_at_ms=NOW - 12 * HOUR - 1)
    new = summary(status="failed", updated_at_ms=NOW - 12 * HOUR, reason="step test: exit 3")
    assert rows(jobs=[old, new]) == [
        "Failed lately (1)",
        "✗ failed|fix-login|shop|12h|step test: exit 3",
    ]


def test_suspended_jobs_and_those_that_wait_for_their_place_are_told_with_the_reason() -> None:
    jobs = [
        summary(id=OTHER, status="suspended", reason="suspended by request"),
        summary(reason="test runs: its place waits: no room"),
    ]
    assert rows(jobs=jobs, workspaces=[workspace(waits_for="no node has 4 CPUs free")]) == [
        "Suspended (1)",
        "‖ suspended|fix-login|shop|5s|suspended by request",
        "Wait for their place (1)",
        "● running|fix-login|shop|5s|no node has 4 CPUs free",
    ]


def test_where_nothing_needs_a_human_nothing_is_told() -> None:
    jobs = [summary(), summary(id=OTHER, status="completed")]
    assert rows(jobs=jobs, workspaces=[workspace()], agents=[agent()]) == []


def test_text_of_others_cannot_act_on_the_terminal() -> None:
    harmful = "x\x1b]0;title\x07\n"
    job = summary(name=harmful, project=harmful, reason=harmful, status="suspended")
    lines = rows(jobs=[job], decisions=[decision(owner_name=harmful, summary=harmful)])
    assert all(line.isprintable() for line in lines)


def test_projects_are_counted_by_what_goes_on_in_them() -> None:
    jobs = [
        summary(),
        summary(id="job-2", status="pending"),
        summary(id="job-3", status="waiting"),
        summary(id="job-4", status="suspended"),
        summary(id="job-5", status="failed"),
        summary(id="job-6", status="failed", updated_at_ms=1),
        summary(id=OTHER, project="mail", status="completed"),
    ]
    kept = store(
        jobs=jobs,
        agents=[agent(), agent(id="agt-2", status="gone")],
        decisions=[decision(), decision(id="dec-2", status="dismissed")],
    )
    found = render_overview.projects(kept, NOW)
    assert [render_overview.project_row(row) for row in found] == [
        [("mail", "name"), *[("·", "muted")] * 6],
        [
            ("shop", "name"), ("2", "busy"), ("1", "warn"), ("1", "warn"), ("1", "bad"),
            ("1", "busy"), ("1", "warn"),
        ],
    ]  # fmt: skip


def test_every_row_has_an_id_of_its_own() -> None:
    kept = store(
        jobs=[summary(status="failed"), summary(id=OTHER, status="suspended")],
        decisions=[decision()],
        workspaces=[workspace(owner=f"job:{OTHER}", waits_for="no room")],
    )
    ids = [row["id"] for row in render_overview.needs(kept, NOW)]
    assert len(set(ids)) == len(ids)
    assert JOB in ids
