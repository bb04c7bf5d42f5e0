"""Random jobs under random requests, exits, timers and restarts: no invariant breaks, and every job comes to an end.

`Scenario` proves after every turn that replaying the log gives the same state and that the invariants of `check` hold.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.core import effects, events
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import JobDef, Shell, Source, SourceKind, Text
from oj_daemon.wire import requests
from oj_daemon.wire.names import TERMINAL, JobStatus, StepStatus, WorkspaceKind
from tests.support.scenario import ROOT, Scenario, job, step

TURNS = 30
LONGEST = 400
"""Turns within which a job left alone ends: the circuit breaker allows each step 5 visits, each with its retries."""


def random_job(chance: random.Random) -> JobDef:
    """A job that validation would let through."""
    names = [f"s{number}" for number in range(chance.randint(1, 6))]
    joins = {name for name in names[2:] if chance.random() < 0.3}
    targets = [name for name in names if name not in joins]

    def target(likely: float) -> str | None:
        return chance.choice(targets) if chance.random() < likely else None

    steps = []
    for name in names:
        attributes: dict[str, Any] = {
            "on_done": chance.sample(targets, chance.randint(0, min(3, len(targets))))
            if chance.random() < 0.7
            else [],
            "on_fail": target(0.3),
            "on_cancel": target(0.3),
            "retry": {
                "attempts": chance.choice((0, 0, 1, 2)),
                "backoff_ms": chance.choice((0, 50)),
            },
            "timeout_ms": chance.choice((None, 100)),
        }
        if name in joins:
            attributes["after"] = chance.sample(targets, chance.randint(1, min(2, len(targets))))
        steps.append(step(name, **attributes))
    on_done = target(0.2)
    return job(
        *steps,
        on_done=(on_done,) if on_done else (),
        on_fail=target(0.3),
        on_cancel=target(0.3),
        source=random_source(chance),
    )


def random_source(chance: random.Random) -> Source | None:
    if chance.random() < 0.6:
        return None
    if chance.random() < 0.5:
        return Source(kind=SourceKind.FOLDER)
    shell = Text(text="$(x)", shell=Shell(text="$(x)", script="x"))
    return Source(
        kind=SourceKind.GIT, ref=chance.choice((None, shell)), branch=chance.choice((None, "b"))
    )


def run(world: Scenario, chance: random.Random) -> None:
    """`oj run`, from this machine or another."""
    repo = requests.Repo(root=ROOT, url="https://example.com/x", branch="main", head="a" * 40)
    world.run(repo=repo, is_remote=chance.random() < 0.3)


def world_answers(world: Scenario, chance: random.Random) -> bool:
    """One thing that the world owes an answer to happens; False when it owes none."""
    for order in world.orders:
        if isinstance(order, effects.CreateWorkspace | effects.DeleteWorkspace):
            world.orders.remove(order)
            world.tell(workspace_answer(order, well=chance.random() < 0.8))
            return True
        if isinstance(order, effects.EvaluateJob):
            world.orders.remove(order)
            fact = (
                events.JobEvaluated(job_id=order.job_id, vars={"source.ref": "r"})
                if chance.random() < 0.8
                else events.JobEvaluateFailed(job_id=order.job_id, error="no")
            )
            world.tell(fact)
            return True
    running = [
        (each.id, run)
        for each in world.state.jobs.values()
        for run in each.active
        if run.status is StepStatus.RUNNING
    ]
    if running:
        job_id, run = chance.choice(running)
        ended = run.timed_out or world.state.jobs[job_id].ending is not None
        code = chance.choice((0, 0, 1, None))
        world.tell(
            events.StepExited(
                job_id=job_id,
                run=run.run,
                exit_code=code,
                error="" if code is not None else "interrupted",
                ended=ended and chance.random() < 0.8,
            )
        )
        return True
    if world.timers:
        world.passes(10_000_000)
        return True
    return False


def workspace_answer(
    order: effects.CreateWorkspace | effects.DeleteWorkspace, *, well: bool
) -> events.AnyEvent:
    """What the executor would report."""
    match order, well:
        case effects.CreateWorkspace(workspace_id=id_), True:
            return events.WorkspaceReady(workspace_id=id_)
        case effects.CreateWorkspace(workspace_id=id_), _:
            return events.WorkspaceFailed(workspace_id=id_, reason="disk full")
        case effects.DeleteWorkspace(workspace_id=id_, job_id=job_id), True:
            return events.WorkspaceDeleted(workspace_id=id_, job_id=job_id)
        case effects.DeleteWorkspace(workspace_id=id_, kind=WorkspaceKind.CLONE, force=False), _:
            return events.WorkspaceKept(workspace_id=id_, reason="not pushed")
        case _:
            return events.WorkspaceDeleteFailed(workspace_id=order.workspace_id, reason="busy")


def someone_asks(world: Scenario, chance: random.Random) -> None:
    ids = tuple(world.state.jobs)
    if not ids or chance.random() < 0.1:
        run(world, chance)
        return
    one = chance.choice(ids)
    request = chance.choice(
        (
            requests.JobCancel(ids=(one,)),
            requests.JobSuspend(ids=(one,)),
            requests.JobResume(id=one),
            requests.JobResume(id=one, step=chance.choice(world.book.jobs["build"].steps).name),
            requests.JobResumeAll(),
            requests.JobPrune(all=True),
            requests.WorkspaceDrop(all=True),
        )
    )
    with suppress(Rejected):
        world.ask(request)


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_random_jobs_keep_every_invariant_and_come_to_an_end(seed: int) -> None:
    chance = random.Random(seed)
    world = Scenario(random_job(chance))
    run(world, chance)
    for _ in range(TURNS):
        dice = chance.random()
        if dice < 0.6:
            world_answers(world, chance)
        elif dice < 0.75:
            someone_asks(world, chance)
        elif dice < 0.9:
            world.passes(chance.choice((10, 60, 200)))
        else:
            world.restart()
        starts = [(order.job_id, order.run) for order in world.taken(effects.StartStep)]
        assert len(starts) == len(set(starts)), "one run was ordered to start twice in one turn"
    for _ in range(LONGEST * len(world.state.jobs)):
        if not world_answers(world, chance):
            break
    for each in world.state.jobs.values():
        assert each.status in TERMINAL, (each.status, each.active, each.ending)
        if each.status is JobStatus.DONE:
            assert each.error == ""
            assert each.resume_point is None
        if each.status is JobStatus.FAILED:
            assert each.error, "every failure says why"
