"""Agents and decisions as scenarios: what a session reports, what is ordered, what a human decides."""

from __future__ import annotations

from typing import Any

import pytest

from oj_daemon.core import effects, events
from oj_daemon.core.events import Choice, Prompt, Question
from oj_daemon.core.state import Agent, Decision
from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import CommandDef, JobDef, RunAgent, Runbook, StepDef
from oj_daemon.wire import requests
from oj_daemon.wire.names import (
    AgentStatus,
    DecisionSource,
    DecisionStatus,
    JobStatus,
    PromptKind,
    StepStatus,
)
from tests.support.scenario import Scenario, agent_step, coder, job, runbook, step

RUNNING, WAITING, ENDING = JobStatus.RUNNING, JobStatus.WAITING, JobStatus.ENDING
DONE, FAILED, CANCELLED, SUSPENDED = (
    JobStatus.DONE,
    JobStatus.FAILED,
    JobStatus.CANCELLED,
    JobStatus.SUSPENDED,
)
QUEUED, STARTING, OPEN, DISMISSED = (
    AgentStatus.QUEUED,
    AgentStatus.STARTING,
    DecisionStatus.OPEN,
    DecisionStatus.DISMISSED,
)
GATE = {"text": "make test", "script": "make test"}


class AgentWorld(Scenario):
    """A scenario with one agent definition."""

    def __init__(self, *steps: StepDef, definition: JobDef | None = None, **agent: Any) -> None:
        whole = definition or job(
            *(steps or (agent_step("code", on_done=["commit"]), step("commit")))
        )
        book = runbook(whole, defaults={"what": "it"})
        crew = CommandDef(name="crew", run=RunAgent(agent="coder"), defaults={"what": "it"})
        agents = {"coder": coder(**agent)}
        super().__init__(
            Runbook(
                path=book.path,
                commands={**book.commands, "crew": crew},
                jobs=book.jobs,
                agents=agents,
            )
        )
        self.seq = 0

    @property
    def agent(self) -> Agent:
        """The newest session."""
        return list(self.state.agents.values())[-1]

    @property
    def decision(self) -> Decision:
        """The newest decision."""
        return list(self.state.decisions.values())[-1]

    def begin(self, **fields: Any) -> None:
        """Run the job, and let its session come up."""
        self.run(**fields)
        self.spawned()

    def spawned(self) -> None:
        self.seq = 0
        self.taken(effects.SpawnAgent)
        self.tell(
            events.AgentSpawned(
                agent_id=self.agent.id,
                runtime="local",
                route={"socket": "/s"},
                session_id=f"s-{self.agent.id[-3:]}",
            )
        )
        self.reports("working")

    def reports(self, state: str, **fields: Any) -> None:
        self.seq += 1
        self.tell(events.AgentReported(agent_id=self.agent.id, seq=self.seq, state=state, **fields))

    def asks(self, kind: PromptKind, number: int = 1, **fields: Any) -> None:
        self.reports("prompt", prompt=Prompt(kind=kind, seq=number, **fields))

    def dies(self, code: int | None = 1) -> None:
        self.tell(events.AgentExited(agent_id=self.agent.id, exit_code=code))

    def ended_agent(self) -> str:
        """The order to end the session is carried out; returns why it was given."""
        (order,) = self.taken(effects.EndAgent)
        assert order.agent_id == self.agent.id
        why = self.agent.ending
        self.tell(events.AgentEnded(agent_id=self.agent.id))
        return why

    def nudges(self) -> list[str]:
        found = []
        for order in self.taken(effects.NudgeAgent):
            found.append(order.message)
            self.tell(events.AgentNudged(agent_id=order.agent_id, nudge=order.nudge))
        return found

    def decide(self, *choices: int, message: str = "") -> None:
        chosen = tuple((number,) for number in choices)
        self.ask(
            requests.DecisionResolve(id=self.decision.id, choices=chosen, message=message, by="me")
        )


