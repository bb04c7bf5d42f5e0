"""`oj agent`: what is asked of the daemon, what is printed, and how a wait ends."""

from __future__ import annotations

import pytest

from tests.support.fake_daemon import Message, error
from tests.support.harness import Harness
from tests.support.replies import (
    AGENT,
    DECISION,
    HOUR,
    JOB,
    NOW,
    OTHER,
    agent,
    changes,
    detail,
    reply,
    step,
)

CREW = "crw-9q8p7n6m5k4j3h2g"
NEXT = "agt-b1c2d3e4f5g6h7j8"


def listed(*agents: Message, total: int = 0) -> Message:
    return reply("Agents", agents=list(agents), total=total or len(agents))


# List and show


def test_agents_are_listed_with_what_they_do_and_why(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "AgentList",
        listed(
            agent(status="waiting", detail="waits for a decision (idle): idle, it said: Done?"),
            agent(id=NEXT, owner=f"crew:{CREW}", step="coder", files_read=3, commands=12),
            total=5,
        ),
    )
    done = daemon_cli.oj("agent", "list", "--job", "4f9", "--status", "waiting", "-n", "2")
    assert done.code == 0
    header, first, second, more = done.out.splitlines()
    assert header.split()[:6] == ["ID", "NAME", "PROJECT", "JOB", "STEP", "UPDATED"]
    assert first.startswith("7m2n4p6q  coder  shop     4f9h2k7m  code")
    assert first.endswith("waits for a decision (idle): idle, it said: Done?")
    assert second.startswith("b1c2d3e4  coder  shop     9q8p7n6m  coder")
    assert second.split()[5:10] == ["5s", "3", "0", "12", "running"]
    assert more == "... 3 more not shown (use --no-limit or -n N)"
    (asked,) = daemon_cli.daemon.of("AgentList")
    assert asked == {"project": None, "job": "4f9", "status": "waiting", "limit": 2}


