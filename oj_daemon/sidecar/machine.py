"""Signals by trust -> the state of the agent; hooks, answers, messages and deadlines.

Rule: pure. `handle(input, now)` is the only door; it returns what to do, in order. Nothing here reads a clock, and
nothing outside changes what is in here. The decisions about an agent are the daemon's: this only knows and reports.

How a claim is weighed (`_claim`): a source at least as trusted as the one that set the state is believed; a less
trusted one only if it raises the state (idle < error < working < prompt). Beyond that:
- Idle is told only after it stood for the grace, and never while a stop was kept from happening.
- A prompt that a hook or the log opened ends when one of them says so, when it is answered, or when its dialog was
  seen on the screen and then was gone for a while. It is not ended by other tools that run beside it.
- An error is left by new work only.
- What the log says about a turn that the hooks ended, or passed, is old news.
- Two weak witnesses together (the log's last words, and the input line on the screen) outweigh a hook that never came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from oj_daemon.drivers.base import (
    PRIORITY,
    TIERS,
    AgentError,
    AgentState,
    Answer,
    Channel,
    Dialog,
    Driver,
    Ends,
    HookAnswer,
    Json,
    KeyAnswer,
    Need,
    Pacing,
    Prompt,
    PromptKind,
    QuestionAnswer,
    Refusal,
    SelectAnswer,
    Signal,
    Source,
    Tier,
    Usage,
    UsageEntry,
)
from oj_daemon.errors import Rejected
from oj_daemon.sidecar import gate
from oj_daemon.sidecar.keyboard import Keyboard, Purpose, Typing
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
    Output,
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

Value = TypeVar("Value")
OVER: Final = (AgentState.EXITED, AgentState.RESTARTING)
TYPABLE: Final = (AgentState.IDLE, AgentState.WORKING, AgentState.UNKNOWN, AgentState.ERROR)
"""States in which a message may be typed. After an error the agent waits at its input line: that is how one retries."""
FALLBACK: Final = ("Accept", "Cancel")
MOVE_MS: Final = 150
"""How long a dialog is given to redraw after a key."""
MOVES: Final = 40
REMEMBERED: Final = 64


class Ask(msgspec.Struct):
    """A prompt that is open in the agent; the first of the queue is the one that is shown."""

    prompt: Prompt
    tier: int
    hook_id: int | None = None
    tool_use_id: str = ""
    dialog: str = ""
    """What its dialog said on the screen, "" until it was seen there."""
    is_seen: bool = False
    is_answering: bool = False
    """An answer is being typed."""
    tries: int = 0


class Selecting(msgspec.Struct):
    """An option of a dialog on the way to being confirmed: move, look, confirm."""

    name: str
    option: int
    source: str
    choice: str
    moves: int = 0
    was_selected: int = -1
    is_steady: bool = False
    may_move_at: int = 0


class Watch(msgspec.Struct):
    """A message was typed; did it arrive?"""

    request_id: int | None
    state_before: AgentState
    has_repeated: bool = False


class Calm(msgspec.Struct):
    """A sign of idleness that has not stood long enough to be told."""

    tier: int
    cause: str
    is_tentative: bool
    extensions: int = 0


class Machine:
    """The state of one agent. Starts in `starting`; give it ChildStarted when the program runs."""

    def __init__(self, driver: Driver, timing: Timing, stop: Json, start: Json) -> None:
        """`stop` and `start` are the sections of the agent configuration file; Rejected when they make no sense."""
        self.driver = driver
        self.timing = timing
        self.stop = gate.read_stop(stop)
        self.start = gate.read_start(start)
        self.state = AgentState.STARTING
        self.seq = 0
        self.state_seq = 0
        """Of the last transition; `seq` also counts the other events."""
        self.epoch = 0
        self.tier = int(Tier.NONE)
        self.cause = ""
        self.is_ready = False
        self.error: AgentError | None = None
        self.usage = Usage()
        self.last_message: str | None = None
        self.session_id = ""
        self.transcript_path = ""
        self._out: list[Output] = []
        self._now = 0
        self._timers: dict[str, int] = {}
        self._usages: dict[str, Usage] = {}
        self._resolved: Json | None = None
        self._keyboard = Keyboard(timing.input_delay_ms)
        self._past_sessions: list[str] = []
        self._reset(ChildStarted())

    def _reset(self, child: ChildStarted) -> None:
        """Forget what belongs to one child."""
        self._asks: list[Ask] = []
        self._calm: Calm | None = None
        self._selecting: Selecting | None = None
        self._watch: Watch | None = None
        self._accept_dialogs = child.accept_dialogs
        self._awaits_turn = child.has_prompt and self.driver.capabilities.hooks
        self._turn = ""
        self._turns: dict[str, bool] = {}
        """Turns that hooks or log spoke of -> whether they are over."""
        self._log_turn = ""
        self._tools: dict[str, tuple[str, str]] = {}
        self._hook_tools: dict[str, None] = {}
        self._is_log_calm = False
        self._screen = Signal(source=Source.SCREEN)
        self._lines: tuple[str, ...] = ()
        self._pacing = self._make_pacing(bracketed_paste=False)
        self._alive_at = self._now
        self._state_at = self._now
        self._before_silence: int | None = None
        self._answered_turn = ""

    # ----------------------------------------------------------------------------------------------------------- front

    def handle(self, what: Input, now: int) -> list[Output]:  # noqa: C901, PLR0912 - one match over a closed union
        """Take in what happened at `now` (monotonic milliseconds) and return what to do."""
        self._now = now
        self._out = []
        match what:
            case HookCalled():
                self._hook_called(what)
            case HookClosed(hook_id=hook_id):
                self._hook_closed(hook_id)
            case LogLine():
                self._log_line(what)
            case ScreenSeen():
                self._screen_seen(what)
            case OutputSeen():
                self._sign_of_life(is_output=True)
            case TimerFired(name=name):
                self._timer_fired(name)
            case KeysTyped():
                self._keys_typed(what)
            case InputSeen():
                self._end_watch(is_confirmed=None)
            case Nudge():
                self._nudge(what)
            case Respond():
                self._respond(what)
            case Resolve():
                self._resolve(what)
            case StopHookAsked():
                self._foreign_stop(what)
            case StartHookAsked():
                self._foreign_start(what)
            case SetStop() | SetStart():
                self._configure(what)
            case ChildStarted():
                self._child_started(what)
            case ChildExited():
                self._child_exited(what)
            case Restarting():
                self._end_child(AgentState.RESTARTING)
        self._pump()
        return self._out

    @property
    def prompt(self) -> Prompt | None:
        """The prompt that is open."""
        return self._asks[0].prompt if self._asks else None

    @property
    def is_idle_pending(self) -> bool:
        """Whether idleness has been seen and will be told soon unless something happens."""
        return self._calm is not None

    def view(self) -> dict[str, object]:
        """Return what GET agent says, but for the shapes of prompt and error (`prompt`, `error` are values here)."""
        return {
            "session_id": self.session_id,
            "state": str(self.state),
            "since_seq": self.state_seq,
            "detection_tier": "none" if self.tier == Tier.NONE else str(self.tier),
            "detection_cause": self.cause,
            "prompt": self.prompt,
            "error": self.error,
            "last_message": self.last_message,
            "idle_pending": self.is_idle_pending,
            "epoch": self.epoch,
            "transcript_path": self.transcript_path,
        }

    def snapshot(self) -> Output:
        """Return the synthetic transition for a new subscriber."""
        return Broadcast(
            Transition(
                prev=self.state,
                next=self.state,
                seq=self.state_seq,
                epoch=self.epoch,
                prompt=self.prompt,
                error=self.error,
                last_message=self.last_message,
            )
        )

    # ----------------------------------------------------------------------------------------------------------- child

    def _child_started(self, child: ChildStarted) -> None:
        self._end_child(None)
        self.epoch += 1
        self._reset(child)
        self.is_ready = False
        self.error = None
        if self.session_id and child.session_id != self.session_id:
            self._past_sessions.append(self.session_id)
        self.session_id = child.session_id or self.session_id
        if self.state is not AgentState.STARTING:
            self._become(AgentState.STARTING, Tier.NONE, "started")
        self.tier = Tier.NONE
        if child.transcript_path:
            self._follow(child.transcript_path)
        if self.timing.startup_ms:
            self._set_timer("startup", self.timing.startup_ms)

    def _child_exited(self, child: ChildExited) -> None:
        if self.state is AgentState.EXITED:
            return
        prev = self.state
        self._end_child(None)
        self.state, self.tier, self.cause = AgentState.EXITED, Tier.PROCESS, "exit"
        self.error = None
        self.seq += 1
        self.state_seq = self.seq
        self._out.append(Broadcast(Exit(child.code, child.signal, prev, self.seq, self.epoch)))

    def _end_child(self, state: AgentState | None) -> None:
        """Let go of everything that waits for the child that is going or gone."""
        self._drop_asks("exit")
        for typing in self._keyboard.clear():
            if typing.request_id is not None:
                self._refuse(typing.request_id, 410, "EXITED", "the agent has ended")
        self._end_watch(is_confirmed=False)
        self._calm = None
        self._selecting = None
        for name in list(self._timers):
            self._cancel_timer(name)
        if state is not None:
            self._become(state, Tier.NONE, "restart")
            self.is_ready = False

    # ----------------------------------------------------------------------------------------------------------- hooks

    def _hook_called(self, hook: HookCalled) -> None:
        if hook.event == gate.PRIME_FAILED:
            self._out += [
                HookReply(hook.hook_id),
                Note(f"prime: {hook.payload.get('message', 'failed')}"),
            ]
            return
        signal = self.driver.read_hook(hook.event, hook.payload)
        if self.state in OVER or not self._is_ours(signal):
            self._out.append(HookReply(hook.hook_id))
            return
        self._sign_of_life(is_output=False)
        if (
            signal.state is AgentState.PROMPT
            and not signal.tool
            and self._turns.get(signal.turn_id)
        ):
            self._out.append(HookReply(hook.hook_id))  # a notice about a dialog that is long over
            return
        if signal.state in (AgentState.WORKING, AgentState.PROMPT) or signal.need is Need.STOP:
            self._is_log_calm = False
            self._open_turn(signal.turn_id)
        if signal.tool_use_id:
            _remember(self._hook_tools, signal.tool_use_id, None)
        match signal.need:
            case Need.START:
                self._start_hook(hook.hook_id, signal)
            case Need.STOP:
                self._take(signal)
                verdict = self._stop(signal.cause, is_second=signal.is_second_stop)
                self._out.append(HookReply(hook.hook_id, self.driver.stop_reply(verdict.reason)))
            case Need.ANSWER:
                self._take(signal, hook_id=hook.hook_id)
                if not any(ask.hook_id == hook.hook_id for ask in self._asks):
                    self._out.append(HookReply(hook.hook_id))
            case Need.NOTHING:
                self._out.append(HookReply(hook.hook_id))
                self._take(signal)
                if signal.state is AgentState.ERROR:
                    self._end_turn(signal.turn_id)

    def _is_ours(self, signal: Signal) -> bool:
        """Whether a hook speaks of the session that runs now; follows the session when it changes."""
        is_new = bool(signal.session_id) and signal.session_id != self.session_id
        if is_new and signal.need is not Need.START:
            if signal.session_id in self._past_sessions:
                return False
            is_new = bool(self.session_id)
        if is_new:
            if self.session_id:
                self._past_sessions.append(self.session_id)
                del self._past_sessions[:-REMEMBERED]
            if signal.session_id in self._past_sessions:
                self._past_sessions.remove(signal.session_id)
        if signal.session_id:
            self.session_id = signal.session_id
        if signal.transcript_path and signal.transcript_path != self.transcript_path:
            self._follow(signal.transcript_path)
        return True

    def _follow(self, path: str) -> None:
        self.transcript_path = path
        self._out.append(FollowLog(path, self.session_id))

    def _start_hook(self, hook_id: int, signal: Signal) -> None:
        script = self._started(signal.start_source, signal)
        self._out.append(HookReply(hook_id, script, self.timing.prime_seconds if script else 0))
        self._take(signal)

    def _started(self, source: str, signal: Signal | None) -> str:
        if source == "clear":
            self.last_message = None
        if source == "compact":
            self._out.append(SaveTranscript())
        script = gate.start_script(self.start, source)
        self.seq += 1
        outcome = StartOutcome(
            source=source,
            injected=bool(script),
            seq=self.seq,
            session_id=signal.session_id if signal else "",
            transcript_path=signal.transcript_path if signal else "",
        )
        self._tell(outcome)
        return script

    def _stop(self, cause: str, *, is_second: bool) -> gate.Verdict:
        verdict = gate.verdict(self.stop, self.error, self._resolved, is_second=is_second)
        if verdict.type == "signaled":
            self._resolved = None
        self.seq += 1
        self._tell(StopOutcome(verdict.type, self.seq, verdict.signal, verdict.error_detail))
        if verdict.is_blocked:
            self._is_log_calm = False
            self._drop_calm()
            if self.state not in OVER:
                self._become_working(Tier.HOOK, "stop:blocked")
        else:
            self._end_turn(self._turn)
            self._claim(AgentState.IDLE, Tier.HOOK, cause)
        return verdict

    def _hook_closed(self, hook_id: int) -> None:
        ask = next((ask for ask in self._asks if ask.hook_id == hook_id), None)
        if ask is None:
            return
        ask.hook_id = None
        # The dialog may still stand, or have been answered at the terminal: the screen will tell.
        ask.prompt = _replace(ask.prompt, channel=Channel.KEYS, ready=False, options=())
        ask.tries = 0
        if ask is self._asks[0]:
            self._tell_prompt("hook:closed")
            self._look_for_options()

    # ------------------------------------------------------------------------------------------------------------- log

    def _log_line(self, line: LogLine) -> None:
        for signal in self.driver.read_log(line.text):
            if signal.usage is not None:
                self._add_usage(signal.usage, is_old=line.is_old)
            if line.is_old:
                self.last_message = signal.last_message or self.last_message
                continue
            if self.state in OVER:
                continue
            if signal.turn_id:
                self._log_turn = signal.turn_id
            if signal.state is None or self._is_old_news(signal):
                continue
            self._sign_of_life(is_output=False)
            if self._log_turn and signal.state is not AgentState.IDLE:
                self._open_turn(self._log_turn)
            self._is_log_calm = signal.state is AgentState.IDLE
            self._take(signal)
            if signal.cause == "log:turn":
                self._end_turn(self._log_turn)

    def _is_old_news(self, signal: Signal) -> bool:
        if signal.state is AgentState.PROMPT and signal.tool_use_id in self._hook_tools:
            return True
        if self._log_turn not in self._turns:
            return False
        return self._turns[self._log_turn] or self._log_turn != self._turn

    def _open_turn(self, turn_id: str) -> None:
        if turn_id:
            self._turn = turn_id
            _remember(self._turns, turn_id, False)

    def _end_turn(self, turn_id: str) -> None:
        if turn_id:
            _remember(self._turns, turn_id, True)

    def _add_usage(self, entry: UsageEntry, *, is_old: bool) -> None:
        before = self._usages.get(entry.key, Usage())
        after = _greatest(before, entry.usage)
        if after == before:
            return
        self._usages[entry.key] = after
        self.usage = _sum(self.usage, before, after)
        if not is_old:
            self.seq += 1
            self._tell(UsageChanged(self.usage, self.seq))

    # ---------------------------------------------------------------------------------------------------------- screen

    def _screen_seen(self, seen: ScreenSeen) -> None:
        lines = tuple(line.rstrip() for line in seen.lines)
        has_changed = lines != self._lines
        self._lines = lines
        self._pacing = self._make_pacing(bracketed_paste=seen.bracketed_paste)
        if self.state in OVER:
            return
        signal = self.driver.read_screen(lines)
        self._screen = signal
        if not self.driver.capabilities.hooks:
            signal = self._by_activity(signal, has_changed=has_changed)
        if self._selecting is not None and signal.dialog is not None:
            self._step_selection(signal.dialog)
        self._see_dialog(signal)
        self._see_retry(signal)
        match signal.state:
            case None:
                pass
            case AgentState.PROMPT:
                self._take(signal)
            case AgentState.WORKING:
                self._screen_works()
            case _:
                self._take(signal)
        self._weigh_together()

    def _by_activity(self, signal: Signal, *, has_changed: bool) -> Signal:
        """For a program that has no hooks: a screen that changes is work, one that is still for long enough is idle."""
        if has_changed and self.driver.quiet_ms:
            self._set_timer("quiet", self.driver.quiet_ms)
        if signal.state is None and has_changed and any(self._lines):
            return _replace(signal, state=AgentState.WORKING, cause="screen:activity")
        return signal

    def _screen_works(self) -> None:
        """The screen shows work. Where idleness was just told of, or is about to be, that may be an old picture."""
        if self._calm is not None:
            if self._calm.extensions < 5 and not self._calm.is_tentative:
                self._calm.extensions += 1
                self._set_timer("idle", self.timing.idle_grace_ms)
            elif self._calm.is_tentative:
                self._drop_calm()
        elif self.state in (AgentState.IDLE, AgentState.ERROR) and self.tier < Tier.SCREEN:
            if "screen_works" not in self._timers:
                self._set_timer("screen_works", self.timing.settle_ms)
        else:
            self._take(self._screen_signal(AgentState.WORKING))

    def _screen_signal(self, state: AgentState) -> Signal:
        cause = self._screen.cause or "screen:activity"
        return Signal(source=Source.SCREEN, state=state, cause=cause, error=self._screen.error)

    def _see_dialog(self, signal: Signal) -> None:
        """Follow the dialog of the open prompt: its options, and whether it is gone."""
        dialog = signal.dialog
        ask = self._asks[0] if self._asks else None
        if ask is None:
            self._see_unknown_dialog(dialog)
            return
        if ask.tier >= Tier.SCREEN:
            return
        is_same = dialog is not None and dialog.kind is ask.prompt.kind
        if is_same and dialog is not None and len(self._asks) > 1 and ask.is_seen:
            is_same = dialog.text == ask.dialog  # else the next one of the queue stands there
        if is_same and dialog is not None:
            ask.is_seen, ask.dialog = True, dialog.text
            self._cancel_timer("gone")
            if not ask.prompt.ready and dialog.options:
                self._read_options(ask, dialog)
        elif ask.is_seen and "gone" not in self._timers and (dialog or signal.state):
            self._set_timer("gone", self.timing.settle_ms)

    def _see_unknown_dialog(self, dialog: Dialog | None) -> None:
        """A dialog of which no hook told: it becomes a prompt when it stays."""
        if dialog is None or self._screen.state is AgentState.PROMPT:
            self._cancel_timer("unknown_dialog")
        elif "unknown_dialog" not in self._timers:
            self._set_timer("unknown_dialog", self.timing.settle_ms)

    def _see_retry(self, signal: Signal) -> None:
        if signal.error is not None and signal.error.is_retrying:
            if self.state is AgentState.WORKING:
                self._retry(signal.error, signal.cause)
        elif (
            self.error is not None
            and self.error.is_retrying
            and signal.state
            in (
                AgentState.WORKING,
                AgentState.IDLE,
            )
        ):
            self._retry(None, "screen:recovered")

    def _retry(self, error: AgentError | None, cause: str) -> None:
        had = self.error is not None
        self.error = error
        if had != (error is not None):
            self._become(AgentState.WORKING, self.tier, cause, error)

    def _weigh_together(self) -> None:
        """The log's last words and the input line on the screen: together they are believed."""
        is_calm = (
            self._is_log_calm
            and self._screen.state is AgentState.IDLE
            and self.state is AgentState.WORKING
            and self._calm is None
        )
        if not is_calm:
            self._cancel_timer("together")
        elif "together" not in self._timers:
            self._set_timer("together", self.timing.settle_ms)

    # ---------------------------------------------------------------------------------------------------------- claims

    def _take(self, signal: Signal, hook_id: int | None = None) -> None:
        """Take in one claim."""
        tier = signal.tier or TIERS[signal.source]
        if signal.last_message is not None:
            self.last_message = signal.last_message
        if signal.tool_use_id and signal.tool:
            _remember(self._tools, signal.tool_use_id, (signal.tool, signal.input))
        if signal.turn_started:
            self._awaits_turn = False
            self._end_watch(is_confirmed=True)
        self._end_asks(signal)
        match signal.state:
            case None:
                pass
            case AgentState.PROMPT:
                if signal.prompt is not None:
                    self._take_prompt(signal, signal.prompt, tier, hook_id)
            case AgentState.WORKING if signal.error is not None and signal.error.is_retrying:
                self._claim(AgentState.WORKING, tier, signal.cause)
                if self.state is AgentState.WORKING:
                    self._retry(signal.error, signal.cause)
            case _:
                self._claim(
                    signal.state, tier, signal.cause, signal.error, is_tentative=signal.tentative
                )

    def _claim(
        self,
        state: AgentState,
        tier: int,
        cause: str,
        error: AgentError | None = None,
        *,
        is_tentative: bool = False,
    ) -> None:
        """Weigh a claim of idle, error or working (see the head of this file)."""
        if self.state in OVER or (self._asks and self._asks[0].tier < Tier.SCREEN):
            return
        is_trusted = tier <= self.tier
        if not is_trusted and PRIORITY[state] <= PRIORITY[self.state] and state is not self.state:
            return
        if self._asks:
            self._leave_screen_prompt(tier)
        match state:
            case AgentState.IDLE:
                self._claim_idle(tier, cause, is_tentative=is_tentative)
            case AgentState.WORKING:
                self._drop_calm()
                self._become_working(tier, cause)
            case AgentState.ERROR:
                self._drop_calm()
                if self.state is not AgentState.ERROR or _kind(error) != _kind(self.error):
                    self._become(AgentState.ERROR, tier, cause, error)
            case _:
                if self.state is not state:
                    self._become(state, tier, cause, error)

    def _leave_screen_prompt(self, tier: int) -> None:
        """The dialog is not there any more: who answered it?"""
        self._drop_asks(*self._who())
        self._become(AgentState.WORKING, max(tier, Tier.SCREEN), "screen:answered")

    def _who(self) -> tuple[str, str]:
        """Return who made a dialog on the screen go away, and with which choice."""
        selecting, self._selecting = self._selecting, None
        if selecting is None or not selecting.moves:
            return "terminal", ""
        return selecting.source, selecting.choice

    def _become_working(self, tier: int, cause: str) -> None:
        if self.state is AgentState.WORKING:
            self.tier = min(self.tier, tier)
            if tier < Tier.SCREEN and self.error is not None:
                self._retry(None, cause)
            return
        self._become(AgentState.WORKING, tier, cause)

    def _claim_idle(self, tier: int, cause: str, *, is_tentative: bool) -> None:
        if self.state is AgentState.IDLE:
            self.tier = min(self.tier, tier)
            return
        if self.state is AgentState.ERROR or (self._awaits_turn and tier >= Tier.SCREEN):
            return
        if self._calm is not None:
            self._calm.is_tentative = self._calm.is_tentative and is_tentative
            if tier < self._calm.tier:
                self._calm.tier, self._calm.cause = tier, cause
            return
        self._calm = Calm(tier, cause, is_tentative)
        if self.timing.idle_grace_ms:
            self._set_timer("idle", self.timing.idle_grace_ms)
        else:
            self._settle()

    def _settle(self) -> None:
        """Idleness has stood for the grace."""
        calm, self._calm = self._calm, None
        self._cancel_timer("idle")
        if calm is not None and not self._asks:
            self._become(AgentState.IDLE, calm.tier, calm.cause)

    def _drop_calm(self) -> None:
        if self._calm is not None:
            self._calm = None
            self._cancel_timer("idle")

    def _become(
        self, state: AgentState, tier: int, cause: str, error: AgentError | None = None
    ) -> None:
        """Change the state and tell everyone."""
        prev, self.state = self.state, state
        self.tier, self.cause, self.error = int(tier), cause, error
        self._state_at = self._now
        self._before_silence = None
        if state not in (AgentState.STARTING, *OVER):
            self.is_ready = True
            self._cancel_timer("startup")
        self._cancel_timer("screen_works")
        self.seq += 1
        self.state_seq = self.seq
        if state is AgentState.PROMPT and self._asks:
            self._asks[0].prompt = _replace(self._asks[0].prompt, seq=self.seq)
        self._tell(self._transition(prev))
        if state in (AgentState.WORKING, AgentState.PROMPT) and prev is not state:
            self._end_watch(is_confirmed=True)
        for name, when, length in (
            ("silence", AgentState.WORKING, self.timing.silence_ms),
            ("unknown", AgentState.UNKNOWN, self.timing.unknown_ms),
        ):
            if state is when and length:
                self._set_timer(name, length)
            elif state is not when:
                self._cancel_timer(name)

    def _transition(self, prev: AgentState, cause: str = "") -> Transition:
        return Transition(
            prev=prev,
            next=self.state,
            seq=self.state_seq,
            epoch=self.epoch,
            prompt=self.prompt,
            error=self.error,
            cause=cause or self.cause,
            last_message=self.last_message,
        )

    def _sign_of_life(self, *, is_output: bool) -> None:
        self._alive_at = self._now
        if self._before_silence is not None and is_output:
            self._become(AgentState.WORKING, self._before_silence, "output")

    # --------------------------------------------------------------------------------------------------------- prompts

    def _take_prompt(self, signal: Signal, prompt: Prompt, tier: int, hook_id: int | None) -> None:
        found = self._find_ask(prompt, hook_id)
        if found is not None:
            self._refine(found, prompt, tier, hook_id)
            return
        is_notice = tier < Tier.SCREEN and not prompt.tool
        if is_notice and (self._asks or self._tools_answered()):
            return  # the hook of that very dialog has spoken; if it has not, the screen will show it
        if self._asks and (tier >= Tier.SCREEN or self._asks[0].tier >= Tier.SCREEN):
            if tier >= Tier.SCREEN and self._asks[0].tier < Tier.SCREEN:
                return
            self._drop_asks(*self._who())
        tool_use_id = signal.tool_use_id or self._tool_use(prompt)
        ask = Ask(prompt=prompt, tier=tier, hook_id=hook_id, tool_use_id=tool_use_id)
        self._asks.append(ask)
        self._drop_calm()
        if ask is self._asks[0]:
            self._show_first(signal.cause, tier)

    def _tools_answered(self) -> bool:
        """Whether this turn had a prompt by hook before: then its notice may be late."""
        return self._answered_turn == self._turn and bool(self._turn)

    def _show_first(self, cause: str, tier: int) -> None:
        self._selecting = None
        self._cancel_timer("gone")
        self._become(AgentState.PROMPT, tier, cause)
        ask = self._asks[0]
        if not ask.prompt.ready:
            self._look_for_options()
        if ask.tier >= Tier.SCREEN:
            self._consider_dismissal()

    def _find_ask(self, prompt: Prompt, hook_id: int | None) -> Ask | None:
        for ask in self._asks:
            known = ask.prompt
            is_same = (known.kind, known.subtype, known.tool) == (
                prompt.kind,
                prompt.subtype,
                prompt.tool,
            )
            if not is_same or (prompt.input != known.input and (prompt.tool or not prompt.subtype)):
                continue
            if hook_id is not None and ask.hook_id is not None:
                continue  # the same question asked twice at a time
            return ask
        return None

    def _refine(self, ask: Ask, prompt: Prompt, tier: int, hook_id: int | None) -> None:
        """The same dialog, told of again: by a hook that can answer, or with other options."""
        ask.tier = min(ask.tier, tier)
        before = ask.prompt
        if hook_id is not None:
            ask.hook_id = hook_id
            ask.prompt = _replace(prompt, seq=before.seq)
        elif tier >= Tier.SCREEN and prompt.options and prompt.options != before.options:
            ask.prompt = _replace(before, options=prompt.options, input=prompt.input)
        if ask is self._asks[0] and ask.prompt != before:
            self._cancel_timer("options")
            self._tell_prompt("ready")

    def _tool_use(self, prompt: Prompt) -> str:
        """Return the id of the latest use of this tool with this input."""
        for tool_use_id, use in reversed(self._tools.items()):
            if use == (prompt.tool, prompt.input):
                return tool_use_id
        return ""

    def _end_asks(self, signal: Signal) -> None:
        if signal.ends is Ends.NOTHING or not self._asks:
            return
        if signal.ends is Ends.TURN:
            over = [ask for ask in self._asks if ask.tier < Tier.SCREEN]
        else:
            over = [ask for ask in self._asks if self._is_about(signal, ask)][:1]
        source = "turn" if signal.ends is Ends.TURN else "terminal"
        self._close(over, source, working_cause=signal.cause)

    def _is_about(self, signal: Signal, ask: Ask) -> bool:
        """Whether a finished tool use is the one that the prompt was about."""
        if ask.tier >= Tier.SCREEN:
            return False
        if signal.tool_use_id and ask.tool_use_id:
            return signal.tool_use_id == ask.tool_use_id
        if not ask.prompt.tool:
            return True  # a notice names no tool
        tool, tool_input = signal.tool, signal.input
        if not tool:
            tool, tool_input = self._tools.get(signal.tool_use_id, ("", ""))
        if tool != ask.prompt.tool:
            return False
        return ask.prompt.kind is not PromptKind.PERMISSION or tool_input == ask.prompt.input

    def _close(self, over: list[Ask], source: str, *, working_cause: str, choice: str = "") -> None:
        """End prompts; the next in the queue is shown, or the agent is at work again."""
        if not over:
            return
        was_first = self._asks[0] in over
        for ask in over:
            self._asks.remove(ask)
            self._let_go(ask, source, choice)
        if not was_first or self.state is not AgentState.PROMPT:
            return
        self._cancel_timer("options")
        self._cancel_timer("gone")
        if self._asks:
            self._show_first("queue", self._asks[0].tier)
        else:
            self._become(
                AgentState.WORKING, Tier.SCREEN if source == "screen" else Tier.HOOK, working_cause
            )

    def _drop_asks(self, source: str, choice: str = "") -> None:
        """End all prompts without a word about the state."""
        over, self._asks = self._asks, []
        for ask in over:
            self._let_go(ask, source, choice)
        for name in ("options", "gone", "dismiss", "select"):
            self._cancel_timer(name)

    def _let_go(self, ask: Ask, source: str, choice: str) -> None:
        if ask.hook_id is not None:
            self._out.append(HookReply(ask.hook_id))
            ask.hook_id = None
        if ask.prompt.seq:
            if ask.tier < Tier.SCREEN:
                self._answered_turn = self._turn
            self.seq += 1
            self._tell(
                PromptOutcome(
                    source="terminal" if source == "screen" else source,
                    type=str(ask.prompt.kind),
                    prompt_seq=ask.prompt.seq,
                    seq=self.seq,
                    subtype=ask.prompt.subtype,
                    channel=str(ask.prompt.channel),
                    choice=choice,
                )
            )

    def _tell_prompt(self, cause: str) -> None:
        """Tell the open prompt again, in the same instance."""
        self._tell(self._transition(AgentState.PROMPT, cause))

    # --------------------------------------------------------------------------------------------------------- options

    def _look_for_options(self) -> None:
        self._out.append(ReadScreen())
        self._set_timer("options", self.timing.options_poll_ms)

    def _options_due(self) -> None:
        ask = self._asks[0] if self._asks else None
        if ask is None or ask.prompt.ready:
            return
        ask.tries += 1
        if ask.tries <= self.timing.options_tries:
            self._look_for_options()
            return
        # Without options only the simplest of dialogs can be answered by keys.
        if ask.prompt.kind in (PromptKind.PERMISSION, PromptKind.PLAN):
            changes: dict[str, object] = {"options": FALLBACK, "options_fallback": True}
        else:
            changes = {"channel": Channel.NONE}
        ask.prompt = _replace(ask.prompt, ready=True, **changes)
        self._tell_prompt("ready")

    def _read_options(self, ask: Ask, dialog: Dialog) -> None:
        ask.prompt = _replace(ask.prompt, ready=True, options=dialog.options)
        self._cancel_timer("options")
        self._tell_prompt("ready")

    # ------------------------------------------------------------------------------------------------- start-up dialogs

    def _consider_dismissal(self) -> None:
        dialog = self._screen.dialog
        if dialog is not None and self.driver.dismiss(dialog, self._accept_dialogs):
            self._set_timer("dismiss", self.timing.dismiss_delay_ms)

    def _dismiss_due(self) -> None:
        dialog = self._screen.dialog
        ask = self._asks[0] if self._asks else None
        if ask is None or dialog is None or dialog.name != ask.prompt.subtype or self._selecting:
            return
        option = self.driver.dismiss(dialog, self._accept_dialogs)
        if option:
            label = dialog.options[option - 1] if option > 0 else "Enter"
            self._select(dialog.name, option, "groom", label)

    def _select(self, name: str, option: int, source: str, choice: str) -> None:
        self._selecting = Selecting(name=name, option=option, source=source, choice=choice)
        self._set_timer("select", 0)

    def _step_selection(self, dialog: Dialog) -> None:
        """Make one move: never a second one before the first is seen, never Enter on a picture seen only once."""
        selecting = self._selecting
        if selecting is None or self._keyboard.under_way or self._now < selecting.may_move_at:
            return
        if dialog.name != selecting.name:
            return  # another dialog now: that one starts anew
        has_moved = dialog.selected != selecting.was_selected
        if selecting.moves and not has_moved and self._now < selecting.may_move_at + 5 * MOVE_MS:
            self._set_timer("select", MOVE_MS)
            return
        is_there = dialog.selected == selecting.option or not dialog.options
        if is_there and not selecting.is_steady:
            selecting.is_steady = True
            selecting.may_move_at = self._now + MOVE_MS
            self._set_timer("select", MOVE_MS)
            return
        selecting.is_steady = False
        keys = self.driver.select(dialog, selecting.option)
        if not keys or selecting.moves >= MOVES:
            self._out.append(
                Note(f"the dialog {dialog.name} does not follow the keys: left to a person")
            )
            self._selecting = None
            return
        selecting.moves += 1
        selecting.was_selected = dialog.selected
        selecting.may_move_at = self._now + MOVE_MS
        self._keyboard.push(Typing(Purpose.SELECT, keys))

    # --------------------------------------------------------------------------------------------------------- answers

    def _respond(self, ask_for: Respond) -> None:
        prompt = self.prompt
        if not self._may_type(ask_for.request_id, can=self._can_answer()):
            return
        if ask_for.prompt_seq is not None and (prompt is None or prompt.seq != ask_for.prompt_seq):
            now_open = f"prompt {prompt.seq}" if prompt is not None else "none"
            message = (
                f"answer prompt {ask_for.prompt_seq}: it is no longer open (open now: {now_open})"
            )
            self._refuse(ask_for.request_id, 409, "STALE_PROMPT", message)
            return
        self._answer(ask_for.request_id, ask_for.answer, {})

    def _can_answer(self) -> bool:
        can = self.driver.capabilities
        return can.answer_permission or can.answer_plan or can.answer_question

    def _answer(self, request_id: int, answer: Answer, more: Mapping[str, object]) -> None:
        """Send an answer to the open prompt on its way and tell the caller."""
        ask = self._asks[0] if self._asks else None
        if ask is None:
            none = {"delivered": False, "prompt_type": None, "reason": "no prompt is open"}
            self._reply(request_id, 200, {**none, **more})
            return
        prompt = ask.prompt
        delivery = self.driver.answer(prompt, answer, self._pacing)
        if ask.is_answering:
            delivery = Refusal("another answer to this prompt is being typed")
        body: dict[str, object] = {
            "delivered": True,
            "prompt_type": str(prompt.kind),
            "prompt_seq": prompt.seq,
            **more,
        }
        match delivery:
            case Refusal(reason=reason):
                self._reply(request_id, 200, {**body, "delivered": False, "reason": reason})
            case HookAnswer(body=text, choice=choice):
                if ask.hook_id is None:
                    self._reply(
                        request_id, 200, {**body, "delivered": False, "reason": "its hook is gone"}
                    )
                    return
                self._out.append(HookReply(ask.hook_id, text))
                ask.hook_id = None
                self._reply(request_id, 200, body)
                self._close([ask], "api", working_cause="api:answered", choice=choice)
            case KeyAnswer(keys=keys, choice=choice):
                ask.is_answering = True
                self._keyboard.push(
                    Typing(
                        Purpose.ANSWER,
                        keys,
                        request_id=request_id,
                        prompt_seq=prompt.seq,
                        choice=choice,
                    )
                )
            case SelectAnswer(option=option, choice=choice):
                self._reply(request_id, 200, body)
                self._select(prompt.subtype, option, "api", choice)

    def _answer_typed(self, typing: Typing, *, is_written: bool) -> None:
        ask = self._asks[0] if self._asks else None
        is_open = ask is not None and ask.prompt.seq == typing.prompt_seq
        if ask is not None and is_open:
            ask.is_answering = False
        if typing.request_id is not None:
            body = {"delivered": is_written, "prompt_type": str(ask.prompt.kind) if ask and is_open else None,
                    "prompt_seq": typing.prompt_seq}  # fmt: skip
            self._reply(typing.request_id, 200, body)
        if ask is not None and is_open and is_written:
            # Should the dialog still stand, it becomes a prompt anew.
            self._close([ask], "api", working_cause="api:answered", choice=typing.choice)
            if self.state is AgentState.WORKING:
                self.tier = int(Tier.SCREEN)  # typed, not confirmed: what is seen next counts

    # -------------------------------------------------------------------------------------------------------- messages

    def _nudge(self, nudge: Nudge) -> None:
        if not self._may_type(nudge.request_id, can=self.driver.capabilities.nudge):
            return
        prompt = self.prompt
        before = {"state_before": str(self.state)}
        if prompt is not None and prompt.kind in (PromptKind.QUESTION, PromptKind.PLAN):
            answer = Answer(text=nudge.message)
            if prompt.kind is PromptKind.QUESTION and len(prompt.questions) == 1:
                answer = Answer(answers=(QuestionAnswer(text=nudge.message),))
            self._answer(nudge.request_id, answer, before)
            return
        refusal = self._why_not_type()
        if refusal:
            self._reply(nudge.request_id, 200, {"delivered": False, **before, "reason": refusal})
            return
        keys = self.driver.nudge(nudge.message, self._pacing)
        self._keyboard.push(
            Typing(
                Purpose.NUDGE,
                keys,
                request_id=nudge.request_id,
                message=nudge.message,
                wait_ms=nudge.wait_ms,
            )
        )

    def _why_not_type(self) -> str:
        """Return why a message must not be typed now, "" if it may."""
        prompt = self.prompt
        if prompt is not None and prompt.subtype == "oauth_login":
            return ""
        if prompt is not None:
            return f"the agent waits for an answer to a {prompt.kind} prompt"
        if self._screen.dialog is not None:
            return "a dialog is open in the agent"
        if self.state not in TYPABLE:
            return f"the agent is {self.state}"
        return ""

    def _may_type(self, request_id: int, *, can: bool) -> bool:
        if self.state in OVER:
            self._refuse(request_id, 410, "EXITED", f"the agent is {self.state}")
        elif not can:
            message = f"the driver {self.driver.name} cannot do that: use input"
            self._refuse(request_id, 404, "NO_DRIVER", message)
        elif not self.is_ready:
            self._refuse(request_id, 503, "NOT_READY", "the agent is still starting")
        else:
            return True
        return False

    def _pump(self) -> None:
        """Type what is next, if it may still be typed."""
        while (due := self._keyboard.due_at()) is not None:
            if due > self._now:
                if self._timers.get("type") != due:
                    self._set_timer("type", due - self._now)
                return
            typing = self._keyboard.pop()
            if self._is_obsolete(typing):
                continue
            delivery_id = self._keyboard.begin(typing)
            if typing.purpose in (Purpose.NUDGE, Purpose.ANSWER):
                self._end_watch(is_confirmed=None)
            self._out.append(TypeKeys(delivery_id, typing.keys))

    def _is_obsolete(self, typing: Typing) -> bool:
        match typing.purpose:
            case Purpose.NUDGE:
                reason = self._why_not_type()
                if reason and typing.request_id is not None:
                    body = {"delivered": False, "state_before": str(self.state), "reason": reason}
                    self._reply(typing.request_id, 200, body)
                return bool(reason)
            case Purpose.ANSWER:
                prompt = self.prompt
                if prompt is not None and prompt.seq == typing.prompt_seq:
                    return False
                if typing.request_id is not None:
                    body = {
                        "delivered": False,
                        "prompt_type": None,
                        "reason": "the prompt is no longer open",
                    }
                    self._reply(typing.request_id, 200, body)
                return True
            case Purpose.ENTER:
                return bool(self._why_not_type())
            case Purpose.SELECT:
                return self._selecting is None

    def _keys_typed(self, typed: KeysTyped) -> None:
        typing = self._keyboard.end(typed.delivery_id, self._now)
        if typing is None:
            return
        match typing.purpose:
            case Purpose.NUDGE:
                self._nudge_typed(typing, is_written=typed.is_written)
            case Purpose.ANSWER:
                self._answer_typed(typing, is_written=typed.is_written)
            case Purpose.SELECT:
                self._set_timer("select", MOVE_MS)
            case Purpose.ENTER:
                pass

    def _nudge_typed(self, typing: Typing, *, is_written: bool) -> None:
        body: dict[str, object] = {"delivered": is_written, "state_before": str(self.state)}
        if not is_written:
            body["reason"] = "the terminal did not take it"
        waits = is_written and typing.wait_ms > 0
        if typing.request_id is not None and not waits:
            self._reply(typing.request_id, 200, body)
        if not is_written:
            return
        self._watch = Watch(typing.request_id if waits else None, self.state)
        if self.timing.nudge_timeout_ms and self.driver.capabilities.hooks:
            self._set_timer("enter", self.timing.nudge_timeout_ms)
        if waits:
            self._set_timer("confirm", typing.wait_ms)

    def _enter_due(self) -> None:
        """No reaction to a message: perhaps Enter was swallowed. Once more, then never again."""
        if self._watch is not None and not self._watch.has_repeated:
            self._watch.has_repeated = True
            if not self._why_not_type():
                self._keyboard.push(Typing(Purpose.ENTER, self.driver.nudge("", self._pacing)[-1:]))

    def _end_watch(self, *, is_confirmed: bool | None) -> None:
        watch, self._watch = self._watch, None
        if watch is None:
            return
        self._cancel_timer("enter")
        self._cancel_timer("confirm")
        if watch.request_id is not None:
            body = {"delivered": True, "state_before": str(watch.state_before)}
            self._reply(watch.request_id, 200, {**body, "confirmed": is_confirmed is True})

    # ---------------------------------------------------------------------------------------------------- stop and start

    def _resolve(self, resolve: Resolve) -> None:
        problem = gate.check_resolve(self.stop, resolve.body)
        if problem:
            self.seq += 1
            self._tell(StopOutcome("rejected", self.seq, resolve.body, problem))
            self._reply(resolve.request_id, 422, {"error": problem})
            return
        is_open = gate.opens(self.stop, resolve.body)
        if is_open:
            self._resolved = resolve.body
        self._reply(resolve.request_id, 200, {"accepted": True, "opens": is_open})

    def _foreign_stop(self, asked: StopHookAsked) -> None:
        verdict = self._stop("hook:stop", is_second=asked.data.get("stop_hook_active") is True)
        body: dict[str, object] = {}
        if verdict.is_blocked:
            body = {"decision": "block", "reason": verdict.reason}
        if self.last_message is not None:
            body["last_message"] = self.last_message
        self._reply(asked.request_id, 200, body)

    def _foreign_start(self, asked: StartHookAsked) -> None:
        source = asked.data.get("source") or asked.data.get("session_type")
        script = self._started(source if isinstance(source, str) else "unknown", None)
        self._reply(asked.request_id, 200, {"script": script})

    def _configure(self, what: SetStop | SetStart) -> None:
        try:
            match what:
                case SetStop():
                    self.stop = gate.read_stop(what.config)
                case SetStart():
                    self.start = gate.read_start(what.config)
        except Rejected as exc:
            self._refuse(what.request_id, 400, "BAD_REQUEST", exc.message)
        else:
            self._reply(what.request_id, 200, {"updated": True})

    # ---------------------------------------------------------------------------------------------------------- timers

    def _set_timer(self, name: str, after_ms: int) -> None:
        self._timers[name] = self._now + after_ms
        self._out.append(SetTimer(name, self._now + after_ms))

    def _cancel_timer(self, name: str) -> None:
        if self._timers.pop(name, None) is not None:
            self._out.append(CancelTimer(name))

    def _timer_fired(self, name: str) -> None:  # noqa: C901, PLR0912 - one case for each timer
        if name not in self._timers or self._now < self._timers[name]:
            return
        del self._timers[name]
        match name:
            case "idle":
                self._settle()
            case "options":
                self._options_due()
            case "dismiss":
                self._dismiss_due()
            case "select":
                if self._selecting is not None:
                    self._out.append(ReadScreen())
            case "gone":
                if self._asks:
                    self._close(self._asks[:1], "screen", working_cause="screen:answered")
                    self._out.append(ReadScreen())
            case "unknown_dialog":
                self._open_from_screen()
            case "screen_works":
                if self._screen.state is AgentState.WORKING:
                    self._take(self._screen_signal(AgentState.WORKING))
            case "together" if self._is_log_calm and self._screen.state is AgentState.IDLE:
                self._is_log_calm = False
                self._claim(AgentState.IDLE, Tier.HOOK, "log+screen:idle")
            case "quiet" if self._screen.state in (None, AgentState.IDLE):
                self._claim(AgentState.IDLE, Tier.SCREEN, "screen:quiet")
            case "enter":
                self._enter_due()
            case "confirm":
                self._end_watch(is_confirmed=False)
            case "startup":
                self._awaits_turn = False
                self._stalled("startup", self.timing.startup_ms)
            case "silence":
                self._silence_due()
            case "unknown":
                self._stalled("unknown", self._now - self._state_at)
            case _:
                pass  # "type": the queue of deliveries is looked at after every input

    def _silence_due(self) -> None:
        left = self._alive_at + self.timing.silence_ms - self._now
        if left > 0 or (self.error is not None and self.error.is_retrying):
            self._set_timer("silence", max(left, 1000))
            return
        self._stalled("silence", self._now - self._alive_at)
        before = self.tier
        self._become(AgentState.UNKNOWN, Tier.NONE, "silence")
        self._before_silence = before

    def _stalled(self, kind: str, age_ms: int) -> None:
        self.seq += 1
        self._tell(Stalled(kind, self.state, age_ms, self.seq))

    def _open_from_screen(self) -> None:
        dialog = self._screen.dialog
        if dialog is None or self._asks or self.state in OVER:
            return
        is_ready = dialog.kind is not PromptKind.QUESTION
        prompt = Prompt(
            kind=dialog.kind,
            input=dialog.text,
            options=dialog.options,
            channel=Channel.KEYS if is_ready else Channel.NONE,
        )
        cause = f"screen:{dialog.kind}"
        self._take_prompt(Signal(source=Source.SCREEN, cause=cause), prompt, Tier.SCREEN, None)

    # --------------------------------------------------------------------------------------------------------- outputs

    def _tell(self, event: Event) -> None:
        self._out.append(Broadcast(event))

    def _reply(self, request_id: int, status: int, body: Mapping[str, object]) -> None:
        self._out.append(ApiReply(request_id, status, body))

    def _refuse(self, request_id: int, status: int, code: str, message: str) -> None:
        self._reply(request_id, status, {"error": {"code": code, "message": message}})

    def _make_pacing(self, *, bracketed_paste: bool) -> Pacing:
        return Pacing(
            delay_ms=self.timing.input_delay_ms,
            per_byte_ms=self.timing.input_delay_per_byte_ms,
            max_ms=self.timing.input_delay_max_ms,
            bracketed_paste=bracketed_paste,
        )


def _remember(known: dict[str, Value], key: str, value: Value) -> None:
    """Keep the latest things, and not more than so many."""
    known.pop(key, None)
    known[key] = value
    while len(known) > REMEMBERED:
        del known[next(iter(known))]


def _replace(value: Value, **changes: object) -> Value:
    return msgspec.structs.replace(value, **changes)  # type: ignore[type-var]  # frozen structs only


def _kind(error: AgentError | None) -> object:
    return None if error is None else error.category


def _greatest(a: Usage, b: Usage) -> Usage:
    return Usage(*map(max, msgspec.structs.astuple(a), msgspec.structs.astuple(b)))


def _sum(total: Usage, before: Usage, after: Usage) -> Usage:
    parts = zip(*(msgspec.structs.astuple(usage) for usage in (total, before, after)), strict=True)
    return Usage(*(whole - old + new for whole, old, new in parts))
