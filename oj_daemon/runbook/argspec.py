"""The arguments of a command: the little language that declares them, and fitting typed words to them.

Rule: nothing here knows where words come from; `parse` refuses a specification with `SpecError`, `bind` refuses words
with `Rejected`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from oj_daemon.errors import Rejected
from oj_daemon.runbook.model import ArgSpec, Flag, Option, Positional
from oj_daemon.runbook.suggest import nearest

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
WORD = re.compile(r"\s*(\[[^\]]*\](?:\.\.\.)?|<[^>]*>(?:\.\.\.)?|\S+)")
VALUE = re.compile(r"\s+(<[^>]*>(?:\.\.\.)?)")
NUMBER = re.compile(r"-\d+(\.\d+)?")
CLOSING = {"<": ">", "[": "]"}
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


class _Item(NamedTuple):
    """One item of a specification, without its brackets."""

    text: str
    start: int
    end: int
    inner: str
    is_optional: bool
    is_many: bool

    def wrong(self, message: str, hint: str = GRAMMAR) -> SpecError:
        """What is wrong with this item."""
        return SpecError(message, self.start, self.end, hint)


def parse(text: str) -> ArgSpec:
    """The specification that a text such as `<branch> [--base <ref>]` declares."""
    positional: list[Positional] = []
    variadic: Positional | None = None
    flags: list[Flag | Option] = []
    seen: set[str] = set()
    for item in _items(text):
        if item.inner.startswith("-"):
            flag = _flag(item)
            flags.append(flag)
            words = {flag.name, flag.short} - {""}
        else:
            found = _positional(item, positional, variadic)
            if item.is_many:
                variadic = found
            else:
                positional.append(found)
            words = {found.name}
        if words & seen:
            raise item.wrong(f"duplicate argument name `{min(words & seen)}`", "")
        seen |= words
    return ArgSpec(
        positional=tuple(positional),
        variadic=variadic,
        options=tuple(each for each in flags if isinstance(each, Option)),
        flags=tuple(each for each in flags if isinstance(each, Flag)),
    )


def _items(text: str) -> Iterator[_Item]:
    at = 0
    while (word := WORD.match(text, at)) is not None:
        start, at = word.span(1)
        body = word.group(1).removesuffix("...")
        is_many = body != word.group(1)
        inner = body
        if body[:1] in CLOSING:
            if body[-1:] != CLOSING[body[0]]:
                raise SpecError(f"invalid argument syntax: `{body}` is not closed", start, at)
            inner = body[1:-1].strip()
            is_many = is_many or inner.endswith("...")
            inner = inner.removesuffix("...")
        elif not body.startswith("-"):
            raise SpecError(f"invalid argument syntax: `{word.group(1)}`", start, at)
        elif (value := VALUE.match(text, at)) is not None and not is_many:
            inner, at = f"{body} {value.group(1)}", value.end()
        yield _Item(text[start:at], start, at, inner, body.startswith("["), is_many)


def _positional(
    item: _Item, before: Sequence[Positional], variadic: Positional | None
) -> Positional:
    if NAME.fullmatch(item.inner) is None:
        raise item.wrong(f"invalid argument syntax: `{item.text}` does not hold a name")
    if variadic is not None:
        raise item.wrong(f"variadic must be last: `{variadic.name}` takes all that follows")
    if before and not before[-1].required and not item.is_optional:
        message = f"optional positional `{before[-1].name}` cannot precede required `{item.inner}`"
        raise item.wrong(message, "put the required ones first")
    return Positional(name=item.inner, required=not item.is_optional)


def _flag(item: _Item) -> Flag | Option:
    if "..." in item.text or item.text.startswith("<"):
        message = f"invalid argument syntax: a flag takes no ellipsis or brackets: `{item.text}`"
        raise item.wrong(message)
    written, _, rest = item.inner.partition(" ")
    rest = rest.strip()
    parts = written.split("/")
    short = name = ""
    if len(parts) > 2:
        raise item.wrong(f"invalid argument syntax: `{written}` has too many parts")
    if len(parts) == 2 or not written.startswith("--"):
        if re.fullmatch(r"-[A-Za-z0-9]", parts[0]) is None:
            what = f"short form `{parts[0]}` is not one letter after `-`"
            raise item.wrong(f"invalid argument syntax: {what}")
        short = parts[0][1:]
    if len(parts) == 2 or written.startswith("--"):
        if not parts[-1].startswith("--") or NAME.fullmatch(parts[-1][2:]) is None:
            what = f"long form `{parts[-1]}` is not `--name`"
            raise item.wrong(f"invalid argument syntax: {what}")
        name = parts[-1][2:]
    if not rest:
        return Flag(name=name or short, short=short)
    if PLACEHOLDER.fullmatch(rest) is None:
        raise item.wrong(f"invalid argument syntax: `{rest}` is not one `<value>`")
    return Option(name=name or short, short=short, required=not item.is_optional)


def wrong_with(spec: ArgSpec) -> str:
    """What is wrong with a specification that was not written as text; empty if nothing is."""
    words = [each.name for each in spec.positional]
    words += [spec.variadic.name] if spec.variadic is not None else []
    flags: list[Option | Flag] = [*spec.options, *spec.flags]
    for flag in flags:
        words += sorted({flag.name, flag.short})
    for index, word in enumerate(words):
        if word and word in words[:index]:
            return f"duplicate argument name `{word}`"
    several = [*spec.positional, *([spec.variadic] if spec.variadic is not None else [])]
    for before, after in itertools.pairwise(several):
        if after.required and not before.required:
            return f"optional positional `{before.name}` cannot precede required `{after.name}`"
    return ""


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
    usage_hint = f"usage: oj run {command} {usage(spec)}".rstrip()
    given, words = _split(spec, tokens, command, usage_hint)
    bound = dict(defaults)
    wrong = ""
    for positional in spec.positional:
        if words:
            bound[positional.name] = words.pop(0)
        elif positional.required and positional.name not in bound:
            wrong = wrong or f"missing required argument <{positional.name}> of `{command}`"
    for option in spec.options:
        if option.required and option.name not in given and option.name not in bound:
            wrong = wrong or f"missing required option {dashed(option)} of `{command}`"
    if spec.variadic is not None:
        if words:
            bound[spec.variadic.name] = " ".join(words)
        elif spec.variadic.required and spec.variadic.name not in bound:
            wrong = wrong or f"missing required argument <{spec.variadic.name}...> of `{command}`"
    elif words:
        wrong = wrong or f"unexpected positional argument `{words[0]}` for `{command}`"
    if wrong:
        raise Rejected(wrong, code="invalid", hint=usage_hint)
    return bound | given


def _split(
    spec: ArgSpec, tokens: Sequence[str], command: str, usage_hint: str
) -> tuple[dict[str, str], list[str]]:
    """Options and flags by name, and the words that are neither."""
    known: dict[str, Option | Flag] = {}
    declared: list[Option | Flag] = [*spec.options, *spec.flags]
    for each in declared:
        known |= {dashed(each): each}
        known |= {f"-{each.short}": each} if each.short else {}
    given: dict[str, str] = {}
    words: list[str] = []
    rest = iter(tokens)
    for typed in rest:
        if typed == "--":
            words += rest
            break
        key, equals, value = typed.partition("=") if typed.startswith("--") else (typed, "", "")
        item = known.get(key)
        if isinstance(item, Flag):
            if equals:
                raise _refused(f"flag `{key}` of `{command}` takes no value", usage_hint)
            given[item.name] = "true"
        elif item is not None:
            text = value if equals else next(rest, None)
            if text is None:
                raise _refused(f"option `{key}` of `{command}` needs a value", usage_hint)
            given[item.name] = text
        elif len(typed) > 1 and typed.startswith("-") and NUMBER.fullmatch(typed) is None:
            near = nearest(key, known)
            hint = f"{usage_hint}; after `--` every word is an argument"
            message = f"unknown option `{key}` for `{command}`"
            raise _refused(message, f"did you mean `{near}`?" if near else hint)
        else:
            words.append(typed)
    return given, words


def _refused(message: str, hint: str) -> Rejected:
    return Rejected(message, code="invalid", hint=hint)