def test_an_agent_step_starts_a_session_with_its_prompt_and_is_done_when_it_idles() -> None:
    world = AgentWorld()
    world.run()
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.prompt, order.script, order.stop, order.cwd) == (
        "Do it.",
        "claude",
        "allow",
        "/project",
    )
    assert order.env["OJ_AGENT_ID"] == world.agent.id
    world.tell(
        events.AgentSpawned(agent_id=world.agent.id, runtime="local", route={"socket": "/s"})
    )
    world.reports("working")
    assert world.status is RUNNING
    world.reports("idle")
    assert world.started() == [], "first the session ends"
    assert world.ended_agent() == "done"
    assert world.started() == ["commit"]
    assert world.agent.status is AgentStatus.COMPLETED


def test_news_that_is_late_or_told_twice_changes_nothing() -> None:
    world = AgentWorld(on_idle={"action": "nudge", "attempts": 5})
    world.begin()
    world.reports("idle")
    assert world.nudges() == ["Please continue with the task."]
    log = len(world.log)
    for seq in (0, 1, 2):
        world.tell(events.AgentReported(agent_id=world.agent.id, seq=seq, state="idle"))
    assert len(world.log) == log
    assert world.nudges() == []


def test_a_nudge_that_the_stop_gate_gives_is_an_attempt_and_is_not_typed() -> None:
    world = AgentWorld(on_idle={"action": "nudge", "attempts": 2, "message": "go on"})
    world.run()
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.stop, order.stop_prompt) == ("gate", "go on")
    world.spawned()
    world.tell(events.AgentStopBlocked(agent_id=world.agent.id))
    assert world.nudges() == []
    world.reports("idle")
    assert world.nudges() == ["go on"]
    world.reports("working")
    world.reports("idle")
    assert world.decision.source is DecisionSource.IDLE


def test_nudges_that_have_to_keep_their_distance_are_not_given_at_the_stop_gate() -> None:
    world = AgentWorld(
        on_idle={"action": "nudge", "attempts": 2, "message": "go on", "cooldown_ms": 1000}
    )
    world.run()
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.stop, order.stop_prompt) == ("allow", "")


def test_a_nudge_is_counted_before_it_is_typed_and_not_typed_again_after_a_crash() -> None:
    world = AgentWorld(
        on_idle={"action": "nudge", "attempts": None, "message": "go on, ${var.what}"}
    )
    world.begin()
    world.reports("idle")
    (order,) = world.taken(effects.NudgeAgent)
    assert (order.nudge, order.message) == (1, "go on, it")
    world.restart()
    (again,) = world.taken(effects.NudgeAgent)
    assert again == order, "the number tells the sidecar that it is the same message"
    world.tell(events.AgentNudged(agent_id=world.agent.id, nudge=1))
    world.restart()
    assert world.taken(effects.NudgeAgent) == []


def test_when_the_attempts_are_used_up_a_human_is_asked_and_the_job_waits() -> None:
    world = AgentWorld(on_idle={"action": "nudge", "attempts": 2, "cooldown_ms": 1000})
    world.begin()
    world.reports("idle")
    assert len(world.nudges()) == 1
    world.reports("working")
    world.reports("idle")
    assert world.nudges() == [], "the second one waits for its cooldown"
    world.passes(1000)
    assert len(world.nudges()) == 1
    world.reports("working")
    world.reports("idle")
    assert world.status is WAITING
    assert (world.decision.source, world.decision.status) == (
        DecisionSource.IDLE,
        DecisionStatus.OPEN,
    )
    assert [choice.label for choice in world.decision.options] == [
        "Nudge",
        "Done",
        "Cancel",
        "Dismiss",
    ]
    world.reports("idle")
    assert len(world.state.decisions) == 1, "repeated idles make one decision"


def test_activity_during_the_cooldown_cancels_the_action() -> None:
    world = AgentWorld(on_idle={"action": "nudge", "attempts": None, "cooldown_ms": 1000})
    world.begin()
    world.reports("idle")
    world.nudges()
    world.reports("working")
    world.reports("idle")
    world.reports("working")
    world.passes(60_000)
    assert world.nudges() == []


