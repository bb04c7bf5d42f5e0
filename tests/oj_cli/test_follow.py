from __future__ import annotations

import contextlib
import copy
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from oj_cli import follow, output, watch
from oj_daemon import settings
from oj_daemon.errors import OjError, WireError
from tests.oj_daemon.wire.test_picture import FAN, job, node, run

ID = "job-0123456789abcdef"


class FakeClient:
    """Answers Watch from a script of replies; an exception in it is raised."""

    def __init__(self, script: list[Any], asked: list[dict[str, Any]]) -> None:
        self.script = script
        self.asked = asked

    def call(self, type: str, **fields: object) -> dict[str, Any]:  # noqa: A002
        self.asked.append(copy.deepcopy({"type": type, **fields}))
        answer = self.script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        pass


class FakeCtx:
    """As much of a Ctx as following needs."""

    def __init__(self, script: list[Any]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.script = script
        self.settings = settings.load({"HOME": "/home/ann"})

    def client(self) -> FakeClient:
        return FakeClient(self.script, self.asked)


def changes(
    seq: int,
    shown: dict[str, Any] | None = None,
    log: str = "",
    offset: int = 0,
    *,
    restarted: bool = False,
) -> dict[str, Any]:
    chunk = {"content": log, "offset": offset, "restarted": restarted}
    return {
        "type": "Changes",
        "seq": seq,
        "epoch": 0,
        "details": [shown] if shown else [],
        "missing": [],
        "logs": {ID: chunk},
    }


def done(**fields: object) -> dict[str, Any]:
    return job([node("a")], [run("a")], status="completed", finished_at_ms=2_000, **fields)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_PAUSE", 0.0)
    output.configure(color=False, no_color=False)


def plain(script: list[Any]) -> tuple[FakeCtx, dict[str, Any] | None]:
    ctx = FakeCtx(script)
    return ctx, follow.follow(ctx, ID, wants_view=False)  # type: ignore[arg-type]  # a fake


def test_lines_come_as_they_are_logged_and_the_result_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = job([node("a")], [run("a", "running")])
    ctx, ended = plain(
        [
            changes(1, running, "2026-01-01T00:00:00Z [a] one\n2026-01-01T00:00:00Z [a] tw", 10),
            changes(2, done(), "o\nlast", 20),
            changes(2, None, "", 20),
        ]
    )
    assert capsys.readouterr().out == (
        "2026-01-01T00:00:00Z [a] one\n2026-01-01T00:00:00Z [a] two\nlast\ncompleted build auth (1.5s)\n"
    )
    assert ended is not None
    assert ended["status"] == "completed"
    assert [(asked["since"], asked["logs"][ID]) for asked in ctx.asked] == [
        (0, 0),
        (1, 10),
        (2, 20),
    ]


def test_the_last_words_of_an_ended_job_are_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    last = "2026-01-01T00:00:00Z [job] job completed"
    ctx, _ = plain([changes(1, done(), "one\n", 4), changes(1, None, f"{last}\n", 9)])
    assert capsys.readouterr().out == f"one\n{last}\ncompleted build auth (1.5s)\n"
    assert [asked["wait_ms"] for asked in ctx.asked] == [watch.POLL_MS, follow.LAST_WORDS_MS]


def test_nothing_is_waited_for_once_the_log_has_its_last_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ctx, _ = plain([changes(1, done(), "2026-01-01T00:00:00Z [job] job completed\n", 9)])
    assert capsys.readouterr().out.endswith("completed build auth (1.5s)\n")
    assert len(ctx.asked) == 1


def test_after_a_lost_connection_reading_goes_on_where_it_stopped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = job([node("a")], [run("a", "running")])
    ctx, ended = plain(
        [
            changes(7, running, "one\n", 4),
            WireError("Lost the connection to the daemon", code="closed"),
            WireError("Daemon not running", code="unavailable"),
            WireError("Daemon not running", code="unavailable"),
            changes(2, running, "two\n", 8),
            changes(3, done(), "", 8),
            changes(3, None, "", 8),
        ]
    )
    said = capsys.readouterr()
    assert said.out == "one\ntwo\ncompleted build auth (1.5s)\n"
    assert said.err.count("Warning") == 1
    assert ended is not None
    assert [(asked["since"], asked["logs"][ID]) for asked in ctx.asked][4] == (0, 4)


def test_an_error_that_time_does_not_heal_ends_the_following() -> None:
    with pytest.raises(WireError, match="wrong token"):
        plain([WireError("wrong token", code="unauthorized")])


def test_a_daemon_that_stays_away_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.0)
    with pytest.raises(WireError, match=r"not come back .*not running") as caught:
        plain([WireError("Daemon not running", code="unavailable") for _ in range(50)])
    assert "oj daemon logs" in caught.value.hint


def test_a_job_that_was_pruned_meanwhile_is_an_error() -> None:
    gone = {**changes(1), "missing": [ID], "logs": {}}
    with pytest.raises(OjError, match="01234567") as caught:
        plain([gone])
    assert caught.value.code == "not_found"


def test_a_log_that_began_anew_drops_the_half_line_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain(
        [
            changes(1, job([], []), "half a li", 9),
            changes(1, done(), "whole\n", 6, restarted=True),
            changes(1, None, "", 6),
        ]
    )
    assert capsys.readouterr().out.startswith("whole\n")


