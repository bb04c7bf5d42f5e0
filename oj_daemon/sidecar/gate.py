"""May the turn end, and what does a session start with: the stop gate and the start hook, as functions of values.

Rule: pure. A verdict is made at once from what is known; nothing here waits for anybody. The tests of a verdict are
tried in the order in which `verdict` lists them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from oj_daemon.drivers.base import AgentError, ErrorCategory, Json
from oj_daemon.errors import Rejected

SEND: Final = "oj-sidecar send"
CONTINUE: Final = "continue"
PRIME_FAILED: Final = "PrimeFailed"
"""The event by which the hook helper says that the script of a session start failed."""
Section = TypeVar("Section")
FATAL: Final = (ErrorCategory.UNAUTHORIZED, ErrorCategory.OUT_OF_CREDITS)
"""No turn can succeed with these: keeping the agent from stopping would only burn time."""


class StopMode(StrEnum):
    """What happens when the agent wants to end its turn."""

    ALLOW = "allow"
    GATE = "gate"
    """It is told to wait, once per turn; whoever watches decides what follows."""
    AUTO = "auto"
    """It is told to report how things stand, by `oj-sidecar send`."""


class Field(msgspec.Struct, frozen=True):
    """One field of what the agent reports."""

    required: bool = False
    enum: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = {}
    description: str = ""
    terminal: tuple[str, ...] = ()
    """The values that open the gate; none named: all but `continue`."""

    def opens(self, value: object) -> bool:
        """Return whether the turn may end with this value."""
        return value in self.terminal if self.terminal else value != CONTINUE


DEFAULT_FIELDS: Final[Mapping[str, Field]] = {
    "status": Field(
        required=True,
        enum=("done", CONTINUE),
        descriptions={"done": "the task is finished", CONTINUE: "there is more to do: go on"},
        terminal=("done",),
    ),
    "message": Field(description="a short summary"),
}


class Schema(msgspec.Struct, frozen=True):
    """The shape of a report."""

    fields: dict[str, Field] = {}


class StopConfig(msgspec.Struct, frozen=True):
    """The `stop` section of the agent configuration file."""

    mode: StopMode = StopMode.ALLOW
    prompt: str | None = None
    schema: Schema | None = None

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields that a resolve is checked against; empty: anything goes."""
        if self.schema is not None and self.schema.fields:
            return self.schema.fields
        return DEFAULT_FIELDS if self.mode is StopMode.AUTO else {}


class Priming(msgspec.Struct, frozen=True):
    """Text and shell commands whose output becomes context."""

    text: str | None = None
    shell: list[str] | str = []


class StartConfig(msgspec.Struct, frozen=True):
    """The `start` section: for all session starts, or (replacing that whole) for one source."""

    text: str | None = None
    shell: list[str] | str = []
    event: dict[str, Priming] = {}


def read_stop(config: Json) -> StopConfig:
    """Return the stop section, or raise Rejected."""
    stop = _convert(config, StopConfig, "stop")
    if stop.mode is StopMode.GATE and not stop.prompt:
        msg = "the stop gate has no prompt: the agent would be stopped without being told why"
        raise Rejected(msg, code="invalid", hint='add "prompt" to the stop section')
    return stop


def read_start(config: Json) -> StartConfig:
    """Return the start section, or raise Rejected."""
    return _convert(config, StartConfig, "start")


class Verdict(msgspec.Struct, frozen=True):
    """What the stop hook is told, and the outcome that is broadcast."""

    type: str
    reason: str = ""
    signal: Json | None = None
    error_detail: str = ""

    @property
    def is_blocked(self) -> bool:
        """Whether the agent has to go on."""
        return self.type == "blocked"


def verdict(
    stop: StopConfig, error: AgentError | None, signal: Json | None, *, is_second: bool
) -> Verdict:
    """Decide about one attempt to end the turn. `signal`: a resolve that waits; `signaled` uses it up."""
    if stop.mode is StopMode.ALLOW:
        return Verdict("allowed")
    if is_second:
        return Verdict("safety_valve")
    if error is not None and not error.is_retrying and error.category in FATAL:
        return Verdict("error", error_detail=error.detail)
    if signal is not None:
        return Verdict("signaled", signal=signal)
    return Verdict("blocked", reason=reason(stop))


def reason(stop: StopConfig) -> str:
    """Return what the agent reads when it is kept from stopping."""
    if stop.mode is StopMode.GATE:
        return stop.prompt or ""
    lines = [stop.prompt, ""] if stop.prompt else []
    fields = sorted(stop.fields.items(), key=lambda item: not (item[1].required or item[1].enum))
    choice = next(((name, field) for name, field in fields if field.enum), None)
    if choice is None:
        lines += ["Before you stop, report how things stand:", "", f"  {_command(fields, '', '')}"]
    else:
        name, field = choice
        lines += ["Before you stop, report how things stand by running one of:", ""]
        for number, value in enumerate(field.enum, start=1):
            words = field.descriptions.get(value, "")
            lines.append(f"{number}. {value}: {words}" if words else f"{number}. {value}")
            lines.append(f"   {_command(fields, name, value)}")
    return "\n".join(lines)


def _command(fields: list[tuple[str, Field]], chosen: str, value: str) -> str:
    body: dict[str, str] = {}
    for name, field in fields:
        if name == chosen:
            body[name] = value
        elif field.enum:
            body[name] = field.enum[0]
        else:
            body[name] = f"<{field.description or name}>"
    return f"{SEND} {shlex.quote(json.dumps(body, ensure_ascii=False))}"


def check_resolve(stop: StopConfig, body: Json) -> str:
    """Return what is wrong with a report, "" when it fits."""
    for name, field in stop.fields.items():
        value = body.get(name)
        if value is None:
            if field.required:
                return f"the field {name!r} is missing"
            continue
        if field.enum and value not in field.enum:
            return f"the field {name!r} must be one of {', '.join(field.enum)}"
    return ""


def opens(stop: StopConfig, body: Json) -> bool:
    """Return whether a report that fits lets the turn end."""
    return all(
        field.opens(body[name])
        for name, field in stop.fields.items()
        if field.enum and body.get(name) is not None
    )


def start_script(start: StartConfig, source: str) -> str:
    """Return the shell script whose output primes a session that starts in this way, "" for none.

    A failing command ends itself only: what comes after it still runs, and the script ends with its status.
    """
    chosen = start.event.get(source) or Priming(text=start.text, shell=start.shell)
    commands = [chosen.shell] if isinstance(chosen.shell, str) else chosen.shell
    commands = [command for command in commands if command.strip()]
    lines = []
    if chosen.text:
        text = chosen.text if not commands or chosen.text.endswith("\n") else f"{chosen.text}\n"
        lines.append(f"printf %s {shlex.quote(text)}")
    # Not `( ... ) || ...`: bash ignores `set -e` inside of such a list.
    lines += [
        f"(\n{command}\n)\noj_status=$?; [ $oj_status = 0 ] || oj_prime=$oj_status"
        for command in commands
    ]
    if commands:
        lines.append('(exit "${oj_prime:-0}")')
    return "\n".join(lines)


def _convert(config: Json, shape: type[Section], section: str) -> Section:
    try:
        return msgspec.convert(dict(config), shape)
    except msgspec.ValidationError as exc:
        msg = f"the {section} section of the agent configuration is wrong: {exc}"
        raise Rejected(msg, code="invalid") from exc