def test_a_cooldown_survives_a_restart() -> None:
    world = AgentWorld(on_idle={"action": "nudge", "attempts": None, "cooldown_ms": 1000})
    world.begin()
    world.reports("idle")
    world.nudges()
    world.reports("working")
    world.reports("idle")
    world.restart()
    world.passes(1000)
    assert len(world.nudges()) == 1


@pytest.mark.parametrize(
    ("choice", "outcome"),
    [(1, "nudge"), (2, "done"), (3, "cancel"), (4, "dismiss")],
)
def test_what_can_be_decided_about_an_idle_agent(choice: int, outcome: str) -> None:
    world = AgentWorld(on_idle={"action": "escalate"})
    world.begin()
    world.reports("idle")
    assert world.status is WAITING
    world.decide(choice, message="do the rest" if choice == 1 else "")
    if outcome == "nudge":
        assert world.nudges() == ["do the rest"]
        assert world.status is RUNNING
    elif outcome == "done":
        assert world.ended_agent() == "done"
        assert world.started() == ["commit"]
    elif outcome == "cancel":
        assert world.ended_agent() == "end"
        assert world.status is CANCELLED
    else:
        assert world.status is WAITING
        assert world.decision.status is DISMISSED
        world.ask(requests.DecisionReopen(id=world.decision.id))
        assert world.decision.status is OPEN


def test_an_answer_that_does_not_fit_is_refused_and_the_decision_stays_open() -> None:
    world = AgentWorld(on_idle={"action": "escalate"})
    world.begin()
    world.reports("idle")
    with pytest.raises(Rejected, match=r"choice 9 out of range \(1..4\)"):
        world.decide(9)
    with pytest.raises(Rejected, match="needs a choice or a message"):
        world.decide()
    with pytest.raises(Rejected, match="expected one choice, got 2"):
        world.decide(1, 2)
    assert world.decision.status is OPEN
    world.decide(2)
    with pytest.raises(Rejected, match="already resolved"):
        world.decide(2)
    with pytest.raises(Rejected, match="Decision not found: nosuch"):
        world.ask(requests.DecisionResolve(id="nosuch", choices=((1,),)))


def test_a_dead_agent_is_resumed_with_its_conversation_until_the_attempts_are_used_up() -> None:
    world = AgentWorld(
        on_dead={"action": "resume", "attempts": 1, "message": "you died", "append": True}
    )
    world.begin()
    session = world.agent.session_id
    world.dies()
    assert world.ended_agent() == "resume"
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.session_id, order.message) == (session, "you died")
    world.tell(events.AgentSpawned(agent_id=world.agent.id, runtime="local", route={}))
    world.dies()
    assert world.decision.source is DecisionSource.DEAD
    world.decide(1)
    assert world.ended_agent() == "resume"
    assert len(world.taken(effects.SpawnAgent)) == 1
    assert len(world.job.runs) == 1, "it still is the same run of the step"


def test_an_agent_that_dies_again_and_again_meets_the_circuit_breaker_even_with_forever() -> None:
    world = AgentWorld(on_dead={"action": "resume", "attempts": None})
    world.begin()
    for _ in range(24):
        world.dies()
        assert world.ended_agent() == "resume"
        world.spawned()
    world.dies()
    assert world.status is WAITING
    assert "circuit breaker" in world.decision.context


def test_a_definition_whose_sessions_end_at_once_in_job_after_job_meets_the_circuit_breaker() -> (
    None
):
    world = AgentWorld(on_dead={"action": "resume", "attempts": None})
    for again in (24, 24, 2):
        world.begin()
        for _ in range(again):
            world.dies()
            assert world.ended_agent() == "resume"
            world.spawned()
        world.dies()
        assert "circuit breaker" in world.decision.context
    assert "the last 50 sessions of agent 'coder' all ended at once" in world.decision.context
    world.decide(1)
    assert world.ended_agent() == "resume", "a human may try again"
    world.spawned()
    world.passes(60_000)
    world.dies()
    assert world.ended_agent() == "resume", "one that lasted is no crash"
    world.spawned()
    world.dies()
    assert world.ended_agent() == "resume", "it counts from the start again"


