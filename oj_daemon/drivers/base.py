"""What every driver speaks: agent states, prompts, answers, signals, launch plans, and the Driver protocol.

Rule: values only. A driver is pure: the clock, fresh ids and the contents of files are given to it, and what it
wants typed, written or started it returns. A signal claims; the sidecar's machine weighs claims by trust and decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from typing import Final, Protocol

import msgspec

Json = Mapping[str, object]
"""A decoded JSON object."""

SOCKET_ENV: Final = "OJ_SIDECAR_SOCKET"
"""In the agent's environment: the unix socket of its sidecar (preferred when both are set)."""
URL_ENV: Final = "OJ_SIDECAR_URL"
"""In the agent's environment: `http://127.0.0.1:PORT` of its sidecar."""
TOKEN_ENV: Final = "OJ_SIDECAR_HOOK_TOKEN"  # noqa: S105 - the name of a variable
"""In the agent's environment: the secret with which hooks and `oj-sidecar send` speak to their sidecar."""


class AgentState(StrEnum):
    """What an agent is doing, as far as the evidence goes."""

    STARTING = "starting"
    UNKNOWN = "unknown"
    IDLE = "idle"
    ERROR = "error"
    WORKING = "working"
    PROMPT = "prompt"
    RESTARTING = "restarting"
    EXITED = "exited"


PRIORITY: Final = {
    AgentState.STARTING: 0,
    AgentState.UNKNOWN: 0,
    AgentState.IDLE: 1,
    AgentState.ERROR: 2,
    AgentState.WORKING: 3,
    AgentState.PROMPT: 4,
    AgentState.RESTARTING: 5,
    AgentState.EXITED: 5,
}
"""A less trusted source may raise the state along this order, never calm it."""


class Tier(IntEnum):
    """How far a claim is trusted; smaller is better."""

    HOOK = 1
    LOG = 2
    PROCESS = 4
    SCREEN = 5
    NONE = 9


class Source(StrEnum):
    """Where a claim comes from."""

    HOOK = "hook"
    LOG = "log"
    SCREEN = "screen"
    PROCESS = "process"
    API = "api"


TIERS: Final = {
    Source.HOOK: Tier.HOOK,
    Source.API: Tier.HOOK,
    Source.LOG: Tier.LOG,
    Source.PROCESS: Tier.PROCESS,
    Source.SCREEN: Tier.SCREEN,
}


class PromptKind(StrEnum):
    """What kind of answer a dialog waits for."""

    PERMISSION = "permission"
    PLAN = "plan"
    QUESTION = "question"
    SETUP = "setup"


class Channel(StrEnum):
    """How an answer can reach the dialog."""

    HOOK = "hook"
    """The agent's own hook waits for it: nothing is typed."""
    KEYS = "keys"
    """By typing into the dialog on the screen."""
    NONE = "none"
    """Only a person at the terminal can answer."""


class Option(msgspec.Struct, frozen=True):
    """One of the offered answers."""

    label: str
    description: str = ""


class Question(msgspec.Struct, frozen=True):
    """One question of a question prompt."""

    question: str
    header: str = ""
    multi_select: bool = False
    options: tuple[Option, ...] = ()


class Prompt(msgspec.Struct, frozen=True):
    """One dialog that waits for an answer."""

    kind: PromptKind
    subtype: str = ""
    """Which known dialog, where the kind is not enough: trust, api_key, bypass_permissions, ..."""
    tool: str = ""
    input: str = ""
    """The tool's input as JSON text; for a plan it holds `plan`."""
    options: tuple[str, ...] = ()
    options_fallback: bool = False
    """The options could not be read; Accept and Cancel stand in for them."""
    questions: tuple[Question, ...] = ()
    question_current: int = 0
    ready: bool = True
    """False until the options of a dialog that is answered by keys have been read from the screen."""
    groomed: bool = False
    """A start-up dialog that the sidecar is about to dismiss; nobody needs to be asked."""
    channel: Channel = Channel.NONE
    seq: int = 0
    """The instance: the sequence number of the transition that opened it. An answer may be bound to it."""


class ErrorCategory(StrEnum):
    """What an agent's error means to a runbook."""

    UNAUTHORIZED = "unauthorized"
    OUT_OF_CREDITS = "out_of_credits"
    RATE_LIMITED = "rate_limited"
    NO_INTERNET = "no_internet"
    SERVER_ERROR = "server_error"
    OTHER = "other"


class AgentError(msgspec.Struct, frozen=True):
    """An error that the agent reported. While it retries by itself it is still working."""

    category: ErrorCategory
    detail: str = ""
    attempt: int = 0
    """The retry under way; 0 when it has given up."""
    attempts: int = 0

    @property
    def is_retrying(self) -> bool:
        """Whether the agent is still trying by itself."""
        return self.attempt > 0


