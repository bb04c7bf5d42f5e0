"""What /metrics shows, by value: facts are those that the core makes, the text is read as a scraper reads it."""

from __future__ import annotations

import logging
import re
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from oj_daemon.core import events, machine
from oj_daemon.core.state import State
from oj_daemon.metrics import LEFT_MOST, Metrics
from oj_daemon.observer import Observer
from oj_daemon.readiness import Readiness
from oj_daemon.runbook.model import StepDef
from oj_daemon.wire import requests
from oj_daemon.wire.names import AgentId, DecisionSource, JobId, JobStatus
from tests.oj_daemon.core.test_agent import AgentWorld
from tests.support.scenario import agent_step, step

USAGE = {
    "input_tokens": 10,
    "output_tokens": 20,
    "cache_read_tokens": 300,
    "cache_write_tokens": 40,
    "total_cost_usd": 0.5,
    "request_count": 1,
}


class FakeLog:
    """A log of which the test says how it is."""

    epoch, seq, durable_seq, log_bytes, saved_seq, saved_at = 3, 120, 118, 4096, 100, 0


class Counted(AgentWorld):
    """A scenario whose facts are counted."""

    def __init__(self, *steps: StepDef) -> None:
        self.readiness = Readiness("log", "lease")
        self.metrics = Metrics(self.readiness, "1.2.3+abc")
        self.source = FakeLog()
        super().__init__(*steps)
        self.metrics.watch(self.state, self.source, lambda: self.now, 1.5)

    def _take(self, outcome: machine.Outcome) -> None:
        super()._take(outcome)
        self.metrics.note_facts(self.state, outcome.facts, self.now)

    def value(self, name: str, **labels: str) -> float | None:
        return samples(self.metrics).get((name, frozenset(labels.items())))


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, content_type = metrics.exposition("")
    assert content_type.startswith("text/plain")
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, "one figure is there twice"
            found[key] = sample.value
    return found


def test_a_daemon_that_has_not_read_its_log_has_a_version_and_no_jobs() -> None:
    readiness = Readiness("log", "lease")
    metrics = Metrics(readiness, "1.2.3+abc")
    found = samples(metrics)
    assert found["oj_build_info", frozenset({("version", "1.2.3+abc")})] == 1
    assert found["oj_is_leader", frozenset()] == 0
    assert found["oj_ready", frozenset({("condition", "lease")})] == 0
    assert not any(name in ("oj_jobs", "oj_log_record") for name, _ in found)


def test_the_daemon_that_holds_the_lease_and_has_read_the_log_leads() -> None:
    world = Counted()
    world.readiness.set("lease", True)
    assert world.value("oj_is_leader") == 0
    world.readiness.set("log", True)
    world.readiness.set("draining", False, "stop asked for")
    assert world.value("oj_is_leader") == 1
    assert world.value("oj_ready", condition="draining") == 0
    assert world.value("oj_ready", condition="log") == 1


def test_jobs_and_steps_are_counted_by_what_became_of_them() -> None:
    world = Counted(step("a", on_done=["b"]), step("b"))
    world.run()
    assert world.value("oj_jobs", state="running") == 1
    world.passes(2000)
    world.exits("a")
    world.passes(1000)
    world.exits("b", code=3)
    assert world.value("oj_jobs", state="running") == 0
    assert world.value("oj_jobs", state="failed") == 1
    assert world.value("oj_steps_total", kind="shell", outcome="completed") == 1
    assert world.value("oj_steps_total", kind="shell", outcome="failed") == 1
    assert world.value("oj_step_duration_seconds_sum", kind="shell") == 3
    assert world.value("oj_step_duration_seconds_count", kind="shell") == 2
    assert world.value("oj_job_duration_seconds_sum", outcome="failed") == 3
    assert world.value("oj_job_duration_seconds_bucket", outcome="failed", le="5.0") == 1
    assert world.value("oj_job_duration_seconds_bucket", outcome="failed", le="1.0") == 0


def test_a_suspended_job_has_not_ended() -> None:
    world = Counted(step("a"))
    job_id = world.run().id
    world.ask(requests.JobSuspend(ids=(job_id,)))
    world.exits("a", code=143, ended=True)
    assert world.status is JobStatus.SUSPENDED
    assert world.value("oj_jobs", state="suspended") == 1
    assert world.value("oj_steps_total", kind="shell", outcome="suspended") == 1
    assert world.value("oj_job_duration_seconds_count", outcome="suspended") is None


def test_after_a_restart_gauges_are_as_before_and_nothing_is_counted_again() -> None:
    world = Counted(step("a"), step("b"))
    world.run()
    world.exits("a")
    world.run()
    world.metrics = Metrics(world.readiness, "2")
    world.restart()
    world.metrics.watch(world.state, world.source, lambda: world.now, 0.25)
    assert world.value("oj_jobs", state="completed") == 1
    assert world.value("oj_jobs", state="running") == 1
    assert world.value("oj_steps_total", kind="shell", outcome="completed") is None
    assert world.value("oj_recovery_seconds") == 0.25


