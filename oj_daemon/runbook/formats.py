"""TOML and JSON -> the same tree as HCL.

Rule: the standard library decides what a file means; the scanners here run only over text that it accepted and add
where each key and value stands.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import NoReturn

from oj_daemon.runbook import hcl
from oj_daemon.runbook.tree import (
    MAX_DEPTH,
    NOT_TEXT,
    Entry,
    Node,
    Object,
    Problem,
    Source,
    SyntaxProblem,
    problem,
)

SUFFIXES = (".hcl", ".toml", ".json")
Path = tuple[str | int, ...]


def read(source: Source, problems: list[Problem]) -> Object:
    """Read a file in the format its name tells; raises SyntaxProblem."""
    if "\0" in source.text:
        at = source.text.index("\0")
        raise SyntaxProblem(problem(source, (at, at + 1), "runbooks are text: NUL is not allowed"))
    if source.path.endswith(".toml"):
        tree = _read_toml(source)
    elif source.path.endswith(".json"):
        tree = _read_json(source)
    else:
        tree = hcl.read(source, problems)
    _check_texts(source, tree, problems)
    return tree


def _check_texts(source: Source, tree: Object, problems: list[Problem]) -> None:
    """Refuse characters that no process environment and no UTF-8 file can hold."""

    def check(node: Node) -> None:
        if isinstance(node.value, str):
            bad = NOT_TEXT.search(node.value)
            if bad is not None:
                what = "NUL" if bad.group() == "\0" else "a lone surrogate"
                at = node.at(bad.start())
                problems.append(
                    problem(
                        source, (at, at + 1), f"text contains {what}, which no program can be given"
                    )
                )
        elif isinstance(node.value, list):
            for item in node.value:
                check(item)
        elif isinstance(node.value, Object):
            walk(node.value)

    def walk(body: Object) -> None:
        for entry in body.entries:
            for label in entry.labels:
                check(label)
            check(Node(entry.key, entry.start, entry.end))
            check(entry.value)

    walk(tree)


def _fail(source: Source, at: int, message: str, hint: str = "", width: int = 1) -> NoReturn:
    raise SyntaxProblem(problem(source, (at, at + width), message, hint))


# JSON

_JSON_TOKEN = re.compile(r'[ \t\r\n]*([{}\[\],:]|"(?:[^"\\]|\\.)*"|[^{}\[\],:"\s]+)')


def _read_json(source: Source) -> Object:
    text = source.text
    if not text.strip():
        return Object([])
    _check_depth(source)
    try:
        json.loads(text)
    except json.JSONDecodeError as exc:
        message = exc.msg[:1].lower() + exc.msg[1:]
        _fail(source, min(exc.pos, len(text)), f"JSON parse error: {message}")
    except (ValueError, RecursionError) as exc:
        _fail(source, 0, f"JSON parse error: {exc}")
    node, _ = _json_value(source, 0)
    if not isinstance(node.value, Object):
        _fail(source, node.start, "JSON parse error: a runbook is an object")
    return node.value


def _check_depth(source: Source) -> None:
    depth = 0
    for token in _JSON_TOKEN.finditer(source.text):
        if token.group(1) in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                _fail(source, token.start(1), f"nested more than {MAX_DEPTH} levels deep")
        elif token.group(1) in ("}", "]"):
            depth -= 1


def _json_token(source: Source, at: int) -> re.Match[str]:
    token = _JSON_TOKEN.match(source.text, at)
    if token is None:
        _fail(source, at, "JSON parse error")
    return token


def _json_value(source: Source, at: int) -> tuple[Node, int]:
    token = _json_token(source, at)
    start, end = token.span(1)
    first = token.group(1)
    if first == "{":
        entries: list[Entry] = []
        keys: set[str] = set()
        token = _json_token(source, end)
        while token.group(1) != "}":
            if token.group(1) == ",":
                token = _json_token(source, token.end())
            key_start, key_end = token.span(1)
            key = str(json.loads(token.group(1)))
            if key in keys:
                _fail(
                    source,
                    key_start,
                    f"`{key}` is set twice in this object",
                    width=key_end - key_start,
                )
            keys.add(key)
            colon = _json_token(source, token.end())
            value, after = _json_value(source, colon.end())
            entries.append(Entry(key, key_start, key_end, value))
            token = _json_token(source, after)
        return Node(Object(entries), start, token.end()), token.end()
    if first == "[":
        items: list[Node] = []
        token = _json_token(source, end)
        while token.group(1) != "]":
            value, after = _json_value(
                source, token.end() if token.group(1) == "," else token.start()
            )
            items.append(value)
            token = _json_token(source, after)
        return Node(items, start, token.end()), token.end()
    try:
        value = json.loads(first)
    except ValueError as exc:
        _fail(source, start, f"JSON parse error: {exc}")
    if isinstance(value, str):
        return Node(value, start, end, _escaped(source.text, start + 1, end - 1)), end
    if isinstance(value, float) and value not in _FINITE:
        _fail(source, start, "JSON parse error: number is not finite", width=end - start)
    return Node(value, start, end), end


class _Finite:
    def __contains__(self, value: float) -> bool:
        return value - value == 0.0


_FINITE = _Finite()

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}"
    r"|\\[ \t]*\n\s*|\\."
)


def _escaped(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Spans of a string whose escapes each stand for one character (none where a line is continued)."""
    spans = [(0, start)]
    length, at = 0, start
    for found in _ESCAPE.finditer(text, start, end):
        length += found.start() - at
        length += 0 if "\n" in found.group() else 1
        at = found.end()
        spans.append((length, at))
    return spans


