"""One user of `oj` whose agents are the real Claude Code, which knows no other API than the loopback one.

Rule: black box, as World: commands are typed, what they print is read. The API tells what reached the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.claude.real import acquaint, environment
from tests.support.anthropic.server import ApiServer, Request
from tests.support.waiting import until
from tests.support.world import World

Json = dict[str, Any]

SECONDS = 120.0
"""Deadline of everything: far beyond what it takes."""
STEPS = """
step "code" {
  run     = { agent = "coder" }
  on_done = { step = "after" }
}
step "after" { run = "echo went on" }
"""


class Desk:
    """A world with a repository, an API and `claude` on the PATH."""

    def __init__(self, world: World, api: ApiServer, program: str) -> None:
        self.world, self.api = world, api
        self.config = world.folder / "config"
        self.config.mkdir()
        folder = world.folder / "bin"
        folder.mkdir()
        (folder / "claude").symlink_to(Path(program).resolve())
        world.environ["PATH"] = f"{folder}:{world.environ['PATH']}"
        world.environ |= {**environment(api), "CLAUDE_CONFIG_DIR": str(self.config)}
        acquaint(self.config, world.project)
        world.git_project()
        self.job = ""

    def runbook(self, agent: str = "", *, run: str = "claude", prompt: str = "GO") -> None:
        """Write a job with one agent step and one after it."""
        self.world.runbook(
            f"""
            command "build" {{ run = {{ job = "build" }} }}
            agent "coder" {{
              run    = {json.dumps(run)}
              prompt = {json.dumps(prompt)}
              {agent}
            }}
            job "build" {{ {STEPS} }}
            """
        )

    def start(self, *args: str, environ: Mapping[str, str] | None = None) -> None:
        """Start the job."""
        self.job = self.world.start(*(args or ("build",)), environ=environ)

    def finish(self, status: str = "completed") -> Json:
        """Wait until the job has ended so; returns it."""
        shown = self.world.finish(self.job, SECONDS)
        assert shown["status"] == status, f"{shown}\n{self.world.log(self.job)}\n{self.screens()}"
        return shown

    def agents(self) -> list[Json]:
        """The agents of the job, the oldest first."""
        found = self.world.oj("agent", "list", "--job", self.job, "-o", "json").json
        return list(reversed(found))

    def agent(self) -> Json:
        """Its only agent, with all that is known."""
        (agent,) = self.agents()
        shown: Json = self.world.oj("agent", "show", agent["id"], "-o", "json").json
        return shown

    def screens(self) -> str:
        """What the agents' terminals show, for a test that failed."""
        shown = [self.world.oj("agent", "peek", each["id"], code=None) for each in self.agents()]
        return "\n".join(map(str, shown))

    def logged(self, text: str) -> None:
        """Wait until the job's log holds this."""
        until(
            lambda: text in self.world.log(self.job),
            SECONDS,
            lambda: f"{text!r} in {self.world.log(self.job)}\n{self.screens()}",
            pause=0.3,
        )

    def decision(self, source: str) -> Json:
        """The decision that is open, once there is one; it comes from there."""
        found: list[Json] = []

        def is_there() -> bool:
            found[:] = self.world.oj("decision", "list", "-o", "json").json
            return bool(found)

        until(
            is_there,
            SECONDS,
            lambda: f"a decision\n{self.world.log(self.job)}\n{self.screens()}",
            pause=0.3,
        )
        shown: Json = self.world.oj("decision", "show", found[0]["id"], "-o", "json").json
        assert shown["source"] == source, shown
        return shown

    def resolve(self, decision: Json, *args: str) -> None:
        """Answer it."""
        self.world.oj("decision", "resolve", decision["id"], *args)

    def turn(self, number: int) -> Request:
        """The request of that number which belongs to the conversation, once it was made; from 0."""
        until(
            lambda: len(self.api.turns) > number,
            SECONDS,
            lambda: f"request {number} of {[turn.asked for turn in self.api.turns]}",
        )
        return self.api.turns[number]
