from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from oj_cli.foreground import run_bash
from oj_daemon.errors import OjError

ENV = {"PATH": os.environ["PATH"]}


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 7", 7),
        ("false | true", 1),
        ("echo $UNSET", 1),
        ("kill -KILL $$", 128 + signal.SIGKILL),
    ],
)
def test_the_exit_code_tells_how_the_script_ended(
    script: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_bash(script, tmp_path, ENV) == code
    capfd.readouterr()


def test_the_script_gets_the_folder_the_environment_and_default_signals(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_bash('pwd; echo "$A"; trap -p', tmp_path, {**ENV, "A": "b"}) == 0
    assert capfd.readouterr().out == f"{tmp_path}\nb\n"


def test_a_script_longer_than_a_command_line_runs_as_well(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_bash("echo hi\n: " + "x" * 300_000, tmp_path, ENV) == 0
    assert capfd.readouterr().out == "hi\n"


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run_bash("true", tmp_path, ENV)
    assert [
        signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ] == before


def test_a_missing_bash_and_a_missing_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(OjError, match="bash was not found"):
        run_bash("true", tmp_path, {"PATH": str(tmp_path)})
    with pytest.raises(OjError, match="does not exist"):
        run_bash("true", tmp_path / "gone", ENV)