# TOML

_TOML_SPACE = re.compile(r"(?:[ \t\r\n]+|\#[^\n]*)*")
_TOML_KEY = re.compile(r'[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_TOML_DOT = re.compile(r"[ \t]*\.[ \t]*")
_TOML_STRINGS = (
    re.compile(r'"""(?:[^\\]|\\(?s:.))*?"""(?:"(?!"")|""(?!"))?', re.DOTALL),
    re.compile(r"'''.*?'''(?:'{1,2})?", re.DOTALL),
    re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    re.compile(r"'[^'\n]*'"),
)
_TOML_SCALAR = re.compile(r"[^,\]}\n#]+")
_TOML_PLACE = re.compile(r"(.*) \(at line (\d+), column (\d+)\)$", re.DOTALL)
_TOML_END = re.compile(r"(.*) \(at end of document\)$", re.DOTALL)


def _read_toml(source: Source) -> Object:
    import tomllib  # noqa: PLC0415  20 ms that runs of HCL runbooks need not pay

    try:
        data = tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as exc:
        place = _TOML_PLACE.match(str(exc))
        end = _TOML_END.match(str(exc))
        if place is not None:
            line = min(int(place.group(2)), len(source.starts))
            at = source.starts[line - 1] + int(place.group(3)) - 1
            _fail(source, at, f"TOML parse error: {_lower(place.group(1))}")
        _fail(
            source,
            len(source.text.rstrip()),
            f"TOML parse error: {_lower(end.group(1) if end else str(exc))}",
        )
    except RecursionError:
        _fail(source, 0, f"nested more than {MAX_DEPTH} levels deep")
    except ValueError as exc:
        _fail(source, 0, f"TOML parse error: {exc}")
    scan = _TomlScan(source)
    # When the scanner gets lost, values stay right and only some places are missing.
    with contextlib.suppress(_LostError, RecursionError):
        scan.document()
    return _toml_object(source, scan.places, data, (), 0)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


class _Place:
    __slots__ = ("end", "key_end", "key_start", "spans", "start")

    def __init__(self) -> None:
        self.key_start = self.key_end = self.start = self.end = 0
        self.spans: list[tuple[int, int]] = []


def _toml_object(
    source: Source, places: dict[Path, _Place], data: dict[str, object], path: Path, depth: int
) -> Object:
    entries = []
    for key, value in data.items():
        place = places.get((*path, key)) or places.get(path) or _Place()
        node = _toml_node(source, places, value, (*path, key), depth + 1)
        entries.append(Entry(key, place.key_start, place.key_end, node))
    return Object(entries)


def _toml_node(
    source: Source, places: dict[Path, _Place], value: object, path: Path, depth: int
) -> Node:
    place = places.get(path) or places.get(path[:-1]) or _Place()
    if depth > MAX_DEPTH:
        _fail(source, place.key_start, f"nested more than {MAX_DEPTH} levels deep")
    node = Node(None, place.start, place.end, place.spans)
    if isinstance(value, dict):
        node.value = _toml_object(source, places, value, path, depth)
    elif isinstance(value, list):
        node.value = [
            _toml_node(source, places, item, (*path, index), depth + 1)
            for index, item in enumerate(value)
        ]
    elif isinstance(value, float) and value not in _FINITE:
        _fail(
            source,
            place.start,
            "TOML parse error: number is not finite",
            width=place.end - place.start,
        )
    elif isinstance(value, (str, bool, int, float)):
        node.value = value
    else:
        hint = "write it in quotes"
        _fail(
            source,
            place.start,
            "dates and times have no use in runbooks",
            hint,
            width=place.end - place.start,
        )
    return node


class _LostError(Exception):
    """The scanner met something it does not understand."""


class _TomlScan:
    def __init__(self, source: Source) -> None:
        self.text = source.text
        self.at = 0
        self.places: dict[Path, _Place] = {}
        self.tables: dict[Path, int] = {}
        """Index of the newest element of each array of tables."""

    def document(self) -> None:
        table: Path = ()
        while True:
            self.space()
            if self.at >= len(self.text):
                return
            if self.text.startswith("[", self.at):
                table = self.header()
            else:
                self.pair(table)

    def space(self) -> None:
        found = _TOML_SPACE.match(self.text, self.at)
        if found is not None:
            self.at = found.end()

    def header(self) -> Path:
        start = self.at
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        keys = self.keys()
        path: Path = ()
        for index, (key, key_start, key_end) in enumerate(keys):
            path = (*path, key)
            last = index == len(keys) - 1
            place = self.places.setdefault(path, _Place())
            if not place.key_end:
                place.key_start, place.key_end = key_start, key_end
                place.start, place.end = start, key_end
            if last and is_array:
                self.tables[path] = self.tables.get(path, -1) + 1
            if path in self.tables:
                path = (*path, self.tables[path])
                if last:
                    element = self.places.setdefault(path, _Place())
                    element.key_start, element.key_end = key_start, key_end
                    element.start, element.end = start, key_end + (2 if is_array else 1)
        self.space()
        self.at += 2 if is_array else 1
        return path

    def keys(self) -> list[tuple[str, int, int]]:
        keys = []
        while True:
            found = re.compile(r"[ \t]*").match(self.text, self.at)
            self.at = found.end() if found else self.at
            key = _TOML_KEY.match(self.text, self.at)
            if key is None:
                raise _LostError
            keys.append((self.unquote(key.group()), key.start(), key.end()))
            self.at = key.end()
            dot = _TOML_DOT.match(self.text, self.at)
            if dot is None:
                return keys
            self.at = dot.end()

    def unquote(self, text: str) -> str:
        if text.startswith("'"):
            return text[1:-1]
        if not text.startswith('"'):
            return text
        try:
            return str(json.loads(text))
        except ValueError:
            raise _LostError from None

    def pair(self, table: Path) -> None:
        path = table
        for key, start, end in self.keys():
            path = (*path, key)
            place = self.places.setdefault(path, _Place())
            if not place.key_end:
                place.key_start, place.key_end = place.start, place.end = start, end
        self.space()
        if not self.text.startswith("=", self.at):
            raise _LostError
        self.at += 1
        self.space()
        self.value(path)

    def value(self, path: Path) -> None:
        place = self.places.setdefault(path, _Place())
        place.start = self.at
        char = self.text[self.at : self.at + 1]
        if char in ('"', "'"):
            self.string(place)
        elif char == "[":
            self.at += 1
            index = 0
            self.space()
            while not self.text.startswith("]", self.at):
                self.value((*path, index))
                element = self.places[(*path, index)]
                element.key_start, element.key_end = element.start, element.end
                index += 1
                self.comma()
            self.at += 1
        elif char == "{":
            self.at += 1
            self.space()
            while not self.text.startswith("}", self.at):
                self.pair(path)
                self.comma()
            self.at += 1
        else:
            scalar = _TOML_SCALAR.match(self.text, self.at)
            if scalar is None:
                raise _LostError
            self.at += len(scalar.group().rstrip())
        place.end = self.at

    def comma(self) -> None:
        self.space()
        if self.text.startswith(",", self.at):
            self.at += 1
            self.space()
        elif self.at >= len(self.text):
            raise _LostError

    def string(self, place: _Place) -> None:
        for pattern in _TOML_STRINGS:
            found = pattern.match(self.text, self.at)
            if found is None:
                continue
            quote = 3 if found.group().startswith(('"""', "'''")) else 1
            inner, end = self.at + quote, found.end() - quote
            if quote == 3 and self.text.startswith("\n", inner):
                inner += 1
            is_literal = found.group().startswith("'")
            place.spans = [(0, inner)] if is_literal else _escaped(self.text, inner, end)
            self.at = found.end()
            return
        raise _LostError