def test_a_session_is_timed_from_its_order_and_only_when_it_was_started_and_not_found_again() -> (
    None
):
    world = Counted()
    world.run()
    assert world.value("oj_agents", state="starting") == 1
    world.passes(4000)
    world.spawned()
    assert world.value("oj_agents", state="running") == 1
    assert world.value("oj_agent_start_seconds_sum", runtime="local") == 4
    assert world.value("oj_agent_start_seconds_count", runtime="local") == 1
    world.metrics = Metrics(world.readiness, "2")
    world.restart()
    world.tell(events.AgentSpawned(agent_id=world.agent.id, runtime="local", route={}))
    world.metrics.watch(world.state, world.source, lambda: world.now, 0)
    assert world.value("oj_agents", state="running") == 1
    assert world.value("oj_agent_start_seconds_count", runtime="local") is None


def test_the_end_of_an_agent_step_is_one_of_kind_agent() -> None:
    world = Counted(agent_step("code"))
    world.begin()
    world.passes(7000)
    world.reports("idle")
    world.ended_agent()
    assert world.status is JobStatus.DONE
    assert world.value("oj_steps_total", kind="agent", outcome="completed") == 1
    assert world.value("oj_step_duration_seconds_sum", kind="agent") == 7
    assert world.value("oj_agents", state="completed") == 1


def test_open_decisions_have_an_age_and_answered_ones_have_waited() -> None:
    world = Counted()
    world.begin()
    world.passes(1000)
    world.tell(
        events.AgentEscalated(
            agent_id=world.agent.id, source=DecisionSource.ERROR, detail="no credit"
        )
    )
    world.passes(90_000)
    assert world.value("oj_decisions_open", source="error") == 1
    assert world.value("oj_decisions_open", source="idle") == 0
    assert world.value("oj_decisions_oldest_seconds", source="error") == 90
    world.passes(10_000)
    world.decide(1)
    assert world.value("oj_decisions_open", source="error") == 0
    assert world.value("oj_decisions_oldest_seconds", source="error") == 0
    assert world.value("oj_decision_wait_seconds_sum", source="error") == 100


def test_the_state_of_the_log_is_shown() -> None:
    world = Counted()
    world.metrics.note_commit(0.002, 500)
    world.metrics.note_commit(0.5, 100)
    assert world.value("oj_log_epoch") == 3
    assert world.value("oj_log_record") == 120
    assert world.value("oj_log_waiting_records") == 2
    assert world.value("oj_log_bytes") == 4096
    assert world.value("oj_log_written_bytes_total") == 600
    assert world.value("oj_log_commit_seconds_count") == 2
    assert world.value("oj_log_commit_seconds_bucket", le="0.0025") == 1
    assert world.value("oj_snapshot_behind_records") == 20
    assert world.value("oj_snapshot_age_seconds") is None, "there is none"
    world.source.saved_at = world.now
    world.passes(60_000)
    assert world.value("oj_snapshot_age_seconds") == 60
    assert world.value("oj_recovery_seconds") == 1.5


def test_calls_and_notifications_are_counted_by_how_they_went() -> None:
    world = Counted()
    observer: Observer = world.metrics
    observer.note_api_call("create", 409, 0.02)
    observer.note_api_call("watch", "error", 3)
    observer.note_notified("webhook", "sent")
    observer.note_notified("webhook", "sent")
    observer.note_notified("desktop", "failed")
    world.metrics.note_lag(0.03)
    assert world.value("oj_k8s_request_seconds_count", verb="create", code="409") == 1
    assert world.value("oj_k8s_request_seconds_sum", verb="watch", code="error") == 3
    assert world.value("oj_notify_total", sink="webhook", outcome="sent") == 2
    assert world.value("oj_notify_total", sink="desktop", outcome="failed") == 1
    assert world.value("oj_event_loop_lag_seconds_sum") == 0.03


def test_whoever_does_not_count_takes_the_same_calls() -> None:
    silent = Observer()
    silent.note_api_call("get", 200, 0.1)
    silent.note_notified("webhook", "sent")


# Tokens and cost


def spend(world: Counted, share: int, agent_id: AgentId | None = None) -> None:
    """The session says what it has spent so far: so many times USAGE."""
    figures = {name: value * share for name, value in USAGE.items()}
    world.metrics.note_usage(agent_id or world.agent.id, "coder", figures)


def test_what_an_agent_spends_is_counted_once_though_it_is_told_as_a_sum() -> None:
    world = Counted()
    world.begin()
    spend(world, 1)
    spend(world, 1)
    spend(world, 3)
    assert world.value("oj_tokens_total", agent="coder", direction="input") == 30
    assert world.value("oj_tokens_total", agent="coder", direction="output") == 60
    assert world.value("oj_tokens_total", agent="coder", direction="cache_read") == 900
    assert world.value("oj_tokens_total", agent="coder", direction="cache_write") == 120
    assert world.value("oj_cost_usd_total", agent="coder") == 1.5


