"""The stop gate and the start script, as functions. How they work within a session: test_machine.py."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.sidecar import gate


def evaluate(script: str, prefix: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'{prefix}eval "$0"', script], capture_output=True, text=True, check=False
    )


@settings(max_examples=30, deadline=None)
@given(
    text=st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)
)
def test_a_text_comes_out_as_it_went_in(text: str) -> None:
    script = gate.start_script(gate.read_start({"text": text}), "startup")
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode() == text


def test_text_and_commands_follow_one_another() -> None:
    start = gate.read_start(
        {"text": "hello", "shell": ["echo one # it's", "  ", "cat <<X\ntwo\nX"]}
    )
    done = evaluate(gate.start_script(start, "startup"))
    assert (done.stdout, done.returncode) == ("hello\none\ntwo\n", 0)


def test_a_failing_command_ends_itself_only_and_is_told_by_the_status() -> None:
    start = gate.read_start(
        {"shell": ["set -euo pipefail\necho a\nfalse\necho never", "exit 4", "echo b"]}
    )
    done = evaluate(gate.start_script(start, "x"))
    assert (done.stdout, done.returncode) == ("a\nb\n", 4)


def test_the_content_of_an_event_replaces_the_rest_whole() -> None:
    start = gate.read_start(
        {"text": "t", "shell": "echo s", "event": {"resume": {"text": "r"}, "clear": {}}}
    )
    assert evaluate(gate.start_script(start, "resume")).stdout == "r"
    assert evaluate(gate.start_script(start, "startup")).stdout == "t\ns\n"
    assert gate.start_script(start, "clear") == ""
    assert gate.start_script(gate.read_start({}), "startup") == ""


def test_every_command_of_the_automatic_gate_can_be_run_as_it_stands() -> None:
    fields: dict[str, dict[str, object]] = {
        "note": {"description": "what's left"},
        "status": {"required": True, "enum": ["done", 'it\'s "bad"', "$HOME"]},
    }
    stop = gate.read_stop({"mode": "auto", "prompt": "Well?", "schema": {"fields": fields}})
    reason = gate.reason(stop)
    assert reason.startswith("Well?\n")
    lines = [line.strip() for line in reason.splitlines() if "oj-sidecar send" in line]
    bodies = [json.loads(shlex.split(line)[2]) for line in lines]
    assert [body["status"] for body in bodies] == fields["status"]["enum"]
    assert list(bodies[0]) == ["status", "note"], "what matters comes first"
    assert all(gate.check_resolve(stop, body) == "" for body in bodies)


def test_a_schema_without_choices_has_one_example() -> None:
    stop = gate.read_stop({"mode": "auto", "schema": {"fields": {"summary": {"required": True}}}})
    reason = gate.reason(stop)
    assert """oj-sidecar send '{"summary": "<summary>"}'""" in reason
    assert gate.check_resolve(stop, {}) == "the field 'summary' is missing"
    assert gate.opens(stop, {"summary": "x"})


def test_without_a_schema_the_automatic_gate_asks_whether_it_is_done() -> None:
    stop = gate.read_stop({"mode": "auto"})
    assert "1. done: " in gate.reason(stop)
    assert gate.check_resolve(stop, {"status": "done"}) == ""
    assert "must be one of done, continue" in gate.check_resolve(stop, {"status": "yes"})


@pytest.mark.parametrize(
    ("value", "is_open"), [("merged", True), ("stuck", False), ("continue", False)]
)
def test_only_terminal_values_open_the_gate(value: str, is_open: bool) -> None:
    fields = {"s": {"enum": ["merged", "stuck", "continue"], "terminal": ["merged"]}}
    stop = gate.read_stop({"mode": "auto", "schema": {"fields": fields}})
    assert gate.opens(stop, {"s": value}) is is_open


def test_a_gate_takes_any_report_unless_it_has_a_schema() -> None:
    stop = gate.read_stop({"mode": "gate", "prompt": "wait"})
    assert gate.check_resolve(stop, {"anything": [1]}) == ""
    assert gate.opens(stop, {})