class Usage(msgspec.Struct, frozen=True):
    """What one API response cost, or the sum of many."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    total_cost_usd: float = 0.0
    request_count: int = 0
    total_api_ms: int = 0


class UsageEntry(msgspec.Struct, frozen=True):
    """Usage as one log line states it. Several lines may state it for one response, which `key` names."""

    key: str
    usage: Usage


class Dialog(msgspec.Struct, frozen=True):
    """A dialog as it stands on the screen."""

    name: str
    """permission, plan, question, or the name of a start-up dialog."""
    options: tuple[str, ...] = ()
    selected: int = 0
    """Number (from 1) of the option that has the selection mark; 0 when none was seen."""
    kind: PromptKind = PromptKind.PERMISSION
    text: str = ""
    """What it asks, for people."""


class Need(StrEnum):
    """What a hook waits for before it may go on."""

    NOTHING = "nothing"
    START = "start"
    """The text that primes the session."""
    STOP = "stop"
    """A verdict: may the turn end?"""
    ANSWER = "answer"
    """The answer to the prompt of the same signal."""


class Ends(StrEnum):
    """Which prompts a signal proves to be over."""

    NOTHING = "nothing"
    TOOL = "tool"
    """The one about this tool use (`tool_use_id`, else `tool` and `input`)."""
    TURN = "turn"
    """All of them: a new turn began, or this one ended."""


class Signal(msgspec.Struct, frozen=True):
    """One claim about the agent, from one source."""

    source: Source
    state: AgentState | None = None
    """None: says nothing about the state."""
    tier: int = 0
    """0: as its source; a log line may be as good as a hook."""
    cause: str = ""
    prompt: Prompt | None = None
    error: AgentError | None = None
    tentative: bool = False
    """True for a sign of idleness that may be followed by more of the same turn."""
    need: Need = Need.NOTHING
    ends: Ends = Ends.NOTHING
    turn_started: bool = False
    """The agent accepted a message: what was typed has arrived."""
    tool: str = ""
    input: str = ""
    tool_use_id: str = ""
    is_turn_over: bool = False
    """The agent says that the turn is over for good."""
    turn_id: str = ""
    """Which turn of the agent this belongs to, where it says so."""
    last_message: str | None = None
    session_id: str = ""
    transcript_path: str = ""
    start_source: str = ""
    """For a session start: startup, resume, clear or compact."""
    is_second_stop: bool = False
    """The agent was already kept from stopping once in this turn."""
    usage: UsageEntry | None = None
    dialog: Dialog | None = None
    """From the screen: the dialog that stands there."""


class QuestionAnswer(msgspec.Struct, frozen=True):
    """The answer to one question: option numbers from 1, or free text, or both."""

    options: tuple[int, ...] = ()
    text: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What was decided about a prompt. `option` counts from 1."""

    accept: bool | None = None
    option: int | None = None
    text: str = ""
    answers: tuple[QuestionAnswer, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """Bytes to type, then a pause before the next step."""

    data: bytes
    pause_ms: int = 0


Keys = tuple[Step, ...]


class Pacing(msgspec.Struct, frozen=True):
    """How fast a terminal program can be typed at, and what it understands."""

    delay_ms: int = 200
    per_byte_ms: float = 1.0
    """For each byte past 256."""
    max_ms: int = 5000
    bracketed_paste: bool = False
    """The program switched it on (mode 2004): text of several lines is wrapped."""

    def pause(self, size: int) -> int:
        """Return how long to wait after typing `size` bytes."""
        return min(self.max_ms, round(self.delay_ms + self.per_byte_ms * max(0, size - 256)))


class HookAnswer(msgspec.Struct, frozen=True):
    """The answer goes out as the reply of the waiting hook."""

    body: str
    choice: str = ""
    """What was chosen, in words."""


class KeyAnswer(msgspec.Struct, frozen=True):
    """The answer is typed."""

    keys: Keys
    choice: str = ""


class SelectAnswer(msgspec.Struct, frozen=True):
    """The answer is an option of a dialog whose keys are unsafe blind: move, look, then confirm."""

    option: int
    choice: str = ""


class Refusal(msgspec.Struct, frozen=True):
    """The answer cannot be delivered; nothing was typed. `reason` is for people."""

    reason: str


Delivery = HookAnswer | KeyAnswer | SelectAnswer | Refusal


class File(msgspec.Struct, frozen=True):
    """A file to write before the agent starts."""

    path: str
    """Absolute."""
    text: str
    mode: int = 0o600


class Launch(msgspec.Struct, frozen=True):
    """Everything a driver may know when it plans how to start its program."""

    folder: str
    """Absolute: ours, for settings and the like."""
    workspace: str
    """Absolute and resolved: where the agent works."""
    fresh_id: str
    """A new uuid4, for a new session."""
    hook: tuple[str, ...] = ()
    """The command that runs our hook helper; the event is appended. Empty: inject nothing (pristine)."""
    argv: tuple[str, ...] = ()
    """The command as words; or else:"""
    shell: str = ""
    """The command as bash text."""
    prompt: str = ""
    """First (or, on resume, next) message, passed as the last argument when not empty."""
    resume: str = ""
    """Id of the session to carry on with. Check it first with `check_resume`."""
    settings: Json = {}
    """What the caller wants in the agent's own settings; hooks of theirs run first."""
    mcp: Json = {}
    """Name of a server -> its definition."""
    config_dir: str = ""
    """Absolute: the agent's configuration folder, "" for its default."""
    owns_config_dir: bool = False
    """True when that folder was made for this agent: only then is anything written there."""
    config_text: str = ""
    """What the configuration file in that folder holds now, "" when there is none."""
    api_key: str = ""
    """The key that the agent will find in its environment, so that it need not ask about it."""
    home: str = ""
    """Home folder of the agent, for paths that the driver names."""
    is_root: bool = False
    is_sandboxed: bool = False
    """True in a container: what asks for a sandbox has one."""
    answer_timeout_s: int = 86_400
    """How long a hook may wait for a decision."""


class LaunchPlan(msgspec.Struct, frozen=True):
    """How to start the program. The environment comes on top of what the runtime allows."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = {}
    files: tuple[File, ...] = ()
    session_id: str = ""
    """Expected; what a hook says later wins."""
    transcript_path: str = ""
    """Expected; what a hook says later wins."""
    accept_dialogs: tuple[str, ...] = ()
    """Names of start-up dialogs that may be accepted without asking."""
    notes: tuple[str, ...] = ()
    """What was asked for and could not be done, for the log."""


class Capabilities(msgspec.Struct, frozen=True):
    """What a driver can do; the opposite is said by `oj doctor` and refused at load."""

    hooks: bool = False
    prime: bool = False
    stop_gate: bool = False
    resume: bool = False
    nudge: bool = False
    answer_permission: bool = False
    answer_plan: bool = False
    answer_question: bool = False
    errors: bool = False
    usage: bool = False
    transcript: bool = False
    mcp: bool = False
    settings: bool = False


CAPABILITY_WORDS: Final = {
    "hooks": "report its state by hooks (its screen is watched instead)",
    "prime": "be given context at session start (prime)",
    "stop_gate": "be kept from ending its turn by a hook (on_idle auto)",
    "resume": "resume a conversation (on_dead resume)",
    "nudge": "be sent a message (on_idle nudge)",
    "answer_permission": "have permission prompts answered (for generic: unless `screen` has `prompt`)",
    "answer_plan": "have plans approved or revised",
    "answer_question": "have questions answered",
    "errors": "tell kinds of errors apart (on_error match)",
    "usage": "report tokens and cost",
    "transcript": "keep a transcript",
    "mcp": "be given MCP servers",
    "settings": "be given settings",
}


def cannot(capabilities: Capabilities) -> list[str]:
    """Return what a driver cannot do, in words that complete "it cannot ..."."""
    return [words for name, words in CAPABILITY_WORDS.items() if not getattr(capabilities, name)]


class Driver(Protocol):
    """One agent program: how to start it, how to understand it, how to speak to it."""

    name: str
    capabilities: Capabilities
    credential_env: tuple[str, ...]
    """Names of the variables by which it may be given credentials, best first."""
    quiet_ms: int
    """A screen that has not changed for so long means idle; 0: never."""
    reads_work: bool
    """Its screens say when it works; otherwise a screen that changes is work."""

    def configured(self, patterns: Json) -> Driver:
        """Return this driver with what the runbook says about the screens of its program; Rejected when wrong."""
        ...

    def plan(self, launch: Launch) -> LaunchPlan:
        """Return how to start the program."""
        ...

    def check_resume(self, head: Sequence[str], session_id: str, workspace: str) -> str:
        """Return why the transcript with these first lines is not that session, "" when it is."""
        ...

    def read_hook(self, event: str, payload: Json) -> Signal:
        """Return what a hook says."""
        ...

    def read_log(self, line: str) -> list[Signal]:
        """Return what a whole line of the session log says."""
        ...

    def read_screen(self, lines: Sequence[str]) -> Signal:
        """Return what the screen shows."""
        ...

    def answer(self, prompt: Prompt, answer: Answer, pacing: Pacing) -> Delivery:
        """Return how an answer reaches the prompt, by the channel that the prompt has."""
        ...

    def select(self, dialog: Dialog, option: int) -> Keys:
        """Return the next keys towards confirming an option, given how the dialog stands now."""
        ...

    def dismiss(self, dialog: Dialog, accept: Sequence[str]) -> int:
        """Return the option with which a start-up dialog may be dismissed unasked, 0 when none."""
        ...

    def nudge(self, text: str, pacing: Pacing) -> Keys:
        """Return the keys that send a message."""
        ...

    def stop_reply(self, reason: str) -> str:
        """Return what the stop hook prints: "" as reason lets the turn end."""
        ...
