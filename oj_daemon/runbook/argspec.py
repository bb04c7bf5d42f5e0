"""The arguments of a command: the little language that declares them, and fitting typed words to them.

Rule: nothing here knows where words come from; `parse` refuses a specification with `SpecError`, `bind` refuses words
with `Rejected`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import ArgSpec, Flag, Option, Positional
from oj_daemon.runbook.suggest import nearest

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
WORD = re.compile(r"\s*(\[[^\]]*\](?:\.\.\.)?|<[^>]*>(?:\.\.\.)?|\S+)")
PLACEHOLDER = re.compile(r"<([^<>\s]+)>")
GRAMMAR = (
    "write <name>, [name], <name...>, [name...], --flag, --option <value>, [-o/--option <value>]"
)


class SpecError(ValueError):
    """An argument specification that cannot be; `start` and `end` are offsets in its text."""

    def __init__(self, message: str, start: int, end: int, hint: str = GRAMMAR) -> None:
        super().__init__(message)
        self.start = start
        self.end = end
        self.hint = hint


def parse(text: str) -> ArgSpec:
    """The specification that a text such as `<branch> [--base <ref>]` declares."""
    positional: list[Positional] = []
    variadic: Positional | None = None
    options: list[Option] = []
    flags: list[Flag] = []
    seen: set[str] = set()
    at = 0
    while (word := WORD.match(text, at)) is not None:
        item, start, at = word.group(1), word.start(1), word.end(1)
        is_optional = item.startswith("[")
        is_many = item.endswith("...")
        body = item.removesuffix("...")
        if body[:1] in ("<", "["):
            if body[-1:] != {"<": ">", "[": "]"}[body[0]]:
                raise SpecError(f"invalid argument syntax: `{item}` is not closed", start, at)
            inner = body[1:-1].strip()
            if inner.endswith("..."):
                is_many, inner = True, inner[:-3]
        elif body.startswith("-"):
            inner = body
            value = re.compile(r"\s+(<[^>]*>(?:\.\.\.)?)").match(text, at)
            if value is not None and not is_many:
                inner, at = f"{body} {value.group(1)}", value.end()
        else:
            raise SpecError(f"invalid argument syntax: `{item}`", start, at)
        if inner.startswith("-"):
            if is_many or body.startswith("<"):
                raise SpecError(
                    f"invalid argument syntax: a flag takes no ellipsis or brackets: `{item}`",
                    start,
                    at,
                )
            found = _flag(inner, start, at, is_optional=is_optional)
            names = {found.name, found.short} - {""}
            if isinstance(found, Option):
                options.append(found)
            else:
                flags.append(found)
        else:
            if NAME.fullmatch(inner) is None:
                raise SpecError(
                    f"invalid argument syntax: `{item}` does not hold a name", start, at
                )
            if variadic is not None:
                raise SpecError(
                    f"variadic must be last: `{variadic.name}` takes all that follows", start, at
                )
            found_positional = Positional(name=inner, required=not is_optional)
            if is_many:
                variadic = found_positional
            elif positional and not positional[-1].required and not is_optional:
                message = (
                    f"optional positional `{positional[-1].name}` cannot precede required `{inner}`"
                )
                raise SpecError(message, start, at, "put the required ones first")
            else:
                positional.append(found_positional)
            if is_many and not is_optional and positional and not positional[-1].required:
                message = (
                    f"optional positional `{positional[-1].name}` cannot precede required `{inner}`"
                )
                raise SpecError(message, start, at, "put the required ones first")
            names = {inner}
        again = names & seen
        if again:
            raise SpecError(f"duplicate argument name `{min(again)}`", start, at, "")
        seen |= names
    return ArgSpec(
        positional=tuple(positional), variadic=variadic, options=tuple(options), flags=tuple(flags)
    )


def _flag(text: str, start: int, end: int, *, is_optional: bool) -> Flag | Option:
    written, _, rest = text.partition(" ")
    rest = rest.strip()
    parts = written.split("/")
    short = name = ""
    if len(parts) > 2:
        raise SpecError(f"invalid argument syntax: `{written}` has too many parts", start, end)
    if len(parts) == 2 or not written.startswith("--"):
        if re.fullmatch(r"-[A-Za-z0-9]", parts[0]) is None:
            raise SpecError(
                f"invalid argument syntax: short form `{parts[0]}` is not one letter after `-`",
                start,
                end,
            )
        short = parts[0][1:]
    if len(parts) == 2 or written.startswith("--"):
        if not parts[-1].startswith("--") or NAME.fullmatch(parts[-1][2:]) is None:
            raise SpecError(
                f"invalid argument syntax: long form `{parts[-1]}` is not `--name`", start, end
            )
        name = parts[-1][2:]
    if "..." in text:
        raise SpecError(f"invalid argument syntax: a flag takes no ellipsis: `{text}`", start, end)
    if not rest:
        return Flag(name=name or short, short=short)
    if PLACEHOLDER.fullmatch(rest) is None:
        raise SpecError(f"invalid argument syntax: `{rest}` is not one `<value>`", start, end)
    return Option(name=name or short, short=short, required=not is_optional)


def names(spec: ArgSpec) -> list[str]:
    """Every name that a specification declares, in order."""
    found = [each.name for each in spec.positional]
    if spec.variadic is not None:
        found.append(spec.variadic.name)
    return [*found, *(each.name for each in spec.options), *(each.name for each in spec.flags)]


def usage(spec: ArgSpec) -> str:
    """The usage line: positionals, variadic, options, flags."""
    words = [f"<{each.name}>" if each.required else f"[{each.name}]" for each in spec.positional]
    if spec.variadic is not None:
        words.append(
            f"<{spec.variadic.name}...>" if spec.variadic.required else f"[{spec.variadic.name}...]"
        )
    for option in spec.options:
        text = f"{dashed(option)} <{option.name}>"
        words.append(text if option.required else f"[{text}]")
    words += [f"[{dashed(flag)}]" for flag in spec.flags]
    return " ".join(words)


def dashed(item: Flag | Option) -> str:
    """How an option or flag is typed: its long form where it has one."""
    return f"-{item.name}" if item.name == item.short else f"--{item.name}"


def bind(
    spec: ArgSpec, defaults: Mapping[str, str], tokens: Sequence[str], command: str
) -> dict[str, str]:
    """Values by name: what was typed, laid over the defaults. What is declared but not given is absent."""
    options = {f"--{each.name}": each for each in spec.options if each.name != each.short}
    options |= {f"-{each.short}": each for each in spec.options if each.short}
    flags = {f"--{each.name}": each for each in spec.flags if each.name != each.short}
    flags |= {f"-{each.short}": each for each in spec.flags if each.short}
    given: dict[str, str] = {}
    words: list[str] = []
    hint = f"usage: oj run {command} {usage(spec)}".rstrip()

    def refuse(message: str, more: str = hint) -> Rejected:
        return Rejected(message, code="invalid", hint=more)

    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token == "--":
            words += tokens[at:]
            break
        key, equals, value = token.partition("=")
        if token in flags:
            given[flags[token].name] = "true"
        elif equals and key in flags and key.startswith("--"):
            raise refuse(f"flag `{key}` of `{command}` takes no value")
        elif token in options or (equals and key in options and key.startswith("--")):
            name = options[key].name
            if not equals:
                if at >= len(tokens):
                    raise refuse(f"option `{token}` of `{command}` needs a value")
                value = tokens[at]
                at += 1
            given[name] = value
        elif token.startswith("--") or (
            len(token) > 1 and token[0] == "-" and not _is_number(token)
        ):
            near = nearest(key, [*options, *flags])
            more = (
                f"did you mean `{near}`?"
                if near
                else f"{hint}; after `--` every word is an argument"
            )
            raise refuse(f"unknown option `{key}` for `{command}`", more)
        else:
            words.append(token)
    bound = dict(defaults)
    for positional in spec.positional:
        if words:
            bound[positional.name] = words.pop(0)
        elif positional.required and positional.name not in bound:
            raise refuse(f"missing required argument <{positional.name}> of `{command}`")
    for option in spec.options:
        if option.required and option.name not in given and option.name not in bound:
            raise refuse(f"missing required option {dashed(option)} of `{command}`")
    if spec.variadic is not None:
        if words:
            bound[spec.variadic.name] = " ".join(words)
        elif spec.variadic.required and spec.variadic.name not in bound:
            raise refuse(f"missing required argument <{spec.variadic.name}...> of `{command}`")
    elif words:
        raise refuse(f"unexpected argument `{words[0]}` for `{command}`")
    return bound | given


def _is_number(token: str) -> bool:
    return re.fullmatch(r"-\d+(\.\d+)?", token) is not None
