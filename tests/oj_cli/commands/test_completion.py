from __future__ import annotations

import subprocess
import sys

import click
import pytest

from oj_cli.commands import completion
from oj_cli.lazy import Options
from tests.support.harness import ROOT, Harness
from tests.support.replies import AGENT, DECISION, JOB, OTHER, agent, decision, reply, summary


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(cli: Harness, shell: str) -> None:
    result = cli.oj("completion", shell)
    assert result.code == 0
    assert "_OJ_COMPLETE" in result.out


def context(verb: str) -> click.Context:
    return click.Context(click.Command(verb), info_name=verb, obj=Options())


def offered(verb: str, typed: str) -> list[tuple[str, str | None]]:
    items = completion.job_ids(context(verb), click.Argument(["id"]), typed)
    return [(item.value, item.help) for item in items]


def test_ids_are_offered_for_what_the_verb_is_for(daemon_cli: Harness) -> None:
    jobs = [summary(), summary(id=OTHER, name="old", status="failed")]
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=jobs, total=2))
    assert offered("cancel", "") == [(JOB[4:12], "fix-login (running)")]
    assert offered("show", "") == [
        (JOB[4:12], "fix-login (running)"),
        (OTHER[4:12], "old (failed)"),
    ]
    assert offered("show", "z") == [(OTHER[4:12], "old (failed)")]
    assert offered("show", "job-z") == [(OTHER, "old (failed)")]


def test_agents_and_decisions_are_offered_for_what_the_verb_is_for(daemon_cli: Harness) -> None:
    ended = agent(id="agt-b1c2d3e4f5g6h7j8", status="completed")
    daemon_cli.daemon.answer("AgentList", reply("Agents", agents=[agent(), ended], total=2))

    def agents(verb: str, typed: str) -> list[str]:
        items = completion.agent_ids(context(verb), click.Argument(["id"]), typed)
        return [item.value for item in items]

    assert agents("show", "") == ["7m2n4p6q", "b1c2d3e4"]
    assert agents("kill", "") == ["7m2n4p6q"]
    assert agents("show", "agt-7") == [AGENT]
    every = [decision(), decision(id="dec-a1b2c3d4e5f6g7h8", status="dismissed")]
    daemon_cli.daemon.answer("DecisionList", reply("Decisions", decisions=every))

    def decisions(verb: str, typed: str) -> list[str]:
        items = completion.decision_ids(context(verb), click.Argument(["id"]), typed)
        return [item.value for item in items]

    assert decisions("resolve", "") == ["k3j5h7g9"]
    assert decisions("reopen", "") == ["a1b2c3d4"]
    assert decisions("show", "") == ["k3j5h7g9", "a1b2c3d4"]
    assert decisions("show", "dec-k") == [DECISION]


def test_without_a_daemon_there_is_silence(cli: Harness, capfd: pytest.CaptureFixture[str]) -> None:
    assert offered("cancel", "") == []
    assert capfd.readouterr() == ("", "")
    assert list(cli.state.iterdir()) == []


def complete(cli: Harness, line: str) -> subprocess.CompletedProcess[str]:
    words = {
        "_OJ_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    return subprocess.run(
        [sys.executable, "-m", "oj_cli"],
        cwd=cli.work,
        env={**cli.environ, **words, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_run_offers_the_commands_of_the_project_and_is_silent_about_broken_files(
    cli: Harness,
) -> None:
    books = cli.work / ".oj" / "runbooks"
    books.mkdir()
    (books / "a.hcl").write_text(
        'command "build" { run = "true" }\ncommand "test" { run = "true" }\n'
    )
    (books / "b.hcl").write_text("command {")
    done = complete(cli, "oj run ")
    assert (done.stdout, done.stderr) == ("plain,build\nplain,test\n", "")
    assert complete(cli, "oj run bu").stdout == "plain,build\n"


def test_job_verbs_offer_ids(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobList", reply("Jobs", jobs=[summary()], total=1))
    for line in ("oj show ", "oj cancel ", "oj job wait ", "oj logs -f "):
        done = complete(daemon_cli, line)
        assert (done.stdout, done.stderr) == (f"plain,{JOB[4:12]}\n", ""), line
