"""Tests of oj_daemon/drivers/claude_activity.py: entries as Claude Code writes them."""

from __future__ import annotations

from typing import Any

import pytest

from oj_daemon.drivers.activity import Activity, Deed, reader_of

read = reader_of("claude")


def use(name: str, **given: Any) -> dict[str, Any]:
    """An entry in which a tool is used."""
    block = {"type": "tool_use", "id": "t1", "name": name, "input": given}
    return {"type": "assistant", "message": {"content": [block]}}


def result(content: object, *, is_error: bool = False, **more: Any) -> dict[str, Any]:
    """An entry with the result of a tool."""
    block = {"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": is_error}
    return {"type": "user", "message": {"content": [block]}, **more}


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (use("Read", file_path="/a"), Activity(Deed.READ, "/a")),
        (use("Write", file_path="/a", content="x"), Activity(Deed.WROTE, "/a")),
        (use("Edit", file_path="/a"), Activity(Deed.EDITED, "/a")),
        (use("NotebookEdit", notebook_path="/n"), Activity(Deed.EDITED, "/n")),
        (use("Bash", command="make"), Activity(Deed.BASH, "make", "t1")),
        (use("Bash", command="oj run build"), Activity(Deed.OJ, "run build", "t1")),
        (use("Bash", command="ojx run"), Activity(Deed.BASH, "ojx run", "t1")),
        (result("fine"), Activity(Deed.RESULT, "exit 0", "t1")),
        (result("Exit code 2\nno", is_error=True), Activity(Deed.RESULT, "exit 2", "t1")),
        (result("no!", is_error=True), Activity(Deed.RESULT, "refused or failed", "t1")),
        (result("", toolUseResult={"interrupted": True}), Activity(Deed.RESULT, "interrupted", "t1")),
        ({"type": "system", "subtype": "turn_duration"}, Activity(Deed.TURN)),
        (
            {"type": "system", "subtype": "api_error", "error": {"message": "slow"}, "retryAttempt": 1, "maxRetries": 9},
            Activity(Deed.ERROR, "slow (try 1 of 9)"),
        ),
        (
            {"type": "assistant", "isApiErrorMessage": True, "message": {"content": [{"type": "text", "text": "401"}]}},
            Activity(Deed.ERROR, "401"),
        ),
    ],
)  # fmt: skip
def test_a_deed_is_told(entry: dict[str, Any], told: Activity) -> None:
    assert read(entry) == [told]


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"type": "assistant", "message": {"content": "text"}},
        {"type": "assistant", "message": {"content": [1, {"type": "tool_use", "input": 3}]}},
        {"type": "user", "message": None},
        use("Grep", pattern="x"),
    ],
)
def test_what_is_no_deed_or_no_sense_tells_nothing(entry: dict[str, Any]) -> None:
    assert read(entry) == []


def test_a_program_without_a_session_log_tells_nothing() -> None:
    assert reader_of("generic")(use("Read", file_path="/a")) == []
