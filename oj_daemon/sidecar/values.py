"""What goes into the machine and what comes out of it.

Rule: values only. The shell (PTY, sources, server) turns what happens into inputs, hands each to `Machine.handle`
with the time, and carries out the outputs in the order in which they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from oj_daemon.drivers.base import AgentError, AgentState, Answer, Json, Keys, Prompt, Usage

# --------------------------------------------------------------------------------------------------------------- inputs


class ChildStarted(msgspec.Struct, frozen=True):
    """The agent program runs. Begins a new epoch; sequence numbers go on."""

    session_id: str = ""
    transcript_path: str = ""
    accept_dialogs: tuple[str, ...] = ()
    """Start-up dialogs that may be dismissed unasked (groom auto); none otherwise."""
    has_prompt: bool = False
    """It was started with a message: an input line on the screen is no sign of idleness before that was taken."""


class ChildExited(msgspec.Struct, frozen=True):
    """The agent program is gone."""

    code: int | None = None
    signal: int | None = None


class Restarting(msgspec.Struct, frozen=True):
    """The child is about to be replaced."""


class HookCalled(msgspec.Struct, frozen=True):
    """A hook of the agent waits for a reply. Exactly one HookReply will follow, at once or later."""

    hook_id: int
    event: str
    payload: Json


class HookClosed(msgspec.Struct, frozen=True):
    """The connection of a hook that had no reply yet is gone."""

    hook_id: int


class LogLine(msgspec.Struct, frozen=True):
    """A whole new line of the session log. `is_old` lines only seed last message and usage."""

    text: str
    is_old: bool = False


class ScreenSeen(msgspec.Struct, frozen=True):
    """The screen as it is now: after output (debounced), on every poll, and in answer to ReadScreen."""

    lines: Sequence[str]
    bracketed_paste: bool = False


class OutputSeen(msgspec.Struct, frozen=True):
    """The program wrote to the terminal (may be told at most every 100 ms or so)."""


class TimerFired(msgspec.Struct, frozen=True):
    """A timer that SetTimer asked for is due."""

    name: str


class Nudge(msgspec.Struct, frozen=True):
    """A message for the agent. Answered by one ApiReply."""

    request_id: int
    message: str
    wait_ms: int = 0
    """Answer only once it is known whether the agent took it, or after so long."""


class Respond(msgspec.Struct, frozen=True):
    """An answer to the open prompt. Answered by one ApiReply."""

    request_id: int
    answer: Answer
    prompt_seq: int | None = None
    """Refused with STALE_PROMPT unless this is the open prompt."""


class Resolve(msgspec.Struct, frozen=True):
    """Let the agent stop (`oj-sidecar send`, or the daemon). Answered by one ApiReply."""

    request_id: int
    body: Json


class StopHookAsked(msgspec.Struct, frozen=True):
    """POST hooks/stop of a foreign hook script: a verdict by the wire shape. Answered by one ApiReply."""

    request_id: int
    data: Json


class StartHookAsked(msgspec.Struct, frozen=True):
    """POST hooks/start of a foreign hook script. Answered by one ApiReply whose body is {"script": TEXT}."""

    request_id: int
    data: Json


class SetStop(msgspec.Struct, frozen=True):
    """A new stop configuration, as JSON. Answered by one ApiReply."""

    request_id: int
    config: Json


class SetStart(msgspec.Struct, frozen=True):
    """A new start configuration, as JSON. Answered by one ApiReply."""

    request_id: int
    config: Json


class KeysTyped(msgspec.Struct, frozen=True):
    """All steps of a TypeKeys have been written to the terminal (or it failed: `is_written` false)."""

    delivery_id: int
    is_written: bool = True


class InputSeen(msgspec.Struct, frozen=True):
    """Someone else typed: an attached person, or the input endpoints. Ends a pending Enter watch."""


Input = (
    ChildStarted
    | ChildExited
    | Restarting
    | HookCalled
    | HookClosed
    | LogLine
    | ScreenSeen
    | OutputSeen
    | TimerFired
    | Nudge
    | Respond
    | Resolve
    | StopHookAsked
    | StartHookAsked
    | SetStop
    | SetStart
    | KeysTyped
    | InputSeen
)

# -------------------------------------------------------------------------------------------------------------- outputs


class Transition(msgspec.Struct, frozen=True, tag_field="event", tag="transition"):
    """The state changed, or (same seq) the open prompt became ready."""

    prev: AgentState
    next: AgentState
    seq: int
    epoch: int
    prompt: Prompt | None = None
    error: AgentError | None = None
    cause: str = ""
    last_message: str | None = None


class Exit(msgspec.Struct, frozen=True, tag_field="event", tag="exit"):
    """The child is gone; stands for the transition into `exited`."""

    code: int | None
    signal: int | None
    prev: AgentState
    seq: int
    epoch: int


class StopOutcome(msgspec.Struct, frozen=True, tag_field="event", tag="stop:outcome"):
    """What became of an attempt to end the turn, or of a resolve (`rejected`)."""

    type: str
    """signaled, error, safety_valve, blocked, allowed, rejected"""
    seq: int
    signal: Json | None = None
    error_detail: str = ""


class StartOutcome(msgspec.Struct, frozen=True, tag_field="event", tag="start:outcome"):
    """A session started in the agent."""

    source: str
    injected: bool
    seq: int
    session_id: str = ""
    transcript_path: str = ""


class PromptOutcome(msgspec.Struct, frozen=True, tag_field="event", tag="prompt:outcome"):
    """A prompt is no longer open."""

    source: str
    """api, groom, terminal (a person there was first), turn (it ended around the prompt), exit"""
    type: str
    prompt_seq: int
    seq: int
    subtype: str = ""
    channel: str = ""
    choice: str = ""


class Stalled(msgspec.Struct, frozen=True, tag_field="event", tag="stalled"):
    """A state lasts longer than it should. What to do about it is the daemon's decision."""

    type: str
    """startup: nothing known since the start; silence: working, but no sign of life; unknown: too long unknown"""
    state: AgentState
    age_ms: int
    seq: int


