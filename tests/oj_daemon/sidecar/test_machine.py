"""Scenarios of the machine: what happens around an agent, and what everybody is told. Numbers: sidecar.md section 17."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oj_daemon.drivers.base import (
    AgentState,
    Answer,
    Channel,
    Driver,
    ErrorCategory,
    Json,
    Prompt,
    PromptKind,
    QuestionAnswer,
)
from oj_daemon.drivers.claude import DRIVER as CLAUDE
from oj_daemon.drivers.generic import DRIVER as GENERIC
from oj_daemon.errors import Rejected
from oj_daemon.sidecar.machine import Machine
from oj_daemon.sidecar.values import (
    ApiReply,
    Broadcast,
    CancelTimer,
    ChildExited,
    ChildStarted,
    Event,
    Exit,
    FollowLog,
    HookCalled,
    HookClosed,
    HookReply,
    Input,
    InputSeen,
    KeysTyped,
    LogLine,
    Note,
    Nudge,
    OutputSeen,
    PromptOutcome,
    ReadScreen,
    Resolve,
    Respond,
    Restarting,
    SaveTranscript,
    ScreenSeen,
    SetStart,
    SetStop,
    SetTimer,
    Stalled,
    StartHookAsked,
    StartOutcome,
    StopHookAsked,
    StopOutcome,
    TimerFired,
    Timing,
    Transition,
    TypeKeys,
    UsageChanged,
)

DATA = Path(__file__).parents[2] / "data" / "drivers" / "claude"
Kind = TypeVar("Kind")
SESSION = "dc5c942a"
TIMING = Timing(idle_grace_ms=1000, input_delay_ms=10, silence_ms=60_000)


def screen(name: str) -> list[str]:
    return (DATA / f"screen-{name}.txt").read_text().split("\n")


IDLE = screen("after-approve")
BUSY = [line.replace("? for shortcuts", "esc to interrupt") for line in IDLE]
TRUST, API_KEY, BYPASS = screen("dialog-1"), screen("dialog-2"), screen("dialog-3")
NEW_TRUST, NEW_API_KEY, NEW_BYPASS = (screen(f"2.1.330-dialog-{n}") for n in (1, 2, 3))
PERMISSION, PLAN = screen("permission-bash"), screen("plan")
QUESTION = screen("question-1of2")
RETRYING = screen("ERR429")


class World:
    """A machine with a clock, a screen and a keyboard that do as they are told."""

    def __init__(
        self,
        driver: Driver = CLAUDE,
        stop: Json | None = None,
        start: Json | None = None,
        timing: Timing = TIMING,
        child: ChildStarted | None = None,
    ) -> None:
        self.machine = Machine(driver, timing, stop or {}, start or {})
        self.now = 1_000_000
        self.timers: dict[str, int] = {}
        self.events: list[Event] = []
        self.replies: dict[int, HookReply] = {}
        self.answers: dict[int, ApiReply] = {}
        self.typed: list[bytes] = []
        self.untyped: list[TypeKeys] = []
        self.others: list[object] = []
        self.lines: list[str] = []
        self.types_at_once = True
        self._last_id = 0
        self.tell(child or ChildStarted())

    def tell(self, what: Input) -> World:
        inputs = [what]
        while inputs:
            for output in self.machine.handle(inputs.pop(0), self.now):
                match output:
                    case Broadcast(event=event):
                        self.events.append(event)
                    case SetTimer(name=name, at_ms=at_ms):
                        self.timers[name] = at_ms
                    case CancelTimer(name=name):
                        self.timers.pop(name, None)
                    case HookReply(hook_id=hook_id):
                        assert hook_id not in self.replies, "a hook is answered once"
                        self.replies[hook_id] = output
                    case ApiReply(request_id=request_id):
                        assert request_id not in self.answers, "a request is answered once"
                        self.answers[request_id] = output
                    case TypeKeys() if self.types_at_once:
                        self._type(output)
                        inputs.append(KeysTyped(output.delivery_id))
                    case TypeKeys():
                        self.untyped.append(output)
                    case ReadScreen():
                        inputs.append(ScreenSeen(self.lines))
                    case _:
                        self.others.append(output)
        return self

    def _type(self, order: TypeKeys) -> None:
        self.typed += [step.data for step in order.keys]

    def finish_typing(self) -> World:
        order = self.untyped.pop(0)
        self._type(order)
        return self.tell(KeysTyped(order.delivery_id))

    def wait(self, ms: int) -> World:
        """Let time pass; timers fire in order."""
        end = self.now + ms
        while True:
            due = min(((at, name) for name, at in self.timers.items() if at <= end), default=None)
            if due is None:
                break
            del self.timers[due[1]]
            self.now = max(self.now, due[0])
            self.tell(TimerFired(due[1]))
        self.now = end
        return self

    def hook(self, event: str, **payload: object) -> int:
        self._last_id += 1
        self.tell(
            HookCalled(self._last_id, event, {"session_id": SESSION, "prompt_id": "p1", **payload})
        )
        return self._last_id

    def log(self, *entries: dict[str, Any]) -> World:
        for entry in entries:
            self.tell(LogLine(json.dumps(entry)))
        return self

    def show(self, lines: list[str]) -> World:
        self.lines = lines
        return self.tell(ScreenSeen(lines))

    def ask(self, make: Callable[..., Input], *args: object, **fields: object) -> ApiReply | None:
        self._last_id += 1
        self.tell(make(self._last_id, *args, **fields))
        return self.answers.get(self._last_id)

    def body(
        self, make: Callable[..., Input], *args: object, **fields: object
    ) -> Mapping[str, object]:
        reply = self.ask(make, *args, **fields)
        assert reply is not None
        assert reply.status == 200, reply
        return reply.body

    def working(self) -> World:
        self.hook("UserPromptSubmit", prompt="go")
        return self

    def idle(self) -> World:
        return self.show(IDLE).wait(3000)

    @property
    def states(self) -> list[str]:
        """The states that were told, one after another."""
        return [str(e.next) for e in self.events if isinstance(e, Transition)]

    @property
    def state(self) -> str:
        return str(self.machine.state)

    @property
    def prompts(self) -> list[Prompt]:
        """The prompts that were told of, each as often as it was told."""
        return [e.prompt for e in self.events if isinstance(e, Transition) and e.prompt is not None]

    def outcomes(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.events if isinstance(event, kind)]

    def last(self) -> Transition:
        return [event for event in self.events if isinstance(event, Transition)][-1]


TOOL: dict[str, Any] = {"tool_name": "Bash", "tool_input": {"command": "rm -rf x"}}
OTHER: dict[str, Any] = {"tool_name": "Bash", "tool_input": {"command": "ls"}}
QUESTIONS: dict[str, Any] = {
    "tool_name": "AskUserQuestion",
    "tool_input": {
        "questions": [
            {"question": "Which color?", "header": "Color", "multiSelect": False,
             "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]},
            {"question": "Which sizes?", "header": "Size", "multiSelect": True,
             "options": [{"label": "Small", "description": "s"}, {"label": "Large", "description": "l"}]},
        ]
    },
}  # fmt: skip
ONE_QUESTION: dict[str, Any] = {
    "tool_name": "AskUserQuestion",
    "tool_input": {"questions": [QUESTIONS["tool_input"]["questions"][0]]},
}
THE_PLAN: dict[str, Any] = {"tool_name": "ExitPlanMode", "tool_input": {"plan": "# Plan\n1. Do it"}}


def user(text: object = "go", turn: str = "p1", **more: object) -> dict[str, Any]:
    return {"type": "user", "promptId": turn, "message": {"content": text}, **more}


def result(tool_use_id: str, **more: object) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": "ok"}
    return {**user([block]), **more}


def says(text: str, key: str = "m1", **usage: int) -> dict[str, Any]:
    message: dict[str, Any] = {"id": key, "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "message": message | ({"usage": usage} if usage else {})}


def uses(tool_use_id: str, name: str = "Bash", **tool_input: object) -> dict[str, Any]:
    block = {"type": "tool_use", "id": tool_use_id, "name": name, "input": tool_input}
    return {"type": "assistant", "message": {"id": "m", "content": [block]}}


TURN_OVER = {"type": "system", "subtype": "turn_duration"}

# --------------------------------------------------------------------------------------------------- state, 17 to 36


def test_17_before_any_evidence_it_is_starting_and_not_ready() -> None:
    world = World()
    assert world.state == "starting"
    assert not world.machine.is_ready
    reply = world.ask(Nudge, "hello")
    assert reply is not None
    assert (reply.status, reply.body["error"]) == (
        503,
        {"code": "NOT_READY", "message": "the agent is still starting"},
    )
    assert world.events == []


def test_18_the_input_line_on_the_screen_is_idle_and_ready() -> None:
    world = World().show(IDLE)
    assert world.machine.is_idle_pending
    world.wait(2900)
    assert world.events == [], "a message from the command line may still be on its way"
    world.wait(100).show(IDLE).wait(5000)
    [event] = world.events
    assert isinstance(event, Transition)
    assert (event.prev, event.next, event.seq) == (AgentState.STARTING, AgentState.IDLE, 1)
    assert world.machine.is_ready


def test_19_a_message_that_was_accepted_is_work_told_once() -> None:
    world = World().working().working()
    assert world.states == ["working"]


def test_20_while_a_hook_says_work_the_input_line_alone_is_no_idleness() -> None:
    world = World().working()
    for _ in range(20):
        world.show(IDLE).wait(3000)
        world.hook("PostToolUse", **OTHER)
    assert world.states == ["working"]


def test_21_a_start_up_dialog_is_a_prompt_although_only_the_screen_tells() -> None:
    world = World().idle().show(TRUST)
    prompt = world.last().prompt
    assert prompt is not None
    assert (prompt.kind, prompt.subtype, prompt.options) == (
        PromptKind.PERMISSION,
        "trust",
        ("Yes, I trust this folder", "No, exit"),
    )
    assert prompt.seq == world.last().seq == 2


def test_22_questions_are_told_with_all_their_parts() -> None:
    world = World().working()
    world.hook("PreToolUse", **QUESTIONS)
    hook = world.hook("PermissionRequest", **QUESTIONS)
    first, second = [e for e in world.events if isinstance(e, Transition)][1:]
    assert first.seq == second.seq, "the hook that can answer makes the same prompt ready"
    assert (first.prompt and first.prompt.ready, second.prompt and second.prompt.ready) == (
        False,
        True,
    )
    prompt = second.prompt
    assert prompt is not None
    assert (prompt.kind, prompt.channel, prompt.question_current) == (
        PromptKind.QUESTION,
        Channel.HOOK,
        0,
    )
    color, size = prompt.questions
    assert (color.header, color.multi_select, [o.label for o in color.options]) == (
        "Color",
        False,
        ["Red", "Blue"],
    )
    assert (size.question, size.multi_select, size.options[0].description) == (
        "Which sizes?",
        True,
        "s",
    )
    assert hook not in world.replies, "the hook waits"


def test_23_a_plan_is_told_with_its_text() -> None:
    world = World().working()
    world.hook("PermissionRequest", **THE_PLAN)
    prompt = world.last().prompt
    assert prompt is not None
    assert prompt.kind is PromptKind.PLAN
    assert json.loads(prompt.input) == {"plan": "# Plan\n1. Do it"}


def test_24_a_notice_without_a_hook_is_ready_when_the_screen_shows_the_options() -> None:
    world = World().working()
    world.hook("Notification", notification_type="permission_prompt")
    prompt = world.last().prompt
    assert prompt is not None
    assert not prompt.ready
    seq = world.last().seq
    world.wait(200).show(PERMISSION)
    prompt = world.last().prompt
    assert prompt is not None
    assert (world.last().seq, world.last().cause, prompt.ready) == (seq, "ready", True)
    assert [label.split(",")[0] for label in prompt.options] == ["Yes", "Yes", "No"]
    assert not prompt.options_fallback


def test_25_without_any_options_two_stand_in_for_them() -> None:
    world = World().working()
    world.hook("Notification", notification_type="permission_prompt")
    world.wait(3000)
    prompt = world.last().prompt
    assert prompt is not None
    assert (prompt.options, prompt.options_fallback, prompt.ready) == (
        ("Accept", "Cancel"),
        True,
        True,
    )


@pytest.mark.parametrize("asked", [QUESTIONS, THE_PLAN, TOOL])
def test_26_a_notice_does_not_replace_the_prompt_it_speaks_of(asked: dict[str, Any]) -> None:
    world = World().working()
    world.hook("PermissionRequest", **asked)
    before = world.machine.prompt
    world.hook("Notification", notification_type="permission_prompt")
    assert world.machine.prompt == before
    assert world.states == ["working", "prompt"]


def test_a_late_notice_of_an_answered_prompt_opens_none() -> None:
    world = World().working()
    world.hook("PermissionRequest", **TOOL)
    world.body(Respond, Answer(accept=True))
    world.hook("Notification", notification_type="permission_prompt")
    world.wait(5000)
    assert world.states == ["working", "prompt", "working"]


def test_27_an_error_line_is_an_error_until_there_is_new_work() -> None:
    world = World().log(user(), {"type": "x", "error": "rate limit 429"})
    error = world.last().error
    assert error is not None
    assert (world.state, error.category) == ("error", ErrorCategory.RATE_LIMITED)
    world.show(IDLE).wait(5000)
    world.hook("Notification", notification_type="idle_prompt", prompt_id="p1")
    world.wait(5000)
    assert world.state == "error", "being idle after an error does not undo it"
    world.hook("UserPromptSubmit", prompt_id="p2")
    assert (world.state, world.machine.error) == ("working", None)


def test_28_echoes_and_notes_in_the_log_say_nothing() -> None:
    world = World().idle()
    world.log(user("<command-name>/clear"), user("x", isMeta=True), user("<local-command-stdout>"))
    assert world.states == ["idle"]


def test_29_an_interruption_is_idle() -> None:
    world = (
        World()
        .working()
        .log(user([{"type": "text", "text": "[Request interrupted by user for tool use]"}]))
    )
    world.wait(1000)
    assert world.states == ["working", "idle"]


def test_32_the_last_message_is_kept_and_cleared_with_the_conversation() -> None:
    world = World().log(user(), says("one"), says("two", "m2"))
    assert world.machine.last_message == "two"
    world.hook("SessionStart", source="clear", session_id="other")
    assert world.machine.last_message is None


def test_33_idleness_that_is_followed_by_more_work_is_never_told() -> None:
    world = World().working()
    world.hook("Stop")
    world.wait(900)
    world.hook("PostToolUse", **OTHER)
    world.wait(5000)
    assert world.states == ["working"]


def test_34_idleness_that_stands_is_told_once() -> None:
    world = World().working()
    world.hook("Stop")
    assert world.states == ["working"]
    assert world.machine.view()["idle_pending"] is True
    world.wait(1000).show(IDLE).log(says("late"), TURN_OVER).wait(60_000)
    assert world.states == ["working", "idle"]
    assert world.last().cause == "hook:Stop"


def test_35_the_exit_of_the_child_is_told_with_its_code() -> None:
    world = World().working().tell(ChildExited(code=3)).tell(ChildExited(code=3))
    assert world.events[-1] == Exit(3, None, AgentState.WORKING, 2, 1)
    assert world.state == "exited"
    world.show(IDLE).working()
    world.wait(60_000)
    assert world.state == "exited"
    for ask in (Nudge, Respond):
        reply = world.ask(ask, "x" if ask is Nudge else Answer(accept=True))
        assert reply is not None
        assert reply.status == 410


# ------------------------------------------------------------------------------------------------ more about the state


def test_an_input_line_before_the_first_message_was_taken_is_no_idleness() -> None:
    world = World(child=ChildStarted(has_prompt=True)).show(IDLE).wait(5000)
    assert world.states == []
    world.working().hook("Stop")
    world.wait(1000)
    assert world.states == ["working", "idle"]


def test_the_input_line_counts_anew_once_the_session_has_started() -> None:
    world = World().show(IDLE).wait(2500)
    world.hook("SessionStart", source="startup")
    world.wait(100).show(IDLE).wait(2500)
    assert world.states == []
    world.working()
    assert world.states == ["working"]


def test_an_agent_of_which_nothing_is_known_is_reported_after_a_while() -> None:
    world = World().wait(59_000)
    assert world.events == []
    world.wait(2000)
    assert world.events == [Stalled("startup", AgentState.STARTING, 60_000, 1)]


def test_a_started_agent_is_not_reported() -> None:
    world = World().idle().wait(600_000)
    assert world.outcomes(Stalled) == []


def test_work_without_any_sign_of_life_becomes_unknown_and_that_has_an_age_limit() -> None:
    world = World(timing=msgspec.structs.replace(TIMING, unknown_ms=30_000)).working()
    for _ in range(10):
        world.wait(50_000).tell(OutputSeen())
    assert world.states == ["working"]
    world.wait(60_000)
    assert world.states == ["working", "unknown"]
    world.wait(30_000)
    assert [event.type for event in world.outcomes(Stalled)] == ["silence", "unknown"]
    world.tell(OutputSeen())
    assert world.state == "working"


def test_two_weak_witnesses_outweigh_a_stop_hook_that_never_came() -> None:
    world = World().working().log(user(), says("done"))
    world.show(IDLE).wait(1400)
    assert world.states == ["working"]
    world.wait(1200)
    assert world.states == ["working", "idle"]
    assert world.last().cause == "log+screen:idle"


def test_text_in_the_log_while_the_screen_shows_work_is_no_idleness() -> None:
    world = World().working().log(user(), says("first I look around")).show(BUSY).wait(20_000)
    assert world.states == ["working"]


def test_the_log_alone_says_when_a_turn_begins_and_ends() -> None:
    world = (
        World()
        .log(user(), uses("t1", command="ls"), result("t1"), says("done"), TURN_OVER)
        .wait(1000)
    )
    assert world.states == ["working", "idle"]
    assert world.last().last_message == "done"


def test_old_news_from_a_log_that_is_read_late_changes_nothing() -> None:
    world = World().working()
    world.hook("Stop", last_assistant_message="all done")
    world.wait(1000)
    world.log(user(), uses("t1", command="ls"), result("t1"), says("early words"), TURN_OVER).wait(
        5000
    )
    assert world.states == ["working", "idle"]
    assert world.machine.last_message == "all done"
    world.hook("UserPromptSubmit", prompt_id="p2")
    world.log(TURN_OVER).wait(5000)
    assert world.state == "working", "the end of the turn before is not the end of this one"


def test_the_beginning_of_a_turn_that_the_log_tells_late_does_not_end_its_prompts() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **TOOL)
    world.log(user(), uses("t1", command="rm -rf x"))
    assert world.state == "prompt"
    assert held not in world.replies


def test_hooks_of_a_session_that_is_past_say_nothing() -> None:
    world = World(child=ChildStarted(session_id=SESSION)).working()
    world.hook("SessionStart", source="clear", session_id="second")
    world.hook("UserPromptSubmit", session_id="second", prompt_id="p2")
    world.hook("StopFailure", error="rate_limit")
    world.hook("Stop")
    world.wait(5000)
    assert world.states == ["working"]
    assert world.machine.session_id == "second"
    assert len(world.replies) == 5


def test_a_message_that_was_accepted_meanwhile_begins_the_next_turn() -> None:
    world = World().working()
    world.hook("UserPromptSubmit", prompt="and more")
    world.hook("Stop")
    world.show(BUSY).log(user(turn="p2"), says("next")).wait(10_000)
    world.hook("Stop", prompt_id="p2")
    world.wait(1000)
    assert world.states == ["working", "idle"]


def test_a_message_that_was_read_within_the_turn_needs_no_stop_of_its_own() -> None:
    world = World().working()
    world.hook("UserPromptSubmit", prompt="and more")
    world.hook("Stop")
    world.show(IDLE).wait(2600)
    assert world.states == ["working", "idle"]
    world.hook("UserPromptSubmit", prompt_id="p2")
    world.hook("Stop", prompt_id="p2")
    world.wait(1000)
    assert world.states == ["working", "idle", "working", "idle"]


def test_an_interrupted_turn_is_over() -> None:
    notice = [{"type": "text", "text": "[Request interrupted by user]"}]
    world = World().working().log(user(notice)).wait(1000)
    world.hook("UserPromptSubmit", prompt_id="p2")
    world.hook("Stop", prompt_id="p2")
    world.wait(1000)
    assert world.states == ["working", "idle", "working", "idle"]


def test_the_log_is_followed_to_where_the_agent_says_it_writes() -> None:
    world = World(child=ChildStarted(session_id=SESSION, transcript_path="/c/a.jsonl"))
    world.hook("SessionStart", source="resume", transcript_path="/c/a.jsonl")
    world.hook("SessionStart", source="clear", session_id="b", transcript_path="/c/b.jsonl")
    assert [o for o in world.others if isinstance(o, FollowLog)] == [
        FollowLog("/c/a.jsonl", SESSION),
        FollowLog("/c/b.jsonl", "b"),
    ]


def test_a_screen_drawn_before_the_turn_ended_does_not_undo_idleness() -> None:
    world = World().working().show(BUSY)
    world.hook("Stop")
    world.show(BUSY).wait(100).show(IDLE).wait(5000)
    assert world.states == ["working", "idle"]
    world.show(BUSY).wait(500).show(IDLE).wait(5000)
    assert world.states == ["working", "idle"]
    world.show(BUSY).wait(2000)
    assert world.states == ["working", "idle", "working"], (
        "a screen that keeps showing work is believed"
    )


def test_retries_are_work_with_the_error_beside_it() -> None:
    world = World().working().show(RETRYING)
    error = world.last().error
    assert error is not None
    assert (world.state, error.attempt, error.attempts) == ("working", 5, 10)
    world.show([line.replace("attempt 5/10", "attempt 6/10") for line in RETRYING])
    assert world.states == ["working", "working"]
    assert world.machine.error is not None
    assert world.machine.error.attempt == 6
    world.show(BUSY)
    assert (world.last().error, world.states) == (None, ["working"] * 3)


def test_a_given_up_retry_is_an_error_of_its_kind() -> None:
    world = World().working().show(RETRYING)
    world.hook("StopFailure", error="rate_limit", last_assistant_message="API Error: 429")
    world.show(screen("429-given-up")).wait(60_000)
    assert world.states == ["working", "working", "error"]
    assert world.machine.error is not None
    assert world.machine.error.category is ErrorCategory.RATE_LIMITED


def test_a_long_retry_is_not_silence() -> None:
    world = World().working().show(RETRYING).wait(600_000)
    assert world.outcomes(Stalled) == []


def test_usage_counts_each_response_once() -> None:
    world = World().log(
        says("a", input_tokens=10, output_tokens=1),
        says("a", input_tokens=10, output_tokens=30, cache_read_input_tokens=5),
        says("a", input_tokens=10, output_tokens=30, cache_read_input_tokens=5),
        says("b", "m2", input_tokens=7, output_tokens=2, cache_creation_input_tokens=3),
    )
    usage = world.machine.usage
    assert (usage.input_tokens, usage.output_tokens, usage.request_count) == (17, 32, 2)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (5, 3)
    assert len(world.outcomes(UsageChanged)) == 3


def test_the_old_part_of_a_resumed_log_only_seeds() -> None:
    world = World()
    for entry in (user(), says("before", input_tokens=10, output_tokens=2)):
        world.tell(LogLine(json.dumps(entry), is_old=True))
    assert world.events == []
    assert (world.machine.last_message, world.machine.usage.input_tokens) == ("before", 10)


def test_71_sequence_numbers_go_on_after_a_restart() -> None:
    world = World(child=ChildStarted(session_id=SESSION)).working()
    held = world.hook("PermissionRequest", **TOOL)
    world.tell(Restarting())
    assert world.replies[held].body == ""
    world.tell(ChildStarted(session_id=SESSION))
    assert not world.machine.is_ready
    world.idle()
    assert world.states == ["working", "prompt", "restarting", "starting", "idle"]
    numbers = [event.seq for event in world.events]
    assert numbers == sorted(set(numbers))
    assert world.machine.epoch == 2


# --------------------------------------------------------------------------------------------- stop and start, 37 to 50

GATE = {"mode": "gate", "prompt": 'Wait: "finish" first.\nÜ'}
AUTO = {
    "mode": "auto",
    "schema": {
        "fields": {
            "status": {
                "required": True,
                "enum": ["done", "continue", "failed"],
                "descriptions": {"done": "ready"},
            },
            "note": {},
        }
    },
}


def stop(world: World, **payload: object) -> dict[str, str] | None:
    reply = world.replies[world.hook("Stop", **payload)]
    return json.loads(reply.body) if reply.body else None


def test_37_allowed_stops_get_no_decision() -> None:
    world = World().working()
    assert stop(world) is None
    assert [o.type for o in world.outcomes(StopOutcome)] == ["allowed"]


def test_38_39_a_gate_blocks_with_its_very_words_until_it_is_resolved() -> None:
    world = World(stop=GATE).working()
    assert stop(world) == {"decision": "block", "reason": GATE["prompt"]}
    assert world.body(Resolve, {}) == {"accepted": True, "opens": True}
    assert stop(world) is None
    world.hook("UserPromptSubmit", prompt_id="p2")
    assert stop(world, prompt_id="p2") == {"decision": "block", "reason": GATE["prompt"]}
    assert [o.type for o in world.outcomes(StopOutcome)] == ["blocked", "signaled", "blocked"]


def test_40_a_resolve_before_the_stop_lets_it_pass() -> None:
    world = World(stop=GATE).working()
    world.body(Resolve, {"by": "me"})
    assert stop(world) is None
    assert world.outcomes(StopOutcome)[0].signal == {"by": "me"}


def test_41_a_second_stop_in_a_turn_passes() -> None:
    world = World(stop=GATE).working()
    stop(world)
    assert stop(world, stop_hook_active=True) is None
    assert [o.type for o in world.outcomes(StopOutcome)] == ["blocked", "safety_valve"]


def test_42_43_44_the_automatic_gate_opens_for_terminal_reports_only() -> None:
    world = World(stop=AUTO).working()
    blocked = stop(world)
    assert blocked is not None
    reason = blocked["reason"]
    for value in ("done", "continue", "failed"):
        assert f"""oj-sidecar send '{{"status": "{value}", "note": "<note>"}}'""" in reason
    assert "1. done: ready" in reason
    refused = world.ask(Resolve, {"status": "maybe"})
    assert refused is not None
    assert refused.status == 422
    for wrong in ({}, {"status": None}, {"status": 3}, {"note": "x"}):
        reply = world.ask(Resolve, wrong)
        assert reply is not None
        assert reply.status == 422
    assert world.body(Resolve, {"status": "continue"}) == {"accepted": True, "opens": False}
    assert stop(world) is not None
    assert world.body(Resolve, {"status": "failed"})["opens"]
    assert stop(world) is None
    assert [o.type for o in world.outcomes(StopOutcome)] == [
        "blocked", *["rejected"] * 5, "blocked", "signaled",
    ]  # fmt: skip


def test_45_an_agent_without_credit_may_stop() -> None:
    world = World(stop=GATE).working()
    world.hook(
        "StopFailure", error="billing_error", last_assistant_message="Credit balance is too low"
    )
    assert stop(world) is None
    outcome = world.outcomes(StopOutcome)[0]
    assert (outcome.type, outcome.error_detail) == ("error", "Credit balance is too low")


def test_46_a_new_configuration_holds_for_the_next_stop() -> None:
    world = World().working()
    assert world.body(SetStop, GATE) == {"updated": True}
    assert stop(world) is not None
    refused = world.ask(SetStop, {"mode": "gate"})
    assert refused is not None
    assert refused.status == 400
    assert stop(world) is not None, "what was refused changes nothing"


def test_47_after_a_blocked_stop_the_agent_is_at_work() -> None:
    world = World(stop=GATE).working().log(user(), says("done"))
    stop(world)
    world.show(IDLE).wait(10_000)
    assert world.states == ["working"]
    stop(world, stop_hook_active=True)
    world.wait(1000)
    assert world.states == ["working", "idle"]


def test_a_blocked_stop_undoes_a_sign_of_idleness_before_it() -> None:
    world = World(stop=GATE).working()
    world.hook("Notification", notification_type="idle_prompt")
    assert world.machine.is_idle_pending
    stop(world)
    world.wait(10_000)
    assert world.states == ["working"]


def test_a_stop_that_another_hook_blocked_is_seen_in_the_log() -> None:
    world = World().working()
    stop(world)
    note = {"type": "hook_blocking_error", "hookEvent": "Stop", "hookName": "Stop"}
    world.log(user(turn="p1"), {"type": "attachment", "attachment": note})
    assert world.machine.is_idle_pending, "the log of a turn that ended is old news"
    world.hook("PostToolUse", **OTHER)
    world.wait(5000)
    assert world.states == ["working"], "but a hook of that turn is not"


def test_48_to_50_a_session_starts_with_what_it_is_configured_for() -> None:
    text = 'it\'s "ü"\n$HOME `x`'
    world = World(start={"text": text, "event": {"resume": {"shell": ["echo again"]}}})
    fresh = world.replies[world.hook("SessionStart", source="startup")]
    again = world.replies[world.hook("SessionStart", source="resume")]
    assert fresh.run_seconds == again.run_seconds == 60
    assert "echo again" in again.body
    assert "ü" not in again.body
    assert World().replies == {}
    empty = World()
    assert empty.replies[empty.hook("SessionStart", source="startup")] == HookReply(1)
    assert [o.injected for o in empty.outcomes(StartOutcome)] == [False]
    assert [o.injected for o in world.outcomes(StartOutcome)] == [True, True]


def test_a_transcript_is_saved_before_it_is_compacted() -> None:
    world = World()
    outputs = world.machine.handle(HookCalled(9, "SessionStart", {"source": "compact"}), world.now)
    kinds = [type(output) for output in outputs]
    assert kinds.index(SaveTranscript) < kinds.index(HookReply)


def test_a_failed_prime_is_noted() -> None:
    world = World()
    world.hook("PrimeFailed", message="a command ended with 3: sorry")
    assert world.others == [Note("prime: a command ended with 3: sorry")]


def test_foreign_hook_scripts_are_served_too() -> None:
    world = World(stop=GATE, start={"text": "hi"}).working()
    assert world.body(StopHookAsked, {"stop_hook_active": False}) == {
        "decision": "block", "reason": GATE["prompt"],
    }  # fmt: skip
    assert world.body(StopHookAsked, {"stop_hook_active": True}) == {}
    assert world.body(StartHookAsked, {"source": "startup"}) == {"script": "printf %s hi"}
    assert world.body(SetStart, {"text": "ho"}) == {"updated": True}
    assert world.body(StartHookAsked, {}) == {"script": "printf %s ho"}


@pytest.mark.parametrize(
    ("section", "config"),
    [
        ("stop", {"mode": "gate"}),
        ("stop", {"mode": "maybe"}),
        ("start", {"text": 3}),
        ("stop", {"schema": 1}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(
    section: str, config: dict[str, Any]
) -> None:
    with pytest.raises(Rejected, match=section):
        Machine(CLAUDE, TIMING, **{"stop": {}, "start": {}, section: config})


# -------------------------------------------------------------------------------------------- prompts and their answers


def test_a_permission_is_granted_through_the_hook_and_nothing_is_typed() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **TOOL)
    seq = world.last().seq
    body = world.body(Respond, Answer(accept=True), prompt_seq=seq)
    assert body == {"delivered": True, "prompt_type": "permission", "prompt_seq": seq}
    decision = json.loads(world.replies[held].body)["hookSpecificOutput"]["decision"]
    assert decision == {"behavior": "allow"}
    assert world.typed == []
    assert world.states == ["working", "prompt", "working"]
    assert world.outcomes(PromptOutcome) == [
        PromptOutcome("api", "permission", seq, 3, channel="hook", choice="allow")
    ]


def test_61_several_answers_go_out_in_one_reply() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **QUESTIONS)
    given_back = Answer(answers=(QuestionAnswer(options=(2,)), QuestionAnswer(options=(1, 2))))
    assert world.body(Respond, given_back)["delivered"]
    decision = json.loads(world.replies[held].body)["hookSpecificOutput"]["decision"]
    assert decision["updatedInput"]["answers"] == {
        "Which color?": "Blue",
        "Which sizes?": "Small, Large",
    }


@pytest.mark.parametrize(
    "answer", [Answer(), Answer(answers=(QuestionAnswer(options=(1,)),)), Answer(option=9)]
)
def test_59_half_an_answer_is_not_delivered_and_the_prompt_stays(answer: Answer) -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **QUESTIONS)
    body = world.body(Respond, answer)
    assert not body["delivered"]
    assert body["reason"]
    assert held not in world.replies
    assert world.state == "prompt"


def test_60_an_answer_to_another_prompt_is_refused() -> None:
    world = World().working()
    world.hook("PermissionRequest", **TOOL)
    seq = world.last().seq
    world.body(Respond, Answer(accept=True), prompt_seq=seq)
    stale = world.ask(Respond, Answer(accept=True), prompt_seq=seq)
    held = world.hook("PermissionRequest", **OTHER)
    stale_too = world.ask(Respond, Answer(accept=True), prompt_seq=seq)
    for reply in (stale, stale_too):
        assert reply is not None
        assert reply.status == 409
        error = reply.body["error"]
        assert isinstance(error, dict)
        assert error["code"] == "STALE_PROMPT"
    assert held not in world.replies
    assert world.typed == []


def test_without_a_prompt_nothing_is_delivered() -> None:
    world = World().idle()
    assert world.body(Respond, Answer(accept=True))["delivered"] is False


def test_a_person_at_the_terminal_answers_first() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **TOOL)
    world.show(PERMISSION)
    world.hook("PostToolUse", **TOOL)
    assert world.replies[held] == HookReply(held)
    assert world.states == ["working", "prompt", "working"]
    [outcome] = world.outcomes(PromptOutcome)
    assert outcome.source == "terminal"
    assert world.body(Respond, Answer(accept=True))["delivered"] is False


def test_a_long_tool_that_was_allowed_at_the_terminal_is_known_by_the_dialog_that_is_gone() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **TOOL)
    world.show(BUSY).wait(5000)
    assert world.state == "prompt", "the dialog was not drawn yet"
    world.show(PERMISSION).wait(5000).show(BUSY).wait(500).show(PERMISSION).wait(5000)
    assert world.state == "prompt", "a short flicker is no answer"
    world.show(BUSY).wait(1500)
    assert world.state == "working"
    assert world.replies[held].body == ""


def test_a_dialog_refused_at_the_terminal_ends_in_idleness() -> None:
    world = World().working()
    world.hook("PreToolUse", **QUESTIONS, tool_use_id="t1")
    held = world.hook("PermissionRequest", **QUESTIONS)
    world.log(
        result("t1", toolUseResult="User rejected tool use"),
        user([{"type": "text", "text": "[Request interrupted by user for tool use]"}]),
    ).wait(1000)
    assert world.replies[held].body == ""
    assert world.states[-2:] == ["working", "idle"]


def test_a_tool_that_runs_beside_does_not_end_the_prompt() -> None:
    world = World().working().log(user(), uses("t1", command="ls"), uses("t2", command="rm -rf x"))
    held = world.hook("PermissionRequest", **TOOL)
    world.hook("PostToolUse", **OTHER, tool_use_id="t1")
    world.log(result("t1"))
    assert world.state == "prompt"
    assert held not in world.replies
    world.log(result("t2"))
    assert world.state == "working"
    assert held in world.replies


def test_prompts_that_come_at_once_are_shown_one_after_another() -> None:
    world = World().working()
    first = world.hook("PermissionRequest", **TOOL)
    second = world.hook("PermissionRequest", **OTHER)
    assert world.states == ["working", "prompt"]
    seq = world.last().seq
    world.body(Respond, Answer(accept=True), prompt_seq=seq)
    assert first in world.replies
    assert second not in world.replies
    assert world.states == ["working", "prompt", "prompt"]
    prompt = world.last().prompt
    assert prompt is not None
    assert json.loads(prompt.input) == {"command": "ls"}
    assert prompt.seq == world.last().seq > seq
    world.body(Respond, Answer(accept=False), prompt_seq=prompt.seq)
    assert world.state == "working"


def test_the_same_question_twice_at_once_is_two_prompts() -> None:
    world = World().working()
    holds = [world.hook("PermissionRequest", **TOOL) for _ in range(2)]
    for held in holds:
        assert held not in world.replies
        world.body(Respond, Answer(accept=True))
        assert held in world.replies
    assert world.state == "working"


def test_the_end_of_a_turn_lets_all_hooks_go() -> None:
    world = World().working()
    holds = [world.hook("PermissionRequest", **tool) for tool in (TOOL, OTHER)]
    world.hook("UserPromptSubmit", prompt_id="p2")
    assert all(held in world.replies for held in holds)
    assert world.state == "working"


def test_when_the_hook_dies_the_dialog_is_answered_by_keys() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **TOOL)
    seq = world.last().seq
    world.show(PERMISSION).tell(HookClosed(held))
    prompt = world.last().prompt
    assert prompt is not None
    assert (prompt.channel, prompt.ready, prompt.seq) == (Channel.KEYS, True, seq)
    assert len(prompt.options) == 3
    body = world.body(Respond, Answer(accept=False), prompt_seq=seq)
    assert body["delivered"]
    assert world.typed == [b"3"]
    assert held not in world.replies


def test_when_the_hook_dies_with_the_dialog_the_prompt_is_over() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **TOOL)
    world.show(PERMISSION).show(BUSY).tell(HookClosed(held)).wait(1500)
    assert world.state == "working"


def test_a_dialog_on_the_screen_waits_for_the_hook_that_can_answer_it() -> None:
    world = World().working()
    world.hook("PreToolUse", **QUESTIONS, tool_use_id="t1")
    world.show(QUESTION).wait(1000)
    assert world.machine.prompt is not None
    assert not world.machine.prompt.ready
    seq = world.last().seq
    world.hook("PermissionRequest", **QUESTIONS)
    prompt = world.machine.prompt
    assert prompt is not None
    assert (prompt.ready, prompt.channel) == (True, Channel.HOOK)
    assert world.states == ["working", "prompt", "prompt"], "told again, as the same instance"
    assert world.last().seq == seq


def test_a_dialog_whose_hook_does_not_come_is_answered_by_keys() -> None:
    world = World().working()
    world.hook("PreToolUse", **QUESTIONS, tool_use_id="t1")
    world.show(QUESTION)
    for _ in range(8):
        world.wait(200).show(QUESTION)
    prompt = world.machine.prompt
    assert prompt is not None
    assert (prompt.ready, prompt.channel) == (True, Channel.KEYS)
    assert prompt.options


def test_a_hook_that_comes_after_the_answer_opens_no_second_prompt() -> None:
    world = World().working()
    world.hook("PreToolUse", **QUESTIONS, tool_use_id="t1")
    world.show(QUESTION).show(BUSY).wait(2000)
    assert world.state == "working", "it was answered at the terminal"
    late = world.hook("PermissionRequest", **QUESTIONS)
    assert late in world.replies
    assert world.states == ["working", "prompt", "working"]
    world.hook("PreToolUse", **QUESTIONS, tool_use_id="t2")
    world.hook("PermissionRequest", **QUESTIONS)
    assert world.state == "prompt", "the same question, asked again, is another one"


def test_keys_that_did_not_reach_the_dialog_leave_a_prompt() -> None:
    world = World().working()
    world.hook("Notification", notification_type="permission_prompt")
    world.show(PERMISSION)
    world.body(Respond, Answer(accept=True))
    assert (world.typed, world.state) == ([b"1"], "working")
    world.show(PERMISSION).wait(1500)
    assert world.state == "prompt"
    assert world.last().seq > 2


def test_a_dialog_of_which_no_hook_told_becomes_a_prompt_when_it_stays() -> None:
    world = World().working().show(PERMISSION).wait(1000)
    assert world.state == "working"
    world.wait(1000)
    prompt = world.last().prompt
    assert prompt is not None
    assert (world.state, prompt.channel, len(prompt.options)) == ("prompt", Channel.KEYS, 3)
    world.show(BUSY)
    assert world.state == "working"


def test_two_answers_by_keys_are_not_typed_both() -> None:
    world = World().working()
    world.types_at_once = False
    world.hook("Notification", notification_type="permission_prompt")
    world.show(PERMISSION)
    first = world.ask(Respond, Answer(accept=True))
    second = world.body(Respond, Answer(accept=True))
    assert first is None
    assert not second["delivered"]
    world.finish_typing()
    assert world.untyped == []
    assert world.typed == [b"1"]


# ----------------------------------------------------------------------------------------------------- start-up dialogs

ALL = ("trust", "api_key", "bypass_permissions")


class Menu:
    """A dialog on the screen that follows the arrow keys."""

    def __init__(self, world: World, lines: list[str], after: list[str]) -> None:
        self.world, self.after = world, after
        labels = ("Yes", "No", "1.", "2.")
        self.options = [
            i for i, line in enumerate(lines) if line.strip(" \u276f").startswith(labels)
        ]
        self.marked = next(n for n, i in enumerate(self.options) if "\u276f" in lines[i])
        self.plain = [line.replace("\u276f", " ") for line in lines]
        self.chosen: int | None = None
        world.types_at_once = False
        self.draw()

    def draw(self) -> None:
        lines = list(self.plain)
        row = self.options[self.marked]
        column = len(lines[row]) - len(lines[row].lstrip())
        lines[row] = lines[row][: column - 2] + "\u276f " + lines[row][column:]
        self.world.show(self.after if self.chosen else lines)

    def press(self, key: bytes) -> None:
        moves = {b"\x1b[B": 1, b"\x1b[A": -1}
        self.marked = min(max(self.marked + moves.get(key, 0), 0), len(self.options) - 1)
        if key == b"\r":
            self.chosen = self.marked + 1

    def run(self) -> None:
        for _ in range(100):
            self.world.wait(50)
            while self.world.untyped:
                for step in self.world.untyped[0].keys:
                    self.press(step.data)
                self.world.finish_typing()
                self.draw()


@pytest.mark.parametrize(
    ("lines", "option"),
    [(TRUST, 1), (API_KEY, 1), (BYPASS, 2), (NEW_TRUST, 2), (NEW_API_KEY, 1), (NEW_BYPASS, 2)],
)
def test_a_start_up_dialog_is_dismissed_by_the_right_option(lines: list[str], option: int) -> None:
    world = World(child=ChildStarted(accept_dialogs=ALL))
    menu = Menu(world, lines, IDLE)
    menu.run()
    assert menu.chosen == option
    world.wait(2000)
    assert world.state == "idle"
    [outcome] = world.outcomes(PromptOutcome)
    assert outcome.source == "groom"
    shown = world.prompts
    assert {prompt.groomed for prompt in shown} == {True}, "nobody has to be asked"


def test_a_start_up_dialog_that_nobody_allowed_is_left_to_a_person_and_answered_on_request() -> (
    None
):
    world = World()
    menu = Menu(world, BYPASS, IDLE)
    menu.run()
    assert (menu.chosen, world.state) == (None, "prompt")
    assert world.body(Respond, Answer(accept=True))["delivered"]
    menu.run()
    assert (menu.chosen, world.state) == (2, "idle")
    assert world.outcomes(PromptOutcome)[0].source == "api"


def test_a_blocked_stop_does_not_hide_a_dialog_that_stands_on_the_screen() -> None:
    world = World(stop={"mode": "gate", "prompt": "Go on."}).show(TRUST)
    world.hook("Stop")
    assert (world.state, world.machine.prompt is not None) == ("prompt", True)


def test_enter_is_not_pressed_on_a_screen_that_does_not_follow() -> None:
    world = World(child=ChildStarted(accept_dialogs=ALL)).show(BYPASS).wait(60_000)
    assert b"\r" not in world.typed
    assert world.typed
    assert any(isinstance(other, Note) for other in world.others)
    assert world.state == "prompt"
    shown = world.prompts
    assert [(prompt.seq, prompt.groomed) for prompt in shown] == [(1, True), (1, False)]


def test_dialogs_one_after_another_are_dismissed_each() -> None:
    world = World(child=ChildStarted(accept_dialogs=ALL))
    for lines, after in ((TRUST, API_KEY), (API_KEY, BYPASS), (BYPASS, IDLE)):
        Menu(world, lines, after).run()
    world.wait(2000)
    assert [(o.source, o.subtype) for o in world.outcomes(PromptOutcome)] == [
        ("groom", "trust"), ("groom", "api_key"), ("groom", "bypass_permissions"),
    ]  # fmt: skip
    assert world.states == ["prompt", "prompt", "prompt", "working", "idle"]


# ------------------------------------------------------------------------------------------------------ input, 51 to 63


def test_51_a_message_is_typed_then_entered() -> None:
    world = World().idle()
    assert world.body(Nudge, "hello") == {"delivered": True, "state_before": "idle"}
    assert world.typed == [b"hello", b"\r"]


def test_52_two_messages_are_typed_one_after_the_other() -> None:
    world = World().idle()
    world.types_at_once = False
    assert world.ask(Nudge, "one") is None
    assert world.ask(Nudge, "two") is None
    assert len(world.untyped) == 1
    world.finish_typing()
    assert world.untyped == [], "there is a gap between them"
    world.wait(10)
    world.finish_typing()
    assert world.typed == [b"one", b"\r", b"two", b"\r"]
    assert len(world.answers) == 2


def test_53_enter_is_pressed_once_more_when_nothing_happens() -> None:
    world = World().idle()
    world.body(Nudge, "hello")
    world.wait(60_000)
    assert world.typed == [b"hello", b"\r", b"\r"]


@pytest.mark.parametrize("sign", ["turn", "prompt", "exit", "typing", "dialog"])
def test_53_enter_is_not_pressed_again_when_something_happened(sign: str) -> None:
    world = World().idle()
    world.body(Nudge, "hello")
    if sign == "turn":
        world.working()
    elif sign == "prompt":
        world.hook("PermissionRequest", **TOOL)
    elif sign == "exit":
        world.tell(ChildExited(code=0))
    elif sign == "typing":
        world.tell(InputSeen())
    else:
        world.wait(3500).show(PERMISSION)
    world.wait(60_000)
    assert world.typed == [b"hello", b"\r"]


def test_whoever_asks_is_told_whether_the_message_arrived() -> None:
    world = World().idle()
    assert world.ask(Nudge, "hello", wait_ms=8000) is None
    world.working()
    [reply] = world.answers.values()
    assert reply.body == {"delivered": True, "state_before": "idle", "confirmed": True}
    world.hook("Stop")
    world.wait(1000)
    assert world.ask(Nudge, "again", wait_ms=8000) is None
    world.wait(8000)
    assert list(world.answers.values())[-1].body["confirmed"] is False


def test_54_a_message_does_not_answer_a_permission_prompt() -> None:
    world = World().working()
    world.hook("PermissionRequest", **TOOL)
    body = world.body(Nudge, "1")
    assert (body["delivered"], body["state_before"]) == (False, "prompt")
    assert "permission" in str(body["reason"])
    assert world.typed == []


def test_a_message_is_not_typed_into_a_dialog_that_came_up_while_it_waited() -> None:
    world = World().idle()
    world.types_at_once = False
    world.ask(Nudge, "one")
    world.ask(Nudge, "two")
    world.finish_typing()
    world.hook("PermissionRequest", **TOOL)
    world.wait(10)
    assert world.untyped == []
    assert list(world.answers.values())[-1].body["delivered"] is False


def test_a_message_is_not_typed_into_a_dialog_that_only_the_screen_shows() -> None:
    world = World().idle().show(PERMISSION)
    assert world.body(Nudge, "1")["delivered"] is False
    assert world.typed == []


def test_55_a_message_answers_a_question_and_sends_a_plan_back() -> None:
    world = World().working()
    held = world.hook("PermissionRequest", **ONE_QUESTION)
    body = world.body(Nudge, "Green")
    assert (body["delivered"], body["state_before"], body["prompt_type"]) == (
        True,
        "prompt",
        "question",
    )
    decision = json.loads(world.replies[held].body)["hookSpecificOutput"]["decision"]
    assert decision["updatedInput"]["answers"] == {"Which color?": "Green"}
    held = world.hook("PermissionRequest", **THE_PLAN)
    assert world.body(Nudge, "test first")["delivered"]
    decision = json.loads(world.replies[held].body)["hookSpecificOutput"]["decision"]
    assert decision == {"behavior": "deny", "message": "test first"}
    assert world.typed == []


def test_a_message_after_an_error_is_typed() -> None:
    world = World().working()
    world.hook("StopFailure", error="rate_limit")
    assert world.body(Nudge, "try again")["delivered"]


def test_62_the_exit_of_the_agent_answers_all_who_wait() -> None:
    world = World().idle()
    world.types_at_once = False
    world.ask(Nudge, "one")
    world.ask(Nudge, "two")
    world.tell(ChildExited(signal=9))
    assert [reply.status for reply in world.answers.values()] == [410, 410]


# -------------------------------------------------------------------------------------------------- programs without hooks

PATTERNS = {
    "prompt": r"\(y/n\)",
    "working": "^busy",
    "error": "^Error:",
    "idle": "^> $",
    "quiet_ms": 2000,
}


def generic(**patterns: object) -> World:
    return World(driver=GENERIC.configured({**PATTERNS, **patterns}))


def test_a_screen_that_changes_is_work_and_a_still_one_is_idle() -> None:
    world = generic(working=[])
    for n in range(5):
        world.show([f"line {n}"]).wait(500)
    assert world.states == ["working"]
    world.wait(2500)
    assert world.states == ["working", "idle"]
    world.show(["more"])
    assert world.states == ["working", "idle", "working"]


def test_where_a_pattern_says_what_work_is_mere_typing_is_none() -> None:
    world = generic().show(["> "]).wait(1000).show(["> typing"]).show(["> typing mo"]).wait(500)
    assert world.states == ["idle"]
    world.show(["busy"])
    assert world.states == ["idle", "working"]


def test_the_patterns_come_before_the_stillness() -> None:
    world = generic().show(["busy"]).wait(60)
    assert world.states == ["working"]
    world.show(["Run it? (y/n)"])
    prompt = world.last().prompt
    assert prompt is not None
    assert prompt.input == "Run it? (y/n)"
    assert world.body(Respond, Answer(accept=True))["delivered"]
    assert world.typed == [b"y\r"]
    world.show(["busy"]).show(["Error: rate limit"])
    assert world.state == "error"


def test_a_prompt_that_stays_is_not_idle() -> None:
    world = generic().show(["Run it? (y/n)"]).wait(60_000)
    assert world.states == ["prompt"]


def test_a_program_of_which_nothing_is_known_is_unknown_when_it_falls_silent() -> None:
    world = World(driver=GENERIC.configured({"quiet_ms": 0})).show(["x"]).wait(60_000)
    assert world.states == ["working", "unknown"]


def test_63_a_program_that_takes_no_answers_says_so() -> None:
    world = World(driver=GENERIC).show(["x"])
    reply = world.ask(Respond, Answer(accept=True))
    assert reply is not None
    assert reply.status == 404
    error = reply.body["error"]
    assert isinstance(error, dict)
    assert error["code"] == "NO_DRIVER"
    assert world.body(Nudge, "hello")["delivered"]


# ------------------------------------------------------------------------------------------------------------- replays


@pytest.mark.parametrize(
    ("name", "stop_config", "states"),
    [
        ("permission-approved", {}, ["working", "prompt", "working", "idle"]),
        ("question-answered-by-hook", {}, ["working", "prompt", "prompt", "working", "idle"]),
        ("plan", {}, ["working", "prompt", "prompt"]),
        ("ERR400", {}, ["working", "error"]),
        ("stop-blocked-once", GATE, ["working", "prompt", "working", "idle"]),
        ("until-exit", {}, ["working", "prompt", "working", "idle"]),
    ],
)
def test_recorded_hooks_lead_to_the_states_that_were_seen(
    name: str, stop_config: dict[str, Any], states: list[str]
) -> None:
    world = World(stop=stop_config)
    for number, line in enumerate((DATA / f"hooks-{name}.jsonl").read_text().splitlines()):
        event, _, payload = line.partition("\t")
        world.wait(10).tell(
            HookCalled(1000 + number, event.removesuffix("-answering"), json.loads(payload))
        )
    world.wait(1000)
    assert world.states == states
    assert len(world.replies) == number + (0 if world.state == "prompt" else 1)


def test_the_recorded_log_alone_leads_to_the_states_that_were_seen() -> None:
    world = World()
    for line in (DATA / "transcript-permission-and-stop.jsonl").read_text().splitlines():
        world.wait(1100).tell(LogLine(line))
    world.wait(1100)
    assert world.states == ["working", "idle", "working", "idle"]
    assert world.machine.last_message == "All done: Stop hook feedback: BLOCKED-ONCE please "
    usage = world.machine.usage
    assert (usage.request_count, usage.input_tokens) == (4, 4800)


# ------------------------------------------------------------------------------------------------------------- anything

TURNS = st.sampled_from(["p1", "p2", "p3"])
HOOKS = st.builds(
    lambda event, tool, turn, session, more: (
        event,
        {**tool, "prompt_id": turn, "session_id": session, **more},
    ),
    st.sampled_from(
        [
            "SessionStart",
            "UserPromptSubmit",
            "PreToolUse",
            "PermissionRequest",
            "PostToolUse",
            "Notification",
            "Stop",
            "StopFailure",
            "SessionEnd",
            "PrimeFailed",
            "Odd",
        ]
    ),
    st.sampled_from([TOOL, OTHER, QUESTIONS, ONE_QUESTION, THE_PLAN, {}]),
    TURNS,
    st.sampled_from([SESSION, "second"]),
    st.sampled_from(
        [
            {},
            {"stop_hook_active": True},
            {"notification_type": "permission_prompt"},
            {"notification_type": "idle_prompt"},
            {"source": "clear"},
            {"source": "compact"},
            {"error": "billing_error"},
            {"tool_use_id": "t1"},
        ]
    ),
)
LINES = st.builds(
    lambda make, turn: {**make, "promptId": turn} if make.get("type") == "user" else make,
    st.sampled_from(
        [
            user(), says("x"), says("y", "m2", input_tokens=1, output_tokens=1), uses("t1", command="rm -rf x"),
            uses("t2", "AskUserQuestion", **QUESTIONS["tool_input"]), result("t1"), result("t2"), TURN_OVER,
            {"type": "x", "error": "429"}, result("t1", toolUseResult="User rejected tool use"),
            user([{"type": "text", "text": "[Request interrupted by user]"}]),
            {"type": "system", "subtype": "api_error", "retryAttempt": 1, "maxRetries": 10},
        ]
    ),
    TURNS,
)  # fmt: skip
SCREENS = st.sampled_from(
    [IDLE, BUSY, TRUST, API_KEY, BYPASS, PERMISSION, PLAN, QUESTION, RETRYING, [], ["x"]]
)
ANSWERS = st.sampled_from(
    [
        Answer(accept=True), Answer(accept=False), Answer(option=1), Answer(text="x"), Answer(),
        Answer(answers=(QuestionAnswer(options=(1,)), QuestionAnswer(options=(1, 2)))),
    ]
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("hook"), HOOKS),
    st.tuples(st.just("log"), LINES),
    st.tuples(st.just("show"), SCREENS),
    st.tuples(st.just("wait"), st.sampled_from([1, 50, 500, 1000, 2000, 70_000])),
    st.tuples(st.just("respond"), ANSWERS),
    st.tuples(st.just("respond_to"), st.integers(0, 12)),
    st.tuples(st.just("nudge"), st.sampled_from([0, 500])),
    st.tuples(st.just("resolve"), st.sampled_from([{}, {"status": "done"}, {"status": "continue"}, {"status": 1}])),
    st.tuples(st.just("close"), st.integers(1, 30)),
    st.tuples(st.just("type"), st.none()),
    st.tuples(st.just("tell"), st.sampled_from([OutputSeen(), InputSeen(), TimerFired("idle"), TimerFired("nope")])),
    st.tuples(st.just("child"), st.sampled_from([ChildExited(code=0), Restarting(), ChildStarted(accept_dialogs=ALL)])),
)  # fmt: skip


class Anything:
    """Does random steps and keeps the books."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.types_at_once = False
        self.hooks: set[int] = set()
        self.closed: set[int] = set()
        self.requests = 0
        self.is_blocked = False

    def do(self, what: str, value: object) -> None:
        told = len(self.world.events)
        getattr(self, f"do_{what}")(value)
        fresh = self.world.events[told:]
        self.check()
        # After a blocked stop it is at work until something trusted says otherwise.
        if any(isinstance(event, StopOutcome) and event.type == "blocked" for event in fresh):
            self.is_blocked = self.world.state == "working"
        elif what not in {"show", "nudge", "resolve", "close"}:
            self.is_blocked = False
        if self.is_blocked:
            assert self.world.state != "idle"
            assert not self.world.machine.is_idle_pending

    def do_hook(self, value: tuple[str, dict[str, Any]]) -> None:
        self.hooks.add(self.world.hook(value[0], **value[1]))

    def do_log(self, value: dict[str, Any]) -> None:
        self.world.log(value)

    def do_show(self, value: list[str]) -> None:
        self.world.show(value)

    def do_wait(self, value: int) -> None:
        self.world.wait(value)

    def do_respond(self, value: Answer) -> None:
        self.requests += 1
        self.world.ask(Respond, value)

    def do_respond_to(self, value: int) -> None:
        self.requests += 1
        self.world.ask(Respond, Answer(accept=True), prompt_seq=value)

    def do_nudge(self, value: int) -> None:
        self.requests += 1
        self.world.ask(Nudge, "x", wait_ms=value)

    def do_resolve(self, value: Json) -> None:
        self.requests += 1
        self.world.ask(Resolve, value)

    def do_close(self, value: int) -> None:
        if value in self.hooks and value not in self.world.replies:
            self.closed.add(value)
            self.world.tell(HookClosed(value))

    def do_type(self, _: None) -> None:
        if self.world.untyped:
            self.world.untyped = self.world.untyped[-1:]
            self.world.finish_typing()

    def do_tell(self, value: Input) -> None:
        self.world.tell(value)

    def do_child(self, value: Input) -> None:
        if isinstance(value, ChildStarted):
            self.world.tell(ChildExited(code=0))
        self.world.tell(value)

    def check(self) -> None:
        machine = self.world.machine
        again = {"ready", "hook:closed"}  # the same prompt told again, with its number
        numbers = [
            event.seq
            for event in self.world.events
            if not (isinstance(event, Transition) and event.cause in again)
        ]
        assert all(a < b for a, b in pairwise(numbers)), numbers
        assert (machine.state is AgentState.PROMPT) == (machine.prompt is not None)
        if machine.prompt is not None:
            assert machine.prompt.seq == machine.state_seq
        if machine.state is AgentState.IDLE:
            assert not machine.is_idle_pending
        msgspec.json.encode(machine.snapshot())

    def finish(self) -> None:
        self.world.tell(ChildExited(code=0))
        known = set(self.world.replies)
        assert self.hooks - self.closed == known, "no hook is forgotten, none that died is answered"
        assert len(self.world.answers) == self.requests, "no request is forgotten"
        assert self.world.timers == {}


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=40),
    stop_config=st.sampled_from([{}, GATE, AUTO]),
    driver=st.sampled_from([CLAUDE, CLAUDE, CLAUDE, GENERIC.configured(PATTERNS)]),
)
def test_whatever_happens_in_whatever_order(
    steps: list[tuple[str, Any]], stop_config: dict[str, Any], driver: Driver
) -> None:
    anything = Anything(World(driver, stop_config, child=ChildStarted(accept_dialogs=ALL)))
    for what, value in steps:
        anything.do(what, value)
    anything.finish()
