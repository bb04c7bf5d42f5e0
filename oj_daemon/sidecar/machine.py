"""Signals by trust -> the state of the agent; hooks, answers, messages and deadlines.

Rule: pure. `handle(input, now)` is the only door; it returns what to do, in order. Nothing here reads a clock, and
nothing outside changes what is in here. The decisions about an agent are the daemon's: this only knows and reports.

This file lets each witness speak and hands what it says on: the state is weighed in standing.py, prompts are kept in
prompts.py, what is typed in messages.py. Only where witnesses must be weighed against each other is it done here:
the log's last words and the input line on the screen, together, outweigh a stop hook that never came.
"""

from __future__ import annotations

import msgspec

from oj_daemon.drivers.base import (
    TIERS,
    AgentError,
    AgentState,
    Driver,
    Ends,
    Json,
    Need,
    Prompt,
    Signal,
    Source,
    Tier,
    Usage,
    UsageEntry,
)
from oj_daemon.errors import Rejected
from oj_daemon.sidecar import gate
from oj_daemon.sidecar.desk import Desk
from oj_daemon.sidecar.keyboard import Keyboard
from oj_daemon.sidecar.messages import Messages
from oj_daemon.sidecar.prompts import Prompts
from oj_daemon.sidecar.standing import Standing, screen_work
from oj_daemon.sidecar.turns import Turns
from oj_daemon.sidecar.values import (
    Broadcast,
    ChildExited,
    ChildStarted,
    Exit,
    FollowLog,
    HookCalled,
    HookClosed,
    Input,
    InputSeen,
    KeysTyped,
    LogLine,
    Nudge,
    Output,
    OutputSeen,
    Resolve,
    Respond,
    Restarting,
    SaveTranscript,
    ScreenSeen,
    SetStart,
    SetStop,
    StartHookAsked,
    StartOutcome,
    StopHookAsked,
    StopOutcome,
    TimerFired,
    Timing,
    UsageChanged,
)


