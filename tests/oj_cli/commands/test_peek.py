"""Tests of oj_cli/commands/peek.py and attach.py against a fake daemon."""

from __future__ import annotations

from typing import Any

from tests.support.harness import Harness


def screen(**fields: Any) -> dict[str, Any]:
    return {
        "type": "AgentScreen", "agent_id": "agt-0123456789abcdef", "name": "coder", "status": "running",
        "live": True, "lines": ["hello", ""], "ansi": ["\x1b[31mhello\x1b[0m", ""], "cols": 20, "rows": 2, **fields,
    }  # fmt: skip


def test_a_live_screen_is_framed_and_coloured_on_a_terminal(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentPeek", screen())
    lines = daemon_cli.oj("peek", "0123", tty=60).out.splitlines()
    assert "agent 01234567 coder (live)" in lines[0]
    assert lines[1] == "\x1b[31mhello\x1b[0m\x1b[0m"
    assert len(lines) == 3


def test_what_has_no_screen_says_so(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentPeek", screen(live=False, lines=[], ansi=[], status="failed"))
    result = daemon_cli.oj("peek", "0123")
    assert (result.code, "none was kept" in result.out) == (0, True)


def test_attach_without_a_terminal_asks_nobody(daemon_cli: Harness) -> None:
    result = daemon_cli.oj("attach", "0123")
    assert (result.code, daemon_cli.daemon.requests) == (1, [])
    assert "is not a terminal" in result.err
