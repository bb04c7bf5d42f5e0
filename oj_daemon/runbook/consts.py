"""Constants of libraries: directives, pasted text, and the values behind `${const.x}`.

Rule: `%{ if }` directives and `${raw(const.x)}` change the text before it is read, so they may stand anywhere;
`${const.x}` is replaced after reading, inside of strings only, so a value can never change what the file is made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

import msgspec

from oj_daemon.runbook import hcl
from oj_daemon.runbook.suggest import did_you_mean
from oj_daemon.runbook.tree import (
    Entry,
    Node,
    Object,
    Problem,
    Source,
    SyntaxProblem,
    problem,
)

DIRECTIVE = re.compile(r"[ \t]*%\{~?\s*(if|else|endif)\b([^}\n]*?)~?\}[ \t]*", re.ASCII)
CONDITION = re.compile(r'\s*const\.([A-Za-z_][\w-]*)\s*(==|!=)\s*"((?:[^"\\]|\\.)*)"\s*', re.ASCII)
RAW = re.compile(r"\$\{\s*raw\(\s*const\.([A-Za-z_][\w-]*)\s*\)\s*\}", re.ASCII)
PLAIN = re.compile(r"(?<!\$)\$\{const\.([A-Za-z_][\w-]*)\}", re.ASCII)
BLOCK = re.compile(r'^consts?[ \t]+"?[A-Za-z_]', re.MULTILINE)
SHELL_SPECIAL = re.compile(r'[\\$`"]')


class Const(msgspec.Struct, frozen=True):
    """A constant that a library declares."""

    name: str
    default: str | None = None
    """None: whoever imports the library must give a value."""


def declared(source: Source) -> tuple[dict[str, Const], list[Problem]]:
    """The `const` blocks at the top level of a file, found without reading the rest of it."""
    consts: dict[str, Const] = {}
    problems: list[Problem] = []
    for found in BLOCK.finditer(source.text):
        try:
            entry = hcl.read_entry(source, found.start(), problems)
        except SyntaxProblem:
            continue  # reported when the whole file is read
        const = from_entry(entry)
        if const is not None:
            consts.setdefault(const.name, const)
    return consts, problems


def from_entry(entry: Entry) -> Const | None:
    """The constant that a `const "name" { default = "..." }` block declares; None if it is not well formed."""
    if len(entry.labels) != 1 or not isinstance(entry.value.value, Object):
        return None
    name = entry.labels[0].value
    default = None
    for inner in entry.value.value.entries:
        if inner.key == "default" and isinstance(inner.value.value, str):
            default = inner.value.value
    return Const(name=str(name), default=default)


def prepare(path: str, text: str, values: Mapping[str, str]) -> Source:
    """Evaluate directives and paste `${raw(const.x)}`; the result knows the lines it came from."""
    if "%{" not in text and "raw(" not in text:
        return Source(path, text)
    original = Source(path, text)
    out: list[str] = []
    numbers: list[int] = []
    for number, line in _kept(original, values):
        pasted = _paste(original, number, line, values)
        rows = pasted.split("\n")
        out += rows
        numbers += [number] * len(rows)
    return Source(path, "\n".join(out), numbers)


def _kept(source: Source, values: Mapping[str, str]) -> list[tuple[int, str]]:
    """The lines that the directives leave, with their numbers."""
    kept: list[tuple[int, str]] = []
    opened: list[
        tuple[int, bool, bool]
    ] = []  # line, whether this branch is kept, whether an else was seen
    for number, line in enumerate(source.text.split("\n"), 1):
        found = DIRECTIVE.fullmatch(line)
        if found is None:
            if all(keep for _, keep, _ in opened):
                kept.append((number, line))
            continue
        word, rest = found.group(1), found.group(2)
        if word == "if":
            opened.append((number, _holds(source, number, rest, values), False))
            continue
        if rest.strip():
            _fail(source, number, f"`%{{ {word} }}` takes nothing else")
        if not opened:
            _fail(source, number, f"`%{{ {word} }}` without `%{{ if }}`")
        start, keep, has_else = opened.pop()
        if word == "else":
            if has_else:
                _fail(source, number, f"second `%{{ else }}` for the `%{{ if }}` of line {start}")
            opened.append((start, not keep, True))
    if opened:
        _fail(source, opened[-1][0], "`%{ if }` is never closed", "end it with a line %{ endif }")
    return kept


def _holds(source: Source, number: int, text: str, values: Mapping[str, str]) -> bool:
    condition = CONDITION.fullmatch(text)
    if condition is None:
        _fail(
            source,
            number,
            "malformed condition",
            'write %{ if const.name == "text" } or != instead of ==',
        )
    name, operator, literal = condition.groups()
    literal = re.sub(r"\\(.)", r"\1", literal)
    return (values.get(name, "") == literal) == (operator == "==")


def _paste(source: Source, number: int, line: str, values: Mapping[str, str]) -> str:
    if "raw(" not in line:
        return line
    indent = line[: len(line) - len(line.lstrip(" \t"))]

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in values:
            at = source.starts[number - 1] + found.start()
            message = f"unknown const `{name}`"
            hint = did_you_mean(name, values, "known here") or f'declare it: const "{name}" {{}}'
            raise SyntaxProblem(problem(source, (at, at + len(found.group())), message, hint))
        return values[name].rstrip("\n").replace("\n", "\n" + indent)

    return RAW.sub(value, line)


def _fail(source: Source, number: int, message: str, hint: str = "") -> NoReturn:
    start = source.starts[number - 1]
    line = source.line_text(number)
    at = start + len(line) - len(line.lstrip())
    raise SyntaxProblem(problem(source, (at, start + len(line.rstrip())), message, hint))


def fill(node: Node, values: Mapping[str, str], *, in_shell: bool) -> Node:
    """A string with `${const.x}` replaced; in shell text a value is escaped for double quotes. Unknown names stay."""
    text = node.value
    if not isinstance(text, str) or "${const." not in text:
        return node
    out: list[str] = []
    spans: list[tuple[int, int]] = []
    length = at = 0
    for found in PLAIN.finditer(text):
        if found.group(1) not in values:
            continue
        literal = values[found.group(1)]
        value = SHELL_SPECIAL.sub(r"\\\g<0>", literal) if in_shell else literal.replace("${", "$${")
        spans += _between(node, at, found.start(), length)
        length += found.start() - at
        spans.append((length, node.at(found.start())))
        out += [text[at : found.start()], value]
        length += len(value)
        at = found.end()
    spans += _between(node, at, len(text), length)
    out.append(text[at:])
    return Node("".join(out), node.start, node.end, spans)


def _between(node: Node, start: int, end: int, length: int) -> Sequence[tuple[int, int]]:
    """The spans of a part of a string, moved to where the part now stands."""
    inner = [
        (length + within - start, where) for within, where in node.spans if start < within < end
    ]
    return [(length, node.at(start)), *inner]
