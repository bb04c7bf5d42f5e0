"""Notifications: queued with what happened, handed to each sink in order, tried again, given up; nothing waits for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.core import effects, events
from oj_daemon.core.events import AgentEscalated, AgentReported, Choice
from oj_daemon.core.notification import GIVE_UP_MS, LONGEST_WAIT_MS, SEVERITIES
from oj_daemon.core.state import Policy, State, StateData
from oj_daemon.runbook.model import JobDef, Notify, Runbook
from oj_daemon.wire import requests
from oj_daemon.wire.names import DecisionId, DecisionSource, JobStatus, NotificationId, Severity
from tests.support.scenario import Scenario, agent_step, coder, job, runbook, step

BOTH = ("webhook", "desktop")
TOLD = Notify(
    on_start="go ${var.who}", on_done="done", on_fail="bad: ${error}", on_cancel="stopped"
)
HOUR = 3_600_000


class Told(Scenario):
    """A scenario whose daemon has sinks."""

    def __init__(self, book: Runbook | JobDef, *sinks: str, **policy: Any) -> None:
        super().__init__(book)
        self.policy = Policy(sinks=sinks or ("webhook",), **policy)

    def sent(self, sink: str = "webhook") -> list[effects.DeliverNotification]:
        """What was handed to the sink since the last look."""
        every = self.taken(effects.DeliverNotification)
        self.orders += [order for order in every if order.sink != sink]
        return [order for order in every if order.sink == sink]

    def take(self, order: effects.DeliverNotification) -> None:
        """The sink takes it."""
        self.tell(
            events.NotificationDelivered(notification_id=order.notification_id, sink=order.sink)
        )

    def refuse(
        self, order: effects.DeliverNotification, reason: str = "HTTP 500", wait_ms: int = 0
    ) -> None:
        """The sink does not take it this time."""
        self.tell(
            events.NotificationFailed(
                notification_id=order.notification_id,
                sink=order.sink,
                reason=reason,
                wait_ms=wait_ms,
            )
        )

    def retry_at(self, order: effects.DeliverNotification) -> int:
        return self.state.notifications[order.notification_id].deliveries[order.sink].retry_at


def builds(**fields: Any) -> JobDef:
    return job(step("a"), notify=Notify(on_start="${name}", on_done="done"), **fields)


def told() -> JobDef:
    return job(step("a"), notify=TOLD, defaults={"who": "me"})


def asking(*sinks: str, **policy: Any) -> Told:
    """A job whose agent waits, so that a decision is open."""
    book = runbook(job(agent_step("code")), defaults={"what": "it"})
    world = Told(
        msgspec.structs.replace(book, agents={"coder": coder(on_idle={"action": "escalate"})}),
        *sinks,
        **policy,
    )
    world.run()
    (order,) = world.taken(effects.SpawnAgent)
    world.tell(events.AgentSpawned(agent_id=order.agent_id, runtime="local", route={"socket": "s"}))
    return world


def goes_idle(world: Told, seq: int = 1) -> None:
    agent_id = next(iter(world.state.live_agents))
    world.tell(AgentReported(agent_id=agent_id, seq=seq, state="idle", last_message="Is it done?"))


# What is told


def test_every_start_and_end_of_a_job_is_told_with_its_severity() -> None:
    ends: list[tuple[int, str, str, Severity]] = [
        (0, "job:completed", "done", Severity.INFO),
        (1, "job:failed", "bad: step 'a' failed: shell exit code: 1", Severity.WARNING),
    ]
    for code, event, text, severity in ends:
        world = Told(told())
        made = world.run()
        (start,) = world.sent()
        assert start == effects.DeliverNotification(
            notification_id=start.notification_id,
            sink="webhook",
            event="job:started",
            severity=Severity.INFO,
            title="build",
            text="go me",
            at=world.now,
            project="demo",
            job_id=made.id,
            job_name="build",
        )
        world.take(start)
        world.exits("a", code)
        (end,) = world.sent()
        assert (end.event, end.text, end.severity) == (event, text, severity)
    world = Told(told())
    world.run()
    world.take(*world.sent())
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    world.exits("a", 143, ended=True)
    (end,) = world.sent()
    assert (end.event, end.text, end.severity) == ("job:cancelled", "stopped", Severity.INFO)


def test_a_job_that_says_nothing_is_not_told_of() -> None:
    world = Told(job(step("a")))
    world.run()
    world.exits("a", 1)
    assert (world.sent(), world.state.notifications) == ([], {})


def test_without_a_sink_the_logs_alone_hear_of_it() -> None:
    world = Scenario(told())
    world.run()
    world.exits("a")
    assert [order.text for order in world.taken(effects.Notify)] == ["go me", "done"]
    assert world.taken(effects.DeliverNotification) == []
    assert b"notification:" not in b"".join(world.log)


def test_a_decision_is_told_with_its_context_its_options_and_the_command_that_answers_it() -> None:
    world = asking()
    goes_idle(world)
    (order,) = world.sent()
    (decision,) = world.state.decisions.values()
    assert order.event == "decision:idle"
    assert order.severity is Severity.WARNING
    assert order.title == "Decision needed: build"
    assert order.text == decision.context
    assert "Is it done?" in order.text
    assert order.options == (
        Choice(label="Nudge", recommended=True),
        Choice(label="Done"),
        Choice(label="Cancel"),
        Choice(label="Dismiss"),
    )
    assert order.answer == f"oj decision resolve {decision.id[4:12]} N [-m TEXT]"
    assert [note.text for note in world.taken(effects.Notify)] == [
        f"Requires attention (idle); oj decision show {decision.id[4:12]}"
    ]


def test_a_decision_of_several_questions_is_told_with_all_of_them() -> None:
    world = asking()
    questions = tuple(
        events.Question(question=f"Which {what}?", options=(Choice(label="A"), Choice(label="B")))
        for what in ("one", "other")
    )
    agent_id = next(iter(world.state.live_agents))
    world.tell(
        events.DecisionCreated(
            decision_id=DecisionId("dec-0123456789abcdef"),
            agent_id=agent_id,
            job_id=world.job.id,
            run=1,
            source=DecisionSource.QUESTION,
            context="Two things.",
            options=(Choice(label="Other"),),
            questions=questions,
            prompt=1,
        )
    )
    (order,) = world.sent()
    assert order.questions == questions
    assert order.answer == "oj decision resolve 01234567 N N [-m TEXT]"


def test_agents_are_told_of_as_their_definitions_say() -> None:
    definition = coder(
        notify={"on_start": "${agent} begins ${step}", "on_fail": "${error}"},
        on_idle={"action": "fail"},
    )
    book = runbook(job(agent_step("code")), defaults={"what": "it"})
    world = Told(msgspec.structs.replace(book, agents={"coder": definition}))
    world.run()
    (spawn,) = world.taken(effects.SpawnAgent)
    world.tell(events.AgentSpawned(agent_id=spawn.agent_id, runtime="local", route={"socket": "s"}))
    (start,) = world.sent()
    assert (start.event, start.title, start.text) == ("agent:started", "coder", "coder begins code")
    world.take(start)
    goes_idle(world)
    world.tell(events.AgentEnded(agent_id=spawn.agent_id))
    (end,) = world.sent()
    assert (end.event, end.text, end.severity) == (
        "agent:failed",
        "agent 'coder' stopped and waits",
        Severity.WARNING,
    )


def test_an_unanswered_decision_is_told_once_more_and_one_with_a_default_is_not() -> None:
    for default, expected in (("", ["decision:undecided"]), ("done", [])):
        book = runbook(job(agent_step("code")), defaults={"what": "it"})
        definition = coder(on_idle={"action": "escalate", "timeout_ms": 1000, "default": default})
        world = Told(msgspec.structs.replace(book, agents={"coder": definition}))
        world.run()
        (spawn,) = world.taken(effects.SpawnAgent)
        world.tell(
            events.AgentSpawned(agent_id=spawn.agent_id, runtime="local", route={"socket": "s"})
        )
        goes_idle(world)
        world.take(*world.sent())
        world.passes(1000)
        assert [order.event for order in world.sent()] == expected


def test_every_source_of_a_decision_has_a_severity() -> None:
    named = {source: SEVERITIES[f"decision:{source}"] for source in DecisionSource}
    critical = {source for source, severity in named.items() if severity is Severity.CRITICAL}
    assert critical == {DecisionSource.DEAD, DecisionSource.ERROR, DecisionSource.GATE}


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        (Severity.INFO, ["job:started", "job:failed"]),
        (Severity.WARNING, ["job:failed"]),
        (Severity.CRITICAL, []),
    ],
)
def test_what_matters_less_than_asked_for_is_only_in_the_logs(
    least: Severity, expected: list[str]
) -> None:
    world = Told(told(), least_severity=least)
    world.run()
    found = world.sent()
    for order in found:
        world.take(order)
    world.exits("a", 1)
    assert [order.event for order in [*found, *world.sent()]] == expected
    assert len(world.taken(effects.Notify)) == 2


# How it gets there


def test_a_sink_gets_one_after_the_other_and_what_it_took_is_forgotten() -> None:
    world = Told(told(), *BOTH)
    world.run()
    world.exits("a")
    (first,) = world.sent()
    (shown,) = world.sent("desktop")
    assert first.notification_id == shown.notification_id
    world.take(first)
    (second,) = world.sent()
    assert (second.event, world.sent("desktop")) == ("job:completed", [])
    world.take(second)
    assert len(world.state.notifications) == 2  # the desktop has taken none
    world.take(shown)
    world.take(*world.sent("desktop"))
    assert world.state.notifications == {}
    assert world.status is JobStatus.DONE


def test_an_answer_that_comes_twice_or_for_what_is_not_on_its_way_changes_nothing() -> None:
    world = Told(told())
    world.run()
    world.exits("a")
    (first,) = world.sent()
    waiting = next(id_ for id_ in world.state.notifications if id_ != first.notification_id)
    lines = len(world.log)
    world.tell(events.NotificationDelivered(notification_id=waiting, sink="webhook"))
    world.tell(events.NotificationDue(notification_id=waiting, sink="webhook"))
    world.tell(events.NotificationDelivered(notification_id=waiting, sink="pigeon"))
    assert len(world.log) == lines
    world.take(first)
    assert len(world.sent()) == 1
    lines = len(world.log)
    world.take(first)
    world.refuse(first)
    assert (len(world.log), world.sent()) == (lines, [])


def test_what_failed_is_tried_again_later_and_later_with_the_same_id() -> None:
    world = Told(builds())
    world.run()
    waits = []
    (order,) = world.sent()
    first = order
    for _ in range(12):
        world.refuse(order)
        waits.append(world.retry_at(order) - world.now)
        world.passes(waits[-1] - 1)
        assert world.sent() == []
        world.passes(1)
        (order,) = world.sent()
        assert order == first
    assert waits[:4] == [1000, 2000, 4000, 8000]
    assert waits[-3:] == [512_000, LONGEST_WAIT_MS, LONGEST_WAIT_MS]


def test_a_receiver_that_wants_to_be_left_alone_is_left_alone_that_long() -> None:
    world = Told(builds())
    world.run()
    (order,) = world.sent()
    world.refuse(order, "HTTP 429", wait_ms=90_000)
    assert world.retry_at(order) - world.now == 90_000


def test_others_go_on_while_one_waits_for_its_next_try() -> None:
    world = Told(builds())
    world.run()
    world.exits("a")
    (start,) = world.sent()
    world.refuse(start)
    (end,) = world.sent()
    assert end.event == "job:completed"
    world.passes(1000)
    assert world.sent() == []  # it is due, and behind what is on its way
    world.take(end)
    assert world.sent() == [start]


def test_after_a_day_nobody_is_told_any_more_and_that_is_said() -> None:
    world = Told(builds())
    world.run()
    at = world.now
    tries = 0
    while found := world.sent():
        tries += 1
        world.refuse(found[0], "cannot connect")
        world.passes(LONGEST_WAIT_MS)
    assert GIVE_UP_MS - LONGEST_WAIT_MS <= world.now - at <= GIVE_UP_MS + LONGEST_WAIT_MS
    (drop,) = world.taken(effects.ReportDrop)
    assert drop.reason == f"gave up after {tries} tries: cannot connect"
    assert (world.state.notifications, world.timers) == ({}, {})


def test_what_a_sink_will_never_take_makes_way_for_the_next() -> None:
    world = Told(builds())
    world.run()
    world.exits("a")
    (start,) = world.sent()
    dropped = events.NotificationDropped(
        notification_id=start.notification_id, sink="webhook", reason="HTTP 404 Not Found"
    )
    world.tell(dropped)
    (drop,) = world.taken(effects.ReportDrop)
    assert (drop.notification_id, drop.reason) == (start.notification_id, dropped.reason)
    assert [order.event for order in world.sent()] == ["job:completed"]


def test_when_too_many_wait_the_oldest_that_is_not_on_its_way_is_given_up() -> None:
    world = Told(builds(), outbox_limit=3)
    made = [world.run().name for _ in range(5)]
    (first,) = world.sent()
    assert [drop.reason for drop in world.taken(effects.ReportDrop)] == [
        "more than 3 notifications waited"
    ] * 2
    left = [first.text]
    world.take(first)
    while found := world.sent():
        left.append(found[0].text)
        world.take(*found)
    assert left == [made[0], made[3], made[4]]


def test_one_that_waits_for_its_next_try_can_be_given_up_too() -> None:
    world = Told(builds(), outbox_limit=1)
    world.run()
    (first,) = world.sent()
    world.refuse(first)
    world.run()
    assert len(world.sent()) == 1
    assert [drop.notification_id for drop in world.taken(effects.ReportDrop)] == [
        first.notification_id
    ]
    assert world.timers == {}


# Decisions that are made meanwhile


def test_of_a_decision_that_is_made_nobody_is_told_any_more() -> None:
    world = asking()
    goes_idle(world)
    world.refuse(world.sent()[0])
    (decision,) = world.state.decisions.values()
    world.ask(requests.DecisionResolve(id=decision.id, choices=((1,),)))
    assert world.state.notifications == {}
    assert not any(key.startswith("notification:") for key in world.timers)
    assert world.taken(effects.ReportDrop) == []


def test_what_is_on_its_way_when_its_decision_is_made_is_not_tried_again() -> None:
    world = asking()
    goes_idle(world)
    (order,) = world.sent()
    (decision,) = world.state.decisions.values()
    world.ask(requests.DecisionResolve(id=decision.id, choices=((1,),)))
    assert order.notification_id in world.state.notifications
    world.refuse(order)
    assert (world.state.notifications, world.sent()) == ({}, [])


def test_a_decision_that_is_opened_again_is_told_again() -> None:
    world = asking()
    goes_idle(world)
    (first,) = world.sent()
    world.take(first)
    (decision,) = world.state.decisions.values()
    world.ask(requests.DecisionResolve(id=decision.id, choices=((4,),)))
    world.ask(requests.DecisionReopen(id=decision.id))
    (again,) = world.sent()
    assert again.decision_id == first.decision_id
    assert again.notification_id != first.notification_id


def test_an_escalation_without_a_sink_is_as_quiet_as_it_was() -> None:
    world = asking()
    world.policy = Policy()
    agent_id = next(iter(world.state.live_agents))
    world.tell(AgentEscalated(agent_id=agent_id, source=DecisionSource.ERROR, detail="x"))
    assert (world.sent(), world.state.notifications) == ([], {})


# Restarts


def test_after_a_crash_what_was_on_its_way_leaves_again_with_the_same_id() -> None:
    world = Told(told(), *BOTH)
    world.run()
    world.exits("a")
    (order,) = world.sent()
    world.restart()
    assert world.sent() == [order]
    assert [shown.notification_id for shown in world.sent("desktop")] == [order.notification_id]
    world.take(order)
    assert [after.event for after in world.sent()] == ["job:completed"]


def test_after_a_crash_the_next_try_comes_when_it_was_due() -> None:
    world = Told(builds())
    world.run()
    (order,) = world.sent()
    for _ in range(3):
        world.refuse(order)
        world.passes(8000)
        (order,) = world.sent()
    world.refuse(order)
    at = world.retry_at(order)
    world.passes(3000)
    world.restart()
    assert world.sent() == []
    world.passes(at - world.now)
    assert world.sent() == [order]


def test_a_try_that_was_due_while_no_daemon_ran_comes_at_once() -> None:
    world = Told(builds())
    world.run()
    (order,) = world.sent()
    world.refuse(order)
    world.now += HOUR
    world.restart()
    world.passes(0)
    assert world.sent() == [order]


def test_a_daemon_without_the_sink_gives_up_what_waits_for_it() -> None:
    world = Told(told(), *BOTH)
    world.run()
    world.refuse(world.sent()[0])
    world.exits("a")
    world.policy = Policy(sinks=("desktop",))
    world.restart()
    assert world.sent() == []
    assert [drop.sink for drop in world.taken(effects.ReportDrop)] == ["webhook", "webhook"]
    world.take(*world.sent("desktop"))
    world.take(*world.sent("desktop"))
    assert world.state.notifications == {}


def test_a_snapshot_from_before_there_was_an_outbox_is_read() -> None:
    state = State.load(msgspec.json.decode(b"{}", type=StateData))
    assert (state.notifications, state.outbox, state.undelivered) == ({}, {}, {})


def test_a_snapshot_holds_the_outbox_in_its_order() -> None:
    world = Told(builds())
    for _ in range(3):
        world.run()
    (first,) = world.sent()
    world.refuse(first)
    world.passes(1000)
    dumped = msgspec.json.encode(world.state.dump())
    state = State.load(msgspec.json.decode(dumped, type=StateData))
    expected = list(world.state.outbox["webhook"])
    assert expected[-1] == first.notification_id  # what is tried again goes behind the others
    assert list(state.outbox["webhook"]) == expected
    assert next(iter(state.undelivered["webhook"])) == NotificationId(first.notification_id)


# Whatever happens

MOVES = st.one_of(
    st.sampled_from(["run", "exit", "take", "refuse", "drop", "restart"]),
    st.integers(1, 2_000_000),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(MOVES, max_size=25))
def test_nothing_is_lost_without_a_word_and_one_at_a_time_is_on_its_way(
    moves: list[str | int],
) -> None:
    world = Told(builds(), outbox_limit=4)
    took: list[NotificationId] = []
    for move in moves:
        took += moved(world, move)
    while world.state.notifications:
        took += moved(world, "take")
        world.passes(LONGEST_WAIT_MS)
    records = [msgspec.json.decode(line, type=events.Record) for line in world.log]
    queued = [
        fact.notification_id
        for record in records
        for fact in record.facts
        if isinstance(fact, events.NotificationQueued)
    ]
    dropped = [order.notification_id for order in world.taken(effects.ReportDrop)]
    assert sorted([*took, *dropped]) == sorted(queued)


def moved(world: Told, move: str | int) -> list[NotificationId]:
    """Do one move; returns what the sink took by it."""
    orders = [order for order in world.orders if isinstance(order, effects.DeliverNotification)]
    assert len(orders) <= 1
    match move:
        case "run":
            world.run()
        case "exit":
            for active in [each for each in world.state.jobs.values() if each.active][:1]:
                world.tell(events.StepExited(job_id=active.id, run=1, exit_code=0))
        case "restart":
            heard = [order for order in world.orders if isinstance(order, effects.ReportDrop)]
            world.restart()
            world.orders += heard
        case int():
            world.passes(move)
        case _ if orders:
            (order,) = world.sent()
            if move == "take":
                world.take(order)
                return [order.notification_id]
            if move == "refuse":
                world.refuse(order)
            else:
                world.tell(
                    events.NotificationDropped(
                        notification_id=order.notification_id, sink=order.sink, reason="HTTP 404"
                    )
                )
        case _:
            pass
    return []
