"""The command line and the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from oj_daemon.sidecar.options import Options, Usage, parse, without_ours

SOCKET = ("--socket", "/run/x")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no command"),
        (["--", "bash"], "neither --socket nor --port"),
        (["--socket", "/" + "x" * 200, "--", "bash"], "107 bytes"),
        ([*SOCKET, "--agent", "codex", "--", "bash"], "--agent codex"),
        ([*SOCKET, "--groom", "nice", "--", "bash"], "--groom nice"),
        ([*SOCKET, "--agent", "generic", "--resume", "x", "--", "bash"], "cannot resume"),
        ([*SOCKET, "--resume", "x", "--groom", "pristine", "--", "claude"], "not together"),
        (["--port", "0", "--host", "0.0.0.0", "--", "bash"], "without a token"),
        (["--port", "99999", "--", "bash"], "--port 99999"),
        ([*SOCKET, "--cols", "0", "--", "bash"], "--cols 0"),
        ([*SOCKET, "--exit-with-child=soon", "--", "bash"], "seconds"),
        ([*SOCKET, "--token-file", "/nowhere", "--", "bash"], "--token-file"),
        ([*SOCKET, "--sock", "y", "--", "bash"], "--sock"),
        ([*SOCKET, "--auth-token", "secret", "--", "bash"], "--auth-token"),
    ],
)
def test_a_senseless_command_line_says_what_is_wrong(words: list[str], reason: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(words, {})
    assert reason in caught.value.message


def made(*words: str, **environ: str) -> Options:
    return parse([*SOCKET, *words, "--", "claude", "--flag"], environ)


def test_the_agent_is_told_by_the_name_of_its_program() -> None:
    assert made().agent == "claude"
    assert parse([*SOCKET, "--", "/usr/bin/bash"], {}).agent == "generic"
    assert made("--agent", "Unknown").agent == "generic"


def test_an_option_wins_over_its_variable_and_that_over_the_default() -> None:
    assert made().groom == "auto"
    assert made(OJ_SIDECAR_GROOM="manual").groom == "manual"
    assert made("--groom", "pristine", OJ_SIDECAR_GROOM="manual").groom == "pristine"


def test_what_follows_the_dashes_belongs_to_the_agent() -> None:
    assert made().command == ("claude", "--flag")


def test_the_token_comes_from_a_file_or_a_variable_and_never_shows(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("from-file\n")
    assert made("--token-file", str(path)).token.reveal() == "from-file"
    chosen = made(OJ_SIDECAR_TOKEN="from-variable")
    assert chosen.token.reveal() == "from-variable"
    assert "from-variable" not in repr(chosen)


def test_delays_come_from_variables() -> None:
    assert made(OJ_SIDECAR_INPUT_DELAY_MS="7").delays.input_delay_ms == 7
    with pytest.raises(Usage):
        made(OJ_SIDECAR_INPUT_DELAY_MS="soon")


def test_a_wildcard_is_fine_with_a_token() -> None:
    environ = {"OJ_SIDECAR_TOKEN": "t"}
    assert parse(["--port", "0", "--host", "0.0.0.0", "--", "bash"], environ).port == 0


def test_programs_get_nothing_that_was_meant_for_the_sidecar() -> None:
    assert without_ours({"OJ_SIDECAR_TOKEN": "t", "PATH": "p"}) == {"PATH": "p"}
