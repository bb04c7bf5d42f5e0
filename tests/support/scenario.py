"""Scenarios for the core: a request or a fact goes in, orders come out, and after each the state is proved.

Rule: every turn is encoded as a log record and decoded again; the state that replaying all records gives must equal the live
one, and the invariants of `state.check` must hold. So each scenario is also a test of codec, replay and invariants.
"""

from __future__ import annotations

from itertools import count
from typing import Any, TypeVar

import msgspec

from oj_daemon.core import effects, events, machine
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.state import Job, Policy, Resolved, State, Turn, check
from oj_daemon.runbook.model import (
    AgentDef,
    ArgSpec,
    CommandDef,
    JobDef,
    Runbook,
    RunJob,
    StepDef,
    content_hash,
)
from oj_daemon.wire import requests
from oj_daemon.wire.names import JobId, JobStatus
from oj_daemon.wire.replies import AnyReply, JobStarted

T = TypeVar("T")
ROOT = "/project"


def step(name: str, script: str = "true", **attributes: object) -> StepDef:
    """A shell step."""
    return msgspec.convert(
        {
            "name": name,
            "run": {"type": "shell", "shell": {"text": script, "script": script}},
            **attributes,
        },
        StepDef,
    )


def job(*steps: StepDef, **attributes: object) -> JobDef:
    """A job of these steps."""
    return msgspec.structs.replace(JobDef(name="build", steps=steps), **attributes)


def agent_step(name: str, agent: str = "coder", **attributes: Any) -> StepDef:
    """An agent step."""
    return msgspec.convert(
        {"name": name, "run": {"type": "agent", "agent": agent}, **attributes}, StepDef
    )


def coder(**attributes: Any) -> AgentDef:
    """An agent definition."""
    text = attributes.pop("script", "claude")
    return msgspec.convert(
        {
            "name": "coder",
            "run": {"text": text, "script": text},
            "prompt": "Do ${var.what}.",
            **attributes,
        },
        AgentDef,
    )


def runbook(
    definition: JobDef, args: ArgSpec | None = None, defaults: dict[str, str] | None = None
) -> Runbook:
    """A runbook whose command `build` runs the job."""
    command = CommandDef(
        name="build",
        run=RunJob(job=definition.name),
        args=args or ArgSpec(),
        defaults=defaults or {},
    )
    return Runbook(
        path=".oj/runbooks/test.hcl",
        commands={"build": command},
        jobs={definition.name: definition},
    )


