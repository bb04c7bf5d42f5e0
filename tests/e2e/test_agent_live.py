"""A living agent, looked at and entered: peek, logs, attach, and messages that are typed once."""

from __future__ import annotations

import json
import os
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.agents import DONE_WHEN_WRITTEN
from tests.support.sidecar import FAST
from tests.support.waiting import until
from tests.support.world import ROOT, World

SECONDS = 60.0
"""Deadline of everything: far beyond what it takes."""
RUNBOOK = f"""
    command "go" {{ run = {{ job = "go" }} }}
    agent "coder" {{
      run = "claude"
      prompt = "begin"
      {DONE_WHEN_WRITTEN}
    }}
    job "go" {{ step "code" {{ run = {{ agent = "coder" }} }} }}
"""


class Studio:
    """A world with one agent in it, which follows a scenario."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys = world.folder / "keys"
        path = f"{ROOT / 'tests' / 'support' / 'agent'}:{world.environ['PATH']}"
        world.environ |= {**FAST, "PATH": path, "OJ_LOG_POLL_MS": "50"}
        world.runbook(RUNBOOK)
        self.job = ""
        self.agent = ""

    def begin(self, *deeds: dict[str, Any], **scenario: Any) -> None:
        """Start the job; its agent does this in its first turn."""
        plan = {
            "turns": [{"when": "begin", "do": list(deeds)}],
            "keys": str(self.keys),
            **scenario,
        }
        (self.world.project / "agent-scenario.json").write_text(json.dumps(plan))
        self.job = self.world.start("go")
        until(self.agents, SECONDS, lambda: str(self.world.show(self.job)))
        self.agent = self.agents()[0]["id"]

    def agents(self) -> list[dict[str, Any]]:
        """Those that run."""
        found = self.world.oj("agent", "list", "-o", "json").json
        return [each for each in found if each["status"] in ("running", "waiting")]

    def file(self, name: str) -> Path:
        """A file that the scenario waits for."""
        return self.world.folder / name

    def screen(self) -> dict[str, Any]:
        """What `oj peek` tells."""
        found: dict[str, Any] = self.world.oj("peek", self.agent, "-o", "json").json
        return found

    def until_shown(self, text: str) -> None:
        """Wait until the agent's screen holds this."""
        until(
            lambda: text in "\n".join(self.screen()["lines"]), SECONDS, lambda: str(self.screen())
        )

    def log(self) -> list[str]:
        """The agent's log, without the times."""
        lines = self.world.oj("agent", "logs", self.agent, "-n", "0", "-o", "json").json["lines"]
        return [line.partition(" ")[2] for line in lines]

    def typed(self) -> bytes:
        """What the agent's terminal has been given."""
        return self.keys.read_bytes() if self.keys.exists() else b""

    def attach(self) -> pexpect.spawn[Any]:
        """`oj attach` on a terminal of its own, which shows the agent."""
        child = pexpect.spawn(
            sys.executable,
            ["-m", "oj_cli", "attach", self.agent],
            env={**self.world.environ, "TERM": "xterm-256color"},
            cwd=str(self.world.project),
            dimensions=(30, 100),
            timeout=SECONDS,
        )
        child.expect_exact(b"Attached to agent")
        child.expect_exact(b"\x1b[?1049h")
        return child

    def kill_daemon(self) -> None:
        """Kill it without a warning, and start the next one."""
        pid = int(json.loads((self.world.state / "daemon.pid").read_text())["pid"])
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists(), SECONDS, f"daemon {pid} is there")
        self.world.oj("daemon", "start")


@pytest.fixture
def studio(world: World) -> Iterator[Studio]:
    made = Studio(world)
    try:
        yield made
    finally:
        if made.job:
            world.oj("cancel", made.job, code=None)
            world.oj("job", "wait", made.job, "--timeout", "60s", code=None)


