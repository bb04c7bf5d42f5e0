"""stderr and exit codes: one line of error, one of hint, the causes that say more, and the same as JSON."""

from __future__ import annotations

import json

import click
import pytest

from oj_cli import output
from oj_cli.diagnostics import ExitCode, error, hint, report, say, warn
from oj_daemon.errors import OjError, WireError


@pytest.fixture(autouse=True)
def _fresh_stdout() -> None:
    output.forget()


def test_talk_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    warn("careful")
    hint("type this")
    assert capsys.readouterr() == ("", "hello\nWarning: careful\nHint: type this\n")


def test_an_error_has_a_message_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        report(WireError("Daemon not running", code="unavailable", hint="oj daemon start"))
        == ExitCode.FAILED
    )
    assert capsys.readouterr() == ("", "Error: Daemon not running\nHint: oj daemon start\n")


def test_with_json_the_error_is_on_stdout_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(OjError("no", code="conflict", hint="wait"), json=True) == 1
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"message": "no", "code": "conflict", "hint": "wait"}}
    assert err == "Error: no\nHint: wait\n"


def test_causes_are_listed_if_they_say_more(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        try:
            raise FileNotFoundError(2, "No such file or directory", "/x/y")
        except FileNotFoundError as inner:
            raise OjError("Could not read the runbook") from inner
    except OjError as failure:
        report(failure)
    assert capsys.readouterr().err == (
        "Error: Could not read the runbook\nCaused by:\n  /x/y: No such file or directory\n"
    )


def test_a_cause_that_the_message_repeats_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        try:
            raise ValueError("bad digit")
        except ValueError as inner:
            raise OjError("Could not parse: bad digit") from inner
    except OjError as failure:
        report(failure)
    assert capsys.readouterr().err == "Error: Could not parse: bad digit\n"


def test_an_interrupt_is_130_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyboardInterrupt()) == 130
    assert report(click.exceptions.Abort()) == 130
    assert capsys.readouterr() == ("", "")


def test_a_usage_error_is_2_and_shows_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    ctx = click.Context(
        click.Command("list"),
        info_name="list",
        parent=click.Context(click.Command("oj"), info_name="oj"),
    )
    assert report(click.UsageError("no such option", ctx), json=True) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert err == "Usage: oj list [OPTIONS]\nError: no such option\nHint: Try 'oj list --help'.\n"
    assert json.loads(out)["error"]["code"] == "usage"


def test_an_exit_asked_for_is_passed_on() -> None:
    assert report(click.exceptions.Exit(7)) == 7


def test_an_error_of_the_system_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(PermissionError(13, "Permission denied", "/root/x")) == 1
    assert capsys.readouterr().err == "Error: /root/x: Permission denied\n"


def test_a_bug_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        report(ZeroDivisionError())


def test_hostile_text_in_an_error_cannot_act_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    error("job '\x1b]0;title\x07' not found")
    assert capsys.readouterr().err == "Error: job '^[]0;title^G' not found\n"


def test_a_closed_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    say("nobody reads this")