def test_resume_with_a_message_and_no_append_begins_a_new_conversation() -> None:
    world = AgentWorld(on_dead={"action": "resume", "message": "start over"})
    world.begin()
    world.dies()
    world.ended_agent()
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.session_id, order.message) == ("", "start over")


def test_the_default_for_a_dead_agent_is_to_ask_and_skip_goes_on() -> None:
    world = AgentWorld()
    world.begin()
    world.dies(137)
    assert "exit code 137" in world.decision.context
    world.decide(2)
    assert world.ended_agent() == "done"
    assert world.started() == ["commit"]


def test_an_exit_closes_a_decision_that_presumes_a_living_agent_and_then_counts_itself() -> None:
    world = AgentWorld(on_idle={"action": "escalate"}, on_dead={"action": "done"})
    world.begin()
    world.reports("idle")
    first = world.decision.id
    world.dies(0)
    assert world.state.decisions[first].note == "auto-dismissed: agent exited"
    assert world.ended_agent() == "done"


def test_an_agent_that_becomes_active_by_itself_needs_no_decision_any_more() -> None:
    world = AgentWorld(on_idle={"action": "escalate"})
    world.begin()
    world.reports("idle")
    world.reports("working")
    assert world.decision.note == "auto-dismissed: agent became active"
    assert world.status is RUNNING


def test_a_permission_is_asked_of_a_human_and_the_answer_names_the_dialog() -> None:
    world = AgentWorld()
    world.begin()
    world.asks(PromptKind.PERMISSION, 7, tool="Bash", input="rm -rf build")
    assert "rm -rf build" in world.decision.context
    world.decide(2, message="not that")
    (order,) = world.taken(effects.AnswerAgent)
    assert (order.answer.prompt, order.answer.accept, order.answer.text) == (7, False, "not that")
    world.restart()
    assert world.taken(effects.AnswerAgent) == [order]
    world.tell(events.AgentAnswered(agent_id=world.agent.id, prompt=7, reason="the dialog is gone"))
    assert world.decision.note == "the answer did not arrive: the dialog is gone"


def test_a_person_at_the_terminal_may_answer_first() -> None:
    world = AgentWorld()
    world.begin()
    world.asks(PromptKind.PERMISSION, 1)
    world.reports("working")
    assert world.decision.note == "answered at the agent's terminal"
    assert world.status is RUNNING
    world.asks(PromptKind.PERMISSION, 2)
    world.asks(PromptKind.PERMISSION, 3)
    assert world.decision.prompt == 3, "another dialog is another decision"
    assert len(world.state.open_decisions) == 1


def test_a_question_offers_its_own_options_then_other() -> None:
    world = AgentWorld()
    world.begin()
    options = (Choice(label="red", description="warm"), Choice(label="blue"))
    world.asks(
        PromptKind.QUESTION,
        questions=(Question(question="Which colour?", header="Colour", options=options),),
    )
    assert [choice.label for choice in world.decision.options] == [
        "red",
        "blue",
        "Other",
        "Cancel",
        "Dismiss",
    ]
    assert "[Colour] Which colour?" in world.decision.context
    world.decide(2)
    (order,) = world.taken(effects.AnswerAgent)
    assert order.answer.answers == (events.QuestionAnswer(options=(2,)),)


def test_several_questions_need_one_choice_each_and_allow_several_labels_where_they_say_so() -> (
    None
):
    world = AgentWorld()
    world.begin()
    options = (Choice(label="a"), Choice(label="b"))
    questions = (
        Question(question="one?", options=options),
        Question(question="many?", options=options, multi_select=True),
    )
    world.asks(PromptKind.QUESTION, questions=questions)
    with pytest.raises(Rejected, match="expected 2 choices"):
        world.decide(1)
    world.ask(
        requests.DecisionResolve(id=world.decision.id, choices=((3,), (1, 2)), message="neither")
    )
    (order,) = world.taken(effects.AnswerAgent)
    assert order.answer.answers == (
        events.QuestionAnswer(text="neither"),
        events.QuestionAnswer(options=(1, 2)),
    )


