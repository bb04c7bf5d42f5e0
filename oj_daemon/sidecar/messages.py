"""Messages for the agent: typed when it is its turn to read, watched until they have arrived.

Rule: pure. A message is never typed into a dialog, whatever the state says; what has waited is asked again before it is
typed. When nothing happens after a message, Enter is pressed once more and never again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from oj_daemon.drivers.base import AgentState, Answer, Driver, PromptKind, QuestionAnswer
from oj_daemon.sidecar.desk import Desk
from oj_daemon.sidecar.keyboard import Keyboard, Purpose, Typing
from oj_daemon.sidecar.prompts import Prompts
from oj_daemon.sidecar.standing import Standing
from oj_daemon.sidecar.values import KeysTyped, Nudge, Respond, TypeKeys

TYPABLE: Final = (AgentState.IDLE, AgentState.WORKING, AgentState.UNKNOWN, AgentState.ERROR)
"""States in which a message may be typed. After an error the agent waits at its input line: that is how one retries."""


class Watch(msgspec.Struct):
    """A message was typed; did it arrive?"""

    request_id: int | None
    state_before: AgentState
    has_repeated: bool = False


class Messages:
    """What is typed into the agent on request."""

    def __init__(
        self, desk: Desk, standing: Standing, prompts: Prompts, driver: Driver, keyboard: Keyboard
    ) -> None:
        """Nothing is to be typed."""
        self._desk = desk
        self._standing = standing
        self._prompts = prompts
        self._driver = driver
        self._keyboard = keyboard
        self._watch: Watch | None = None
        standing.on_begun = self.arrived

    # -------------------------------------------------------------------------------------------------------- requests

    def nudge(self, nudge: Nudge) -> None:
        """Send a message; to a question or a plan it is the answer."""
        if not self._may_type(nudge.request_id, can=self._driver.capabilities.nudge):
            return
        prompt = self._standing.prompt
        before = {"state_before": str(self._standing.state)}
        if prompt is not None and prompt.kind in (PromptKind.QUESTION, PromptKind.PLAN):
            answer = Answer(text=nudge.message)
            if prompt.kind is PromptKind.QUESTION and len(prompt.questions) == 1:
                answer = Answer(answers=(QuestionAnswer(text=nudge.message),))
            self._prompts.answer(nudge.request_id, answer, before)
            return
        refusal = self._why_not()
        if refusal:
            body = {"delivered": False, **before, "reason": refusal}
            self._desk.reply(nudge.request_id, 200, body)
            return
        keys = self._driver.nudge(nudge.message, self._desk.pacing)
        self._keyboard.push(
            Typing(Purpose.NUDGE, keys, request_id=nudge.request_id, wait_ms=nudge.wait_ms)
        )

    def respond(self, respond: Respond) -> None:
        """Answer the open prompt, if it is the one that is meant."""
        can = self._driver.capabilities
        can_any = can.answer_permission or can.answer_plan or can.answer_question
        if not self._may_type(respond.request_id, can=can_any):
            return
        seq = respond.prompt_seq
        if seq is not None and not self._prompts.is_open(seq):
            prompt = self._standing.prompt
            now_open = "none" if prompt is None else f"prompt {prompt.seq}"
            message = f"answer prompt {seq}: it is no longer open (open now: {now_open})"
            self._desk.refuse(respond.request_id, 409, "STALE_PROMPT", message)
            return
        self._prompts.answer(respond.request_id, respond.answer, {})

    def _may_type(self, request_id: int, *, can: bool) -> bool:
        state, refuse = self._standing.state, self._desk.refuse
        if self._standing.is_over:
            refuse(request_id, 410, "EXITED", f"the agent is {state}")
        elif not can:
            message = f"the driver {self._driver.name} cannot do that: use input"
            refuse(request_id, 404, "NO_DRIVER", message)
        elif not self._standing.is_ready:
            refuse(request_id, 503, "NOT_READY", "the agent is still starting")
        else:
            return True
        return False

    def _why_not(self) -> str:
        """Return why a message must not be typed now, "" if it may."""
        prompt = self._standing.prompt
        if prompt is not None and prompt.subtype == "oauth_login":
            return ""
        if prompt is not None:
            return f"the agent waits for an answer to a {prompt.kind} prompt"
        if self._desk.screen.dialog is not None:
            return "a dialog is open in the agent"
        if self._standing.state not in TYPABLE:
            return f"the agent is {self._standing.state}"
        return ""

    # ---------------------------------------------------------------------------------------------------------- typing

    def pump(self) -> None:
        """Begin to type what is next, if it may still be typed."""
        while (due := self._keyboard.due_at()) is not None:
            if due > self._desk.now:
                self._desk.set_timer_once("type", due - self._desk.now)
                return
            typing = self._keyboard.pop()
            if self._is_obsolete(typing):
                continue
            if typing.purpose in (Purpose.NUDGE, Purpose.ANSWER):
                self.end_watch(is_confirmed=False)
            delivery_id = self._keyboard.begin(typing)
            self._desk.out.append(TypeKeys(delivery_id, typing.keys))

    def _is_obsolete(self, typing: Typing) -> bool:
        body: Mapping[str, object]
        match typing.purpose:
            case Purpose.SELECT:
                return not self._prompts.is_selecting
            case Purpose.ANSWER:
                if self._prompts.is_open(typing.prompt_seq):
                    return False
                body = {**typing.body, "delivered": False, "reason": "the prompt is no longer open"}
            case Purpose.NUDGE | Purpose.ENTER:
                reason = self._why_not()
                if not reason:
                    return False
                state = str(self._standing.state)
                body = {"delivered": False, "state_before": state, "reason": reason}
        self._desk.reply(typing.request_id, 200, body)
        return True

    def typed(self, typed: KeysTyped) -> None:
        """Something was typed to its end."""
        typing = self._keyboard.end(typed.delivery_id, self._desk.now)
        if typing is None:
            return
        match typing.purpose:
            case Purpose.NUDGE:
                self._nudge_typed(typing, is_written=typed.is_written)
            case Purpose.ANSWER:
                self._prompts.answer_typed(typing, is_written=typed.is_written)
            case Purpose.SELECT:
                self._prompts.select_typed()
            case Purpose.ENTER:
                pass

    def _nudge_typed(self, typing: Typing, *, is_written: bool) -> None:
        desk, state = self._desk, self._standing.state
        body: dict[str, object] = {"delivered": is_written, "state_before": str(state)}
        if not is_written:
            desk.reply(typing.request_id, 200, {**body, "reason": "the terminal did not take it"})
            return
        waits = typing.wait_ms > 0
        if not waits:
            desk.reply(typing.request_id, 200, body)
        self._watch = Watch(typing.request_id if waits else None, state)
        if desk.timing.nudge_timeout_ms and self._driver.capabilities.hooks:
            desk.set_timer("enter", desk.timing.nudge_timeout_ms)
        if waits:
            desk.set_timer("confirm", typing.wait_ms)

    # ----------------------------------------------------------------------------------------------------------- watch

    def arrived(self) -> None:
        """The agent reacted."""
        self.end_watch(is_confirmed=True)

    def enter_due(self) -> None:
        """No reaction to a message: perhaps Enter was swallowed."""
        if self._watch is not None and not self._watch.has_repeated:
            self._watch.has_repeated = True
            enter = self._driver.nudge("", self._desk.pacing)[-1:]
            self._keyboard.push(Typing(Purpose.ENTER, enter))

    def end_watch(self, *, is_confirmed: bool) -> None:
        """Stop waiting for a reaction and tell whoever waits with us."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        self._desk.cancel_timer("enter")
        self._desk.cancel_timer("confirm")
        body = {"delivered": True, "state_before": str(watch.state_before)}
        self._desk.reply(watch.request_id, 200, {**body, "confirmed": is_confirmed})

    def drop_all(self) -> None:
        """The child is going: nothing will be typed any more."""
        for typing in self._keyboard.clear():
            if typing.request_id is not None:
                self._desk.refuse(typing.request_id, 410, "EXITED", "the agent has ended")
        self.end_watch(is_confirmed=False)
