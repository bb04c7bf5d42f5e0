"""`oj job`: what is asked of the daemon, and what is shown of its answers."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from tests.support.fake_daemon import HANG_UP, SILENCE, Message, error
from tests.support.harness import Harness
from tests.support.replies import (
    HOUR,
    JOB,
    NOW,
    OTHER,
    agent,
    changes,
    decision,
    detail,
    node,
    reply,
    step,
    summary,
    view,
    workspace,
)

# list


def test_an_empty_list_is_one_sentence_and_a_hint_elsewhere(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[], total=0))
    done = daemon_cli.oj("job", "list")
    assert (done.code, done.out) == (0, "No jobs\n")
    assert done.err == "Hint: 'oj run' lists what can be run here\n"
    assert daemon_cli.daemon.requests == [
        {"type": "JobList", "project": None, "name": None, "status": None, "limit": 20}
    ]


def test_an_empty_list_is_an_empty_array(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[], total=0))
    assert daemon_cli.oj("job", "list", "-o", "json") == (0, "[]\n", "")


def test_a_list_shows_each_job_in_a_row(daemon_cli: Harness) -> None:
    rows = [
        summary(),
        summary(
            id=OTHER, name="漢字漢字", status="failed", step="lint", updated_at_ms=NOW - 2 * HOUR
        ),
    ]
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=rows, total=2))
    assert daemon_cli.oj("job", "list") == (
        0,
        (
            "ID        PROJECT  NAME       KIND   STEP  UPDATED  STATUS\n"
            "4f9h2k7m  shop     fix-login  build  test  5s       running\n"
            "z0y1x2w3  shop     漢字漢字   build  lint  2h       failed\n"
        ),
        "",
    )
    assert daemon_cli.oj("job", "list", "-o", "json").json == rows


def test_retries_have_a_column_if_there_are_any(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "JobList", reply("Jobs", jobs=[summary(retries=2), summary(id=OTHER)], total=2)
    )
    assert daemon_cli.oj("job", "list").out == (
        "ID        PROJECT  NAME       KIND   STEP  UPDATED  RETRIES  STATUS\n"
        "4f9h2k7m  shop     fix-login  build  test  5s       2        running\n"
        "z0y1x2w3  shop     fix-login  build  test  5s       0        running\n"
    )


def test_a_limit_tells_what_it_hides(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[summary()], total=6))
    assert daemon_cli.oj("job", "list", "-n", "1").out.endswith(
        "\n... 5 more not shown (use --no-limit or -n N)\n"
    )


@pytest.mark.parametrize(
    ("args", "asked"),
    [
        ([], {"project": None, "name": None, "status": None, "limit": 20}),
        (["build"], {"project": None, "name": "build", "status": None, "limit": 20}),
        (
            ["--status", "failed", "-n", "5"],
            {"project": None, "name": None, "status": "failed", "limit": 5},
        ),
        (
            ["--no-limit", "--project", "p"],
            {"project": "p", "name": None, "status": None, "limit": None},
        ),
    ],
)
def test_what_a_list_asks_for(daemon_cli: Harness, args: list[str], asked: Message) -> None:
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[summary()], total=1))
    daemon_cli.setenv("OJ_PROJECT", "only-a-default")
    assert daemon_cli.oj("job", "list", *args).code == 0
    assert daemon_cli.daemon.of("JobList") == [asked]


@pytest.mark.parametrize(
    "args", [["-n", "5", "--no-limit"], ["-n", "0"], ["-n", "x"], ["--nonsense"], ["a", "b"]]
)
def test_a_list_that_makes_no_sense_is_a_usage_error(daemon_cli: Harness, args: list[str]) -> None:
    done = daemon_cli.oj("job", "list", *args)
    assert (done.code, done.out) == (2, "")
    assert "Usage: oj job list" in done.err
    assert daemon_cli.daemon.requests == []


def test_an_unknown_status_lists_those_there_are(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[], total=0))
    done = daemon_cli.oj("job", "list", "--status", "faild")
    assert done.out == "No jobs\n"
    assert done.err == (
        "Hint: 'faild' is no status; if it is no step either, choose from: "
        "pending, running, waiting, ending, suspended, completed, failed, cancelled\n"
    )


def test_without_a_daemon_a_list_fails(cli: Harness) -> None:
    assert cli.oj("job", "list") == (1, "", "Error: Daemon not running\nHint: oj daemon start\n")
    done = cli.oj("job", "list", "-o", "json")
    assert done.code == 1
    assert done.json == {
        "error": {"message": "Daemon not running", "code": "unavailable", "hint": "oj daemon start"}
    }


# show

BUSY = detail(
    name="fix-login",
    steps=[
        step("init"),
        step(
            "build",
            "failed",
            detail="exit status 3: the compiler found a mistake that takes long to tell",
            exit_code=3,
        ),
        step("build", attempt=2),
        step("test", "running", deadline_at_ms=NOW + 60_000),
        step("lint", "pending", started_at_ms=0, attempt=2, retry_at_ms=NOW + 5000),
    ],
    graph=[
        node("init", "build"),
        node("build", "test", "lint", on_fail="clean"),
        node("test"),
        node("lint"),
        node("report", after=["test", "lint"]),
        node("clean"),
    ],
    vars={
        "invoke.dir": "/home/me/shop",
        "args.q": "1" * 90,
        "var.text": "x\ny",
        "local.branch": "fix",
        "odd": "",
    },
    workspace=workspace(),
    workspace_path="/state/workspaces/wks-8a7b6c5d4e3f2g1h",
    retries=1,
)


def test_a_running_job_says_what_it_is_doing_now(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", BUSY)
    done = daemon_cli.oj("job", "show", "4f9")
    assert (done.code, done.err) == (0, "")
    assert daemon_cli.daemon.of("JobShow") == [{"id": "4f9"}]
    assert (
        done.out
        == f"""\