class Machine:
    """The state of one agent. Starts in `starting`; give it ChildStarted when the program runs."""

    def __init__(self, driver: Driver, timing: Timing, stop: Json, start: Json) -> None:
        """`stop` and `start` are the sections of the agent configuration file; Rejected when they make no sense."""
        self.driver = driver
        self.timing = timing
        self.stop = gate.read_stop(stop)
        self.start = gate.read_start(start)
        self.usage = Usage()
        self.session_id = ""
        self.transcript_path = ""
        self._desk = Desk(timing)
        self._standing = Standing(self._desk)
        keyboard = Keyboard(timing.input_delay_ms)
        self._prompts = Prompts(self._desk, self._standing, driver, keyboard)
        self._messages = Messages(self._desk, self._standing, self._prompts, driver, keyboard)
        self._usages: dict[str, Usage] = {}
        self._resolved: Json | None = None
        self._past_sessions: set[str] = set()
        self._begin_child(ChildStarted())

    def _begin_child(self, child: ChildStarted) -> None:
        """Forget what belongs to the last child."""
        self._turns = Turns()
        has_turns = self.driver.capabilities.hooks
        self._standing.begin_child(has_turns=has_turns, awaits_turn=has_turns and child.has_prompt)
        self._prompts.begin_child(self._turns, child.accept_dialogs)
        self._desk.screen = Signal(source=Source.SCREEN)
        self._is_log_calm = False
        self._lines: tuple[str, ...] = ()

    # -------------------------------------------------------------------------------------------------- what is known

    @property
    def state(self) -> AgentState:
        """The state that everyone was told."""
        return self._standing.state

    @property
    def state_seq(self) -> int:
        """The number of the last transition."""
        return self._standing.seq

    @property
    def seq(self) -> int:
        """The number of the last event of any kind."""
        return self._desk.seq

    @property
    def epoch(self) -> int:
        """How many children there have been."""
        return self._desk.epoch

    @property
    def tier(self) -> int:
        """How far the source of the state is trusted."""
        return self._standing.tier

    @property
    def is_ready(self) -> bool:
        """Whether anything has been known of this child."""
        return self._standing.is_ready

    @property
    def error(self) -> AgentError | None:
        """The error that holds, or is being retried."""
        return self._standing.error

    @property
    def prompt(self) -> Prompt | None:
        """The prompt that is open."""
        return self._standing.prompt

    @property
    def last_message(self) -> str | None:
        """What the agent said last."""
        return self._standing.last_message

    @property
    def is_idle_pending(self) -> bool:
        """Whether idleness has been seen and will be told soon unless something happens."""
        return self._standing.calm is not None

    def view(self) -> dict[str, object]:
        """Return what GET agent says, but for the shapes of prompt and error (`prompt`, `error` are values here)."""
        return {
            "session_id": self.session_id,
            "state": str(self.state),
            "since_seq": self.state_seq,
            "detection_tier": "none" if self.tier == Tier.NONE else str(int(self.tier)),
            "detection_cause": self._standing.cause,
            "prompt": self.prompt,
            "error": self.error,
            "last_message": self.last_message,
            "idle_pending": self.is_idle_pending,
            "epoch": self.epoch,
            "transcript_path": self.transcript_path,
        }

    def snapshot(self) -> Output:
        """Return the synthetic transition for a new subscriber."""
        return Broadcast(self._standing.transition(self.state, cause=""))

    # ----------------------------------------------------------------------------------------------------------- front

    def handle(self, what: Input, now: int) -> list[Output]:  # noqa: C901, PLR0912 - one match over a closed union
        """Take in what happened at `now` (monotonic milliseconds) and return what to do."""
        self._desk.now = now
        self._desk.out = []
        match what:
            case HookCalled():
                self._hook_called(what)
            case HookClosed(hook_id=hook_id):
                self._prompts.hook_closed(hook_id)
            case LogLine():
                self._log_line(what)
            case ScreenSeen():
                self._screen_seen(what)
            case OutputSeen():
                self._standing.sign_of_life(is_output=True)
            case TimerFired(name=name):
                if self._desk.take_due(name):
                    self._timer_due(name)
            case KeysTyped():
                self._messages.typed(what)
            case InputSeen():
                self._messages.end_watch(is_confirmed=False)
            case Nudge():
                self._messages.nudge(what)
            case Respond():
                self._messages.respond(what)
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
                self._end_child()
                self._standing.become(AgentState.RESTARTING, Tier.NONE, "restart")
                self._standing.is_ready = False
        self._messages.pump()
        return self._desk.out

    def _timer_due(self, name: str) -> None:  # noqa: C901, PLR0912 - one case for each timer
        match name:
            case "idle":
                self._standing.settle()
            case "silence":
                self._standing.silence_due()
            case "unknown":
                self._standing.unknown_due()
            case "startup":
                self._standing.startup_due()
            case "options":
                self._prompts.options_due()
            case "dismiss":
                self._prompts.dismiss_due()
            case "select":
                self._prompts.select_due()
            case "gone":
                self._prompts.gone_due()
            case "unknown_dialog":
                self._prompts.unknown_dialog_due()
            case "enter":
                self._messages.enter_due()
            case "confirm":
                self._messages.end_watch(is_confirmed=False)
            case "screen_works":
                if self._desk.screen.state is AgentState.WORKING:
                    self._take(screen_work(self._desk.screen))
            case "together":
                if self._is_log_calm and self._desk.screen.state is AgentState.IDLE:
                    self._is_log_calm = False
                    self._standing.claim(AgentState.IDLE, Tier.HOOK, "log+screen:idle")
            case "quiet":
                if self._desk.screen.state in (None, AgentState.IDLE):
                    self._standing.claim(AgentState.IDLE, Tier.SCREEN, "screen:quiet")
            case _:
                pass  # "type": the queue of deliveries is looked at after every input

    def _take(self, signal: Signal, hook_id: int | None = None) -> None:
        """Hand a claim on to where it belongs."""
        tier = signal.tier or TIERS[signal.source]
        standing = self._standing
        if signal.last_message is not None:
            standing.last_message = signal.last_message
        self._turns.use(signal)
        if signal.turn_started:
            standing.awaits_turn = False
            standing.had_turn = True
            self._messages.arrived()
        self._prompts.end_by(signal)
        if signal.prompt is not None:
            self._prompts.open(signal, signal.prompt, tier, hook_id)
        elif signal.state is not None:
            standing.claim(
                signal.state, tier, signal.cause, signal.error, is_tentative=signal.tentative
            )

    # ----------------------------------------------------------------------------------------------------------- child

    def _child_started(self, child: ChildStarted) -> None:
        self._end_child()
        self._desk.epoch += 1
        self._begin_child(child)
        self._standing.is_ready = False
        if self.state is not AgentState.STARTING:
            self._standing.become(AgentState.STARTING, Tier.NONE, "started")
        if child.session_id and child.session_id != self.session_id:
            self._change_session(child.session_id)
        if child.transcript_path:
            self._follow(child.transcript_path)
        if self.timing.startup_ms:
            self._desk.set_timer("startup", self.timing.startup_ms)

    def _child_exited(self, child: ChildExited) -> None:
        if self.state is AgentState.EXITED:
            return
        self._end_child()
        standing, desk = self._standing, self._desk
        prev, standing.state = standing.state, AgentState.EXITED
        standing.tier, standing.cause, standing.error = int(Tier.PROCESS), "exit", None
        standing.seq = desk.next_seq()
        desk.tell(Exit(child.code, child.signal, prev, standing.seq, desk.epoch))

    def _end_child(self) -> None:
        """Let go of everything that waits for the child that is going or gone."""
        self._prompts.drop_all("exit")
        self._messages.drop_all()
        self._standing.drop_calm()
        self._desk.cancel_timers()

    def _change_session(self, session_id: str) -> None:
        if self.session_id:
            self._past_sessions.add(self.session_id)
        self._past_sessions.discard(session_id)
        self.session_id = session_id

    def _follow(self, path: str) -> None:
        self.transcript_path = path
        self._desk.out.append(FollowLog(path, self.session_id))

    # ----------------------------------------------------------------------------------------------------------- hooks

    def _hook_called(self, hook: HookCalled) -> None:
        desk, turns = self._desk, self._turns
        if hook.event == gate.PRIME_FAILED:
            desk.note(f"prime: {hook.payload.get('message', 'failed')}")
            desk.let_go(hook.hook_id)
            return
        signal = self.driver.read_hook(hook.event, hook.payload)
        is_late_notice = (
            signal.prompt is not None and not signal.tool and turns.is_over(signal.turn_id)
        )
        if self._standing.is_over or not self._is_of_session(signal) or is_late_notice:
            desk.let_go(hook.hook_id)
            return
        self._standing.sign_of_life(is_output=False)
        turns.hooked(signal.tool_use_id)
        if signal.turn_started:
            turns.submit(signal.turn_id)
        is_active = signal.state in (AgentState.WORKING, AgentState.PROMPT)
        if is_active or signal.need is Need.STOP:
            self._is_log_calm = False
            turns.open(signal.turn_id)
        match signal.need:
            case Need.START:
                self._standing.drop_calm()
                script = self._started(signal.start_source, signal)
                desk.let_go(hook.hook_id, script, self.timing.prime_seconds if script else 0)
                self._take(signal)
            case Need.STOP:
                self._take(signal)
                verdict = self._stop(signal.cause, is_second=signal.is_second_stop)
                desk.let_go(hook.hook_id, self.driver.stop_reply(verdict.reason))
            case Need.ANSWER:
                self._take(signal, hook.hook_id)
                if not self._prompts.waits(hook.hook_id):
                    desk.let_go(hook.hook_id)
            case Need.NOTHING:
                desk.let_go(hook.hook_id)
                self._take(signal)
                if signal.state is AgentState.ERROR:
                    turns.end(signal.turn_id)

    def _is_of_session(self, signal: Signal) -> bool:
        """Return whether a hook speaks of the session that runs now; follow the session when it changes."""
        is_start = signal.need is Need.START
        if signal.session_id in self._past_sessions and not is_start:
            return False
        if signal.session_id and signal.session_id != self.session_id:
            self._change_session(signal.session_id)
        if signal.transcript_path and signal.transcript_path != self.transcript_path:
            self._follow(signal.transcript_path)
        return True

    def _stop(self, cause: str, *, is_second: bool) -> gate.Verdict:
        """Decide about an attempt to end the turn."""
        verdict = gate.verdict(self.stop, self.error, self._resolved, is_second=is_second)
        if verdict.type == "signaled":
            self._resolved = None
        desk, standing = self._desk, self._standing
        desk.tell(StopOutcome(verdict.type, desk.next_seq(), verdict.signal, verdict.error_detail))
        if not verdict.is_blocked:
            self._stopped(cause)
        elif not standing.is_over:
            self._is_log_calm = False
            standing.drop_calm()
            if standing.prompt is None:
                standing.work(Tier.HOOK, "stop:blocked")
        return verdict

    def _stopped(self, cause: str) -> None:
        """The turn is over. A message that was accepted meanwhile begins the next one, and no hook will say so."""
        self._turns.end(self._turns.current)
        if self._turns.take_queued():
            # Should it have been read within the turn that ended, log and screen will say that all is calm.
            self._is_log_calm = True
        else:
            self._standing.claim(AgentState.IDLE, Tier.HOOK, cause)

    def _started(self, source: str, signal: Signal | None) -> str:
        """Return the script for a session that starts."""
        desk = self._desk
        if source == "clear":
            self._standing.last_message = None
        if source == "compact":
            desk.out.append(SaveTranscript())
        script = gate.start_script(self.start, source)
        desk.tell(
            StartOutcome(
                source=source,
                injected=bool(script),
                seq=desk.next_seq(),
                session_id=signal.session_id if signal else "",
                transcript_path=signal.transcript_path if signal else "",
            )
        )
        return script

    # ------------------------------------------------------------------------------------------------------------- log

    def _log_line(self, line: LogLine) -> None:
        for signal in self.driver.read_log(line.text):
            if signal.usage is not None:
                self._add_usage(signal.usage, is_old=line.is_old)
            if line.is_old:
                self._standing.last_message = signal.last_message or self.last_message
            elif not self._standing.is_over:
                self._take_log(signal)

    def _take_log(self, signal: Signal) -> None:
        turns = self._turns
        if signal.turn_id:
            turns.of_log = signal.turn_id
        if signal.state is None or turns.is_old_news(signal):
            return
        self._standing.sign_of_life(is_output=False)
        if signal.state is not AgentState.IDLE:
            turns.open(turns.of_log)
        self._is_log_calm = signal.state is AgentState.IDLE
        self._take(signal)
        if signal.is_turn_over or (signal.state is AgentState.IDLE and signal.ends is Ends.TURN):
            turns.end(turns.of_log)

    def _add_usage(self, entry: UsageEntry, *, is_old: bool) -> None:
        before = self._usages.get(entry.key, Usage())
        after = _greatest(before, entry.usage)
        if after == before:
            return
        self._usages[entry.key] = after
        self.usage = _add(self.usage, before, after)
        if not is_old:
            self._desk.tell(UsageChanged(self.usage, self._desk.next_seq()))

    # ---------------------------------------------------------------------------------------------------------- screen

    def _screen_seen(self, seen: ScreenSeen) -> None:
        lines = tuple(line.rstrip() for line in seen.lines)
        has_changed, self._lines = lines != self._lines, lines
        desk, standing = self._desk, self._standing
        desk.pacing = desk.pace(bracketed_paste=seen.bracketed_paste)
        if standing.is_over:
            return
        signal = self.driver.read_screen(lines)
        desk.screen = signal
        if not self.driver.capabilities.hooks:
            signal = self._read_activity(signal, has_changed=has_changed)
        self._prompts.see(signal)
        standing.see_retry(signal)
        if signal.state is AgentState.WORKING:
            standing.claim_by_screen(screen_work(signal))
        else:
            self._take(signal)
        self._weigh_together()

    def _read_activity(self, signal: Signal, *, has_changed: bool) -> Signal:
        """For a program without hooks: a screen that changes is work, one that is still for long enough is idle."""
        if has_changed and self.driver.quiet_ms:
            self._desk.set_timer("quiet", self.driver.quiet_ms)
        is_activity = has_changed and any(self._lines) and not self.driver.reads_work
        if signal.state is None and is_activity:
            return screen_work(signal)
        return signal

    def _weigh_together(self) -> None:
        """The log's last words and the input line on the screen: together they are believed."""
        is_calm = (
            self._is_log_calm
            and self._desk.screen.state is AgentState.IDLE
            and self.state is AgentState.WORKING
            and self._standing.calm is None
        )
        if is_calm:
            self._desk.set_timer_once("together", self.timing.settle_ms)
        else:
            self._desk.cancel_timer("together")

    # -------------------------------------------------------------------------------------------------------- requests

    def _resolve(self, resolve: Resolve) -> None:
        desk = self._desk
        problem = gate.check_resolve(self.stop, resolve.body)
        if problem:
            desk.tell(StopOutcome("rejected", desk.next_seq(), resolve.body, problem))
            desk.reply(resolve.request_id, 422, {"error": problem})
            return
        is_open = gate.opens(self.stop, resolve.body)
        if is_open:
            self._resolved = resolve.body
        desk.reply(resolve.request_id, 200, {"accepted": True, "opens": is_open})

    def _foreign_stop(self, asked: StopHookAsked) -> None:
        is_second = asked.data.get("stop_hook_active") is True
        verdict = self._stop("hook:stop", is_second=is_second)
        body: dict[str, object] = {}
        if verdict.is_blocked:
            body = {"decision": "block", "reason": verdict.reason}
        if self.last_message is not None:
            body["last_message"] = self.last_message
        self._desk.reply(asked.request_id, 200, body)

    def _foreign_start(self, asked: StartHookAsked) -> None:
        source = asked.data.get("source") or asked.data.get("session_type")
        script = self._started(source if isinstance(source, str) else "unknown", None)
        self._desk.reply(asked.request_id, 200, {"script": script})

    def _configure(self, what: SetStop | SetStart) -> None:
        try:
            match what:
                case SetStop():
                    self.stop = gate.read_stop(what.config)
                case SetStart():
                    self.start = gate.read_start(what.config)
        except Rejected as exc:
            self._desk.refuse(what.request_id, 400, "BAD_REQUEST", exc.message)
        else:
            self._desk.reply(what.request_id, 200, {"updated": True})


def _greatest(a: Usage, b: Usage) -> Usage:
    return Usage(*map(max, msgspec.structs.astuple(a), msgspec.structs.astuple(b)))


def _add(total: Usage, before: Usage, after: Usage) -> Usage:
    parts = zip(*(msgspec.structs.astuple(usage) for usage in (total, before, after)), strict=True)
    return Usage(*(whole - old + new for whole, old, new in parts))