def test_a_job_that_is_resumed_while_its_log_is_drained_is_followed_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, ended = plain(
        [
            changes(1, job([], [], status="failed", finished_at_ms=1_500)),
            changes(2, job([], [], status="running"), ""),
            changes(3, done(), "more\n", 5),
            changes(3, None, "", 5),
        ]
    )
    assert ended is not None
    assert ended["status"] == "completed"
    assert "more\n" in capsys.readouterr().out


def test_control_c_detaches() -> None:
    assert plain([KeyboardInterrupt()])[1] is None


def test_an_interrupt_that_was_swallowed_elsewhere_detaches_all_the_same() -> None:
    class Swallowing(FakeClient):
        def call(self, type: str, **fields: object) -> dict[str, Any]:  # noqa: A002
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
            return super().call(type, **fields)

    class Ctx(FakeCtx):
        def client(self) -> FakeClient:
            return Swallowing(self.script, self.asked)

    script = [changes(1, job([], [])), changes(2, done())]
    assert follow.follow(Ctx(script), ID, wants_view=False) is None  # type: ignore[arg-type]  # a fake
    assert len(script) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_failed_job_tells_why_and_what_to_do_next() -> None:
    failed = job(
        [],
        [],
        status="failed",
        error="step a:\nexit code 3",
        finished_at_ms=2_000,
        workspace_path="/w",
    )
    assert [output.render(*row) for row in follow.outcome(failed)] == [
        "failed build auth (1.5s): step a: exit code 3",
        "  workspace kept: /w",
        "  see the log:    oj logs 01234567",
        "  go on:          oj resume 01234567",
    ]


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("2026-01-01T00:00:00Z [a] x [b] y", ("a", "x [b] y")),
        ("2026-01-01T00:00:00Z [a#2] x", ("a", "x")),
        ("2026-01-01T00:00:00Z [a]", ("a", "")),
        ("no stamp", ("before", "no stamp")),
    ],
)
def test_a_log_line_is_split_into_step_and_text(line: str, parts: tuple[str, str]) -> None:
    assert follow.split_line(line, "before") == parts


# The live view, in a child on a real terminal: this file is its program.


def script_for_child(name: str) -> list[Any]:
    fan = [run("checkout"), run("wheel", "running"), run("test", "running")]
    ended = [run("checkout"), run("wheel"), run("test", "failed", detail="exit code 3")]
    last = job(FAN, ended, status="failed", finished_at_ms=9_000, error="step test: exit code 3")
    hostile = "\x1b[2J\x1b]0;owned\x07\x1b[31mred\x9b1m " + "\ufffd" + "z" * 1_000_000
    stamp = "2026-01-01T00:00:00Z [test]"
    talk = "".join(f"{stamp} line {i}\n" for i in range(30))
    begin = changes(1, job(FAN, fan), f"{stamp} {hostile}\n", 5)
    scripts = {
        "fails": [
            begin,
            changes(2, job(FAN, fan), talk, 9),
            changes(3, last, "", 9),
            changes(3, None, "", 9),
        ],
        "waits": [begin, *(changes(1, None, "", 5) for _ in range(10_000))],
    }
    return scripts[name]


class SlowClient(FakeClient):
    """Answers as a long poll does: after a while."""

    def call(self, type: str, **fields: object) -> dict[str, Any]:  # noqa: A002
        answer = super().call(type, **fields)
        signal.sigtimedwait([], 0.2)
        return answer


class SlowCtx(FakeCtx):
    def client(self) -> FakeClient:
        return SlowClient(self.script, self.asked)


def child(name: str) -> int:
    ended = follow.follow(SlowCtx(script_for_child(name)), ID, wants_view=True)  # type: ignore[arg-type]  # a fake
    sys.stdout.write(f"ENDED {ended and ended['status']}\n")
    return 0


def spawn(name: str, columns: int, rows: int) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "tests.oj_cli.test_follow", name],
        dimensions=(rows, columns),
        cwd=str(Path(__file__).parents[2]),
        env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        encoding="utf-8",
        codec_errors="replace",
        timeout=30,
    )


SHOW_CURSOR = "\x1b[?25h"


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 10)])
def test_hostile_output_cannot_break_the_live_view(columns: int, rows: int) -> None:
    process = spawn("fails", columns, rows)
    seen = io.StringIO()
    process.logfile_read = seen
    process.expect("ENDED failed")
    process.expect(pexpect.EOF)
    process.close()
    drawn = seen.getvalue()
    assert process.exitstatus == 0
    assert "\x1b[2J" not in drawn
    assert "\x1b]0" not in drawn
    assert "\x07" not in drawn
    assert "^[" in drawn
    assert "step test: exit code 3" in " ".join(drawn.split())
    assert drawn.rindex(SHOW_CURSOR) > drawn.rindex("\x1b[?25l")
    assert max(len(line) for line in drawn.replace("\r", "\n").split("\n")) < 600


def test_control_c_leaves_the_live_view_with_a_whole_terminal() -> None:
    process = spawn("waits", 80, 24)
    process.expect("Ctrl-C detaches")
    process.sendintr()
    process.expect_exact(SHOW_CURSOR)
    process.expect("ENDED None")
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0


def test_a_terminate_signal_gives_the_terminal_back() -> None:
    process = spawn("waits", 80, 24)
    process.expect("Ctrl-C detaches")
    process.kill(signal.SIGTERM)
    process.expect_exact(SHOW_CURSOR)
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 128 + signal.SIGTERM


if __name__ == "__main__":
    sys.exit(child(sys.argv[1]))
