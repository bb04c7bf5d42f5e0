"""`oj status`: sections by project, a header that counts them, and an answer even without a daemon."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from tests.support.fake_daemon import HANG_UP, SILENCE, Message, error
from tests.support.harness import Harness
from tests.support.replies import HOUR, JOB, OTHER, reply, view


def entry(**changes: object) -> Message:
    fields: Message = {
        "id": JOB, "name": "fix-login", "kind": "build", "step": "test", "step_status": "running", "elapsed_ms": 65_000,
        "last_activity_ms": 0, "waiting_reason": "", "escalate_source": "",
    }  # fmt: skip
    return view("JobStatusEntry", **{**fields, **changes})


def project(name: str, **sections: list[Message]) -> Message:
    empty: dict[str, list[Message]] = {
        "active_jobs": [], "escalated_jobs": [], "suspended_jobs": [], "recent_failures": [],
    }  # fmt: skip
    return view("ProjectStatus", project=name, **{**empty, **sections})


def overview(*projects: Message, **changes: object) -> Message:
    return reply(
        "Overview", **{"uptime_secs": 3725, "version": "1", "projects": list(projects), **changes}
    )


FULL = overview(
    project(
        "shop",
        active_jobs=[
            entry(),
            entry(id=OTHER, name="build", step="", step_status="pending", elapsed_ms=3 * HOUR),
        ],
        escalated_jobs=[
            entry(
                step_status="waiting",
                escalate_source="question",
                waiting_reason=f"{'漢字' * 30}\nsecond line",
            )
        ],
        suspended_jobs=[entry(step_status="suspended")],
        recent_failures=[entry(step_status="failed", waiting_reason="exit status 1")],
    ),
    project("empty"),
    project(
        "attic", active_jobs=[entry(name="漢字"), entry(name="long-name", step_status="ending")]
    ),
)


def test_projects_are_sorted_and_their_sections_line_up(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("StatusOverview", FULL)
    assert daemon_cli.oj("status") == (
        0,
        f"""\
oj daemon: running 1h 2m 5s | 4 active jobs | 1 escalated | 1 suspended | 1 recent failure

── attic ───────────────────────────────────────
  Jobs (2 active):
    4f9h2k7m  漢字       build/test  running  1m
    4f9h2k7m  long-name  build/test  ending   1m

── shop ────────────────────────────────────────
  Jobs (2 active):
    4f9h2k7m  fix-login  build/test  running  1m
    z0y1x2w3             build       pending  3h
  Escalated (1):
    ⚠ 4f9h2k7m  fix-login  build/test  waiting  [question]  1m
      → {"漢字" * 17}漢…
  Suspended (1):
    4f9h2k7m  fix-login  build/test  suspended  1m
  Recent failures (1):
    4f9h2k7m  fix-login  build/test  failed  1m
      → exit status 1
""",
        "",
    )
    assert daemon_cli.daemon.of("StatusOverview") == [{"project": None}]


def test_agents_that_stand_alone_have_a_section_and_open_decisions_are_counted(
    daemon_cli: Harness,
) -> None:
    crew = {
        "id": "crw-9q8p7n6m5k4j3h2g", "name": "helper", "status": "running", "elapsed_ms": 65_000,
        "last_activity_ms": 0,
    }  # fmt: skip
    waits = entry(
        id=crew["id"], name="", kind="helper", step="helper", step_status="waiting", escalate_source="idle"
    )  # fmt: skip
    shop = {**project("shop", escalated_jobs=[waits]), "agents": [crew], "decisions_pending": 2}
    attic = {**project("attic"), "decisions_pending": 1}
    daemon_cli.daemon.answer("StatusOverview", overview(shop, attic, uptime_secs=5))
    assert (
        daemon_cli.oj("status").out
        == """\
oj daemon: running 5s | 1 escalated | 3 decisions pending

── shop ────────────────────────────────────────
  Escalated (1):
    ⚠ 9q8p7n6m  helper  waiting  [idle]  1m
  Agents (1 running):
    9q8p7n6m  helper  running  1m