class UsageChanged(msgspec.Struct, frozen=True, tag_field="event", tag="usage:update"):
    """Tokens were spent."""

    cumulative: Usage
    seq: int


Event = Transition | Exit | StopOutcome | StartOutcome | PromptOutcome | Stalled | UsageChanged


class Broadcast(msgspec.Struct, frozen=True):
    """Tell subscribers, and append to the event log."""

    event: Event


class SetTimer(msgspec.Struct, frozen=True):
    """Send TimerFired(name) at this time; replaces a timer of that name."""

    name: str
    at_ms: int


class CancelTimer(msgspec.Struct, frozen=True):
    """Forget the timer, if there is one."""

    name: str


class TypeKeys(msgspec.Struct, frozen=True):
    """Type the steps, nothing in between. Answered by KeysTyped. One at a time is asked for."""

    delivery_id: int
    keys: Keys


class HookReply(msgspec.Struct, frozen=True):
    """Let a waiting hook go. With `run_seconds` the body is a script whose output the helper prints."""

    hook_id: int
    body: str = ""
    run_seconds: int = 0


class ApiReply(msgspec.Struct, frozen=True):
    """The answer to a request. Errors have `{"error": {"code", "message"}}`."""

    request_id: int
    status: int
    body: Mapping[str, object]


class ReadScreen(msgspec.Struct, frozen=True):
    """Send ScreenSeen now, even if nothing changed."""


class FollowLog(msgspec.Struct, frozen=True):
    """The agent writes its session log here (again); read on from where this file was left, else from its start."""

    path: str
    session_id: str


class SaveTranscript(msgspec.Struct, frozen=True):
    """Keep a copy of the session log before it is compacted: before the outputs that follow."""


class Note(msgspec.Struct, frozen=True):
    """A line for the log of the sidecar."""

    text: str


Output = (
    Note
    | Broadcast
    | SetTimer
    | CancelTimer
    | TypeKeys
    | HookReply
    | ApiReply
    | ReadScreen
    | FollowLog
    | SaveTranscript
)


class Timing(msgspec.Struct, frozen=True):
    """Delays in milliseconds; 0 switches a watch off."""

    idle_grace_ms: int = 1000
    """How long a sign of idleness must stand before anyone is told."""
    input_delay_ms: int = 200
    input_delay_per_byte_ms: float = 1.0
    input_delay_max_ms: int = 5000
    nudge_timeout_ms: int = 4000
    """No reaction to a message for so long: one more Enter."""
    dismiss_delay_ms: int = 500
    """How long a start-up dialog must stand before it is dismissed."""
    settle_ms: int = 1500
    """How long the screen alone must say the same before it is believed where hooks and log said otherwise."""
    move_ms: int = 150
    """How long a dialog is given to redraw after a key."""
    options_poll_ms: int = 200
    options_tries: int = 10
    startup_ms: int = 60_000
    silence_ms: int = 300_000
    unknown_ms: int = 300_000
    prime_seconds: int = 60