@pytest.mark.parametrize(("choice", "accept"), [(1, True), (3, True), (4, False)])
def test_a_plan_is_accepted_or_sent_back(choice: int, accept: bool) -> None:
    world = AgentWorld()
    world.begin()
    world.asks(PromptKind.PLAN, input="1. do it")
    assert "1. do it" in world.decision.context
    world.decide(choice, message="" if accept else "smaller steps")
    (order,) = world.taken(effects.AnswerAgent)
    assert (order.answer.accept, order.answer.text) == (accept, "" if accept else "smaller steps")


def test_a_deadline_chooses_the_default_and_says_who_did() -> None:
    world = AgentWorld(on_idle={"action": "escalate", "timeout_ms": 1000, "default": "done"})
    world.begin()
    world.reports("idle")
    world.restart()
    world.passes(1000)
    assert (world.decision.by, world.decision.status) == ("deadline", DecisionStatus.RESOLVED)
    assert world.ended_agent() == "done"


def test_a_gate_that_passes_ends_the_step_and_one_that_fails_is_told_to_the_agent_while_it_may_try_again() -> (
    None
):
    world = AgentWorld(
        on_idle={"action": "gate", "run": GATE, "attempts": 2, "message": "tests fail"}
    )
    world.begin()
    world.reports("idle")
    (order,) = world.taken(effects.RunGate)
    assert (order.script, order.gate) == ("make test", 1)
    world.restart()
    assert world.taken(effects.RunGate) == [order]
    world.tell(events.GateFinished(agent_id=world.agent.id, gate=1, exit_code=2, output="1 failed"))
    assert world.nudges() == ["tests fail\n1 failed"]
    world.reports("working")
    world.reports("idle")
    (order,) = world.taken(effects.RunGate)
    world.tell(events.GateFinished(agent_id=world.agent.id, gate=2, exit_code=2, output="1 failed"))
    assert world.decision.source is DecisionSource.GATE
    world.decide(1)
    (order,) = world.taken(effects.RunGate)
    assert order.gate == 3, "retry runs the gate again"
    world.tell(events.GateFinished(agent_id=world.agent.id, gate=3, exit_code=0))
    assert world.ended_agent() == "done"


def test_errors_are_matched_by_their_category() -> None:
    world = AgentWorld(
        on_error=[
            {"action": "resume", "match": "rate_limited", "attempts": None},
            {"action": "fail"},
        ]
    )
    world.begin()
    world.reports("error", error="rate_limited", detail="429")
    assert world.ended_agent() == "resume"
    world.spawned()
    world.reports("error", error="unauthorized", detail="401")
    assert world.ended_agent() == "fail"
    assert world.status is FAILED
    assert "unauthorized" in world.job.error


def test_an_agent_that_stalls_is_an_error_and_one_whose_state_is_unknown_is_left_alone() -> None:
    world = AgentWorld(on_error=[{"action": "fail"}])
    world.begin()
    world.reports("unknown")
    assert world.status is RUNNING
    world.reports("stalled", error="stalled", detail="working for 300 s without a sign of life")
    assert world.ended_agent() == "fail"
    assert "without a sign of life" in world.job.error


def test_a_session_that_shows_no_sign_of_life_counts_as_dead() -> None:
    world = AgentWorld(on_dead={"action": "fail"})
    world.run()
    world.tell(events.AgentSpawned(agent_id=world.agent.id, runtime="local", route={}))
    world.passes(120_000)
    assert world.ended_agent() == "fail"
    assert "no sign of life" in world.job.error


def test_a_session_that_could_not_start_fails_the_step_with_the_reason() -> None:
    world = AgentWorld(agent_step("code", on_fail="clean"), step("clean"))
    world.run()
    world.tell(events.AgentSpawnFailed(agent_id=world.agent.id, reason="claude: command not found"))
    assert world.started() == ["clean"]
    world.exits("clean")
    assert "claude: command not found" in world.job.error


