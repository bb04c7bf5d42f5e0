from __future__ import annotations

from typing import Any

import pytest

from oj_daemon.wire import picture

Job = dict[str, Any]


def node(name: str, *on_done: str, after: tuple[str, ...] = (), on_fail: str = "") -> Job:
    return {
        "name": name,
        "kind": "shell",
        "on_done": on_done,
        "on_fail": on_fail,
        "on_cancel": "",
        "after": after,
    }


def run(name: str, status: str = "completed", **fields: object) -> Job:
    is_over = status in ("completed", "failed", "cancelled", "suspended")
    return {
        "name": name,
        "run": 1,
        "visit": 1,
        "attempt": 1,
        "status": status,
        "outcome": status,
        "detail": "",
        "exit_code": None,
        "started_at_ms": 1_000,
        "finished_at_ms": 3_000 if is_over else 0,
        "retry_at_ms": 0,
        "deadline_at_ms": 0,
        **fields,
    }


def job(graph: list[Job], steps: list[Job], **fields: object) -> Job:
    return {
        "id": "job-0123456789abcdef",
        "name": "build auth",
        "status": "running",
        "created_at_ms": 500,
        "updated_at_ms": 3_000,
        "finished_at_ms": 0,
        "reason": "",
        "error": "",
        "workspace_path": "",
        "graph": graph,
        "steps": steps,
        **fields,
    }


FAN = [
    node("checkout", "wheel", "test"),
    node("wheel"),
    node("test", on_fail="fix"),
    node("report", after=("wheel", "test")),
    node("fix", "test"),
]


def text(rows: list[picture.Row]) -> list[str]:
    return ["".join(piece for piece, _ in row).rstrip() for row in rows]


def draw(
    shown: Job, tails: dict[str, list[str]] | None = None, *, width: int = 80, height: int = 24
) -> list[str]:
    return text(picture.rows(shown, tails or {}, picture.Screen(width, height, 5_000)))


def test_steps_that_run_side_by_side_share_a_level_and_a_fan_in_stands_below() -> None:
    assert picture.levels(job(FAN, [])) == [["checkout"], ["wheel", "test"], ["report"]]


def test_a_step_that_only_a_failure_leads_to_appears_below_what_led_to_it() -> None:
    steps = [run("checkout"), run("wheel"), run("test", "failed"), run("fix", "running")]
    assert picture.levels(job(FAN, steps)) == [["checkout"], ["wheel", "test"], ["report", "fix"]]


def test_a_loop_ends_and_keeps_the_order_of_the_steps() -> None:
    graph = [node("a", "b"), node("b", "c"), node("c", "a")]
    assert picture.levels(job(graph, [])) == [["a"], ["b"], ["c"]]


def test_branches_of_different_length_meet_below_the_longer_one() -> None:
    graph = [node("a", "b", "c"), node("b"), node("c", "d"), node("d"), node("e", after=("b", "d"))]
    assert picture.levels(job(graph, [])) == [["a"], ["b", "c"], ["d"], ["e"]]


def test_a_chain_of_thousands_of_steps_is_no_problem() -> None:
    graph = [node(f"s{i}", f"s{i + 1}") for i in range(5_000)]
    assert len(picture.levels(job(graph, []))) == 5_000


def test_a_job_without_definition_shows_what_ran() -> None:
    assert picture.levels(job([], [run("run")])) == [["run"]]


def test_the_view_shows_marks_durations_brackets_and_output() -> None:
    steps = [run("checkout"), run("wheel", "running"), run("test", "running")]
    assert draw(job(FAN, steps), {"wheel": ["compiling a.c", "compiling b.c"]}) == [
        "build auth  01234567  running  4.5s",
        "  ✓ checkout    2.0s",
        "┌ ⠋ wheel       4.0s",
        "    compiling a.c",
        "    compiling b.c",
        "└ ⠋ test        4.0s",
        "  · report    after wheel, test",
        "Ctrl-C detaches; the job goes on",
    ]


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"status": "pending", "attempt": 2, "retry_at_ms": 9_000},
            "  · a     try 2, next try in 4.0s",
        ),
        ({"status": "running", "deadline_at_ms": 65_000}, "  ⠋ a       4.0s  timeout in 1m 0s"),
        (
            {"status": "failed", "detail": "exit code 7\n", "finished_at_ms": 3_000},
            "  ✗ a       2.0s  exit code 7",
        ),
        ({"status": "running", "visit": 3}, "  ⠋ a       4.0s  round 3"),
    ],
)
def test_a_step_tells_its_retries_timeout_and_failure(fields: Job, line: str) -> None:
    assert draw(job([node("a")], [run("a", **fields)]))[1] == line


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (20, 5), (1, 1)])
def test_the_view_never_has_more_rows_than_there_are(width: int, height: int) -> None:
    graph = [node("first", *(f"branch{i}" for i in range(30)))]
    graph += [node(f"branch{i}") for i in range(30)]
    steps = [run("first"), *(run(f"branch{i}", "running") for i in range(30))]
    tails = {f"branch{i}": ["x" * 10_000] * 20 for i in range(30)}
    assert len(draw(job(graph, steps), tails, width=width, height=height)) <= height


def test_where_room_is_short_done_steps_are_folded_before_those_to_come() -> None:
    graph = [node(f"s{i}", f"s{i + 1}") for i in range(9)] + [node("s9")]
    steps = [run(f"s{i}") for i in range(5)] + [run("s5", "running")]
    shown = draw(job(graph, steps), {"s5": ["busy"]}, height=9)
    assert shown == [
        "build auth  01234567  running  4.5s",
        "  · 4 steps done",
        "  ✓ s4      2.0s",
        "  ⠋ s5      4.0s",
        "  · s6",
        "  · s7",
        "  · s8",
        "  · s9",
        "Ctrl-C detaches; the job goes on",
    ]


def test_more_running_steps_than_rows_are_folded_and_the_last_line_stays() -> None:
    names = [f"s{number:02}" for number in range(30)]
    view = job(
        [node("begin", *names), *map(node, names)],
        [run("begin"), *(run(name, "running") for name in names)],
    )
    shown = text(picture.rows(view, {}, picture.Screen(80, 10, 3_500)))
    assert len(shown) == 10
    assert shown[-2:] == ["  · 24 more steps running", "Ctrl-C detaches; the job goes on"]


def test_a_terminal_without_unicode_gets_plain_signs() -> None:
    screen = picture.Screen(80, 24, 5_000, unicode=False)
    steps = [run("checkout"), run("wheel", "running"), run("test", "failed")]
    drawn = text(picture.rows(job(FAN, steps), {}, screen))
    assert all(line.isascii() for line in drawn)