def test_no_agents_is_a_sentence_and_a_wrong_status_is_explained(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentList", listed())
    assert daemon_cli.oj("agent", "list") == (0, "No agents found\n", "")
    assert "choose from: queued, starting" in daemon_cli.oj("agent", "list", "--status", "up").err
    assert daemon_cli.oj("agent", "list", "-o", "json").json == []


def test_show_says_why_an_agent_is_as_it_is(daemon_cli: Harness) -> None:
    view = agent(
        status="waiting",
        state="exited",
        detail="waits for a decision (dead): exited unexpectedly: exit code 1",
        exit_reason="killed by signal 9",
        attempts={"idle": 2},
        last_message="I am\ndone",
        decision_id=DECISION,
        files_read=3,
        commands=1,
        usage={
            "input_tokens": 2000,
            "cache_read_tokens": 500,
            "output_tokens": 70,
            "total_cost_usd": 0.256,
        },
    )
    daemon_cli.daemon.answer("AgentShow", view)
    out = daemon_cli.oj("agent", "show", "7m2").out
    for line in (
        f"Agent:     {AGENT}",
        "Job:       4f9h2k7m fix-login",
        "Status:    waiting (for 1h)",
        "Why:       waits for a decision (dead): exited unexpectedly: exit code 1; killed by signal 9",
        "Attempts:  idle 2",
        "Did:       3 files read, 1 command run",
        "Usage:     2000 tokens in, 70 out, 500 cached, $0.26",
        "  done",
        "It waits for a decision: oj decision show k3j5h7g9",
    ):
        assert line in out.splitlines(), out
    shown = daemon_cli.oj("agent", "show", "7m2", "-o", "json").json
    assert (shown["id"], "type" in shown) == (AGENT, False)


def test_a_crew_has_no_step_and_an_agent_that_has_ended_no_state(daemon_cli: Harness) -> None:
    view = agent(owner=f"crew:{CREW}", status="completed", finished_at_ms=NOW - HOUR + 65_000)
    daemon_cli.daemon.answer("AgentShow", view)
    out = daemon_cli.oj("agent", "show", "x").out
    assert "Crew:      9q8p7n6m" in out
    assert "Status:    completed (after 1m)" in out
    assert "Step:" not in out
    assert "State:" not in out


def test_an_agent_that_nobody_knows_fails(daemon_cli: Harness) -> None:
    daemon_cli.daemon.refuse("AgentShow", "Agent not found: x", hint="oj agent list")
    done = daemon_cli.oj("agent", "show", "x")
    assert done == (1, "", "Error: Agent not found: x\nHint: oj agent list\n")


# Deeds


@pytest.mark.parametrize(
    ("words", "request_", "fields", "said"),
    [
        (["send", "7m2", "go on"], "AgentSend", {"message": "go on"}, "Sent to agent 7m2n4p6q\n"),
        (["kill", "7m2"], "AgentKill", {}, "Killed agent 7m2n4p6q\n"),
        (
            ["resume", "7m2", "--kill", "-m", "hi"],
            "AgentResume",
            {"message": "hi", "kill": True},
            "Resumed agent 7m2n4p6q\n",
        ),
    ],
    ids=["send", "kill", "resume"],
)
def test_a_deed_names_the_agent(
    daemon_cli: Harness, words: list[str], request_: str, fields: Message, said: str
) -> None:
    daemon_cli.daemon.answer(request_, agent())
    assert daemon_cli.oj("agent", *words) == (0, said, "")
    assert daemon_cli.daemon.of(request_) == [{"id": "7m2", **fields}]
    assert daemon_cli.oj("agent", *words, "-o", "json").json["id"] == AGENT


def test_an_empty_message_is_not_sent(daemon_cli: Harness) -> None:
    assert daemon_cli.oj("agent", "send", "7m2", " ").code == 1
    assert daemon_cli.daemon.of("AgentSend") == []


def test_suspend_is_that_of_the_job(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentShow", agent())
    suspended = reply("JobsSuspended", suspended=[JOB], already_terminal=[], not_found=[])
    daemon_cli.daemon.answer("JobSuspend", suspended)
    assert daemon_cli.oj("agent", "suspend", "7m2") == (0, f"Suspended job {JOB}\n", "")
    assert daemon_cli.daemon.of("JobSuspend") == [{"ids": [JOB]}]


def test_a_crew_cannot_be_suspended(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentShow", agent(owner=f"crew:{CREW}"))
    done = daemon_cli.oj("agent", "suspend", "7m2")
    assert done.code == 1
    assert "stands alone" in done.err
    assert "oj cancel 9q8p7n6m" in done.err


def test_resume_of_all_prints_what_was_skipped_and_why(daemon_cli: Harness) -> None:
    both = reply("AgentsResumed", resumed=[AGENT], skipped=[[NEXT, "its session is up"]])
    daemon_cli.daemon.answer("AgentResumeAll", both, reply("AgentsResumed", resumed=[], skipped=[]))
    assert daemon_cli.oj("agent", "resume", "--all").out == (
        "Resumed agent 7m2n4p6q\nSkipped agent b1c2d3e4: its session is up\n"
    )
    assert daemon_cli.oj("agent", "resume", "--all").out == "No agents to resume\n"
    assert daemon_cli.daemon.of("AgentResumeAll")[0] == {
        "message": None,
        "kill": False,
        "project": None,
    }


@pytest.mark.parametrize("words", [["resume"], ["resume", "x", "--all"]], ids=["none", "both"])
def test_resume_wants_an_id_or_all(daemon_cli: Harness, words: list[str]) -> None:
    assert daemon_cli.oj("agent", *words).code == 1
    assert daemon_cli.daemon.requests == []


def test_prune_prints_what_it_forgets(daemon_cli: Harness) -> None:
    entry = {"id": AGENT, "name": "coder", "detail": "job 4f9h2k7m completed"}
    daemon_cli.daemon.answer("AgentPrune", reply("Pruned", dry_run=True, pruned=[entry], skipped=1))
    assert daemon_cli.oj("agent", "prune", "--all", "--dry-run", "--project", "p").out == (
        f"Would prune agent {AGENT} (coder): job 4f9h2k7m completed\nWould prune 1 agent, 1 skipped\n"
    )
    assert daemon_cli.daemon.of("AgentPrune") == [{"all": True, "dry_run": True, "project": "p"}]


# Wait


def waits(
    cli: Harness, *news: Message, view: Message | None = None, timeout: str = ""
) -> tuple[int, str, str]:
    cli.daemon.answer("AgentShow", view or agent())
    cli.daemon.answer("Watch", *news)
    return cli.oj("agent", "wait", "7m2", *(["--timeout", timeout] if timeout else []))


def with_agents(*agents: Message, seq: int = 7, **fields: object) -> Message:
    return changes(detail(agents=list(agents), **fields), seq=seq)


def test_wait_ends_when_the_agent_has_finished(daemon_cli: Harness) -> None:
    done = waits(daemon_cli, with_agents(agent()), with_agents(agent(status="completed"), seq=8))
    assert done == (0, "Agent coder (7m2n4p6q) running\nAgent coder (7m2n4p6q) completed\n", "")
    assert [asked["ids"] for asked in daemon_cli.daemon.of("Watch")] == [[JOB], [JOB]]


def test_wait_ends_when_somebody_is_needed(daemon_cli: Harness) -> None:
    asks = agent(status="waiting", detail="asks", decision_id=DECISION)
    busy = agent(status="waiting", detail="its gate runs")
    done = waits(daemon_cli, with_agents(busy), with_agents(asks, seq=8))
    assert done == (
        0,
        "Agent coder (7m2n4p6q) waiting\nAgent coder (7m2n4p6q) waiting: asks\n",
        "Hint: oj decision show k3j5h7g9\n",
    )


def test_wait_fails_when_the_session_is_gone(daemon_cli: Harness) -> None:
    dead = agent(status="waiting", state="exited", detail="exit code 1", decision_id=DECISION)
    code, _, err = waits(daemon_cli, with_agents(dead))
    assert (code, err.splitlines()[0]) == (1, "Agent coder (7m2n4p6q) gone: exit code 1")
    code, _, err = waits(daemon_cli, with_agents(agent(status="failed", detail="no such program")))
    assert (code, err) == (1, "Agent coder (7m2n4p6q) failed: no such program\n")


def test_wait_goes_on_with_the_session_that_replaces_the_agent(daemon_cli: Harness) -> None:
    old = agent(status="gone")
    done = waits(
        daemon_cli,
        with_agents(old, agent(id=NEXT)),
        with_agents(old, agent(id=NEXT, status="completed"), seq=8),
    )
    assert done[0] == 0
    assert "goes on in a new session: agent b1c2d3e4" in done[1]
    assert done[1].endswith("Agent coder (b1c2d3e4) completed\n")


@pytest.mark.parametrize(
    ("status", "code"), [("cancelled", 4), ("suspended", 5), ("failed", 1)], ids=str
)
def test_wait_ends_as_the_job_that_ended_the_agent(
    daemon_cli: Harness, status: str, code: int
) -> None:
    gone = agent(status="gone")
    ended_by_us = [step("code", "cancelled")]
    done = waits(
        daemon_cli,
        with_agents(gone, status="ending", steps=ended_by_us),
        with_agents(gone, seq=8, status=status, steps=ended_by_us, finished_at_ms=NOW),
    )
    assert done[0] == code


def test_wait_takes_an_agent_that_vanished_for_completed(daemon_cli: Harness) -> None:
    assert waits(daemon_cli, with_agents(agent(id=OTHER)))[0] == 0
    assert waits(daemon_cli, changes(missing=(JOB,)))[0] == 0


def test_wait_times_out(daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 1000, 10))
    monkeypatch.setattr("oj_cli.watch.time.monotonic", lambda: next(times))
    code, _, err = waits(daemon_cli, with_agents(agent()), timeout="5s")
    assert (code, err.splitlines()[-2:]) == (
        2,
        ["Error: timed out after 5s", "Hint: oj agent list"],
    )


def test_wait_gives_an_agent_a_moment_to_come_to_be(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oj_cli.agent_wait.pause", lambda _seconds: None)
    daemon_cli.daemon.answer("AgentShow", error("Agent not found: x"), agent())
    daemon_cli.daemon.answer("Watch", with_agents(agent(status="completed")))
    assert daemon_cli.oj("agent", "wait", "x").code == 0


def test_wait_for_an_agent_that_never_comes_ends_with_3(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oj_cli.agent_wait.GRACE", 0.0)
    daemon_cli.daemon.refuse("AgentShow", "Agent not found: x")
    assert daemon_cli.oj("agent", "wait", "x") == (3, "", "Error: Agent not found: x\n")
    assert daemon_cli.oj("agent", "wait", "x", "-o", "json").json["error"]["code"] == "not_found"


def test_wait_as_json_is_the_outcome_and_the_agent(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("AgentShow", agent())
    daemon_cli.daemon.answer("Watch", with_agents(agent(status="completed")))
    shown = daemon_cli.oj("agent", "wait", "x", "-o", "json").json
    assert (shown["outcome"], shown["agent"]["id"]) == ("completed", AGENT)


# Logs


def piece(content: str, agent_id: str = AGENT, **more: object) -> Message:
    path = f"/state/logs/agent/{agent_id}.log"
    return {"agent_id": agent_id, "name": "coder", "step": "code", "log_path": path,
            "content": content, "offset": len(content), "restarted": False, **more}  # fmt: skip


def test_json_of_agent_logs_has_the_lines_of_each_and_of_all(daemon_cli: Harness) -> None:
    logs = [piece("a\nb\u2028c\n"), piece("d\n", NEXT)]
    daemon_cli.daemon.answer("AgentLogs", reply("Logs", logs=logs, is_over=True))
    done = daemon_cli.oj("agent", "logs", "4f9", "-o", "json")
    first, second = (f"/state/logs/agent/{agent_id}.log" for agent_id in (AGENT, NEXT))
    assert done.json == {
        "log_path": first,
        "lines": ["a", "b\u2028c", "d"],
        "logs": [
            {"agent_id": AGENT, "name": "coder", "step": "code", "log_path": first,
             "lines": ["a", "b\u2028c"]},
            {"agent_id": NEXT, "name": "coder", "step": "code", "log_path": second,
             "lines": ["d"]},
        ],
    }  # fmt: skip


def test_a_log_that_one_reply_cannot_hold_is_shown_whole(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer(
        "AgentLogs",
        reply(
            "Logs", logs=[piece("a\nb", offset=3, has_more=True), piece("x\n", NEXT)], is_over=True
        ),
        reply(
            "Logs", logs=[piece("c\nd", offset=6, has_more=True), piece("x\n", NEXT)], is_over=True
        ),
        reply("Logs", logs=[piece("\n", offset=7)], is_over=True),
    )
    done = daemon_cli.oj("agent", "logs", "4f9", "-n", "0", "-o", "json")
    assert done.json["lines"] == ["a", "bc", "d", "x"]
    asked = daemon_cli.daemon.of("AgentLogs")
    assert [request.get("offsets") for request in asked] == [None, {AGENT: 3}, {AGENT: 6}]
