"""`oj` answers for itself, routes the rest, and turns what goes wrong into an exit code."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from oj_cli.main import COMMANDS, help_text, main, version_text

ROOT = Path(__file__).resolve().parent.parent.parent
HEADINGS = {
    "Actions": ["run", "cancel", "suspend", "resume", "attach", "peek", "status", "tui", "show"],
    "Resources": ["job", "agent", "decision", "workspace", "project", "runbook", "token"],
    "System": ["logs", "events", "daemon", "init", "doctor", "completion"],
}


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"], ["help"]])
def test_oj_alone_and_its_help_print_the_overview(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 0
    assert capsys.readouterr() == (help_text(), "")


@pytest.mark.parametrize(
    "args", [["-v"], ["-V"], ["--version"], ["--project", "p", "--version"], ["-o", "json", "-v"]]
)
def test_the_version_is_one_word_of_version_and_commit(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 0
    assert capsys.readouterr() == (version_text(), "")
    assert re.fullmatch(r"oj \d+\.\d+\.\d+\+([0-9a-f]{12}|unknown)\n", version_text())


def test_help_after_an_option_is_the_same_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--project", "p", "--help"]) == 0
    assert capsys.readouterr() == (help_text(), "")


def test_the_overview_lists_every_command_under_its_heading() -> None:
    listed = {}
    for section in help_text().split("\n\n"):
        heading, _, body = section.partition(":\n")
        listed[heading] = re.findall(r"^  (\w+) +\S", body, flags=re.MULTILINE)
    assert {heading: listed[heading] for heading in HEADINGS} == HEADINGS
    assert all(len(line) <= 80 for line in help_text().splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_row_leads_to_a_command_with_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)
    assert main(["help", name]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: oj {name}")
    assert "--project" in shown


def test_an_unknown_command_is_a_usage_error_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["stauts"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "No such command 'stauts'" in err
    assert "'status'" in err


def test_help_for_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "nonsense"]) == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args", [["-o", "json", "nonsense"], ["nonsense", "--output=json"], ["nonsense", "-ojson"]]
)
def test_a_usage_error_is_json_too_if_json_was_asked_for(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["message"] == "No such command 'nonsense'."
    assert "No such command 'nonsense'" in err


def test_json_after_a_double_dash_asks_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense", "--", "-o", "json"]) == 2
    assert capsys.readouterr().out == ""


def test_an_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--projekt", "x"]) == 2
    assert "'--project'" in capsys.readouterr().err


def test_options_without_a_command_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-o", "json"]) == 2
    assert "Missing command" in capsys.readouterr().err


def start(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("PROGRAM", f"{sys.executable} -m oj_cli")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_reader_that_went_away_is_no_traceback(option: str) -> None:
    done = start(f"PROGRAM {option} | true; exit ${{PIPESTATUS[0]}}")
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_a_closed_stdout_is_no_traceback() -> None:
    done = start("PROGRAM --help >&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_said_and_fails() -> None:
    done = start("PROGRAM --help >/dev/full")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shell_that_asks_for_completions_gets_command_names() -> None:
    done = start("_OJ_COMPLETE=bash_complete COMP_WORDS='oj sta' COMP_CWORD=1 PROGRAM")
    assert (done.returncode, done.stdout, done.stderr) == (0, "plain,status\n", "")
