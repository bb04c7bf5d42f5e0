"""What a runbook says, after parsing and validation: plain frozen data.

Rule: nothing here computes. A `Runbook` is one file with its imports merged; its canonical JSON (`encode`) is what the log
keeps, so a running job never sees later edits. New fields have defaults, for ever.

Texts come in two kinds. A *plain* template is a `str`; `template.render` fills it with values. A *shell* template is a
`Shell`: its placeholders were replaced at load by references to environment variables that carry the values, quoted for
where they stand, so values never become program text. Durations are milliseconds (`*_ms`).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec


class Def(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=False):
    """Base of all definitions."""


class Use(StrEnum):
    """What a value has to be where it is used."""

    ANY = "any"
    INTEGER = "integer"
    """Stands in arithmetic, where bash evaluates the value: only an integer may pass."""


class Binding(Def, frozen=True):
    """One placeholder of a shell template and the environment variable that carries its value."""

    env: str
    """`OJ_V0`, `OJ_V1`, ..."""
    name: str
    """The dotted name that was written, such as `var.title` or `workspace`."""
    offset: int | None = None
    """Substring start in characters, as in `${var.x:0:72}`."""
    length: int | None = None
    default: str | None = None
    """`${var.x:-text}`: used where the value is unset or empty."""
    use: Use = Use.ANY


class Shell(Def, frozen=True):
    """A compiled shell template."""

    text: str
    """As written, for people."""
    script: str
    """What bash runs."""
    bindings: tuple[Binding, ...] = ()


class Text(Def, frozen=True):
    """A template that may hold `$(...)`: used for `locals` and `source.ref`."""

    text: str
    shell: Shell | None = None
    """Set where the text holds `$(`: a script that prints the value (see template.compile_text)."""


class RunShell(Def, frozen=True, tag="shell"):
    """Run a bash script."""

    shell: Shell


class RunJob(Def, frozen=True, tag="job"):
    """Start a job (commands and crons)."""

    job: str


class RunAgent(Def, frozen=True, tag="agent"):
    """Start an agent."""

    agent: str
    attach: bool = False


Run = RunShell | RunJob | RunAgent


class Positional(Def, frozen=True):
    """A positional or variadic argument."""

    name: str
    required: bool = True


class Option(Def, frozen=True):
    """`--name VALUE`, perhaps with a one-letter form."""

    name: str
    short: str = ""
    required: bool = False


class Flag(Def, frozen=True):
    """`--name`; its value is "true" when given. A lone `-x` is named `x`."""

    name: str
    short: str = ""


class ArgSpec(Def, frozen=True):
    """The arguments of a command (spec 1.11)."""

    positional: tuple[Positional, ...] = ()
    variadic: Positional | None = None
    options: tuple[Option, ...] = ()
    flags: tuple[Flag, ...] = ()


class CommandDef(Def, frozen=True):
    """What `oj run NAME` does."""

    name: str
    run: Run
    args: ArgSpec = ArgSpec()
    defaults: dict[str, str] = {}
    help_short: str = ""
    help_long: str = ""


class Retry(Def, frozen=True):
    """Try a failed step or queue item again."""

    attempts: int = 0
    """How many times after the first try."""
    backoff_ms: int = 0
    """Pause before the first retry. For steps it doubles each time, up to an hour; for queue items it is constant."""


class StepDef(Def, frozen=True):
    """One step of a job."""

    name: str
    run: RunShell | RunAgent
    on_done: tuple[str, ...] = ()
    """Steps entered when this one is done; several fan out."""
    on_fail: str | None = None
    on_cancel: str | None = None
    after: tuple[str, ...] = ()
    """Starts when all of these are done (fan-in); such a step is no transition's target."""
    timeout_ms: int | None = None
    retry: Retry = Retry()
    env: dict[str, str] = {}
    """Plain templates."""
    cwd: str | None = None
    """Plain template; relative to the job's directory."""


class SourceKind(StrEnum):
    FOLDER = "folder"
    GIT = "git"


class Source(Def, frozen=True):
    """The private workspace of a job."""

    kind: SourceKind
    branch: str | None = None
    """Plain template; default `ws-<nonce>`."""
    ref: Text | None = None
    """What the branch starts from; default HEAD."""


class Notify(Def, frozen=True):
    """Plain templates of notifications."""

    on_start: str | None = None
    on_done: str | None = None
    on_fail: str | None = None
    on_cancel: str | None = None


class Container(Def, frozen=True):
    """Where an agent or job runs when not on this machine."""

    image: str
    cpu: str | None = None
    memory: str | None = None
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    pod: dict[str, object] = {}


