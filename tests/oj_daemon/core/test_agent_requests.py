"""What front ends ask about agents and decisions, and the views that they get."""

from __future__ import annotations

from typing import Any

import pytest

from oj_daemon.core import effects, views
from oj_daemon.core.events import Choice, Question
from oj_daemon.errors import Rejected
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import AgentStatus, DecisionStatus, JobStatus, PromptKind, short_id
from tests.oj_daemon.core.test_agent import AgentWorld

DAY = 24 * 3_600_000
ESCALATE = {"action": "escalate"}
QUESTIONS = (
    Question(question="Which colour?", header="Colour", options=(Choice(label="red"),)),
    Question(question="Which parts?", options=(Choice(label="API"), Choice(label="UI"))),
)


def overview(world: AgentWorld) -> replies.ProjectStatus:
    shown = views.overview(
        world.state, project=None, now=world.now, uptime_secs=1, version="1", warnings=()
    )
    (project,) = shown.projects
    return project


def detail(world: AgentWorld) -> replies.JobDetail:
    return views.job_detail(world.state, world.job, log_path="/log", seq=1)


def waiting() -> AgentWorld:
    """A job whose agent is idle and waits for a decision."""
    world = AgentWorld(on_idle=ESCALATE)
    world.begin()
    world.reports("idle", last_message="I am done.\nReally.")
    return world


# Resume


def test_resume_tells_an_agent_that_is_up_to_go_on() -> None:
    world = waiting()
    world.ask(requests.AgentResume(id=world.agent.id, message="more tests"))
    assert world.nudges() == ["more tests"]


def test_resume_with_kill_goes_on_in_a_new_session() -> None:
    world = waiting()
    first = world.agent
    world.ask(requests.AgentResume(id=first.id, kill=True))
    assert world.ended_agent() == "resume"
    assert world.agent.id != first.id
    assert world.agent.session_id == first.session_id


def test_resume_goes_on_in_a_new_session_where_the_old_one_has_ended() -> None:
    world = AgentWorld()
    world.begin()
    world.dies()
    world.ask(requests.AgentResume(id=world.agent.id))
    assert world.ended_agent() == "resume"


def test_resume_types_nothing_into_a_dialog_and_nothing_before_the_session_is_up() -> None:
    world = AgentWorld()
    world.run()
    with pytest.raises(Rejected, match="not up yet"):
        world.ask(requests.AgentResume(id=world.agent.id))
    world.spawned()
    world.asks(PromptKind.PERMISSION, tool="Bash", input="rm")
    with pytest.raises(Rejected, match="dialog"):
        world.ask(requests.AgentResume(id=world.agent.id))


def test_resume_of_an_agent_whose_job_has_ended_is_refused() -> None:
    world = waiting()
    world.decide(3)
    world.ended_agent()
    assert world.status is JobStatus.CANCELLED
    with pytest.raises(Rejected, match=r"agent .* is gone"):
        world.ask(requests.AgentResume(id=world.agent.id))


def test_resume_all_takes_dead_sessions_and_says_why_it_skips_the_others() -> None:
    world = waiting()
    up = world.agent
    world.begin()
    world.dies()
    reply = world.ask(requests.AgentResumeAll())
    assert isinstance(reply, replies.AgentsResumed)
    assert reply.resumed == (world.agent.id,)
    assert reply.skipped == ((up.id, "its session is up; --kill replaces it"),)
    assert world.ask(requests.AgentResumeAll(project="other")) == replies.AgentsResumed((), ())


def test_resume_all_with_kill_takes_every_session_that_is_not_ending() -> None:
    world = waiting()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.begin()
    ending = next(iter(world.state.agents.values()))
    reply = world.ask(requests.AgentResumeAll(kill=True))
    assert reply == replies.AgentsResumed(
        resumed=(world.agent.id,), skipped=((ending.id, "it is being ended"),)
    )


# Prune


def ended(world: AgentWorld, choice: int) -> None:
    world.decide(choice)
    world.ended_agent()
    if world.status is JobStatus.RUNNING:
        world.exits("commit")


