"""The common tree that HCL, TOML and JSON are read into, and the problems found in it.

Rule: every value, key and label knows where it stands in its file; whatever is wrong is shown as
`path:line:column: message`, the line itself, a caret under the offending token and, where there is one, a hint.
Offsets count characters of the text that was parsed; `Source.lines` leads back to the lines of the file on disk.
"""

from __future__ import annotations

import re
from bisect import bisect_right

import msgspec

from oj_daemon.errors import RunbookError

MAX_DEPTH = 40
"""How deeply blocks, lists and objects may be nested."""
NOT_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that neither a UTF-8 file nor a process environment can hold."""
MAX_PROBLEMS = 100
"""Nobody reads on; what comes after the first hundred shows up when those are put right."""
MAX_SENTENCE = 600
MAX_EXCERPT = 160
"""Longest part of a source line that is shown."""


class Source:
    """The text of one file."""

    __slots__ = ("lines", "path", "starts", "text")

    def __init__(self, path: str, text: str, lines: list[int] | None = None) -> None:
        self.path = path
        self.text = text
        self.lines = lines
        """Line on disk (from 1) of each line of `text`; None where they are the same."""
        self.starts = [0]
        find = text.find
        at = find("\n")
        while at >= 0:
            self.starts.append(at + 1)
            at = find("\n", at + 1)

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of the parsed text, both from 1."""
        index = bisect_right(self.starts, offset) - 1
        return index + 1, offset - self.starts[index] + 1

    def disk_line(self, line: int) -> int:
        """The line on disk of a line of the parsed text."""
        if self.lines is None or line > len(self.lines):
            return line
        return self.lines[line - 1]

    def line_text(self, line: int) -> str:
        """One line of the parsed text, without its end."""
        start = self.starts[line - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end]


def normalise(text: str) -> str:
    """Drop a byte order mark and turn CRLF into LF, so that shell text has the line ends that bash expects."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


class Problem(msgspec.Struct, frozen=True):
    """Something wrong in a file."""

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    excerpt: str = ""
    """The source line, perhaps cut; tabs are kept."""
    caret: int = 1
    """Column of the caret within `excerpt`."""
    width: int = 1
    """How many carets."""
    warning: bool = False

    def render(self) -> str:
        """The whole text that a person sees."""
        kind = "warning: " if self.warning else ""
        head = f"{self.path}:{self.line}:{self.column}: {kind}{self.message}"
        lines = [head]
        if self.excerpt:
            number = f"{self.line:>4}"
            pad = "".join("\t" if char == "\t" else " " for char in self.excerpt[: self.caret - 1])
            lines += [f"{number} | {self.excerpt}", f"     | {pad}{'^' * self.width}"]
        if self.hint:
            lines.append(f"     = hint: {self.hint}")
        return "\n".join(lines)


def problem(
    source: Source, span: tuple[int, int], message: str, hint: str = "", *, warning: bool = False
) -> Problem:
    """A problem with the token between two offsets."""
    start, end = span
    start = max(0, min(start, len(source.text)))
    line, column = source.place(start)
    text = source.line_text(line)
    width = max(1, min(end - start, len(text) - column + 1))
    cut = max(0, column - MAX_EXCERPT // 2) if len(text) > MAX_EXCERPT else 0
    excerpt = text[cut : cut + MAX_EXCERPT]
    caret = column - cut
    return Problem(
        path=source.path,
        line=source.disk_line(line),
        column=column,
        message=_cut(message),
        hint=_cut(hint),
        excerpt=_printable(excerpt),
        caret=caret,
        width=max(1, min(width, len(excerpt) - caret + 1)),
        warning=warning,
    )


def _cut(text: str) -> str:
    """A sentence of bearable length, whatever names it holds."""
    return text if len(text) <= MAX_SENTENCE else f"{text[: MAX_SENTENCE - 4]} ..."


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)


def has_enough(problems: list[Problem], *, warnings: bool) -> bool:
    """Whether there are so many of one sort that no more are kept. Warnings never crowd out an error."""
    if len(problems) < MAX_PROBLEMS:
        return False
    return sum(each.warning == warnings for each in problems) >= MAX_PROBLEMS


def failure(problems: list[Problem]) -> RunbookError:
    """The error that holds all these problems."""
    return RunbookError("\n".join(each.render() for each in problems), code="invalid")


class SyntaxProblem(Exception):
    """A file that cannot be read any further; caught by the readers' callers."""

    def __init__(self, found: Problem) -> None:
        super().__init__(found.message)
        self.problem = found


class Node(msgspec.Struct):
    """A value and where it stands."""

    value: str | int | float | bool | list[Node] | Object | None
    start: int
    end: int
    spans: list[tuple[int, int]] = []
    """For strings: (offset in the value, offset in the file), ascending; between two, both advance together."""

    def at(self, offset: int) -> int:
        """The offset in the file of an offset in this string."""
        if not self.spans:
            return self.start
        index = max(0, bisect_right(self.spans, offset, key=lambda span: span[0]) - 1)
        within, where = self.spans[index]
        return where + (offset - within)


class Entry(msgspec.Struct):
    """A key with its value, or a block with its labels and body."""

    key: str
    start: int
    end: int
    value: Node
    labels: list[Node] = []
    is_block: bool = False


class Object(msgspec.Struct):
    """Entries in the order of the file; keys may repeat only where they are blocks."""

    entries: list[Entry]


KINDS = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    Object: "an object",
}


def kind_of(node: Node) -> str:
    """What a value is, for messages."""
    if node.value is None:
        return "null"
    return KINDS[type(node.value)]