def test_sessions_of_one_agent_add_up() -> None:
    world = Counted(agent_step("code"))
    world.begin()
    spend(world, 2)
    world.reports("idle")
    world.ended_agent()
    world.begin()
    spend(world, 1)
    assert world.value("oj_cost_usd_total", agent="coder") == 1.5


def test_what_a_session_had_spent_before_this_daemon_came_is_not_counted_again() -> None:
    world = Counted()
    world.begin()
    spend(world, 5)
    world.metrics = Metrics(world.readiness, "2")
    world.restart()
    spend(world, 6)
    assert world.value("oj_cost_usd_total", agent="coder") is None
    spend(world, 7)
    assert world.value("oj_cost_usd_total", agent="coder") == 0.5


def test_a_session_that_goes_on_with_a_conversation_costs_what_it_adds_to_that() -> None:
    """The sidecar reads the old entries of the session log too, and they are part of its sums."""
    metrics = Metrics(Readiness(), "1")
    first, second, stranger = AgentId("agt-1"), AgentId("agt-2"), AgentId("agt-3")

    def created(agent_id: AgentId, session_id: str = "") -> events.AgentCreated:
        return events.AgentCreated(
            agent_id=agent_id, job_id=JobId("job-1"), run=1, name="coder", session_id=session_id
        )

    def cost() -> float | None:
        return samples(metrics).get(("oj_cost_usd_total", frozenset({("agent", "coder")})))

    metrics.note_facts(State(), [created(first)], 0)
    metrics.note_usage(first, "coder", {"total_cost_usd": 2.0})
    metrics.note_facts(State(), [events.AgentEnded(agent_id=first, session_id="s-1")], 0)
    metrics.note_facts(State(), [created(second, "s-1"), created(stranger, "s-unknown")], 0)
    metrics.note_usage(second, "coder", {"total_cost_usd": 2.25})
    metrics.note_usage(stranger, "coder", {"total_cost_usd": 9.0})
    assert cost() == 2.25


def test_only_so_many_ended_conversations_are_remembered() -> None:
    metrics = Metrics(Readiness(), "1")
    for number in range(LEFT_MOST + 50):
        agent_id, job_id = AgentId(f"agt-{number}"), JobId("job-1")
        metrics.note_facts(
            State(),
            [
                events.AgentCreated(agent_id=agent_id, job_id=job_id, run=1, name="coder"),
                events.AgentEnded(agent_id=agent_id, session_id=f"s-{number}"),
            ],
            0,
        )
    assert len(metrics._left) == LEFT_MOST
    assert metrics._spent == {}


def test_figures_that_cannot_be_read_are_passed_over_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = Counted()
    world.begin()
    spend(world, 1)
    world.metrics.note_usage(world.agent.id, "coder", {**USAGE, "input_tokens": "many"})
    world.metrics.note_usage(world.agent.id, "coder", {**USAGE, "total_cost_usd": [1]})
    spend(world, 2)
    assert world.value("oj_cost_usd_total", agent="coder") == 1
    assert len([line for line in caplog.messages if "cannot be read" in line]) == 2


# Safety


def test_no_label_holds_an_id_a_prompt_or_a_path() -> None:
    world = Counted()
    world.begin()
    spend(world, 1)
    world.reports("idle")
    world.ended_agent()
    text = world.metrics.exposition("")[0].decode()
    assert 'agent="coder"' in text
    assert not re.search(r"\b(job|agt|crw|wks|dec)-[0-9a-z]", text)
    assert "Do it." not in text
    assert "/project" not in text


def test_a_fact_that_cannot_be_counted_costs_nothing_but_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = Counted(step("a"))
    world.run()
    lost = cast("State", None)
    fact = events.StepExited(job_id=world.job.id, run=1, exit_code=0)
    with caplog.at_level(logging.ERROR):
        world.metrics.note_facts(lost, [fact, fact], world.now)
    assert [record.getMessage() for record in caplog.records] == ["counting StepExited failed"] * 2


def test_facts_of_jobs_that_are_gone_by_now_are_passed_over() -> None:
    metrics = Metrics(Readiness(), "1")
    gone = JobId("job-gone")
    metrics.note_facts(
        State(),
        [
            events.StepExited(job_id=gone, run=1, exit_code=0),
            events.JobFinished(job_id=gone, status=JobStatus.DONE),
        ],
        0,
    )
    assert not any(name == "oj_steps_total" for name, _ in samples(metrics))


def test_a_scraper_that_asks_for_open_metrics_gets_them() -> None:
    text, content_type = Metrics(Readiness(), "1").exposition("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