"""
    )


def test_one_project_alone_if_asked(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("StatusOverview", overview())
    daemon_cli.oj("status", "--project", "p")
    assert daemon_cli.daemon.of("StatusOverview") == [{"project": "p"}]


def test_nothing_going_on_says_what_to_type(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("StatusOverview", overview(project("shop"), uptime_secs=5))
    assert daemon_cli.oj("status").out == (
        "oj daemon: running 5s\nNo jobs are active; 'oj run' lists what can be run here.\n"
    )


def test_warnings_of_the_daemon_are_seen_by_everyone(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "StatusOverview", overview(uptime_secs=5, warnings=["snapshot 3 was damaged"])
    )
    assert daemon_cli.oj("status").out.splitlines()[1] == "warning: snapshot 3 was damaged"


def test_names_that_say_nothing_new_leave_no_column(daemon_cli: Harness) -> None:
    jobs = [entry(name=name) for name in ("build", JOB, "4f9h2k7m")]
    daemon_cli.daemon.answer("StatusOverview", overview(project("p", active_jobs=jobs)))
    assert daemon_cli.oj("status").out.count("    4f9h2k7m  build/test  running  1m\n") == 3


def test_json_is_the_overview(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("StatusOverview", FULL)
    done = daemon_cli.oj("status", "-o", "json")
    assert done.json == {key: value for key, value in FULL.items() if key != "type"}


def test_without_a_daemon_the_answer_is_that_none_runs(cli: Harness) -> None:
    assert cli.oj("status") == (0, "oj daemon: not running\n", "")
    assert cli.oj("status", "-o", "json") == (0, '{\n  "status": "not_running"\n}\n', "")


def test_a_daemon_that_refuses_is_an_error(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("StatusOverview", error("no", code="internal"))
    assert daemon_cli.oj("status") == (1, "", "Error: no\n")


def test_on_a_terminal_words_have_colours_and_lines_are_cut(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "StatusOverview", overview(project("p", active_jobs=[entry(name="n" * 100)]))
    )
    shown = daemon_cli.oj("status", tty=60).out
    assert "\x1b[32mrunning\x1b[0m" in shown
    assert "n…" in shown
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.splitlines()) == 60


@pytest.mark.parametrize("interval", ["0", "0s", "-1", "often"])
def test_an_interval_that_is_none_is_an_error(cli: Harness, interval: str) -> None:
    done = cli.oj("status", "--watch", f"--interval={interval}")
    assert (done.code, done.out) == (1, "")
    assert "is not a duration" in done.err


def changed(shown: Message | None, seq: int) -> Message:
    """An answer to Watch."""
    return reply("Changes", seq=seq, epoch=1, overview=shown)


def test_watching_into_a_pipe_prints_frame_after_frame(daemon_cli: Harness) -> None:
    first, second = changed(overview(uptime_secs=5), 3), changed(overview(uptime_secs=6), 4)
    daemon_cli.daemon.answer("Watch", first, second, SILENCE)
    process = daemon_cli.spawn("status", "--watch", "--interval", "1s")
    daemon_cli.daemon.wait_for("Watch", 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    frame = "oj daemon: running {}s | every 1s\nNo jobs are active; 'oj run' lists what can be run here.\n"
    assert (process.returncode, err) == (0, "")
    assert out == frame.format(5) + frame.format(6)
    assert [asked.get("since") for asked in daemon_cli.daemon.of("Watch")] == [None, 3, 4]


def test_watching_as_json_prints_one_document_a_line(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", changed(overview(uptime_secs=5), 3), SILENCE)
    process = daemon_cli.spawn("status", "--watch", "--interval", "1s", "-o", "json")
    daemon_cli.daemon.wait_for("Watch", 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(line)["uptime_secs"] for line in out.splitlines()] == [5]


def test_what_has_grown_old_is_asked_for_anew(daemon_cli: Harness) -> None:
    first, same, old = changed(overview(), 3), changed(None, 3), changed(overview(), 3)
    daemon_cli.daemon.answer("Watch", first, same, old, SILENCE)
    process = daemon_cli.spawn("status", "--watch", "--interval", "1s")
    daemon_cli.daemon.wait_for("Watch", 4)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    asked = daemon_cli.daemon.of("Watch")
    assert [each.get("since") for each in asked] == [None, 3, None, 3]
    assert {each["wait_ms"] for each in asked} == {1000}


def test_watching_goes_on_while_no_daemon_runs(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", HANG_UP, changed(overview(uptime_secs=5), 3), SILENCE)
    process = daemon_cli.spawn("status", "--watch", "--interval", "1s")
    daemon_cli.daemon.wait_for("Watch", 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[:2] == ["oj daemon: not running", "oj daemon: running 5s | every 1s"]


def test_watching_on_a_terminal_draws_over_the_last_picture(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((40, 24)))
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("oj_cli.commands.status.pause", pause)
    daemon_cli.daemon.answer(
        "Watch", changed(overview(project("p", active_jobs=[entry(name="n" * 60)])), 3)
    )
    done = daemon_cli.oj("status", "--watch", tty=80)
    assert (done.code, pauses) == (130, [0.2, 0.2])
    assert done.out.startswith("\x1b[2J\x1b[H")
    assert done.out.count("\x1b[H") == 2
    assert done.out.count("\x1b[K\n") == 10
    assert [len(cut) for cut in re.findall(r"n+…", done.out)] == [41, 6]
    assert done.out.endswith("\x1b[J")
