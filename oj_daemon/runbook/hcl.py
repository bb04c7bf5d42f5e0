"""A reader of the HCL that runbooks are written in: text -> tree.

Rule: this file knows the syntax and nothing of what words mean. Blocks, labels, attributes, strings, numbers, booleans,
null, lists, objects and heredocs are all there is; `${...}` is our own template syntax and is copied as it stands.
"""

from __future__ import annotations

import re

from oj_daemon.runbook.tree import (
    MAX_DEPTH,
    MAX_PROBLEMS,
    Entry,
    Node,
    Object,
    Problem,
    Source,
    SyntaxProblem,
    problem,
)

SPACE = re.compile(r"(?:[ \t\r\n]+|\#[^\n]*|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
BLANK = re.compile(r"(?:[ \t\r]+|/\*.*?\*/)*", re.DOTALL)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
WORD = re.compile(r"[\w.+-]+")
PLAIN = re.compile(r'[^"\\\n$%]+')
HEREDOC = re.compile(r"<<(-?)([A-Za-z_][\w.-]*)[ \t]*\r?\n")
HEX = {"u": re.compile(r"[0-9a-fA-F]{4}"), "U": re.compile(r"[0-9a-fA-F]{8}")}
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
KEYWORDS = {"true": True, "false": False, "null": None}
MAX_DIGITS = 18


def read(source: Source, problems: list[Problem]) -> Object:
    """Read a file; adds problems that need not stop the reading, raises SyntaxProblem for those that do."""
    return _Reader(source, problems).body(0, None)


class _Reader:
    def __init__(self, source: Source, problems: list[Problem]) -> None:
        self.source = source
        self.text = source.text
        self.at = 0
        self.problems = problems

    def wrong(
        self, message: str, start: int | None = None, hint: str = "", end: int | None = None
    ) -> SyntaxProblem:
        """What keeps the file from being read on."""
        start = self.at if start is None else start
        return SyntaxProblem(problem(self.source, (start, end or start + 1), message, hint))

    def char(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        if self.text.startswith("/*", self.at):
            raise self.wrong("comment is never closed", hint="end it with */", end=self.at + 2)

    def found(self) -> str:
        char = self.char()
        if not char:
            return "end of file"
        if char == "\n":
            return "end of line"
        word = WORD.match(self.text, self.at)
        return f"`{word.group() if word else char}`"

    def twice(self, entry: Entry, where: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            message = f"`{entry.key}` is set twice in this {where}"
            self.problems.append(problem(self.source, (entry.start, entry.end), message))

    def deeper(self, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise self.wrong(f"nested more than {MAX_DEPTH} levels deep")
        return depth + 1

    # Blocks

    def body(self, depth: int, opened: int | None) -> Object:
        entries: list[Entry] = []
        attributes: set[str] = set()
        while True:
            self.skip(SPACE)
            if self.at >= len(self.text):
                if opened is not None:
                    raise self.wrong("missing `}` for the block opened here", opened)
                return Object(entries)
            if self.char() == "}":
                if opened is None:
                    raise self.wrong(
                        "unexpected `}`",
                        hint="there is no open block here; is there one `}` too many above?",
                    )
                self.at += 1
                return Object(entries)
            entry = self.entry(depth)
            if not entry.is_block:
                if entry.key in attributes:
                    self.twice(entry, "block")
                    continue
                attributes.add(entry.key)
            entries.append(entry)

    def entry(self, depth: int) -> Entry:
        name = NAME.match(self.text, self.at)
        if name is None:
            hint = "keys are written without quotes here" if self.char() == '"' else ""
            raise self.wrong(
                f"expected an attribute or block name, found {self.found()}", hint=hint
            )
        start, key = self.at, name.group()
        self.at = name.end()
        self.skip(BLANK)
        if self.char() == "=":
            self.at += 1
            self.skip(BLANK)
            is_heredoc = self.text.startswith("<<", self.at)
            value = self.value(depth, f"{key} =")
            if not is_heredoc:
                self.end_of_entry(f"the value of `{key}`")
            return Entry(key, start, start + len(key), value)
        labels: list[Node] = []
        while True:
            if self.char() == '"':
                labels.append(self.string())
            elif (word := NAME.match(self.text, self.at)) is not None:
                labels.append(Node(word.group(), self.at, word.end()))
                self.at = word.end()
            else:
                break
            self.skip(BLANK)
        if self.char() != "{":
            hint = f"write `{key} = ...`" if self.char() == ":" else ""
            raise self.wrong(f"expected `=` or `{{` after `{key}`, found {self.found()}", hint=hint)
        opened = self.at
        self.at += 1
        body = self.body(self.deeper(depth), opened)
        value = Node(body, opened, self.at)
        self.end_of_entry(f"block `{key}`")
        return Entry(key, start, start + len(key), value, labels, is_block=True)

    def end_of_entry(self, what: str) -> None:
        self.skip(BLANK)
        if self.char() in ("", "\n", "#", "}") or self.text.startswith("//", self.at):
            return
        hint = "no comma between attributes of a block" if self.char() == "," else ""
        raise self.wrong(f"expected a new line after {what}, found {self.found()}", hint=hint)

    # Values

    def value(self, depth: int, after: str) -> Node:
        char = self.char()
        if char == '"':
            return self.string()
        if char == "[":
            return self.sequence(depth)
        if char == "{":
            return self.mapping(depth)
        start = self.at
        heredoc = HEREDOC.match(self.text, start)
        if heredoc is not None:
            return self.heredoc(heredoc)
        if self.text.startswith("<<", start):
            raise self.wrong(
                "malformed heredoc",
                hint="write <<-TEXT at the end of the line, then the text, then TEXT alone on a line",
                end=start + 2,
            )
        word = WORD.match(self.text, start)
        number = NUMBER.match(self.text, start)
        if number is not None and word is not None and number.end() == word.end():
            return self.number(number)
        if word is not None and word.group() in KEYWORDS:
            self.at = word.end()
            return Node(KEYWORDS[word.group()], start, self.at)
        if word is not None:
            text = word.group()
            raise self.wrong(
                f"`{text}` is not a value", hint=f'texts are quoted: "{text}"', end=word.end()
            )
        hint = "texts are written in double quotes" if char == "'" else ""
        raise self.wrong(f"expected a value after `{after}`, found {self.found()}", hint=hint)

    def number(self, found: re.Match[str]) -> Node:
        start, digits = self.at, found.group()
        self.at = found.end()
        if len(digits) > MAX_DIGITS:
            raise self.wrong("number is too long", start, end=self.at)
        value: int | float = float(digits) if found.group(1) or found.group(2) else int(digits)
        if value in (float("inf"), float("-inf")):
            raise self.wrong("number is too large", start, end=self.at)
        return Node(value, start, self.at)

    def sequence(self, depth: int) -> Node:
        opened = self.at
        inner = self.deeper(depth)
        self.at += 1
        items: list[Node] = []
        while True:
            self.skip(SPACE)
            if self.at >= len(self.text):
                raise self.wrong("missing `]` for the list opened here", opened)
            if self.char() == "]":
                self.at += 1
                return Node(items, opened, self.at)
            items.append(self.value(inner, "["))
            self.skip(SPACE)
            if self.char() == ",":
                self.at += 1
            elif self.char() not in ("]", ""):
                raise self.wrong(f"expected `,` or `]` in the list, found {self.found()}")

    def mapping(self, depth: int) -> Node:
        opened = self.at
        inner = self.deeper(depth)
        self.at += 1
        entries: list[Entry] = []
        keys: set[str] = set()
        while True:
            self.skip(SPACE)
            if self.at >= len(self.text):
                raise self.wrong("missing `}` for the object opened here", opened)
            if self.char() == "}":
                self.at += 1
                return Node(Object(entries), opened, self.at)
            key = self.key()
            name = str(key.value)
            self.skip(BLANK)
            if self.char() not in ("=", ":"):
                raise self.wrong(f"expected `=` after key `{name}`, found {self.found()}")
            self.at += 1
            self.skip(BLANK)
            value = self.value(inner, f"{name} =")
            if name in keys:
                self.twice(Entry(name, key.start, key.end, value), "object")
            else:
                keys.add(name)
                entries.append(Entry(name, key.start, key.end, value))
            self.skip(BLANK)
            if self.char() == ",":
                self.at += 1
            elif self.char() not in ("}", "\n", "#", "") and not self.text.startswith(
                "//", self.at
            ):
                raise self.wrong(f"expected `,` or a new line in the object, found {self.found()}")

    def key(self) -> Node:
        if self.char() == '"':
            return self.string()
        name = NAME.match(self.text, self.at)
        if name is None:
            raise self.wrong(f"expected a key, found {self.found()}")
        start = self.at
        self.at = name.end()
        return Node(name.group(), start, self.at)

    # Texts

    def string(self) -> Node:
        start = self.at
        self.at += 1
        out: list[str] = []
        spans = [(0, self.at)]
        length = 0
        braces: list[int] = []  # offsets of the `${` that are still open
        while True:
            run = PLAIN.match(self.text, self.at)
            if run is not None:
                piece = run.group()
                if braces:
                    piece = self.inside(piece, braces)
                out.append(piece)
                length += len(piece)
                self.at += len(piece)
                continue
            char = self.char()
            if char in ("", "\n"):
                if braces:
                    raise self.wrong("`${` is never closed", braces[-1], end=braces[-1] + 2)
                hint = (
                    "for text over several lines write <<-TEXT, the lines, and TEXT alone on a line"
                )
                raise self.wrong("string is not closed before the end of the line", start, hint)
            if char == '"' and not braces:
                self.at += 1
                return Node("".join(out), start, self.at, spans)
            if char == "\\":
                piece = self.escape()
                out.append(piece)
                length += 1
                spans.append((length, self.at))
                continue
            piece = char
            if self.text.startswith(("$${", "%%{"), self.at):
                piece = self.text[self.at : self.at + 3]
            elif self.text.startswith(("${", "%{"), self.at):
                piece = self.text[self.at : self.at + 2]
                braces.append(self.at)
            elif char == '"':  # a quoted word inside of ${...}: copied with its quotes
                piece = self.quoted(braces[-1])
            out.append(piece)
            length += len(piece)
            self.at += len(piece)

    def inside(self, piece: str, braces: list[int]) -> str:
        """The part of a run of plain characters up to the brace that closes the outermost `${`."""
        for index, char in enumerate(piece):
            if char == "{":
                braces.append(self.at + index)
            elif char == "}":
                braces.pop()
                if not braces:
                    return piece[: index + 1]
        return piece

    def quoted(self, opened: int) -> str:
        end = self.at + 1
        while (char := self.text[end : end + 1]) not in ("", "\n"):
            if char == '"':
                return self.text[self.at : end + 1]
            end += 2 if char == "\\" else 1
        raise self.wrong("`${` is never closed", opened, end=opened + 2)

    def escape(self) -> str:
        char = self.text[self.at + 1 : self.at + 2]
        if char in ESCAPES:
            self.at += 2
            return ESCAPES[char]
        digits = HEX[char].match(self.text, self.at + 2) if char in HEX else None
        code = int(digits.group(), 16) if digits is not None else -1
        if digits is None or code > 0x10FFFF:
            hint = "write \\\\ for a backslash, or use a heredoc, where backslashes are ordinary characters"
            raise self.wrong(
                f"unknown escape `\\{char}`" if char.isprintable() else "unknown escape",
                hint=hint,
                end=self.at + 2,
            )
        self.at = digits.end()
        return chr(code)

    def heredoc(self, opening: re.Match[str]) -> Node:
        start, tag = self.at, opening.group(2)
        closing = re.compile(r"^[ \t]*" + re.escape(tag) + r"[ \t]*\r?$", re.MULTILINE).search(
            self.text, opening.end()
        )
        if closing is None:
            raise self.wrong(
                f"heredoc <<{tag} is never closed",
                hint=f"put {tag} alone on a line",
                end=opening.end() - 1,
            )
        body = self.text[opening.end() : closing.start()]
        self.at = closing.end()
        lines = body.split("\n")  # the last one is empty: the text ends with a line end
        indent = 0
        if opening.group(1):
            indent = min(
                (len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()), default=0
            )
        spans: list[tuple[int, int]] = []
        out: list[str] = []
        length, where = 0, opening.end()
        for line in lines:
            cut = min(indent, len(line) - len(line.lstrip(" \t")))
            spans.append((length, where + cut))
            out.append(line[cut:])
            length += len(line) - cut + 1
            where += len(line) + 1
        return Node("\n".join(out), start, opening.end() - 1, spans)


def read_entry(source: Source, at: int, problems: list[Problem]) -> Entry:
    """Read the one attribute or block that starts at an offset."""
    reader = _Reader(source, problems)
    reader.at = at
    return reader.entry(0)