def test_prune_forgets_the_agents_of_ended_jobs_after_a_day_and_keeps_the_jobs() -> None:
    world = waiting()
    ended(world, 2)
    agent = world.agent
    young = world.ask(requests.AgentPrune())
    assert young == replies.Pruned(dry_run=False, pruned=(), skipped=1)
    world.passes(DAY)
    entry = replies.PrunedEntry(
        id=agent.id, name="coder", detail=f"job {short_id(world.job.id)} completed"
    )
    told = world.ask(requests.AgentPrune(dry_run=True))
    assert told == replies.Pruned(dry_run=True, pruned=(entry,), skipped=0)
    assert agent.id in world.state.agents
    world.ask(requests.AgentPrune())
    assert world.state.agents == {}
    assert world.taken(effects.ForgetAgents) == [effects.ForgetAgents(job_id=world.job.id)]
    assert detail(world).agents == ()
    assert views.decision_view(world.state, world.decision).agent_name == ""


def test_prune_takes_agents_of_failed_jobs_only_when_asked_for_all() -> None:
    world = AgentWorld(on_dead={"action": "fail"})
    world.begin()
    world.dies()
    world.ended_agent()
    assert world.status is JobStatus.FAILED
    world.passes(2 * DAY)
    assert world.ask(requests.AgentPrune()).skipped == 1  # type: ignore[union-attr]
    assert world.ask(requests.AgentPrune(project="other", all=True)).skipped == 0  # type: ignore[union-attr]
    world.ask(requests.AgentPrune(all=True))
    assert world.state.agents == {}


def test_prune_never_takes_the_agents_of_live_and_suspended_jobs() -> None:
    world = waiting()
    world.ask(requests.AgentPrune(all=True))
    assert len(world.state.agents) == 1
    world.ask(requests.JobSuspend(ids=(world.job.id,)))
    world.ended_agent()
    assert world.status is JobStatus.SUSPENDED
    world.ask(requests.AgentPrune(all=True))
    assert len(world.state.agents) == 1


# Decisions


@pytest.mark.parametrize(
    ("trigger", "default", "outcome"),
    [("on_idle", "skip", "done"), ("on_dead", "done", "done"), ("on_dead", "retry", "resume")],
)
def test_a_deadline_takes_the_default_by_any_name_that_it_has(
    trigger: str, default: str, outcome: str
) -> None:
    options: dict[str, Any] = {trigger: {**ESCALATE, "timeout_ms": 1000, "default": default}}
    world = AgentWorld(**options)
    world.begin()
    if trigger == "on_idle":
        world.reports("idle")
    else:
        world.dies()
    world.passes(1000)
    assert world.ended_agent() == outcome


def test_a_deadline_may_put_the_decision_aside() -> None:
    world = AgentWorld(on_idle={**ESCALATE, "timeout_ms": 1000, "default": "dismiss"})
    world.begin()
    world.reports("idle")
    world.passes(1000)
    assert world.decision.status is DecisionStatus.DISMISSED
    assert world.status is JobStatus.WAITING
    assert world.nudges() == []


def test_the_deadline_of_another_trigger_does_not_count() -> None:
    world = AgentWorld(
        on_idle=ESCALATE, on_prompt={**ESCALATE, "timeout_ms": 1000, "default": "deny"}
    )
    world.begin()
    world.reports("idle")
    assert world.decision.deadline_at == 0


def test_a_deadline_cancels_a_job_that_asks_several_questions() -> None:
    world = AgentWorld(on_prompt={**ESCALATE, "timeout_ms": 1000, "default": "cancel"})
    world.begin()
    world.asks(PromptKind.QUESTION, questions=QUESTIONS)
    world.passes(1000)
    world.ended_agent()
    assert world.status is JobStatus.CANCELLED


