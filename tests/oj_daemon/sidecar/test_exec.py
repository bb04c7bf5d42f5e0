"""Shell steps through a real sidecar."""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.sidecar import SECONDS, Sidecar
from tests.support.waiting import until

pytestmark = pytest.mark.e2e  # a real process, and more than one


def run(shell: Sidecar, run_id: str, script: str, **more: object) -> dict[str, Any]:
    reply = shell.post("exec", {"id": run_id, "script": script, **more})
    assert reply.status in {200, 201}, reply.text
    view: dict[str, Any] = reply.body
    return view


def ended(shell: Sidecar, run_id: str) -> dict[str, Any]:
    view: dict[str, Any] = shell.get(f"exec/{run_id.replace('/', '%2F')}?wait_ms=20000").body
    return view


def output(shell: Sidecar, run_id: str, offset: int = 0) -> str:
    body = shell.get(f"exec/{run_id.replace('/', '%2F')}/output?offset={offset}").body
    return base64.b64decode(body["data"]).decode()


def test_a_script_runs_and_its_status_is_kept_until_it_is_forgotten(shell: Sidecar) -> None:
    assert run(shell, "job-1/1", "echo out; echo err >&2; exit 7")["created"] is True
    assert ended(shell, "job-1/1") == {
        "id": "job-1/1",
        "state": "exited",
        "status": 7,
        "output_size": 8,
        "detail": "",
        "created": False,
    }
    assert output(shell, "job-1/1") == "out\nerr\n"
    assert output(shell, "job-1/1", 4) == "err\n"
    assert shell.request("DELETE", "exec/job-1%2F1").body == {"forgotten": True}
    assert shell.get("exec/job-1%2F1").status == 404


def test_starting_it_twice_runs_it_once(shell: Sidecar, tmp_path: Path) -> None:
    script = f"echo once >> {tmp_path}/count"
    assert run(shell, "twice", script)["created"] is True
    ended(shell, "twice")
    assert run(shell, "twice", script) == ended(shell, "twice")
    assert (tmp_path / "count").read_text() == "once\n"


def test_words_run_without_a_shell_reading_them(shell: Sidecar) -> None:
    shell.post("exec", {"id": "words", "argv": ["printf", "%s|", "a b", "$HOME", "'"]})
    assert ended(shell, "words")["status"] == 0
    assert output(shell, "words") == "a b|$HOME|'|"


def test_environment_and_directory_are_the_callers_on_top_of_ours(
    shell: Sidecar, tmp_path: Path
) -> None:
    run(shell, "env", 'echo "$X $PWD ${PATH:+path} ${OJ_SIDECAR_SOCKET:-no socket}"',
        env={"X": "a b"}, cwd=str(tmp_path))  # fmt: skip
    ended(shell, "env")
    assert output(shell, "env") == f"a b {tmp_path} path no socket\n"
    run(shell, "bare", "echo ${HOME:-no home}", inherit=False)
    ended(shell, "bare")
    assert output(shell, "bare") == "no home\n"


def test_a_directory_that_is_not_there_is_an_error(shell: Sidecar) -> None:
    reply = shell.post("exec", {"id": "lost", "script": "true", "cwd": "/nowhere"})
    assert (reply.status, reply.body["error"]["code"]) == (400, "BAD_REQUEST")
    assert shell.get("exec/lost").status == 404


def test_senseless_requests_are_refused(shell: Sidecar) -> None:
    for body in (
        {"id": "x"},
        {"id": "x", "script": "true", "argv": ["true"]},
        {"id": "../x", "script": "true"},
        {"id": "x", "script": "true", "colour": "red"},
        {"script": "true"},
    ):
        assert shell.post("exec", body).status == 400, body


def test_several_run_at_once(shell: Sidecar, tmp_path: Path) -> None:
    # Each waits for the other: one after the other they would never end.
    for mine, other in (("a", "b"), ("b", "a")):
        script = f"cd {tmp_path}; mkfifo {mine} 2>/dev/null || true; "
        script += f"(echo hello > {mine}) & until read -r x < {other}; do sleep 0.01; done; wait"
        run(shell, f"pair-{mine}", script)
    assert [ended(shell, f"pair-{name}")["status"] for name in "ab"] == [0, 0]


def test_output_is_followed_from_any_offset_while_it_grows(shell: Sidecar, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    run(shell, "follow", f"echo one; read -r _ < {tmp_path}/go; echo two; exit 4")
    until(lambda: output(shell, "follow") == "one\n", SECONDS, "the first line")
    reader: list[str] = []
    thread = threading.Thread(
        target=lambda: reader.append(shell.get("exec/follow/output?follow=1&offset=2").text)
    )
    thread.start()
    (tmp_path / "go").write_text("\n")
    thread.join(SECONDS)
    assert reader == ["e\ntwo\n"]
    assert ended(shell, "follow")["status"] == 4


def test_ending_a_run_ends_everything_it_started(shell: Sidecar, tmp_path: Path) -> None:
    script = f"""trap '' TERM HUP
    setsid bash -c 'trap "" TERM HUP; echo $$ > {tmp_path}/escaped; while :; do sleep 1; done' &
    echo UP; while :; do sleep 1; done"""
    run(shell, "stubborn", script)
    until(
        lambda: (tmp_path / "escaped").exists() and (tmp_path / "escaped").read_text(),
        SECONDS,
        "it is up",
    )
    escaped = int((tmp_path / "escaped").read_text())
    view = shell.post("exec/stubborn/end", {"grace_ms": 50}).body
    assert (view["state"], view["status"]) == ("exited", 137)
    assert not Path(f"/proc/{escaped}").exists()


def test_a_run_that_still_runs_cannot_be_forgotten(shell: Sidecar) -> None:
    run(shell, "busy", "exec sleep 1000")
    assert shell.request("DELETE", "exec/busy").status == 409
    shell.post("exec/busy/end", {"grace_ms": 1000})
    assert "busy" in [one["id"] for one in shell.get("exec").body["runs"]]
    assert shell.request("DELETE", "exec/busy").status == 200