Job:       job-4f9h2k7m1n3p5q8r
Name:      fix-login
Kind:      build
Project:   shop
Status:    running (for 1h)
Now:       test (running for 1m 0s, timeout in 1m 0s), lint (attempt 2, next try in 5s)
Started:   2027-01-15 07:00:00
Retries:   1
Workspace: /state/workspaces/wks-8a7b6c5d4e3f2g1h (worktree, branch ws-8a7b)
Runbook:   .oj/runbooks/build.hcl
Log:       /state/logs/job/job-4f9h2k7m1n3p5q8r.log

Steps:
  init    3s     completed
  build   3s     failed     exit status 3: the compiler found a mis…
  build   3s     completed  (attempt 2)
  test    1m 0s  running    (timeout in 1m 0s)
  lint    -      pending    (attempt 2, next try in 5s)
  report  -      to come    after test, lint
  (details are cut; --verbose shows them)

Graph:
  init    then build
  build   then test, lint; on fail clean
  test    end
  lint    end
  report  after test, lint
  clean   end

Variables:
  var.text: x\\ny
  local.branch: fix
  invoke.dir: /home/me/shop
  args.q: {"1" * 79}…
  odd:{" "}
  (values are cut; --verbose shows them)
"""
    )


def test_a_job_that_waits_says_what_for_and_what_to_type(daemon_cli: Harness) -> None:
    waits = detail(
        name="build",
        status="waiting",
        reason="Which way?",
        steps=[step("code", "waiting", detail="Which way?")],
        agents=[agent(status="waiting", detail="waits for a decision (idle): Which way?")],
        decisions=[decision(summary="Which way?", deadline_at_ms=NOW + HOUR, default="done")],
    )
    daemon_cli.daemon.answer("JobShow", waits)
    out = daemon_cli.oj("job", "show", "4f9").out
    assert "Now:       code (waiting for 1m 0s)\nReason:    Which way?\n" in out
    assert (
        """\
Agents:
  7m2n4p6q  coder  code  waiting  waits for a decision (idle): Which way?

Decisions:
  k3j5h7g9  code  [idle]  Which way?  (in 1h, then done)
    to answer: oj decision show k3j5h7g9
"""
        in out
    )
    shown = daemon_cli.oj("job", "show", "4f9", "-o", "json").json
    assert "type" not in {**shown["agents"][0], **shown["decisions"][0]}


def test_a_stand_alone_agent_is_called_a_crew(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail(id="crw-9q8p7n6m5k4j3h2g"))
    assert daemon_cli.oj("job", "show", "9q8").out.startswith("Crew:      crw-9q8p7n6m5k4j3h2g\n")


def test_verbose_shows_values_and_details_in_full(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", BUSY)
    shown = daemon_cli.oj("job", "show", JOB, "-v").out
    assert "exit status 3: the compiler found a mistake that takes long to tell\n" in shown
    assert "\n  var.text:\n    x\n    y\n" in shown
    assert f"\n  args.q: {'1' * 90}\n" in shown
    assert "--verbose" not in shown


def test_a_failed_job_says_why(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "JobShow",
        detail(
            status="failed",
            name="build",
            error="step test: exit status 1\nlast line of it",
            reason="step test: exit status 1\nlast line of it",
            finished_at_ms=NOW - HOUR // 2,
            steps=[step("test", "failed", detail="exit status 1")],
            graph=[node("test", "more"), node("more")],
        ),
    )
    assert (
        daemon_cli.oj("job", "show", "4f9").out
        == """\