class Scenario:
    """One daemon's core, without a world."""

    def __init__(self, book: Runbook | JobDef) -> None:
        self.book = book if isinstance(book, Runbook) else runbook(book)
        self.state = State()
        self.policy = Policy()
        self.now = 1_000_000
        self.log: list[bytes] = []
        self.orders: list[AnyEffect] = []
        self.timers: dict[str, effects.SetTimer] = {}
        self._numbers = count(1)

    # Input

    def fresh(self, prefix: str) -> str:
        """Ids in order, so that a failing scenario reads well."""
        return f"{prefix}{next(self._numbers):016d}"

    def turn(self, command: str = "build") -> Turn:
        resolved = Resolved(
            runbook=self.book, hash=content_hash(self.book), command=self.book.commands[command]
        )
        return Turn(now=self.now, fresh=self.fresh, policy=self.policy, resolved=resolved)

    def ask(self, request: requests.Change) -> AnyReply:
        """A client asks; Rejected comes out of here."""
        turn = self.turn()
        before = msgspec.json.encode(self.state.dump())
        answer = machine.admit(self.state, request, turn)
        assert msgspec.json.encode(self.state.dump()) == before, "admit changed the state"
        self._take(machine.perform(self.state, answer.facts, turn))
        return answer.reply

    def run(self, *args: str, **fields: object) -> Job:
        """`oj run build ARGS`."""
        reply = self.ask(
            msgspec.structs.replace(
                requests.RunCommand(
                    project="demo", project_root=ROOT, invoke_dir=ROOT, command="build", args=args
                ),
                **fields,
            )
        )
        assert isinstance(reply, JobStarted)
        return self.state.jobs[JobId(reply.job_id)]

    def ask_crew(self) -> Job:
        """`oj run crew`: a stand-alone agent."""
        turn = self.turn("crew")
        request = requests.RunCommand(
            project="demo", project_root=ROOT, invoke_dir=ROOT, command="crew"
        )
        answer = machine.admit(self.state, request, turn)
        self._take(machine.perform(self.state, answer.facts, turn))
        assert isinstance(answer.reply, JobStarted)
        return self.state.jobs[JobId(answer.reply.job_id)]

    def tell(self, fact: events.AnyEvent) -> None:
        """The world reports."""
        self._take(machine.perform(self.state, [fact], self.turn()))

    def exits(
        self, name: str, code: int | None = 0, *, ended: bool = False, error: str = ""
    ) -> None:
        """The active run of the step ends."""
        run = next(run for run in self.job.active if run.step == name)
        self.tell(
            events.StepExited(
                job_id=self.job.id, run=run.run, exit_code=code, ended=ended, error=error
            )
        )

    def passes(self, ms: int) -> None:
        """Time goes by; timers that are due strike in order."""
        until = self.now + ms
        while due := sorted(
            (timer.at, key) for key, timer in self.timers.items() if timer.at <= until
        ):
            at, key = due[0]
            self.now = max(self.now, at)
            self.tell(self.timers.pop(key).fact)
        self.now = until

    def restart(self) -> None:
        """kill -9 and a new daemon: state from the log, then recovery; orders that were on the way are lost."""
        self.state = self._replayed()
        self.orders, self.timers = [], {}
        self._take(machine.recover(self.state, self.turn()))

    # Output

    @property
    def job(self) -> Job:
        """The first job."""
        return next(iter(sorted(self.state.jobs.values(), key=lambda job: job.id)))

    @property
    def status(self) -> JobStatus:
        return self.job.status

    def started(self) -> list[str]:
        """Steps that were ordered to start since the last look at the orders."""
        return [order.label for order in self.taken(effects.StartStep)]

    def ended(self) -> list[str]:
        """Steps that were ordered to end since the last look."""
        return [order.label for order in self.taken(effects.EndStep)]

    def taken(self, kind: type[T]) -> list[T]:
        found: list[T] = [order for order in self.orders if isinstance(order, kind)]
        self.orders = [order for order in self.orders if not isinstance(order, kind)]
        return found

    def quiet(self) -> None:
        """Nothing else was ordered."""
        noisy = [
            order
            for order in self.orders
            if not isinstance(order, effects.ForgetRun | effects.CloseLog | effects.CancelTimer)
        ]
        assert not noisy, noisy

    # Proof

    def _take(self, outcome: machine.Outcome) -> None:
        for order in outcome.effects:
            if isinstance(order, effects.SetTimer):
                self.timers[order.key] = order
            elif isinstance(order, effects.CancelTimer):
                self.timers.pop(order.key, None)
            else:
                self.orders.append(order)
        if outcome.facts:
            record = events.Record(at=self.now, cause="test", facts=tuple(outcome.facts))
            self.log.append(msgspec.json.encode(record))
        assert not list(check(self.state)), list(check(self.state))
        assert msgspec.json.encode(self._replayed().dump()) == msgspec.json.encode(
            self.state.dump()
        )

    def _replayed(self) -> State:
        state = State()
        for line in self.log:
            record = msgspec.json.decode(line, type=events.Record)
            for fact in record.facts:
                machine.apply(state, fact, record.at)
        # A snapshot in between must make no difference either.
        return State.load(
            msgspec.json.decode(msgspec.json.encode(state.dump()), type=type(state.dump()))
        )
