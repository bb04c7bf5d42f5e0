"""Reading typed values out of the tree, and collecting what is wrong with them.

Rule: nothing here knows a block of the language. Every key that is not asked for is an error, every wrong value is an
error with its place, and reading goes on after each, so that a person sees all problems of a file at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol, TypeVar

from oj_daemon.runbook import consts, durations, template
from oj_daemon.runbook.model import Shell, Text
from oj_daemon.runbook.suggest import did_you_mean, nearest
from oj_daemon.runbook.tree import (
    NOT_TEXT,
    Entry,
    Node,
    Object,
    Problem,
    Source,
    has_enough,
    kind_of,
    problem,
)

T = TypeVar("T")

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED_ENV = re.compile(r"OJ_(V\d+|STEP)")
MAX_LABEL = 64
MAX_SHELL = 100_000


class BadShell(Exception):
    """Shell text that cannot be run; line and column count from 1 within the text."""

    def __init__(self, message: str, line: int, column: int, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column
        self.hint = hint


class Compiler(Protocol):
    """Turns shell text into what bash runs; raises BadShell."""

    def shell(self, text: str, known: Collection[str]) -> Shell:
        """Compile a script."""
        ...

    def text(self, text: str, known: Collection[str]) -> Text:
        """Compile a template that may hold `$(...)`."""
        ...


class Outline:
    """Compiles nothing: for those who only need to know what a file defines."""

    def shell(self, text: str, known: Collection[str]) -> Shell:
        """The text alone."""
        del known
        return Shell(text=text, script="")

    def text(self, text: str, known: Collection[str]) -> Text:
        """The text alone."""
        del known
        return Text(text=text)


class Scope:
    """Which names a template may use at one place of a runbook."""

    def __init__(
        self,
        known: Iterable[str] = (),
        dotted: Mapping[str, Collection[str] | None] | None = None,
        advice: Mapping[str, str] | None = None,
        *,
        any_word: bool = False,
    ) -> None:
        self.known = frozenset(known)
        """Names without a dot."""
        self.dotted = dict(dotted or {})
        """Namespace -> the names in it; None where any name may have a value."""
        self.advice = dict(advice or {})
        """What to say when a namespace is used that this place does not have."""
        self.any_word = any_word
        """Names without a dot are not checked (arguments of a job that declares none)."""


class Context:
    """One file that is being read: its problems so far, and how to compile its shell text."""

    def __init__(self, source: Source, compiler: Compiler, constants: Mapping[str, str]) -> None:
        self.source = source
        self.compiler = compiler
        self.constants = constants
        self.problems: list[Problem] = []

    @property
    def is_full(self) -> bool:
        """Whether so much is wrong that looking on is a waste of time."""
        return has_enough(self.problems, warnings=False)

    def error(
        self, at: Node | Entry, message: str, hint: str = "", *, warning: bool = False
    ) -> None:
        """Note something wrong with a value or a key."""
        self.span(at.start, at.end, message, hint, warning=warning)

    def span(
        self, start: int, end: int, message: str, hint: str = "", *, warning: bool = False
    ) -> None:
        """Note something wrong between two offsets of the file."""
        found = problem(self.source, (start, end), message, hint, warning=warning)
        if not has_enough(self.problems, warnings=warning) and found not in self.problems:
            self.problems.append(found)

    # Texts

    def filled(self, node: Node, *, in_shell: bool = False) -> Node:
        """A string with the constants in it."""
        return consts.fill(node, self.constants, in_shell=in_shell)

    def check_names(self, node: Node, scope: Scope, where: str, *, plain: bool) -> None:
        """Complain about every placeholder that can never have a value here."""
        text = str(node.value)
        for found in template.placeholders(text):
            if self.is_full:
                return
            start, end = node.at(found.start), node.at(found.end)
            if "." in found.name:
                self._check_dotted(found.name, scope, where, start, end)
            elif plain and not (
                found.name in scope.known or scope.any_word or found.is_environment
            ):
                message = f"unknown name `{found.name}` in {where}"
                hint = _other_spelling(found.name, scope)
                self.span(start, end, message, hint)
        # In shell text the compiler sees to malformed ones, because there they may be bash's.
        for start in template.malformed(text) if plain else ():
            self.span(
                node.at(start),
                node.at(start) + 2,
                f"malformed placeholder in {where}",
                "the forms are ${name}, ${name:offset}, ${name:offset:length} and ${name:-default}",
            )

    def _check_dotted(self, name: str, scope: Scope, where: str, start: int, end: int) -> None:
        space, _, rest = name.partition(".")
        if space == "const":
            message = f"unknown const `{rest}` in {where}"
            hint = (
                did_you_mean(rest, self.constants, "known consts")
                or 'a library declares it with const "name" {}'
            )
            self.span(start, end, message, hint)
            return
        if space not in scope.dotted:
            if space in scope.advice:
                self.span(
                    start, end, f"`${{{name}}}` is not available in {where}", scope.advice[space]
                )
                return
            message = f"unrecognized template namespace `{space}` in {where}"
            if space in template.NAMESPACES:
                message = f"`${{{name}}}` is not available in {where}"
            names = [f"{each}." for each in scope.dotted]
            near = nearest(space, scope.dotted)
            hint = (
                f"did you mean `${{{near}.{rest}}}`?"
                if near
                else did_you_mean("", names, "namespaces here")
            )
            self.span(start, end, message, hint)
            return
        names_here = scope.dotted[space]
        if names_here is None or rest in names_here:
            return
        if space in ("var", "args") and rest.partition(".")[0] in names_here:
            return  # a field of a queue item
        hint = did_you_mean(rest, sorted(names_here), f"known in `{space}.`")
        near = nearest(rest, sorted(names_here))
        if near is not None:
            hint = f"did you mean `${{{space}.{near}}}`?"
        elif not hint:
            hint = scope.advice.get(space, "")
        self.span(start, end, f"unknown name `{name}` in {where}", hint)

    def plain(self, node: Node, scope: Scope, where: str) -> str:
        """A plain template."""
        node = self.filled(node)
        text = str(node.value)
        self.check_names(node, scope, where, plain=True)
        return text

    def shell(self, node: Node, scope: Scope, where: str) -> Shell:
        """Shell text, compiled; after a complaint the result is only a stand-in."""
        text = self._shell_text(node, scope, where)
        if NOT_TEXT.search(str(text.value)):
            return Shell(text="", script="")  # the reader of the file has complained
        try:
            return self.compiler.shell(str(text.value), scope.known)
        except BadShell as exc:
            self._bad_shell(text, exc, where)
            return Shell(text=str(text.value), script="")

    def text(self, node: Node, scope: Scope, where: str) -> Text:
        """A template that may hold `$(...)`."""
        if "$(" not in str(node.value):
            return self.compiler.text(self.plain(node, scope, where), scope.known)
        text = self._shell_text(node, scope, where)
        if NOT_TEXT.search(str(text.value)):
            return Text(text="")
        try:
            return self.compiler.text(str(text.value), scope.known)
        except BadShell as exc:
            self._bad_shell(text, exc, where)
            return Text(text=str(text.value))

    def _shell_text(self, node: Node, scope: Scope, where: str) -> Node:
        written = str(node.value)
        for found in consts.PLAIN.finditer(written):
            name = found.group(1)
            if "${" in self.constants.get(name, ""):
                message = (
                    f"the value of const `{name}` holds a placeholder, which would be read as text"
                )
                self.span(
                    node.at(found.start()),
                    node.at(found.end()),
                    message,
                    f"write ${{raw(const.{name})}}",
                )
        node = self.filled(node, in_shell=True)
        self.check_names(node, scope, where, plain=False)
        if not str(node.value).strip():
            self.error(node, f"shell text of {where} is empty")
        elif len(str(node.value)) > MAX_SHELL:
            self.error(node, f"shell text of {where} is longer than {MAX_SHELL} characters")
        return node

    def _bad_shell(self, node: Node, exc: BadShell, where: str) -> None:
        text = str(node.value)
        offset = 0
        for _ in range(max(0, exc.line - 1)):
            next_line = text.find("\n", offset)
            if next_line < 0:
                break
            offset = next_line + 1
        offset = min(offset + max(0, exc.column - 1), len(text))
        at = node.at(offset)
        place = self.source.place(at)
        if any(
            (each.line, each.column) == (self.source.disk_line(place[0]), place[1])
            for each in self.problems
        ):
            return  # this very placeholder was complained about already
        self.span(at, at + 1, f"invalid shell command in {where}: {exc.message}", exc.hint)


def _other_spelling(name: str, scope: Scope) -> str:
    """What may have been meant by a name without a dot that is not known."""
    variables = scope.dotted.get("var") or ()
    if name in variables:
        return f"write ${{var.{name}}}"
    near = None if name.isupper() else nearest(name, scope.known)
    if near is not None:
        return f"did you mean `${{{near}}}`?"
    hint = f"${{{name}:-}} reads the environment, $${{{name}}} is literal text"
    known = ", ".join(f"`{each}`" for each in sorted(scope.known))
    return f"{hint}; names here: {known}" if known else hint


class Body:
    """The entries of one block; whatever is not taken is an unknown key."""

    def __init__(self, ctx: Context, node: Node | Entry, body: Object, where: str) -> None:
        self.ctx = ctx
        self.node = node
        """What to point at when something is missing."""
        self.entries = list(body.entries)
        self.where = where
        self.known: list[str] = []

    def all(self, *keys: str) -> list[Entry]:
        """Every entry of a key or its synonyms, in file order."""
        self.known += keys
        found = [entry for entry in self.entries if entry.key in keys]
        self.entries = [entry for entry in self.entries if entry.key not in keys]
        return found

    def take(self, *keys: str) -> Entry | None:
        """The one entry of a key or its synonyms."""
        found = self.all(*keys)
        for entry in found[1:]:
            self.ctx.error(entry, f"`{entry.key}` is set twice in {self.where}")
        return found[0] if found else None

    def value(self, *keys: str) -> Node | None:
        """The value of a key that takes no labels."""
        entry = self.take(*keys)
        if entry is None:
            return None
        if entry.labels:
            self.ctx.error(entry.labels[0], f"`{entry.key}` takes no label")
        return entry.value

    def missing(self, key: str, hint: str = "") -> None:
        """Complain that a key is not there."""
        self.ctx.error(self.node, f"missing field `{key}` in {self.where}", hint)

    def finish(self, wrong: Mapping[str, str] | None = None) -> None:
        """Complain about what was not taken; `wrong` holds advice for keys that people expect here."""
        for entry in self.entries:
            if self.ctx.is_full:
                break
            hint = (wrong or {}).get(entry.key) or did_you_mean(entry.key, self.known, "keys here")
            self.ctx.error(entry, f"unknown key `{entry.key}` in {self.where}", hint)
        self.entries = []

    # Typed values

    def string(self, key: str, *more: str, required: bool = False) -> Node | None:
        """A string, constants filled in where it is not a template."""
        node = self.value(key, *more)
        if node is None:
            if required:
                self.missing(key)
            return None
        return string(self.ctx, node, f"`{key}` of {self.where}")

    def word(self, key: str, choices: Collection[str], default: str) -> str:
        """One of some words."""
        node = self.string(key)
        return (
            default
            if node is None
            else word(self.ctx, node, choices, f"`{key}` of {self.where}", default)
        )

    def integer(self, key: str, default: int, least: int = 1, *, hint: str = "") -> int:
        """A whole number."""
        node = self.value(key)
        if node is None:
            return default
        what = f"`{key}` of {self.where}"
        if not isinstance(node.value, int) or isinstance(node.value, bool):
            shown = f"`{node.value}`" if isinstance(node.value, float) else kind_of(node)
            self.ctx.error(node, f"{what} must be a whole number, not {shown}")
            return default
        if node.value < least:
            self.ctx.error(node, f"{what} must be >= {least}", hint)
            return default
        if node.value > 1_000_000:
            self.ctx.error(node, f"{what} is too large")
            return default
        return node.value

    def flag(self, key: str, *, default: bool = False) -> bool:
        """true or false."""
        node = self.value(key)
        if node is None:
            return default
        if not isinstance(node.value, bool):
            self.ctx.error(
                node, f"`{key}` of {self.where} must be true or false, not {kind_of(node)}"
            )
            return default
        return node.value

    def duration(self, key: str, *, least: int = 0) -> int | None:
        """A duration, in milliseconds."""
        node = self.value(key)
        return None if node is None else duration(self.ctx, node, f"`{key}` of {self.where}", least)

    def strings(self, key: str, *more: str) -> list[Node]:
        """A list of strings."""
        node = self.value(key, *more)
        return [] if node is None else strings(self.ctx, node, f"`{key}` of {self.where}")

    def names(self, key: str, *more: str) -> tuple[str, ...]:
        """A list of identifiers, each once."""
        found: dict[str, None] = {}
        for node in self.strings(key, *more):
            name = str(node.value)
            if IDENTIFIER.fullmatch(name) is None:
                self.ctx.error(
                    node,
                    f"`{name}` in `{key}` of {self.where} is not a name",
                    "use letters, digits, _ and -",
                )
            elif name in found:
                self.ctx.error(node, f"`{name}` is twice in `{key}` of {self.where}")
            else:
                found[name] = None
        return tuple(found)

    def map(self, key: str) -> list[tuple[Entry, Node]]:
        """An object whose values are strings."""
        node = self.value(key)
        return [] if node is None else string_map(self.ctx, node, f"`{key}` of {self.where}")

    def plain_map(self, key: str) -> dict[str, str]:
        """An object whose values are strings, not templates, by identifier."""
        found: dict[str, str] = {}
        for entry, value in self.map(key):
            if IDENTIFIER.fullmatch(entry.key) is None:
                self.ctx.error(entry, f"`{entry.key}` in `{key}` of {self.where} is not a name")
            found[entry.key] = str(self.ctx.filled(value).value)
        return found

    def env(self, scope: Scope) -> dict[str, str]:
        """Environment variables: plain templates."""
        found: dict[str, str] = {}
        for entry, value in self.map("env"):
            if ENV_NAME.fullmatch(entry.key) is None:
                self.ctx.error(entry, f"`{entry.key}` is not the name of an environment variable")
            elif RESERVED_ENV.fullmatch(entry.key) is not None:
                self.ctx.error(entry, f"`{entry.key}` is reserved for oj itself")
            found[entry.key] = self.ctx.plain(value, scope, f"{self.where}.env.{entry.key}")
        return found

    def plain(self, key: str, scope: Scope) -> str | None:
        """A plain template."""
        node = self.template(key)
        return None if node is None else self.ctx.plain(node, scope, f"{self.where}.{key}")

    def template(self, key: str) -> Node | None:
        """A string whose constants are not yet filled in."""
        node = self.value(key)
        return (
            None if node is None else string(self.ctx, node, f"`{key}` of {self.where}", raw=True)
        )


def string(ctx: Context, node: Node, what: str, *, raw: bool = False) -> Node | None:
    """The node, if it is a string."""
    if not isinstance(node.value, str):
        hint = f'write "{node.value}" in quotes' if isinstance(node.value, (int, float)) else ""
        if isinstance(node.value, bool):
            hint = f'write "{str(node.value).lower()}" in quotes'
        ctx.error(node, f"{what} must be a string, not {kind_of(node)}", hint)
        return None
    return node if raw else ctx.filled(node)


def word(ctx: Context, node: Node, choices: Collection[str], what: str, default: str) -> str:
    """The string, if it is one of some words."""
    text = str(node.value)
    if text in choices:
        return text
    ctx.error(node, f"{what} cannot be `{text}`", did_you_mean(text, choices, "one of"))
    return default


def duration(ctx: Context, node: Node, what: str, least: int = 0) -> int | None:
    """Milliseconds of a duration that is a string or a whole number of seconds."""
    if isinstance(node.value, bool) or not isinstance(node.value, (str, int)):
        ctx.error(node, f"{what} must be a duration, not {kind_of(node)}", durations.EXAMPLES)
        return None
    text = str(ctx.filled(node).value)
    try:
        value = durations.parse_ms(text)
    except ValueError as exc:
        message, _, hint = str(exc).partition(": ")
        ctx.error(node, f"{what}: {message}", hint)
        return None
    if value < least:
        ctx.error(node, f"{what} must be more than zero")
        return None
    return value


def strings(ctx: Context, node: Node, what: str) -> list[Node]:
    """The items of a list of strings."""
    if not isinstance(node.value, list):
        hint = f'write ["{node.value}"]' if isinstance(node.value, str) else ""
        ctx.error(node, f"{what} must be a list of strings, not {kind_of(node)}", hint)
        return []
    found = (string(ctx, item, f"an item in {what}") for item in node.value)
    return [item for item in found if item is not None]


def string_map(ctx: Context, node: Node, what: str) -> list[tuple[Entry, Node]]:
    """The entries of an object whose values are strings (constants not yet filled in)."""
    found: list[tuple[Entry, Node]] = []
    seen: set[str] = set()
    for entry in object_entries(ctx, node, what):
        if entry.labels or entry.is_block:
            ctx.error(entry, f"{what} holds no blocks", f"write {entry.key} = ...")
            continue
        if entry.key in seen:
            ctx.error(entry, f"`{entry.key}` is set twice in {what}")
            continue
        seen.add(entry.key)
        value = string(ctx, entry.value, f"`{entry.key}` in {what}", raw=True)
        if value is not None:
            found.append((entry, value))
    return found


def object_entries(ctx: Context, node: Node, what: str) -> list[Entry]:
    """The entries of an object; none after a complaint."""
    if isinstance(node.value, Object):
        return node.value.entries
    ctx.error(node, f"{what} must be an object, not {kind_of(node)}")
    return []


def body_of(ctx: Context, node: Node, where: str, at: Node | Entry | None = None) -> Body | None:
    """The body of a value that has to be an object."""
    if not isinstance(node.value, Object):
        ctx.error(node, f"{where} must be an object, not {kind_of(node)}")
        return None
    return Body(ctx, at or node, node.value, where)


def labelled(
    ctx: Context, entries: Iterable[Entry], kind: str, make: Callable[[str, Node, Node], None]
) -> None:
    """Call `make(name, what carries the name, value)` for `kind "name" { }` blocks and `{kind: {name: {}}}` objects."""
    for entry in entries:
        if entry.is_block and len(entry.labels) == 1:
            label = ctx.filled(entry.labels[0])
            make(str(label.value), entry.labels[0], entry.value)
        elif entry.is_block and entry.labels:
            ctx.error(entry.labels[1], f"{kind} takes one label", f'write {kind} "name" {{ ... }}')
        elif not isinstance(entry.value.value, Object):
            hint = f'write {kind} "name" {{ ... }}'
            ctx.error(
                entry.value,
                f"`{entry.key}` must hold {kind} definitions by name, not {kind_of(entry.value)}",
                hint,
            )
        elif entry.is_block and any(
            not isinstance(inner.value.value, Object) for inner in entry.value.value.entries
        ):
            ctx.error(entry, f"{kind} needs a name", f'write {kind} "name" {{ ... }}')
        else:
            for inner in entry.value.value.entries:
                if inner.labels:
                    ctx.error(inner.labels[0], f"unexpected label in `{entry.key}`")
                    continue
                make(inner.key, Node(inner.key, inner.start, inner.end), inner.value)


def check_label(ctx: Context, name: str, at: Node, kind: str) -> bool:
    """Whether a name may be that of a definition."""
    article = "an" if kind.startswith("a") else "a"
    if not name.strip():
        ctx.error(at, f"{kind} name is required")
    elif LABEL.fullmatch(name) is None:
        ctx.error(
            at,
            f"`{name}` cannot be the name of {article} {kind}",
            "use letters, digits, _, - and .",
        )
    elif len(name) > MAX_LABEL:
        ctx.error(at, f"the name of this {kind} is longer than {MAX_LABEL} characters")
    else:
        return True
    return False
