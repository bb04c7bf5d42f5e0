"""Templates: finding `${...}` placeholders in text, and filling them with values.

Rule: pure, and one pass. A value is never scanned for placeholders again, so no value can name another. Shell text is not
filled here at all: `shell.compile_shell` turns its placeholders into references to environment variables, and `resolve`
says what those variables hold.

A placeholder is `${name}`, `${name:offset}`, `${name:offset:length}`, any but the second with `:-default` behind. The name is
an identifier, or several joined by dots of which the later ones may hold `-`. `$${` stands for a literal `${`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import Binding, Use

NAMESPACES: Final = frozenset({"args", "const", "invoke", "item", "local", "source", "step", "var"})
"""First parts of dotted names that are ours; any other dotted name is somebody else's text."""

MAX_VALUE_BYTES: Final = 128 * 1024
"""Linux refuses to start a program with a longer `NAME=value` string (MAX_ARG_STRLEN, with the closing NUL)."""

_TOKEN: Final = re.compile(
    r"(?P<escape>\$\$\{)"
    r"|\$\{(?P<name>[A-Za-z_]\w*(?P<rest>(?:\.\w[\w-]*)*))"
    r"(?::(?P<offset>[0-9]{1,9})(?::(?P<length>[0-9]{1,9})(?P<sliced>:-[^{}\n]*)?)?|(?P<plain>:-[^{}\n]*))?\}",
    re.ASCII,
)
_LOOKS_OURS: Final = re.compile(rf"\$\{{[!#]?(?:{'|'.join(sorted(NAMESPACES))})\.", re.ASCII)
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)


class MissingValue(Rejected):
    """A placeholder has neither a value nor a default."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"cannot fill ${{{name}}}: it has no value",
            code="missing",
            hint=f"pass a value, or write a default: ${{{name}:-text}}",
        )
        self.name = name


class BadValue(Rejected):
    """A value cannot stand where its placeholder stands."""

    def __init__(self, name: str, reason: str, *, hint: str = "") -> None:
        super().__init__(
            f"cannot use the value of ${{{name}}}: {reason}", code="invalid", hint=hint
        )
        self.name = name


class Placeholder(msgspec.Struct, frozen=True):
    """One `${...}` in a text, from `start` up to `end`."""

    start: int
    end: int
    name: str
    offset: int | None = None
    length: int | None = None
    default: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the name is dotted and in one of our namespaces."""
        head, dot, _ = self.name.partition(".")
        return bool(dot) and head in NAMESPACES

    @property
    def is_environment(self) -> bool:
        """Whether it reads `${WORD:-default}`: an environment variable unless WORD is one of our names."""
        return "." not in self.name and self.default is not None


def placeholders(text: str) -> list[Placeholder]:
    """Every placeholder of `text` in order, ours or not; escaped ones are left out."""
    return [_placeholder(match) for match in _TOKEN.finditer(text) if not match["escape"]]


def escapes(text: str) -> list[int]:
    """Where each `$${` of `text` starts."""
    return [match.start() for match in _TOKEN.finditer(text) if match["escape"]]


def malformed(text: str) -> list[int]:
    """Where something starts that has the name of a placeholder but not its form, such as `${var.x//a/b}`."""
    taken = {match.start() for match in _TOKEN.finditer(text)}
    taken |= {start + 1 for start in escapes(text)}
    return [match.start() for match in _LOOKS_OURS.finditer(text) if match.start() not in taken]


def env_names(text: str) -> set[str]:
    """Names of the environment variables that `text` reads as `${WORD:-default}`."""
    return {found.name for found in placeholders(text) if found.is_environment}


def render(text: str, values: Mapping[str, str], env: Mapping[str, str] | None = None) -> str:
    """Fill a plain template; a name of ours without value and default raises `MissingValue`, unknown names stay."""

    def fill(match: re.Match[str]) -> str:
        if match["escape"]:
            return "${"
        found = _placeholder(match)
        if found.is_environment and not values.get(found.name):
            return (env or {}).get(found.name, found.default or "")
        if found.name not in values and not found.is_ours:
            return match[0]
        return _fill(found.name, found.offset, found.length, found.default, values)

    return _TOKEN.sub(fill, text)


def resolve(bindings: Iterable[Binding], values: Mapping[str, str]) -> dict[str, str]:
    """The environment of a compiled shell template; values that cannot stand there raise `BadValue`."""
    filled = {}
    for binding in bindings:
        value = _fill(binding.name, binding.offset, binding.length, binding.default, values)
        if binding.use is Use.INTEGER:
            value = _integer(binding.name, value)
        filled[binding.env] = _environment_string(binding, value)
    return filled


def _placeholder(match: re.Match[str]) -> Placeholder:
    default = match["plain"] if match["plain"] is not None else match["sliced"]
    return Placeholder(
        start=match.start(),
        end=match.end(),
        name=match["name"],
        offset=None if match["offset"] is None else int(match["offset"]),
        length=None if match["length"] is None else int(match["length"]),
        default=None if default is None else default.removeprefix(":-"),
    )


def _fill(
    name: str,
    offset: int | None,
    length: int | None,
    default: str | None,
    values: Mapping[str, str],
) -> str:
    value = values.get(name)
    if not value and default is not None:
        return default
    if value is None:
        raise MissingValue(name)
    if offset is None:
        return value
    return value[offset:] if length is None else value[offset : offset + length]


def _integer(name: str, value: str) -> str:
    reason = (
        f"it stands where bash calculates, so it has to be an integer, but it is {_shown(value)}"
    )
    if not _INTEGER.fullmatch(value) or len(value) > 20:
        raise BadValue(name, reason)
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise BadValue(name, f"{value} does not fit into the 64 bits that bash calculates with")
    # Written anew because bash reads "08" as a broken octal number.
    return str(number)


def _environment_string(binding: Binding, value: str) -> str:
    if "\0" in value:
        raise BadValue(
            binding.name, "it contains a NUL character, which no environment variable can hold"
        )
    try:
        size = len(value.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError as error:
        raise BadValue(binding.name, "it is not valid Unicode (a lone surrogate)") from error
    if len(binding.env) + 1 + size + 1 > MAX_VALUE_BYTES:
        raise BadValue(
            binding.name,
            f"it has {size} bytes, more than a program can be given in one variable ({MAX_VALUE_BYTES})",
            hint="put it into a file of the workspace and pass the path",
        )
    return value


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "...")
