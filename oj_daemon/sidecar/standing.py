"""The state of the agent: how claims are weighed, and how a change is told.

Rule: pure. A source at least as trusted as the one that set the state is believed; a less trusted one only if it
raises the state (idle < error < working < prompt). Beyond that:
- Idle is told only after it stood for the grace, and never while a stop was kept from happening.
- An open prompt that a hook or the log told of is left only by its end (prompts.py), not by any claim.
- An error is left by new work only.
- A screen that shows work where a better source just said otherwise may be an old picture: it has to last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from oj_daemon.drivers.base import PRIORITY, AgentError, AgentState, Prompt, Signal, Source, Tier
from oj_daemon.sidecar.desk import Desk
from oj_daemon.sidecar.values import Stalled, Transition

OVER: Final = (AgentState.EXITED, AgentState.RESTARTING)
EXTENSIONS: Final = 5


class Calm(msgspec.Struct):
    """A sign of idleness that has not stood long enough to be told."""

    tier: int
    cause: str
    is_tentative: bool
    extensions: int = 0


class Standing:
    """What the agent is doing, as far as anyone has told."""

    def __init__(self, desk: Desk) -> None:
        """It is starting, and nothing is known."""
        self._desk = desk
        self.state = AgentState.STARTING
        self.tier = int(Tier.NONE)
        self.cause = ""
        self.seq = 0
        """Of the last transition."""
        self.error: AgentError | None = None
        self.is_ready = False
        self.last_message: str | None = None
        self.prompt: Prompt | None = None
        """The open prompt; kept up to date by whoever keeps the prompts."""
        self.prompt_tier = int(Tier.NONE)
        self.on_screen_left: Callable[[], None] = _nothing
        """Called when a claim shows that the dialog of a screen prompt is gone."""
        self.on_begun: Callable[[], None] = _nothing
        """Called when the agent begins to work or to ask."""
        self.begin_child(has_turns=True, awaits_turn=False)

    def begin_child(self, *, has_turns: bool, awaits_turn: bool) -> None:
        """Forget what was known about the last child."""
        self.calm: Calm | None = None
        self.awaits_turn = awaits_turn
        self.had_turn = not has_turns
        """Whether this child has been at work for anyone yet."""
        self.tier = int(Tier.NONE)
        self._alive_at = self._desk.now
        self._state_at = self._desk.now
        self._tier_before_silence: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is no child of which anything could be claimed."""
        return self.state in OVER

    # ---------------------------------------------------------------------------------------------------------- claims

    def claim(
        self,
        state: AgentState,
        tier: int,
        cause: str,
        error: AgentError | None = None,
        *,
        is_tentative: bool = False,
    ) -> None:
        """Weigh a claim of idle, error or working."""
        if self.is_over or (self.prompt is not None and self.prompt_tier < Tier.SCREEN):
            return
        raises = PRIORITY[state] > PRIORITY[self.state]
        if tier > self.tier and not raises and state is not self.state:
            return
        if self.prompt is not None:
            self.on_screen_left()
            self.become(AgentState.WORKING, max(tier, Tier.SCREEN), "screen:answered")
        match state:
            case AgentState.IDLE:
                self._claim_idle(tier, cause, is_tentative=is_tentative)
            case AgentState.WORKING:
                self.drop_calm()
                self.work(tier, cause, error)
            case _:
                self.drop_calm()
                is_same = self.state is state and _category(error) is _category(self.error)
                if not is_same:
                    self.become(state, tier, cause, error)

    def claim_by_screen(self, signal: Signal) -> None:
        """Weigh a screen that shows work."""
        timing = self._desk.timing
        if self.calm is not None and not self.calm.is_tentative:
            if self.calm.extensions < EXTENSIONS:
                self.calm.extensions += 1
                self._desk.set_timer("idle", timing.idle_grace_ms)
        elif self.calm is not None:
            self.drop_calm()
        elif self.state in (AgentState.IDLE, AgentState.ERROR) and self.tier < Tier.SCREEN:
            self._desk.set_timer_once("screen_works", timing.settle_ms)
        else:
            self.claim(AgentState.WORKING, Tier.SCREEN, signal.cause, signal.error)

    def work(self, tier: int, cause: str, error: AgentError | None = None) -> None:
        """Note that the agent works; with an error, that it is trying again by itself."""
        if self.state is not AgentState.WORKING:
            self.become(AgentState.WORKING, tier, cause, error)
            return
        self.tier = min(self.tier, tier)
        if error is not None or tier < Tier.SCREEN:
            self.retry(error, cause)

    def retry(self, error: AgentError | None, cause: str) -> None:
        """Note how a retry stands; told when it begins and when it is over."""
        had = self.error is not None
        self.error = error
        if had != (error is not None):
            self.become(AgentState.WORKING, self.tier, cause, error)

    def see_retry(self, signal: Signal) -> None:
        """Compare the retry that the screen shows with what is known."""
        if signal.error is not None and signal.error.is_retrying:
            if self.state is AgentState.WORKING:
                self.retry(signal.error, signal.cause)
        elif self.error is not None and self.error.is_retrying and signal.state is not None:
            self.retry(None, "screen:recovered")

    # ------------------------------------------------------------------------------------------------------------ idle

    def _claim_idle(self, tier: int, cause: str, *, is_tentative: bool) -> None:
        if self.state is AgentState.IDLE:
            self.tier = min(self.tier, tier)
            return
        if self.state is AgentState.ERROR or (self.awaits_turn and tier >= Tier.SCREEN):
            return
        if self.calm is not None:
            self.calm.is_tentative = self.calm.is_tentative and is_tentative
            if tier < self.calm.tier:
                self.calm.tier, self.calm.cause = tier, cause
            return
        self.calm = Calm(tier, cause, is_tentative)
        grace = self._grace(tier)
        if grace:
            self._desk.set_timer("idle", grace)
        else:
            self.settle()

    def _grace(self, tier: int) -> int:
        """Return how long a sign of idleness has to stand.

        The input line is there a while before a message from the command line is taken, or the hook of the start ends.
        """
        timing = self._desk.timing
        is_first = tier >= Tier.SCREEN and not self.had_turn
        return max(timing.idle_grace_ms, 2 * timing.settle_ms) if is_first else timing.idle_grace_ms

    def settle(self) -> None:
        """Idleness has stood for the grace: tell it."""
        calm, self.calm = self.calm, None
        self._desk.cancel_timer("idle")
        if calm is not None and self.prompt is None:
            self.become(AgentState.IDLE, calm.tier, calm.cause)

    def drop_calm(self) -> None:
        """What looked like idleness was none."""
        if self.calm is not None:
            self.calm = None
            self._desk.cancel_timer("idle")

    # --------------------------------------------------------------------------------------------------------- changes

    def become(
        self, state: AgentState, tier: int, cause: str, error: AgentError | None = None
    ) -> None:
        """Change the state and tell everyone."""
        desk = self._desk
        prev, self.state = self.state, state
        self.tier, self.cause, self.error = int(tier), cause, error
        self._state_at = desk.now
        self._tier_before_silence = None
        self.seq = desk.next_seq()
        if state is AgentState.PROMPT and self.prompt is not None:
            self.prompt = msgspec.structs.replace(self.prompt, seq=self.seq)
        if state not in (AgentState.STARTING, *OVER):
            self.is_ready = True
            desk.cancel_timer("startup")
        desk.cancel_timer("screen_works")
        desk.tell(self.transition(prev))
        if state in (AgentState.WORKING, AgentState.PROMPT) and prev is not state:
            self.on_begun()
        self._watch_age("silence", desk.timing.silence_ms, is_on=state is AgentState.WORKING)
        self._watch_age("unknown", desk.timing.unknown_ms, is_on=state is AgentState.UNKNOWN)

    def transition(self, prev: AgentState, cause: str | None = None) -> Transition:
        """Return how things stand as a transition."""
        return Transition(
            prev=prev,
            next=self.state,
            seq=self.seq,
            epoch=self._desk.epoch,
            prompt=self.prompt,
            error=self.error,
            cause=self.cause if cause is None else cause,
            last_message=self.last_message,
        )

    # ------------------------------------------------------------------------------------------------------------- age

    def _watch_age(self, name: str, length: int, *, is_on: bool) -> None:
        if is_on and length:
            self._desk.set_timer(name, length)
        elif not is_on:
            self._desk.cancel_timer(name)

    def sign_of_life(self, *, is_output: bool) -> None:
        """Note that the agent wrote something somewhere."""
        self._alive_at = self._desk.now
        if self._tier_before_silence is not None and is_output:
            self.become(AgentState.WORKING, self._tier_before_silence, "output")

    def silence_due(self) -> None:
        """The agent works; has it been silent for too long?"""
        left = self._alive_at + self._desk.timing.silence_ms - self._desk.now
        if left > 0 or self.error is not None:  # who retries may wait for minutes
            self._desk.set_timer("silence", max(left, 1000))
            return
        self.stalled("silence", self._desk.now - self._alive_at)
        before = self.tier
        self.become(AgentState.UNKNOWN, Tier.NONE, "silence")
        self._tier_before_silence = before

    def unknown_due(self) -> None:
        """The state has been unknown for too long."""
        self.stalled("unknown", self._desk.now - self._state_at)

    def startup_due(self) -> None:
        """Nothing is known since the start, or the first message was not taken."""
        self.awaits_turn = False
        self.stalled("startup", self._desk.timing.startup_ms)

    def stalled(self, kind: str, age_ms: int) -> None:
        """Report a state that lasts too long; what to do about it is the daemon's decision."""
        self._desk.tell(Stalled(kind, self.state, age_ms, self._desk.next_seq()))


def screen_work(signal: Signal) -> Signal:
    """Return the claim that the screen shows work."""
    return Signal(
        source=Source.SCREEN,
        state=AgentState.WORKING,
        cause=signal.cause or "screen:activity",
        error=signal.error,
    )


def _category(error: AgentError | None) -> object:
    return None if error is None else error.category


def _nothing() -> None:
    """Until somebody wants to know."""