def test_other_and_revise_need_a_message() -> None:
    world = AgentWorld()
    world.begin()
    world.asks(PromptKind.QUESTION, questions=QUESTIONS[:1])
    with pytest.raises(Rejected, match="Other needs a message"):
        world.decide(2)
    assert world.decision.status is DecisionStatus.OPEN
    world.decide(2, message="green")
    world.asks(PromptKind.QUESTION, number=2, questions=QUESTIONS)
    with pytest.raises(Rejected, match="Other needs a message"):
        world.decide(1, 3)
    world.decide(1, 3, message="the docs")
    world.asks(PromptKind.PLAN, number=3, input="1. do it")
    with pytest.raises(Rejected, match="Revise needs a message"):
        world.decide(4)


def test_a_plan_and_a_tool_call_are_shown_as_text() -> None:
    world = AgentWorld()
    world.begin()
    world.asks(PromptKind.PLAN, tool="ExitPlanMode", input='{"plan":"# Plan\\n1. act"}')
    assert "Plan:\n# Plan\n1. act" in world.decision.context
    assert views.gist(world.decision) == "# Plan"
    world.decide(1)
    world.asks(PromptKind.PERMISSION, number=2, tool="Bash", input='{"command":"make","x":1}')
    assert views.gist(world.decision) == "Bash: make"
    world.decide(1)
    world.asks(PromptKind.PERMISSION, number=3, tool="Write", input='{"path":"a","n":[1]}')
    assert world.decision.context.endswith("Write: path: a\nn: [1]")


# Views


def test_a_waiting_job_says_what_it_waits_for_wherever_it_is_shown() -> None:
    world = waiting()
    why = "idle, it said: I am done."
    project = overview(world)
    (entry,) = project.escalated_jobs
    assert (entry.escalate_source, entry.waiting_reason) == ("idle", why)
    assert (project.active_jobs, project.decisions_pending) == ((), 1)
    shown = detail(world)
    assert (shown.reason, shown.steps[0].detail) == (why, why)
    assert [each.id for each in shown.decisions] == [world.decision.id]
    (agent,) = shown.agents
    assert agent.decision_id == world.decision.id
    assert agent.detail == f"waits for a decision (idle): {why}"


def test_a_decision_that_was_put_aside_is_named_with_the_way_back() -> None:
    world = waiting()
    world.decide(4)
    short = short_id(world.decision.id)
    (entry,) = overview(world).escalated_jobs
    assert entry.waiting_reason == f"a decision was put aside: oj decision reopen {short}"
    assert overview(world).decisions_pending == 0
    assert detail(world).decisions == ()
    assert detail(world).agents[0].decision_id == world.decision.id


def test_a_crew_is_shown_among_agents_and_left_out_of_the_jobs() -> None:
    world = AgentWorld()
    crew = world.ask_crew()
    world.spawned()
    project = overview(world)
    assert [(each.id, each.name, each.status) for each in project.agents] == [
        (crew.id, "coder", "running")
    ]
    assert project.active_jobs == ()
    assert views.jobs(world.state, requests.JobList()) == replies.Jobs(jobs=(), total=0)
    every = views.jobs(world.state, requests.JobList(all_kinds=True))
    assert ([each.id for each in every.jobs], every.total) == ([crew.id], 1)
    (summary,) = views.projects(world.state).projects
    assert (summary.active_jobs, summary.active_agents) == (1, 1)
    assert [node.name for node in detail(world).graph] == ["coder"]
    world.reports("idle")
    assert [each.id for each in overview(world).escalated_jobs] == [crew.id]
    assert views.decision_view(world.state, world.decision).summary == "is idle and waits."


def test_agents_are_listed_newest_first_by_job_and_status() -> None:
    world = waiting()
    first = world.agent
    second_job = world.run()
    second = world.agent
    listed = views.agents(world.state, project=None, job=None, status=None, limit=1)
    assert ([each.id for each in listed.agents], listed.total) == ([second.id], 2)
    by_job = views.agents(world.state, project=None, job=second_job.id, status=None, limit=None)
    assert [each.id for each in by_job.agents] == [second.id]
    by_status = views.agents(world.state, project=None, job=None, status="WAITING", limit=None)
    assert [each.id for each in by_status.agents] == [first.id]
    assert second.status is AgentStatus.STARTING
