"""Random jobs with agents under random reports, answers, requests, timers and restarts: no invariant breaks, all come to an end."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.core import effects, events
from oj_daemon.core.effects import AnyEffect
from oj_daemon.core.events import Choice, Prompt, Question
from oj_daemon.core.state import Agent
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import JobDef, RunAgent
from oj_daemon.wire import requests
from oj_daemon.wire.names import TERMINAL, AgentStatus, JobStatus, PromptKind
from tests.oj_daemon.core.test_agent import GATE, AgentWorld
from tests.oj_daemon.core.test_job_random import random_job
from tests.support.scenario import agent_step

TURNS = 60
LONGEST = 3000


def random_agent_job(chance: random.Random) -> JobDef:
    """A random job, some of whose steps are agents."""
    plain = random_job(chance)
    steps = tuple(
        agent_step(
            step.name,
            on_done=list(step.on_done),
            on_fail=step.on_fail,
            on_cancel=step.on_cancel,
            after=list(step.after),
            timeout_ms=step.timeout_ms,
            retry={"attempts": step.retry.attempts, "backoff_ms": step.retry.backoff_ms},
        )
        if chance.random() < 0.5
        else step
        for step in plain.steps
    )
    return JobDef(
        name=plain.name,
        steps=steps,
        on_done=plain.on_done,
        on_fail=plain.on_fail,
        on_cancel=plain.on_cancel,
    )


def random_action(chance: random.Random, *names: str) -> dict[str, Any]:
    name = chance.choice(names)
    action: dict[str, Any] = {"action": name, "attempts": chance.choice((1, 2))}
    if name == "gate":
        action["run"] = GATE
    if name == "escalate" and chance.random() < 0.5:
        action |= {"timeout_ms": 50, "default": "cancel"}
    action["cooldown_ms"] = chance.choice((0, 30))
    return action


def random_world(chance: random.Random) -> AgentWorld:
    return AgentWorld(
        definition=random_agent_job(chance),
        on_idle=random_action(chance, "nudge", "done", "fail", "escalate", "gate"),
        on_dead=random_action(chance, "resume", "done", "fail", "escalate", "gate"),
        on_prompt=random_action(chance, "escalate", "done", "fail"),
        on_error=[random_action(chance, "resume", "fail", "escalate")],
        max_concurrency=chance.choice((None, 1, 2)),
    )


def answer(world: AgentWorld, order: AnyEffect, chance: random.Random) -> None:
    """What the executor reports about one order."""
    match order:
        case effects.SpawnAgent(agent_id=id_, route=route):
            if route:
                return  # found again
            if chance.random() < 0.1:
                world.tell(events.AgentSpawnFailed(agent_id=id_, reason="no such program"))
            else:
                world.tell(
                    events.AgentSpawned(
                        agent_id=id_, runtime="local", route={"socket": "/s"}, session_id="s1"
                    )
                )
        case effects.NudgeAgent(agent_id=id_, nudge=nudge):
            reason = "" if chance.random() < 0.9 else "it has exited"
            world.tell(events.AgentNudged(agent_id=id_, nudge=nudge, reason=reason))
        case effects.AnswerAgent(agent_id=id_, answer=given_):
            world.tell(events.AgentAnswered(agent_id=id_, prompt=given_.prompt))
            reported(world, world.state.agents[id_], "working")
        case effects.EndAgent(agent_id=id_):
            world.tell(events.AgentEnded(agent_id=id_))
        case effects.RunGate(agent_id=id_, gate=gate):
            world.tell(
                events.GateFinished(agent_id=id_, gate=gate, exit_code=chance.choice((0, 1)))
            )
        case effects.KillAgent(agent_id=id_):
            world.tell(events.AgentExited(agent_id=id_, exit_code=None, reason="killed"))
        case effects.StartStep(job_id=job_id, run=run):
            world.tell(
                events.StepExited(job_id=job_id, run=run, exit_code=chance.choice((0, 0, 1)))
            )
        case effects.EndStep(job_id=job_id, run=run):
            world.tell(events.StepExited(job_id=job_id, run=run, exit_code=143, ended=True))
        case _:
            pass


def reported(world: AgentWorld, agent: Agent, state: str) -> None:
    prompt = None
    if state == "prompt":
        kind = random.Random(agent.seq).choice(tuple(PromptKind))
        question = Question(question="which?", options=(Choice(label="a"), Choice(label="b")))
        questions = (question,) if kind is PromptKind.QUESTION else ()
        prompt = Prompt(kind=kind, seq=agent.seq + 1, questions=questions)
    world.tell(
        events.AgentReported(
            agent_id=agent.id,
            seq=agent.seq + 1,
            state=state,
            prompt=prompt,
            error="rate_limited" if state == "error" else "",
        )
    )


def something_happens(world: AgentWorld, chance: random.Random) -> bool:
    """One order is answered, one agent does something, or time passes; False when there is nothing left to happen."""
    if world.orders and chance.random() < 0.7:
        answer(world, world.orders.pop(chance.randrange(len(world.orders))), chance)
        return True
    alive = [
        agent
        for agent in (world.state.agents[id_] for id_ in world.state.live_agents)
        if agent.status in (AgentStatus.RUNNING, AgentStatus.WAITING) and not agent.has_exited
    ]
    if alive and chance.random() < 0.8:
        agent = chance.choice(alive)
        if chance.random() < 0.2:
            world.tell(events.AgentExited(agent_id=agent.id, exit_code=chance.choice((0, 1))))
        else:
            reported(
                world,
                agent,
                chance.choice(("working", "idle", "idle", "prompt", "error", "unknown", "stalled")),
            )
        return True
    if world.orders:
        answer(world, world.orders.pop(0), chance)
        return True
    if world.timers:
        world.passes(200_000)
        return True
    return bool(alive)


def someone_decides(world: AgentWorld, chance: random.Random) -> None:
    for decision in list(world.state.decisions.values()):
        with suppress(Rejected):
            if chance.random() < 0.1:
                world.ask(requests.DecisionReopen(id=decision.id))
            choice = chance.randint(1, 6)
            world.ask(
                requests.DecisionResolve(id=decision.id, choices=((choice,),), message="well")
            )


def someone_asks(world: AgentWorld, chance: random.Random) -> None:
    jobs, agents = tuple(world.state.jobs), tuple(world.state.agents)
    if not jobs or chance.random() < 0.1:
        world.run()
        return
    one = chance.choice(jobs)
    asked: list[requests.Change] = [
        requests.JobCancel(ids=(one,)),
        requests.JobSuspend(ids=(one,)),
        requests.JobResume(id=one, message="go", kill=chance.random() < 0.5),
        requests.JobPrune(all=True),
    ]
    if agents:
        agent = chance.choice(agents)
        asked += [
            requests.AgentSend(id=agent, message="hello"),
            requests.AgentKill(id=agent),
            requests.AgentResume(id=agent),
        ]
    with suppress(Rejected):
        world.ask(chance.choice(asked))


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_random_agents_keep_every_invariant_and_their_jobs_come_to_an_end(seed: int) -> None:
    chance = random.Random(seed)
    world = random_world(chance)
    world.run()
    for _ in range(TURNS):
        dice = chance.random()
        if dice < 0.7:
            something_happens(world, chance)
        elif dice < 0.8:
            someone_decides(world, chance)
        elif dice < 0.9:
            someone_asks(world, chance)
        elif dice < 0.95:
            world.passes(chance.choice((10, 60, 200)))
        else:
            world.restart()
    for _ in range(LONGEST):
        someone_decides(world, chance)
        if all(job.status in TERMINAL for job in world.state.jobs.values()):
            break
        something_happens(world, chance)
    for job in world.state.jobs.values():
        assert job.status in TERMINAL, (job.status, job.active, job.ending)
        for run in job.runs:
            if isinstance(world.state.definition(job).steps[0].run, RunAgent):
                assert world.state.agent_of(job.id, run.run) is None
        if job.status is JobStatus.FAILED:
            assert job.error