def ended(child: pexpect.spawn[Any]) -> int:
    """The exit code of a child that ends; 128 + n for signal n."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus if child.exitstatus is not None else 128 + (child.signalstatus or 0)


def test_peek_shows_the_live_screen_and_later_the_last_one(studio: Studio) -> None:
    studio.world.environ["OJ_METRICS_INTERVAL_SECS"] = "1"
    studio.begin(
        {"say": "I am at it."}, {"await": str(studio.file("go"))}, {"say": "Now I am through."}
    )
    studio.until_shown("I am at it.")
    assert studio.screen()["live"] is True
    assert "I am at it." in studio.world.oj("job", "peek", studio.job).out
    figures = studio.world.state / "metrics" / "usage.jsonl"
    until(figures.exists, SECONDS, "nobody measures")
    line = json.loads(figures.read_text().splitlines()[0])
    assert (line["agent_id"], line["job_id"], line["job_step"]) == (
        studio.agent,
        studio.job,
        "code",
    )
    studio.file("go").touch()
    assert studio.world.finish(studio.job)["status"] == "completed"
    screen = studio.screen()
    assert (screen["live"], screen["agent_id"]) == (False, studio.agent)
    shown = studio.world.oj("agent", "peek", studio.agent).out
    assert "Now I am through." in shown
    assert "last screen, completed" in shown
    kept = studio.world.state / "logs" / "agent" / studio.agent
    assert "Now I am through." in (kept / "session.jsonl").read_text()
    assert "Now I am through." in (kept / "capture.latest.txt").read_text()
    studio.world.oj("job", "prune", "--all")
    until(
        lambda: not list(kept.parent.iterdir()), SECONDS, lambda: str(list(kept.parent.iterdir()))
    )


def test_each_deed_is_logged_once_although_the_daemon_is_killed(studio: Studio) -> None:
    waits = f"until test -e {studio.file('go')}; do sleep 0.05; done; exit 3"
    studio.begin(
        {"write": "new.txt", "text": "x"}, {"bash": "echo one"}, {"bash": waits},
        {"tool": "Read", "input": {"file_path": "new.txt"}}, {"bash": "oj_unknown"},
    )  # fmt: skip
    until(lambda: len(studio.log()) == 2, SECONDS, lambda: str(studio.log()))
    studio.kill_daemon()
    studio.file("go").touch()
    assert studio.world.finish(studio.job)["status"] == "completed"
    told = studio.log()
    new = studio.world.project / "new.txt"
    assert told == [f"wrote: {new}", "bash: echo one (exit 0)", f"bash: {waits} (exit 3)",
                    "read: new.txt", "bash: oj_unknown (exit 127)", "turn complete"]  # fmt: skip
    view = studio.world.oj("agent", "show", studio.agent, "-o", "json").json
    assert (view["files_read"], view["files_written"], view["commands"]) == (1, 1, 3)
    assert view["usage"]["input_tokens"] > 0
    of_job = studio.world.oj("agent", "logs", studio.job).out
    assert of_job.startswith("== code: agent coder ")
    assert studio.world.oj("agent", "logs", studio.job, "-s", "nope", code=1).err
    assert studio.world.oj("agent", "logs", "agt-nothing", code=1).err


def test_an_agent_is_found_where_its_state_folder_has_been_moved(studio: Studio) -> None:
    """Its recorded route leads to where nothing is any more."""
    studio.begin({"await": str(studio.file("go"))}, {"say": "Still the same."})
    world = studio.world
    world.kill_daemon()
    world.state = world.state.rename(world.folder / "moved")
    world.environ["OJ_STATE_DIR"] = str(world.state)
    world.oj("daemon", "start")
    studio.file("go").touch()
    assert world.finish(studio.job)["status"] == "completed", world.log(studio.job)
    assert [each["id"] for each in world.oj("agent", "list", "-o", "json").json] == [studio.agent]
    assert "Still the same." in world.oj("peek", studio.agent).out


def test_a_log_is_followed_to_its_end(studio: Studio) -> None:
    studio.begin({"bash": "echo one"}, {"await": str(studio.file("go"))}, {"bash": "echo two"})
    child = studio.world.spawn("agent", "logs", "-f", studio.agent)
    assert child.stdout is not None
    assert "bash: echo one" in child.stdout.readline()
    studio.file("go").touch()
    rest = child.stdout.read()
    assert rest.count("bash: echo two (exit 0)") == 1
    assert "turn complete" in rest
    assert child.wait(SECONDS) == 0


def test_a_person_enters_types_resizes_and_leaves(studio: Studio) -> None:
    studio.begin({"say": "Come in."}, {"await": str(studio.file("go"))})
    studio.until_shown("Come in.")
    child, other = studio.attach(), studio.attach()
    for each in (child, other):
        each.expect_exact(b"Come in.")
    child.setwinsize(41, 121)
    until(lambda: studio.screen()["cols"] == 121, SECONDS, lambda: str(studio.screen()["cols"]))
    child.send(b"hello there")
    until(lambda: b"hello there" in studio.typed(), SECONDS, lambda: str(studio.typed()))
    other.send(b"\x1d")
    other.expect_exact(b"Detached from agent")
    assert ended(other) == 0
    child.send(
        b"\x1b[93;5u"
    )  # as a terminal says Ctrl-] to a program that wants every key told apart
    child.expect_exact(b"\x1b[?1049l")
    child.expect_exact(b"Detached from agent")
    assert ended(child) == 0
    assert studio.agents(), "the agent goes on"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_terminal_back(studio: Studio, number: signal.Signals) -> None:
    studio.begin({"await": str(studio.file("go"))})
    script = (
        f"stty -g; {sys.executable} -m oj_cli attach {studio.agent}; echo code=$?; stty -g; cat"
    )
    child = pexpect.spawn(
        "/bin/sh", ["-c", script], env=studio.world.environ, timeout=SECONDS, dimensions=(30, 100)
    )
    before = child.readline().strip()
    child.expect_exact(b"Attached to agent")
    child.expect_exact(b"\x1b[?1049h")
    children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    until(lambda: termios.tcgetattr(child.child_fd)[3] & termios.ICANON == 0, SECONDS, "not raw")
    os.kill(int(children.read_text().split()[0]), number)
    child.expect_exact(b"\x1b[?1049l")
    child.expect(rb"code=(\d+)\r\n([0-9a-f:]+)\r\n")
    found: Any = child.match
    assert (found[1], found[2]) == (str(128 + number).encode(), before)
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()


def test_one_who_is_stopped_and_goes_on_finds_the_screen_again(studio: Studio) -> None:
    studio.begin({"say": "Still here."}, {"await": str(studio.file("go"))})
    studio.until_shown("Still here.")
    child = studio.attach()
    child.expect_exact(b"Still here.")
    pid = child.pid
    assert pid is not None
    os.kill(pid, signal.SIGTSTP)
    child.expect_exact(b"\x1b[?1049l")
    until(lambda: _state(pid) == "T", SECONDS, lambda: _state(pid))
    assert termios.tcgetattr(child.child_fd)[3] & termios.ICANON
    os.kill(pid, signal.SIGCONT)
    child.expect_exact(b"\x1b[?1049h")
    child.expect_exact(b"Still here.")
    child.send(b"\x1d")
    assert ended(child) == 0


def test_attached_terminals_outlive_the_daemon_and_see_the_agent_end(studio: Studio) -> None:
    studio.begin({"say": "Before."}, {"await": str(studio.file("go"))}, {"exit": 3})
    studio.until_shown("Before.")
    child = studio.attach()
    child.expect_exact(b"Before.")
    studio.kill_daemon()
    child.expect_exact(b"looking for it again")
    child.expect_exact(b"Before.")
    studio.world.oj("daemon", "restart")
    child.expect_exact(b"the daemon is stopping")
    child.expect_exact(b"Before.")
    studio.file("go").touch()
    child.expect_exact(b"has ended with exit code 3")
    assert ended(child) == 0


def test_run_attach_enters_the_first_agent_and_then_tells_how_the_job_ended(studio: Studio) -> None:
    plan = {"turns": [{"do": [{"say": "Come in."}, {"await": str(studio.file("go"))}]}]}
    (studio.world.project / "agent-scenario.json").write_text(json.dumps(plan))
    child = pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", "run", "--attach", "go"],
        env={**studio.world.environ, "TERM": "xterm-256color"},
        cwd=str(studio.world.project),
        dimensions=(30, 100),
        timeout=SECONDS,
    )
    child.expect_exact(b"Attached to agent")
    child.expect_exact(b"Come in.")
    studio.file("go").touch()
    child.expect_exact(b"has ended")
    child.expect_exact(b"completed")
    assert ended(child) == 0
    (told,) = studio.world.oj("agent", "list", "-o", "json").json
    assert "turn complete" in studio.world.oj("logs", told["id"]).out
    refused = studio.world.oj("run", "--attach", "go", code=1)
    assert "is not a terminal" in refused.err


def test_only_terminals_attach(studio: Studio) -> None:
    refused = studio.world.oj("attach", "agt-x", code=1)
    assert "standard input is not a terminal" in refused.err
    assert not (studio.world.state / "daemon.sock").exists()


def test_a_message_is_typed_once_although_the_daemon_dies_before_it_hears_of_that(
    studio: Studio,
) -> None:
    studio.world.environ["OJ_SIDECAR_INPUT_DELAY_MS"] = "2000"
    studio.begin({"say": "Ready."}, {"await": str(studio.file("go"))})
    studio.until_shown("Ready.")
    sending = studio.world.spawn("agent", "send", studio.agent, "Remember the milk")
    until(lambda: b"Remember the milk" in studio.typed(), SECONDS, lambda: str(studio.typed()))
    # Enter follows in two seconds; until then the sidecar owes an answer to a daemon that is dead by now.
    studio.kill_daemon()
    sending.wait(SECONDS)
    facts = studio.world.state / "wal"
    until(
        lambda: any(b'"agent:nudged"' in path.read_bytes() for path in facts.iterdir()),
        SECONDS,
        "the daemon has no answer",
    )
    assert studio.typed().count(b"Remember the milk") == 1
    studio.file("go").touch()
    assert studio.world.finish(studio.job)["status"] == "completed"
    assert studio.typed().count(b"Remember the milk") == 1


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