def test_cancel_ends_the_session_first_and_a_dying_agent_is_not_revived() -> None:
    world = AgentWorld(on_dead={"action": "resume", "attempts": None})
    world.begin()
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.dies(143)
    assert world.ended_agent() == "end"
    assert world.status is CANCELLED
    assert world.taken(effects.SpawnAgent) == []


def test_suspend_keeps_the_conversation_for_resume() -> None:
    world = AgentWorld()
    world.begin()
    session = world.agent.session_id
    world.ask(requests.JobSuspend(ids=(world.job.id,)))
    world.ended_agent()
    assert world.status is SUSPENDED
    world.ask(requests.JobResume(id=world.job.id, message="carry on"))
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.session_id, order.message) == (session, "carry on")


def test_resume_of_a_waiting_job_closes_the_decision_and_tells_the_agent() -> None:
    world = AgentWorld(on_idle={"action": "escalate"})
    world.begin()
    world.reports("idle")
    world.ask(requests.JobResume(id=world.job.id, message="try this"))
    assert world.decision.note == "auto-dismissed by job resume"
    assert world.nudges() == ["try this"]
    assert world.status is RUNNING


def test_a_failing_sibling_ends_the_session_too() -> None:
    world = AgentWorld(step("init", on_done=["code", "lint"]), agent_step("code"), step("lint"))
    world.run()
    world.exits("init")
    world.spawned()
    world.exits("lint", 1)
    assert world.status is ENDING
    assert world.ended_agent() == "end"
    assert world.status is FAILED
    assert [run.status for run in world.job.runs] == [
        StepStatus.DONE,
        StepStatus.CANCELLED,
        StepStatus.FAILED,
    ]


def test_a_timeout_ends_the_session_and_counts_as_a_failure_of_the_step() -> None:
    world = AgentWorld(agent_step("code", timeout_ms=5000))
    world.begin()
    world.passes(5000)
    assert world.ended_agent() == "end"
    assert world.status is FAILED
    assert "timed out" in world.job.error


def test_no_more_sessions_of_a_definition_live_than_it_allows_and_the_rest_waits_visibly() -> None:
    world = AgentWorld(max_concurrency=1)
    first, second = world.run(), world.run()
    assert len(world.taken(effects.SpawnAgent)) == 1
    assert world.agent.job_id == second.id
    assert world.agent.status is QUEUED
    one = world.state.agent_of(first.id, 1)
    assert one is not None
    world.tell(events.AgentSpawned(agent_id=one.id, runtime="local", route={}))
    world.tell(events.AgentReported(agent_id=one.id, seq=1, state="idle"))
    world.tell(events.AgentEnded(agent_id=one.id))
    assert len(world.taken(effects.SpawnAgent)) == 1
    assert world.agent.status is STARTING


def test_a_queued_session_whose_job_is_cancelled_ends_without_an_order() -> None:
    world = AgentWorld(max_concurrency=1)
    world.run()
    second = world.run()
    world.ask(requests.JobCancel(ids=(second.id,)))
    assert world.taken(effects.EndAgent) == []
    assert world.state.jobs[second.id].status is CANCELLED


def test_a_stand_alone_agent_is_a_crew_that_escalates_when_it_idles() -> None:
    world = AgentWorld()
    reply = world.ask_crew()
    assert reply.id.startswith("crw-")
    world.spawned()
    world.reports("idle")
    assert world.state.jobs[reply.id].status is WAITING
    world.decide(2)
    world.ended_agent()
    assert world.state.jobs[reply.id].status is DONE


def test_after_a_restart_the_session_is_looked_for_where_it_was() -> None:
    world = AgentWorld()
    world.begin()
    world.restart()
    (order,) = world.taken(effects.SpawnAgent)
    assert (order.runtime, order.route, order.seq) == ("local", {"socket": "/s"}, 1)
    assert order.session_id == world.agent.session_id
    world.reports("idle")
    world.restart()
    assert [order.agent_id for order in world.taken(effects.EndAgent)] == [world.agent.id]