class JobDef(Def, frozen=True):
    """A job: steps and the transitions between them."""

    name: str
    """The label: the job's kind."""
    steps: tuple[StepDef, ...]
    """At least one; the first is the entry step."""
    title: str | None = None
    """The `name` attribute: plain template of the display name."""
    vars: tuple[str, ...] = ()
    """Declared variables. Each must have a value (from the caller or `defaults`) when a job is made."""
    defaults: dict[str, str] = {}
    cwd: str | None = None
    source: Source | None = None
    container: Container | None = None
    on_done: tuple[str, ...] = ()
    on_fail: str | None = None
    on_cancel: str | None = None
    locals: dict[str, Text] = {}
    """In the order of evaluation (file order, a local after those it refers to)."""
    notify: Notify = Notify()


class AgentAction(StrEnum):
    NUDGE = "nudge"
    DONE = "done"
    FAIL = "fail"
    RESUME = "resume"
    ESCALATE = "escalate"
    GATE = "gate"
    AUTO = "auto"


class ActionDef(Def, frozen=True):
    """What to do on one of an agent's triggers (spec 1.6)."""

    action: AgentAction
    message: str | None = None
    append: bool = False
    run: Shell | None = None
    """The command of a gate."""
    attempts: int | None = 1
    """None is `forever`."""
    cooldown_ms: int = 0
    match: str | None = None
    """Only in `on_error` lists: unauthorized, out_of_credits, no_internet, rate_limited."""
    timeout_ms: int | None = None
    """Deadline of the decision that an escalation opens."""
    default: str | None = None
    """What is chosen when that deadline passes."""


class Screen(Def, frozen=True):
    """How the state of a program without hooks is told from its screen: regular expressions, searched for in single lines."""

    prompt: tuple[str, ...] = ()
    working: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    quiet_ms: int = 3000
    """A screen without change for so long means idle; 0: only a pattern says so."""
    accept: str = "y\r"
    """What to type to agree to a prompt without numbered options."""
    deny: str = "n\r"


class AgentDef(Def, frozen=True):
    """How to launch an agent and what to do when it stops, dies, asks or errs."""

    name: str
    run: Shell
    driver: str = "claude"
    prompt: str | None = None
    prompt_file: str | None = None
    """Relative to the project root."""
    env: dict[str, str] = {}
    cwd: str | None = None
    prime: dict[str, Shell] = {}
    """By session source; "" stands for every source."""
    on_idle: ActionDef | None = None
    on_dead: ActionDef = ActionDef(action=AgentAction.ESCALATE)
    on_prompt: ActionDef = ActionDef(action=AgentAction.ESCALATE)
    on_error: tuple[ActionDef, ...] = (ActionDef(action=AgentAction.ESCALATE),)
    max_concurrency: int | None = None
    screen: Screen | None = None
    """For the driver `generic`."""
    container: Container | None = None
    notify: Notify = Notify()


class QueueKind(StrEnum):
    EXTERNAL = "external"
    PERSISTED = "persisted"


class QueueDef(Def, frozen=True):
    """A list of work items (spec 1.7)."""

    name: str
    kind: QueueKind = QueueKind.EXTERNAL
    list: Shell | None = None
    take: Shell | None = None
    poll_ms: int | None = None
    vars: tuple[str, ...] = ()
    defaults: dict[str, str] = {}
    retry: Retry = Retry()


class WorkerDef(Def, frozen=True):
    """Binds a queue to a job."""

    name: str
    queue: str
    job: str
    concurrency: int = 1


class CronDef(Def, frozen=True):
    """Fires at an interval, or by a cron expression."""

    name: str
    run: Run
    interval_ms: int | None = None
    schedule: str | None = None
    """A five-field cron expression; exactly one of `interval_ms` and `schedule` is set."""
    timezone: str = "UTC"
    concurrency: int = 1
    overlap: str = "skip"
    """At the limit: skip, or queue one tick."""
    catch_up: str = "none"
    """Ticks missed while the daemon was away: none, one, or all."""


class Runbook(Def, frozen=True):
    """One file with its imports merged; names of imports carry their alias (`alias:name`)."""

    path: str
    """Relative to the project root, for messages."""
    commands: dict[str, CommandDef] = {}
    jobs: dict[str, JobDef] = {}
    agents: dict[str, AgentDef] = {}
    queues: dict[str, QueueDef] = {}
    workers: dict[str, WorkerDef] = {}
    crons: dict[str, CronDef] = {}
    imports: tuple[str, ...] = ()
    help_short: str = ""
    help_long: str = ""


def encode(runbook: Runbook) -> bytes:
    """Canonical JSON: same meaning, same bytes."""
    return msgspec.json.encode(runbook, order="deterministic")


def content_hash(runbook: Runbook) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(encode(runbook)).hexdigest()