Job:       job-4f9h2k7m1n3p5q8r
Kind:      build
Project:   shop
Status:    failed (after 30m)
Error:     step test: exit status 1
           last line of it
Started:   2027-01-15 07:00:00
Ended:     2027-01-15 07:30:00
Workspace: /home/me/shop
Runbook:   .oj/runbooks/build.hcl
Log:       /state/logs/job/job-4f9h2k7m1n3p5q8r.log

Steps:
  test  3s  failed  exit status 1
"""
    )


@pytest.mark.parametrize(
    ("status", "now"),
    [
        ("pending", "getting ready (for 5s)"),
        ("running", "between steps (for 5s)"),
        ("ending", "ending its steps (for 5s)"),
    ],
)
def test_a_job_without_an_active_step_says_what_it_waits_for(
    daemon_cli: Harness, status: str, now: str
) -> None:
    daemon_cli.daemon.answer("JobShow", detail(status=status))
    assert f"\nNow:       {now}\n" in daemon_cli.oj("job", "show", "4f9").out


def test_a_job_whose_place_does_not_come_says_in_full_what_that_waits_for(
    daemon_cli: Harness,
) -> None:
    text = "no node takes the pod: 0/1 nodes are available: 1 Insufficient cpu.; ask for less cpu, or add nodes"
    place = workspace(status="creating", waits_for=text)
    daemon_cli.daemon.answer("JobShow", detail(status="pending", workspace=place))
    shown = daemon_cli.oj("job", "show", "4f9").out
    assert f"\nNow:       getting ready (for 5s)\nWaits:     {text}\n" in shown


def test_repeated_visits_are_numbered_and_details_that_say_nothing_left_out(
    daemon_cli: Harness,
) -> None:
    runs = [
        step("a"),
        step("a", "cancelled", visit=2, run=2, detail="cancelled"),
        step("b", "running", run=3),
    ]
    daemon_cli.daemon.answer("JobShow", detail(steps=runs))
    shown = daemon_cli.oj("job", "show", "4f9").out
    assert shown.partition("Steps:\n")[2] == (
        "  a  3s     completed\n  a  3s     cancelled  (visit 2)\n  b  1m 0s  running\n"
    )


def test_json_of_a_job_is_the_whole_reply(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", BUSY)
    expected = {key: value for key, value in BUSY.items() if key != "type"}
    expected["workspace"] = {key: value for key, value in workspace().items() if key != "type"}
    assert daemon_cli.oj("job", "show", "4f9", "-o", "json").json == expected


def test_an_unknown_job_is_named_and_fails(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobShow", "Job not found: nope", hint="oj job list")
    assert daemon_cli.oj("job", "show", "nope") == (
        1,
        "",
        "Error: Job not found: nope\nHint: oj job list\n",
    )
    done = daemon_cli.oj("-o", "json", "job", "show", "nope")
    assert done.code == 1
    assert done.json == {
        "error": {"message": "Job not found: nope", "code": "not_found", "hint": "oj job list"}
    }


def test_hostile_names_cannot_act_on_a_terminal(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "JobShow", detail(name="\x1b[2J\x1b[31mx", vars={"var.a": "\x07\x1b]0;t\x07"})
    )
    shown = daemon_cli.oj("job", "show", "4f9", tty=80).out
    assert "^[[2Jx" in shown
    assert "^G^[]0;t^G" in shown
    assert "\x07" not in shown


def test_a_story_tells_every_fact(daemon_cli: Harness) -> None:
    fields = {"seq": 3, "at_ms": NOW, "cause": "r-1", "fact": "job:created", "data": {"name": "x"}}
    line = view("StoryLine", **fields)
    daemon_cli.daemon.answer("JobStory", reply("Story", lines=[line], complete=False))
    assert daemon_cli.oj("job", "show", "--story", "4f9") == (
        0,
        (
            "SEQ  AT                   FACT         CAUSE  DATA\n"
            '  3  2027-01-15 08:00:00  job:created  r-1    {"name": "x"}\n'
        ),
        "The beginning of this story is no longer in the log.\n",
    )
    assert daemon_cli.oj("job", "show", "--story", "4f9", "-o", "json").json == {
        "lines": [line],
        "complete": False,
    }


# wait

ENDED = {"finished_at_ms": NOW}


@pytest.mark.parametrize(
    ("status", "code", "out", "err"),
    [
        ("completed", 0, "Job fix-login (4f9h2k7m) completed\n", ""),
        ("failed", 1, "", "Job fix-login (4f9h2k7m) failed: it broke\n"),
        ("cancelled", 4, "", "Job fix-login (4f9h2k7m) cancelled: it broke\n"),
        ("suspended", 5, "", "Job fix-login (4f9h2k7m) suspended: it broke\n"),
    ],
)
def test_the_exit_code_of_a_wait_says_how_it_went(
    daemon_cli: Harness, status: str, code: int, out: str, err: str
) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", changes(detail(status=status, error="it broke", **ENDED)))
    assert daemon_cli.oj("job", "wait", "4f9") == (code, out, err)
    assert daemon_cli.daemon.of("Watch") == [
        {"ids": [JOB], "since": 0, "wait_ms": 20_000, "logs": {}}
    ]


def test_a_wait_tells_each_step_once(daemon_cli: Harness) -> None:
    first = [step("init"), step("test", "running")]
    second = [
        step("init"),
        step("test", "failed", detail="exit 1"),
        step("test", "running", attempt=2),
    ]
    third = [
        *second[:2],
        step("test", attempt=2),
        step("ask", "waiting", detail="which one?", visit=2),
    ]
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer(
        "Watch",
        changes(detail(steps=first), seq=1),
        changes(detail(steps=first), seq=2),
        changes(seq=2),
        changes(detail(steps=second), seq=3),
        changes(detail(steps=third, status="completed", **ENDED), seq=4),
    )
    assert daemon_cli.oj("job", "wait", JOB) == (
        0,
        (
            "init started\ninit completed (3s)\ntest started\ntest failed (3s) - exit 1\n"
            "test started (attempt 2)\ntest completed (3s)\nask started\nask waiting (which one?)\n"
            "Job fix-login (4f9h2k7m) completed\n"
        ),
        "",
    )
    assert [asked["since"] for asked in daemon_cli.daemon.of("Watch")] == [0, 1, 2, 2, 3]


def test_a_try_that_never_began_is_told_only_if_it_failed(daemon_cli: Harness) -> None:
    never: Message = {"started_at_ms": 0}
    runs = [
        step("a", "failed", detail="no such folder", **never),
        step("b", "cancelled", **never),
        step("c", "pending", **never),
        step("d", "suspended", detail="suspended"),
    ]
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", changes(detail(status="failed", error="x", steps=runs)))
    assert daemon_cli.oj("job", "wait", "4f9").out == (
        "a failed - no such folder\nd started\nd suspended (3s)\n"
    )


def two_jobs(request: Message) -> Message:
    return (
        detail(id=OTHER, name="second")
        if request["id"] == "second"
        else detail(id=JOB, name="first")
    )


def test_a_daemon_that_is_replaced_while_ids_are_looked_up_does_not_end_a_wait(
    daemon_cli: Harness,
) -> None:
    daemon_cli.daemon.answer("JobShow", HANG_UP, HANG_UP, detail())
    daemon_cli.daemon.answer("Watch", changes(detail(status="completed", **ENDED)))
    code, out, err = daemon_cli.oj("job", "wait", "4f9")
    assert (code, err.count("waiting for the daemon to come back")) == (0, 1)
    assert out.endswith("completed\n")


def test_a_daemon_that_is_replaced_while_a_log_is_opened_does_not_end_following(
    daemon_cli: Harness,
) -> None:
    ended = detail(status="completed", **ENDED)
    daemon_cli.daemon.answer("JobShow", HANG_UP, ended)
    daemon_cli.daemon.answer(
        "JobLogs", HANG_UP, {"type": "Log", "log_path": "x", "content": "one\n", "offset": 4}
    )
    daemon_cli.daemon.answer("Watch", changes(ended))
    assert daemon_cli.oj("logs", "-f", "4f9")[:2] == (0, "one\n")


def test_a_wait_for_any_returns_with_the_first(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", two_jobs)
    daemon_cli.daemon.answer(
        "Watch",
        changes(
            detail(name="first", steps=[step("a")]),
            detail(id=OTHER, name="second", status="completed"),
        ),
    )
    assert daemon_cli.oj("job", "wait", "first", "second") == (
        0, "[first] a started\n[first] a completed (3s)\nJob second (z0y1x2w3) completed\n", "",
    )  # fmt: skip


def test_a_wait_for_all_goes_on_with_those_left_and_the_worst_decides(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", two_jobs)
    daemon_cli.daemon.answer(
        "Watch",
        changes(detail(name="first", status="failed", error="no")),
        changes(detail(id=OTHER, name="second", status="cancelled"), seq=8),
    )
    done = daemon_cli.oj("job", "wait", "--all", "first", "second")
    assert (done.code, done.err) == (
        1,
        "Job first (4f9h2k7m) failed: no\nJob second (z0y1x2w3) cancelled\n",
    )
    assert [asked["ids"] for asked in daemon_cli.daemon.of("Watch")] == [[JOB, OTHER], [OTHER]]


def test_the_same_job_named_twice_is_one_job(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", changes(detail(status="completed")))
    assert (
        daemon_cli.oj("job", "wait", "--all", "4f9", JOB).out
        == "Job fix-login (4f9h2k7m) completed\n"
    )
    assert daemon_cli.daemon.of("Watch")[0]["ids"] == [JOB]


def test_a_wait_for_an_unknown_job_is_3(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobShow", "Job not found: nope")
    assert daemon_cli.oj("job", "wait", "nope") == (3, "", "Error: Job not found: nope\n")
    done = daemon_cli.oj("job", "wait", "nope", "-o", "json")
    assert (done.code, done.json["error"]["code"]) == (3, "not_found")


def test_a_wait_for_an_ambiguous_id_is_an_error_and_no_wait(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobShow", f"'4' is ambiguous: {JOB}, job-4xxx", code="ambiguous")
    assert daemon_cli.oj("job", "wait", "4") == (
        1,
        "",
        f"Error: '4' is ambiguous: {JOB}, job-4xxx\n",
    )


def test_a_job_that_is_pruned_meanwhile_ends_the_wait(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", changes(missing=(JOB,)))
    done = daemon_cli.oj("job", "wait", "4f9")
    assert (done.code, done.out) == (3, "")
    assert f"Job not found: {JOB} (it was pruned while we waited)" in done.err


def test_a_wait_that_takes_too_long_is_2_and_says_what_the_job_does(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    busy = changes(detail(steps=[step("test", "running")]))
    daemon_cli.daemon.answer("Watch", busy, busy, SILENCE)
    daemon_cli.setenv("OJ_TIMEOUT_IPC_MS", "10")
    done = daemon_cli.oj("job", "wait", "4f9", "--timeout", "1s")
    assert (done.code, done.out) == (2, "test started\n")
    assert done.err.endswith(
        "Job fix-login (4f9h2k7m) has not ended: test (running for 1m 0s)\n"
        "Error: timed out after 1s\nHint: oj status\n"
    )
    assert all(asked["wait_ms"] <= 1000 for asked in daemon_cli.daemon.of("Watch"))


@pytest.mark.parametrize("duration", ["0", "soon", "-1"])
def test_a_timeout_that_is_none_is_an_error(daemon_cli: Harness, duration: str) -> None:
    done = daemon_cli.oj("job", "wait", "4f9", f"--timeout={duration}")
    assert done.code == 1
    assert "is not a duration" in done.err


def test_a_decision_ends_a_wait_only_if_asked(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    blocked = changes(detail(status="waiting", reason="which branch?"))
    daemon_cli.daemon.answer("Watch", blocked)
    assert daemon_cli.oj("job", "wait", "--until-blocked", "4f9") == (
        6, "", "Job fix-login (4f9h2k7m) waits for a decision: which branch?\n",
    )  # fmt: skip
    asks = detail(
        status="waiting",
        steps=[step("code", "waiting", detail="which branch?")],
        decisions=[decision()],
    )
    daemon_cli.daemon.answer("Watch", changes(asks))
    assert daemon_cli.oj("job", "wait", "--until-blocked", "4f9") == (
        6,
        "code started\ncode waiting (which branch?); oj decision show k3j5h7g9\n",
        "Job fix-login (4f9h2k7m) waits for a decision\nHint: oj decision show k3j5h7g9\n",
    )
    daemon_cli.daemon.answer("Watch", blocked, changes(detail(status="completed")))
    assert daemon_cli.oj("job", "wait", "4f9").code == 0


def test_a_daemon_that_restarts_does_not_end_a_wait(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer(
        "Watch",
        changes(detail(steps=[step("a")]), seq=50),
        HANG_UP,
        HANG_UP,
        changes(detail(steps=[step("a"), step("b")], status="completed"), seq=51),
    )
    done = daemon_cli.oj("job", "wait", "4f9")
    assert done.code == 0
    assert done.out.splitlines()[:4] == [
        "a started",
        "a completed (3s)",
        "b started",
        "b completed (3s)",
    ]
    assert done.err.count("waiting for the daemon to come back") == 1


def test_a_daemon_that_stays_away_ends_a_wait_with_its_timeout(daemon_cli: Harness) -> None:
    def vanish(_request: Message) -> Message:
        daemon_cli.daemon.path.unlink(missing_ok=True)
        return HANG_UP

    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", vanish)
    assert daemon_cli.oj("job", "wait", "4f9", "--timeout", "1s").code == 2


def test_json_of_a_wait_is_one_object_with_the_outcome(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer(
        "Watch", changes(detail(status="failed", error="no", steps=[step("a")]))
    )
    done = daemon_cli.oj("job", "wait", "4f9", "-o", "json")
    assert (done.code, done.err) == (1, "")
    assert done.json == {
        "outcome": "failed",
        "jobs": [
            {
                "id": JOB, "name": "fix-login", "kind": "build", "project": "shop", "status": "failed", "step": "test",
                "reason": "", "error": "no",
            }
        ],
    }  # fmt: skip


def test_an_interrupt_in_the_middle_of_a_request_is_130(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", changes(detail(steps=[step("a", "running")])), SILENCE)
    process = daemon_cli.spawn("job", "wait", "4f9")
    daemon_cli.daemon.wait_for("Watch", 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "a started\n")


def test_a_wait_in_the_background_of_a_script_is_not_interrupted(daemon_cli: Harness) -> None:
    interrupted = threading.Event()

    def end(_request: Message) -> Message:
        assert interrupted.wait(30)
        return changes(detail(status="completed"))

    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("Watch", changes(detail()), end)
    process = daemon_cli.spawn("job", "wait", "4f9", ignores_interrupts=True)
    daemon_cli.daemon.wait_for("Watch", 2)
    process.send_signal(signal.SIGINT)
    interrupted.set()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "Job fix-login (4f9h2k7m) completed\n")


def test_a_job_without_a_name_is_called_by_its_kind(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail(name=JOB))
    daemon_cli.daemon.answer("Watch", changes(detail(name=JOB, status="completed")))
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[summary(name=JOB)], total=1))
    assert daemon_cli.oj("job", "wait", "4f9").out == "Job build (4f9h2k7m) completed\n"
    assert daemon_cli.oj("job", "list").out.splitlines()[1] == (
        "4f9h2k7m  shop     -     build  test  5s       running"
    )


# logs


def log(content: str, offset: int = 100, **fields: object) -> Message:
    return reply(
        "Log", log_path=f"/state/logs/job/{JOB}.log", content=content, offset=offset, **fields
    )


def chunk(content: str, offset: int, **fields: object) -> dict[str, Message]:
    return {JOB: view("LogChunk", content=content, offset=offset, **fields)}


def test_the_last_lines_of_a_log(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobLogs", log("a\nb\nc"))
    assert daemon_cli.oj("job", "logs", "4f9", "-n", "3") == (0, "a\nb\nc\n", "")
    assert daemon_cli.daemon.of("JobLogs") == [{"id": "4f9", "lines": 3, "step": None}]


@pytest.mark.parametrize(
    ("args", "lines", "name"),
    [([], 50, None), (["-n", "0"], None, None), (["-s", "test"], 50, "test")],
)
def test_what_a_log_asks_for(
    daemon_cli: Harness, args: list[str], lines: int | None, name: str | None
) -> None:
    daemon_cli.daemon.answer("JobLogs", log("a\n"))
    assert daemon_cli.oj("logs", "4f9", *args).out == "a\n"
    assert daemon_cli.daemon.of("JobLogs") == [{"id": "4f9", "lines": lines, "step": name}]


def test_an_empty_log_is_a_sentence_and_no_error(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobLogs", log("", 0))
    assert daemon_cli.oj("job", "logs", "4f9") == (0, "", "No log entries found for job 4f9\n")


def test_json_of_a_log_has_its_path_and_lines(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobLogs", log("a\nb\u2028c\n"))
    done = daemon_cli.oj("job", "logs", "4f9", "-f", "-o", "json")
    assert done.json == {"log_path": f"/state/logs/job/{JOB}.log", "lines": ["a", "b\u2028c"]}
    assert done.err == "Warning: -f is ignored with JSON output\n"


def test_the_log_of_an_unknown_job_fails(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("JobLogs", "Job not found: nope")
    daemon_cli.daemon.refuse("JobShow", "Job not found: nope")
    assert daemon_cli.oj("job", "logs", "nope").code == 1
    assert daemon_cli.oj("job", "logs", "nope", "-f") == (1, "", "Error: Job not found: nope\n")


def test_following_a_log_misses_and_repeats_nothing(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("JobLogs", log("one\ntw", 6))
    daemon_cli.daemon.answer(
        "Watch",
        changes(detail(), seq=1, logs=chunk("o\nthree\n", 14)),
        changes(seq=1, logs=chunk("", 14)),
        changes(detail(status="completed"), seq=2, logs=chunk("four\n", 19)),
        changes(seq=2, logs=chunk("five", 23)),
        changes(seq=2, logs=chunk("", 23)),
    )
    assert daemon_cli.oj("logs", "4f9", "-f") == (0, "one\ntwo\nthree\nfour\nfive\n", "")
    assert [
        (asked["since"], asked["wait_ms"], asked["logs"]) for asked in daemon_cli.daemon.of("Watch")
    ] == [
        (0, 20_000, {JOB: 6}),
        (1, 20_000, {JOB: 14}),
        (1, 20_000, {JOB: 14}),
        (2, 0, {JOB: 19}),
        (2, 0, {JOB: 23}),
    ]


def test_following_a_finished_job_ends_by_itself(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail(status="failed"))
    daemon_cli.daemon.answer("JobLogs", log("one\n", 4))
    daemon_cli.daemon.answer("Watch", changes(detail(status="failed"), logs=chunk("", 4)))
    assert daemon_cli.oj("logs", "4f9", "-f") == (0, "one\n", "")


def test_a_log_that_was_cut_short_is_read_from_its_beginning(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("JobLogs", log("old\nol", 60))
    daemon_cli.daemon.answer(
        "Watch",
        changes(detail(status="completed"), logs=chunk("new\n", 4, restarted=True)),
        changes(logs=chunk("", 4)),
    )
    done = daemon_cli.oj("logs", "4f9", "-f")
    assert done.out == "old\nnew\n"
    assert done.err == "Warning: the log was cut short meanwhile; reading on from its beginning\n"


def test_following_one_step_leaves_the_others_out(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("JobLogs", log("2027-01-15T08:00:00Z [a] 1\n", 27))
    daemon_cli.daemon.answer(
        "Watch",
        changes(
            detail(status="completed"),
            logs=chunk(
                "2027-01-15T08:00:01Z [b] 2\nmore of b\n2027-01-15T08:00:02Z [a#2] 3\nmore of a\n",
                99,
            ),
        ),
        changes(logs=chunk("", 99)),
    )
    assert daemon_cli.oj("logs", "4f9", "-f", "-s", "a").out == (
        "2027-01-15T08:00:00Z [a] 1\n2027-01-15T08:00:02Z [a#2] 3\nmore of a\n"
    )


def test_following_survives_a_daemon_that_restarts(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("JobLogs", log("one\n", 4))
    daemon_cli.daemon.answer(
        "Watch",
        changes(detail(), seq=9, logs=chunk("two\n", 8)),
        HANG_UP,
        changes(detail(status="completed"), seq=9, logs=chunk("three\n", 14)),
        changes(logs=chunk("", 14)),
    )
    done = daemon_cli.oj("logs", "4f9", "-f")
    assert (done.code, done.out) == (0, "one\ntwo\nthree\n")
    assert [asked["logs"] for asked in daemon_cli.daemon.of("Watch")][1:3] == [
        {JOB: 8},
        {JOB: 8},
    ]


def test_an_interrupt_ends_following_with_success(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    daemon_cli.daemon.answer("JobLogs", log("one\n", 4))
    daemon_cli.daemon.answer("Watch", SILENCE)
    process = daemon_cli.spawn("logs", "-f", "4f9")
    daemon_cli.daemon.wait_for("Watch")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("one\n", "")
    assert process.returncode == 0


def test_a_log_cannot_act_on_a_terminal(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobLogs", log("\x1b[1;31mred\x1b[0m\x1b[2J\ttab\n"))
    assert daemon_cli.oj("job", "logs", "4f9", tty=80).out == "red^[[2J\ttab\n"


# cancel, suspend, resume, prune


@pytest.mark.parametrize("prefix", [["job"], []])
@pytest.mark.parametrize(
    ("verb", "request_name", "reply_name", "word"),
    [
        ("cancel", "JobCancel", "JobsCancelled", "Cancelled"),
        ("suspend", "JobSuspend", "JobsSuspended", "Suspended"),
    ],
)
def test_each_job_that_is_ended_gets_a_line(
    daemon_cli: Harness, prefix: list[str], verb: str, request_name: str, reply_name: str, word: str
) -> None:
    done_field = word.lower()
    answer = reply(
        reply_name, **{done_field: [JOB]}, already_terminal=[OTHER], not_found=[], ambiguous=[]
    )
    daemon_cli.daemon.answer(request_name, answer)
    assert daemon_cli.oj(*prefix, verb, "4f9", OTHER, "4f9") == (
        0, f"{word} job {JOB}\nJob {OTHER} was already terminal\n", "",
    )  # fmt: skip
    assert daemon_cli.daemon.of(request_name) == [{"ids": ["4f9", OTHER]}]


def test_a_cancel_that_finds_only_some_fails_and_names_the_others(daemon_cli: Harness) -> None:
    answer = reply(
        "JobsCancelled",
        cancelled=[JOB],
        already_terminal=[],
        not_found=["nope"],
        ambiguous=[{"id": "z", "candidates": ["job-z1", "job-z2"]}],
    )
    daemon_cli.daemon.answer("JobCancel", answer)
    done = daemon_cli.oj("cancel", "4f9", "nope", "z")
    assert (done.code, done.out) == (1, f"Cancelled job {JOB}\n")
    assert done.err == (
        "Job not found: nope\nJob z is ambiguous: job-z1, job-z2\nHint: 'oj job list --no-limit' shows all ids\n"
    )
    done = daemon_cli.oj("cancel", "4f9", "nope", "z", "-o", "json")
    assert (done.code, done.json) == (
        1,
        {key: value for key, value in answer.items() if key != "type"},
    )


@pytest.mark.parametrize("prefix", [["job"], []])
@pytest.mark.parametrize(
    ("args", "asked", "verb"),
    [
        ([], {}, "Resumed"),
        (
            ["--var", "a=b=c", "--var", "d="],
            {"vars": {"a": "b=c", "d": ""}},
            "Updated vars and resumed",
        ),
        (
            ["-m", "go on", "--step", "test", "--kill"],
            {"message": "go on", "step": "test", "kill": True},
            "Resumed",
        ),
    ],
)
def test_resuming_one_job(
    daemon_cli: Harness, prefix: list[str], args: list[str], asked: dict[str, Any], verb: str
) -> None:
    daemon_cli.daemon.answer(
        "JobResume", reply("JobResumed", id=JOB, steps=["test", "lint"], warnings=["no agent"])
    )
    assert daemon_cli.oj(*prefix, "resume", "4f9", *args) == (
        0, f"{verb} job {JOB} at test, lint\n", "Warning: no agent\n",
    )  # fmt: skip
    default: Message = {"id": "4f9", "message": None, "vars": {}, "step": None, "kill": False}
    assert daemon_cli.daemon.of("JobResume") == [{**default, **asked}]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "which job?"),
        (["4f9", "--all"], "--all cannot be combined"),
        (["--all", "-m", "x"], "--all cannot be combined"),
        (["--all", "--var", "a=b"], "--all cannot be combined"),
        (["4f9", "--var", "a"], "--var a: expected KEY=VALUE"),
        (["4f9", "--var", "=b"], "--var =b: expected KEY=VALUE"),
    ],
)
def test_a_resume_that_makes_no_sense_asks_nothing(
    cli: Harness, args: list[str], message: str
) -> None:
    done = cli.oj("job", "resume", *args)
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert list(cli.state.iterdir()) == []


def test_a_job_that_is_done_cannot_be_resumed(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "JobResume", error("job fix-login is completed", code="conflict", hint="oj run")
    )
    assert daemon_cli.oj("resume", "4f9") == (
        1,
        "",
        "Error: job fix-login is completed\nHint: oj run\n",
    )


def test_resuming_all_tells_what_was_skipped(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "JobResumeAll", reply("JobsResumed", resumed=[JOB], skipped=[[OTHER, "it runs"]])
    )
    assert daemon_cli.oj("resume", "--all", "--kill", "--project", "p").out == (
        f"Resumed job {JOB}\nSkipped job {OTHER}: it runs\n"
    )
    assert daemon_cli.daemon.of("JobResumeAll") == [{"kill": True, "project": "p"}]
    daemon_cli.daemon.answer("JobResumeAll", reply("JobsResumed", resumed=[], skipped=[]))
    assert daemon_cli.oj("resume", "--all").out == "No resumable jobs found\n"


def test_a_prune_stays_in_the_project_that_was_named(daemon_cli: Harness) -> None:
    entry = {"id": JOB, "name": "fix-login", "detail": "failed"}
    answer = reply("Pruned", dry_run=True, pruned=[entry], skipped=3)
    daemon_cli.daemon.answer("JobPrune", answer)
    assert daemon_cli.oj("job", "prune", "--all", "--failed", "--dry-run", "--project", "p") == (
        0, f"Would prune job {JOB} (fix-login): failed\nWould prune 1 job, 3 skipped\n", "",
    )  # fmt: skip
    assert daemon_cli.daemon.of("JobPrune") == [
        {"all": True, "failed": True, "dry_run": True, "project": "p"}
    ]
    assert daemon_cli.oj("job", "prune", "-o", "json").json == {
        "dry_run": True,
        "pruned": [entry],
        "skipped": 3,
    }


def test_the_group_alone_is_a_usage_error_with_help(cli: Harness) -> None:
    done = cli.oj("job")
    assert done.code == 2
    assert "list" in done.out + done.err
