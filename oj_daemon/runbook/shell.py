"""Shell templates: replacing placeholders by references to environment variables, so values never become program text.

Rule: bash decides what is a script (`bash -n`), the tree of a real grammar decides where in it a placeholder stands, and what
neither can place for certain is refused with the form that works. Whatever stands in the place of a placeholder is a
reference that bash expands to exactly the value, as one word: nothing is split, globbed, or read as a command. This is the
one file of this package that runs a program.

Two limits are bash's own and stay: a value that begins with a dash is an option to the program that gets it (write `--`
before it), and a script that itself evaluates a variable holding a value (`x="${var.x}"; eval "$x"`) gets what it asked for.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from oj_daemon.errors import RunbookError
from oj_daemon.runbook import programs
from oj_daemon.runbook.model import Binding, Shell, Text, Use
from oj_daemon.runbook.programs import Word
from oj_daemon.runbook.template import NAMESPACES, Placeholder, escapes, malformed, placeholders

if TYPE_CHECKING:
    from tree_sitter import Node

SYNTAX_SECONDS: Final = 20.0
"""How long `bash -n` may take; only a machine in trouble gets near it."""


class ShellError(RunbookError):
    """A shell text cannot be used; `line` and `column` count from 1 within the text."""

    def __init__(self, message: str, *, line: int, column: int = 1, hint: str = "") -> None:
        super().__init__(message, code="invalid", hint=hint)
        self.line = line
        self.column = column


class Place(Enum):
    """What surrounds a placeholder, which decides how its reference is written."""

    TEXT = auto()
    """Nothing expands here and nothing shall: the text stays as written."""
    BARE = auto()
    """Double quotes, a here-document, arithmetic: expands to one piece as it is."""
    WORD = auto()
    """Unquoted: needs double quotes, or bash would split and glob the value."""
    SINGLE = auto()
    ANSI = auto()
    """Between `$'` and `'`."""
    HEREDOC = auto()
    """In a here-document with a quoted delimiter, which is rewritten to an unquoted one with the same content."""


class Slot(msgspec.Struct, frozen=True):
    """A placeholder of the text (or an escaped one) and where its stand-in is in the draft, in bytes."""

    found: Placeholder
    ours: bool
    text: str
    """What is written when it turns out not to be ours."""
    start: int
    end: int


class Part(NamedTuple):
    """A piece of the draft that bash reads on its own, with its tree."""

    root: Node
    data: bytes
    base: int
    """Where the piece starts in the draft."""
    row: int
    """How many lines are before it."""


class Edit(msgspec.Struct, frozen=True):
    """Bytes of the draft to be replaced."""

    start: int
    end: int
    text: bytes


def compile_shell(text: str, known: Collection[str] = ()) -> Shell:
    """Compile a shell template; `known` are the undotted names that are ours, such as `workspace`."""
    _check_characters(text)
    draft, slots = _draft(text, known)
    _check_syntax(draft.decode())
    odd = malformed(text)
    if not slots and not odd:
        if _EMPTY_BRACES.search(text):
            _check_empty_braces(_parts(draft))
        return Shell(text=text, script=text)
    parts = _parts(draft)
    _check_empty_braces(parts)
    _check_malformed(text, odd, slots, parts)
    script, bindings = _compile(text, draft, slots, parts)
    _check_result(script)
    return Shell(text=text, script=script, bindings=bindings)


def compile_text(text: str, known: Collection[str] = ()) -> Text:
    """Compile a text in which `$(...)` runs commands; without any it stays a plain template.

    Outside of `$(...)` quotes and backticks are ordinary characters, and `$NAME` and `${NAME...}` are bash's.
    """
    if "$(" not in text:
        return Text(text=text)
    _check_characters(text)
    source, origins = _printing_script(text)
    try:
        shell = compile_shell(source, known)
    except ShellError as error:
        offset = _offset(source, error.line, error.column)
        begun, origin = max((pair for pair in origins if pair[0] <= offset), default=(0, 0))
        raise _error(text, origin + offset - begun, error.message, hint=error.hint) from error
    return Text(text=text, shell=msgspec.structs.replace(shell, text=text))


# ------------------------------------------------------------------------------------------------ what bash says


_EMPTY_BRACES: Final = re.compile(r"\{[ \t]*\}")
_BASH_MESSAGE: Final = re.compile(r"^[^\n]*?: line (\d+): (.*)$", re.MULTILINE)


@functools.lru_cache(maxsize=1)
def _bash() -> str:
    return shutil.which("bash") or "/bin/bash"


@functools.lru_cache(maxsize=512)
def _bash_problem(script: str) -> tuple[int, str] | None:
    """What bash says about the syntax of a script, with the line, or None."""
    # Under -n no `shopt` runs, so what the script switches on for its own syntax has to be on from the start.
    options = ["-O", "extglob"] if "extglob" in script else []
    try:
        done = subprocess.run(
            [_bash(), *options, "-n"],
            input=script.encode(),
            capture_output=True,
            env={"LC_ALL": "C"},
            timeout=SYNTAX_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise RunbookError(
            "cannot check shell text: bash is not installed", hint="install bash"
        ) from None
    except subprocess.TimeoutExpired:
        return 1, f"bash did not finish reading it within {SYNTAX_SECONDS:g} seconds"
    # An unterminated here-document is only a warning to bash, with exit code 0.
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode == 0 and not said:
        return None
    match = _BASH_MESSAGE.search(said)
    if match is None:
        return 1, said.strip() or f"bash -n ended with {done.returncode}"
    return int(match[1]), match[2].removeprefix("warning: ")


def _check_syntax(script: str) -> None:
    problem = _bash_problem(script)
    if problem is not None:
        line, message = problem
        # At the end of the text bash names the line after the last one.
        line = max(1, min(line, script.count("\n") + 1))
        raise ShellError(f"not a valid bash script: {message}", line=line)


def _check_result(script: str) -> None:
    problem = _bash_problem(script)
    if problem is not None:
        raise ShellError(
            f"bash does not accept a value where a placeholder stands: {problem[1]}",
            line=min(problem[0], script.count("\n") + 1),
            hint=_assign_hint(),
        )


# -------------------------------------------------------------------------------------------------- from text to draft


def _check_characters(text: str) -> None:
    for at, character in enumerate(text):
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise _error(text, at, f"shell text cannot hold the character {character!r}")


def _draft(text: str, known: Collection[str]) -> tuple[bytes, list[Slot]]:
    """The text with a legal bash parameter in place of each placeholder, and where these are."""
    candidates = [(found, found.start, True) for found in placeholders(text)]
    for start in escapes(text):
        inner = [found for found in placeholders(text[start + 1 :]) if found.start == 0]
        found = inner[0] if inner else Placeholder(0, 2, "")
        moved = msgspec.structs.replace(found, start=start, end=start + 1 + found.end)
        candidates.append((moved, start + 1, False))
    pieces: list[bytes] = []
    slots: list[Slot] = []
    size = done = 0
    for found, literal_from, live in sorted(candidates, key=lambda candidate: candidate[0].start):
        dotted = "." in found.name
        ours = live and (found.is_ours if dotted else found.name in known)
        if live and not dotted and not ours:
            continue
        before = text[done : found.start].encode()
        written = text[literal_from : found.end]
        # An escaped undotted name is a parameter of bash, and legal as it is.
        stand_in = f"${{OJ_V{len(slots)}}}" if dotted or ours else written
        pieces += [before, stand_in.encode()]
        start = size + len(before)
        size = start + len(pieces[-1])
        done = found.end
        slots.append(Slot(found=found, ours=ours, text=written, start=start, end=size))
    pieces.append(text[done:].encode())
    return b"".join(pieces), slots


# ------------------------------------------------------------------------------------------------------ the tree


def _parse(data: bytes) -> Node:
    # Only texts with placeholders pay for the grammar: 10 to 30 ms.
    import tree_sitter  # noqa: PLC0415
    import tree_sitter_bash  # noqa: PLC0415

    language = tree_sitter.Language(tree_sitter_bash.language())
    return tree_sitter.Parser(language).parse(data).root_node


def _parts(draft: bytes) -> list[Part]:
    """The draft as one tree, or where the grammar stumbles as the pieces that bash reads one after the other."""
    root = _parse(draft)
    if not root.has_error:
        return [Part(root=root, data=draft, base=0, row=0)]
    parts = []
    base = row = 0
    for piece in _complete_commands(draft):
        parts.append(Part(root=_parse(piece), data=piece, base=base, row=row))
        base += len(piece)
        row += piece.count(b"\n")
    return parts


def _complete_commands(draft: bytes) -> Iterator[bytes]:
    """Split into the shortest runs of lines that bash accepts alone, just as it reads them."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", draft)
    piece = b""
    for at, line in enumerate(lines):
        piece += line
        is_last = at == len(lines) - 1
        continued = re.search(rb"(?<!\\)(\\\\)*\\\n\Z", line) is not None
        if is_last or (not continued and _bash_problem(piece.decode()) is None):
            yield piece
            piece = b""


def _part_of(parts: Sequence[Part], start: int) -> Part:
    return max((part for part in parts if part.base <= start), key=lambda part: part.base)


def _path(part: Part, start: int, end: int) -> list[Node]:
    """The node that spans these bytes of the draft, and all that it stands in, innermost first."""
    node = part.root.named_descendant_for_byte_range(start - part.base, end - part.base)
    path = []
    while node is not None:
        path.append(node)
        node = node.parent
    return path


def _source(node: Node) -> bytes:
    return node.text or b""


def _walk(node: Node) -> Iterator[Node]:
    todo = [node]
    while todo:
        current = todo.pop()
        yield current
        todo.extend(reversed(current.children))


def _check_empty_braces(parts: Sequence[Part]) -> None:
    for part in parts:
        for node in _walk(part.root):
            if node.type == "command_name" and _source(node) == b"{}":
                raise ShellError(
                    "not a valid bash script: the braces {} are empty",
                    line=part.row + node.start_point.row + 1,
                    hint="write a command between them, or : for none",
                )


def _check_malformed(
    text: str, odd: Sequence[int], slots: Sequence[Slot], parts: Sequence[Part]
) -> None:
    """Something like `${var.x//a/b}` may be text of another language in quotes, but bash could not expand it."""
    for at in odd:
        shift = 0
        for slot in slots:
            if slot.found.start < at:
                written = text[slot.found.start : slot.found.end]
                shift += slot.end - slot.start - len(written.encode())
        start = len(text[:at].encode()) + shift
        part = _part_of(parts, start)
        path = _path(part, start, start + 2)
        if part.root.has_error or not _is_literal(path):
            raise _error(
                text,
                at,
                "not a placeholder: only a substring (:offset:length) and a default (:-text) can follow the name",
                hint='assign the value first (x="${var.x}") and use ${x//a/b}; for a literal ${ write $${',
            )


def _is_literal(path: Sequence[Node]) -> bool:
    node = path[0]
    if node.type in {"raw_string", "ansi_c_string", "comment"}:
        return True
    document = _heredoc_of(path)
    return document is not None and _is_quoted_delimiter(document)


# ------------------------------------------------------------------------------------------------ placing


_DEFAULT_OPERATORS: Final = frozenset({":-", "-", ":=", "=", ":?", "?", ":+", "+"})
_NUMERIC_TESTS: Final = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge"})
_SUBSTITUTIONS: Final = frozenset({"command_substitution", "process_substitution"})


def _assign_hint() -> str:
    return 'assign it first, on a line of its own: x="{placeholder}", then use "$x"'


class _Refusal(Exception):
    """Why a placeholder cannot stand where it does; becomes a ShellError with its position."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint or _assign_hint()


def _compile(
    text: str, draft: bytes, slots: Sequence[Slot], parts: Sequence[Part]
) -> tuple[str, tuple[Binding, ...]]:
    own = _assigned_names(parts)
    counted = _arithmetic_names(parts)
    bindings: dict[tuple[object, ...], Binding] = {}
    edits: list[Edit] = []
    documents: dict[int, tuple[Part, Node]] = {}
    for slot in slots:
        found = slot.found
        part = _part_of(parts, slot.start)
        path = _path(part, slot.start, slot.end)
        try:
            place = _place(part, path, slot)
            if not slot.ours or found.name in own:
                _check_foreign(found, place)
                place = Place.TEXT
            if place is Place.TEXT:
                edits.append(Edit(slot.start, slot.end, slot.text.encode()))
                continue
            _check_meaning(path, found)
            use = Use.INTEGER if _is_calculated(path, part, slot, counted) else Use.ANY
        except _Refusal as refusal:
            placeholder = text[found.start : found.end]
            raise _error(
                text,
                found.start,
                f"{placeholder} cannot stand here: {refusal.reason}",
                hint=refusal.hint.replace("{placeholder}", placeholder),
            ) from None
        key = (found.name, found.offset, found.length, found.default, use)
        fresh = Binding(
            env=f"OJ_V{len(bindings)}",
            name=found.name,
            offset=found.offset,
            length=found.length,
            default=found.default,
            use=use,
        )
        binding = bindings.setdefault(key, fresh)
        edits.append(Edit(slot.start, slot.end, _reference(place, binding.env).encode()))
        if place is Place.HEREDOC:
            document = _heredoc_of(path)
            assert document is not None  # noqa: S101 - Place.HEREDOC says so
            documents[part.base + document.start_byte] = (part, document)
    for part, document in documents.values():
        edits = _open_heredoc(part, document, edits)
    return _apply(draft, edits).decode(), tuple(bindings.values())


def _reference(place: Place, env: str) -> str:
    expansion = f"${{{env}}}"
    match place:
        case Place.WORD:
            return f'"{expansion}"'
        case Place.SINGLE:
            return f"'\"{expansion}\"'"
        case Place.ANSI:
            return f"'\"{expansion}\"$'"
        case _:
            return expansion


def _apply(draft: bytes, edits: Sequence[Edit]) -> bytes:
    pieces = []
    done = 0
    for edit in sorted(edits, key=lambda edit: edit.start):
        pieces += [draft[done : edit.start], edit.text]
        done = edit.end
    return b"".join([*pieces, draft[done:]])


def _place(part: Part, path: Sequence[Node], slot: Slot) -> Place:
    node = path[0]
    if part.root.has_error:
        raise _Refusal("this part of the script is beyond what oj understands of bash")
    if node.type == "comment":
        return Place.TEXT
    document = _heredoc_of(path)
    if document is not None and _is_quoted_delimiter(document):
        return Place.HEREDOC
    in_backticks = any(
        step.type == "command_substitution" and _source(step).startswith(b"`") for step in path
    )
    backslashes = _backslashes_before(part.data, slot.start - part.base)
    if node.type == "raw_string":
        if any(step.type == "expansion" for step in path):
            raise _Refusal(
                "single quotes inside of ${...} mean different things in different places"
            )
        return Place.SINGLE
    if backslashes % 2:
        if in_backticks or node.type == "ansi_c_string":
            raise _Refusal("a backslash stands before it")
        return Place.TEXT
    if node.type == "ansi_c_string":
        return Place.ANSI
    if in_backticks and document is not None:
        raise _Refusal("a here-document in backticks", "use $(...) in place of backticks")
    if document is not None and node.type in {"heredoc_body", "heredoc_content"}:
        return Place.BARE
    if node.type in {"regex", "extglob_pattern"}:
        before = part.data[node.start_byte : slot.start - part.base]
        if re.search(rb"['\"\\`]|\$\(", before):
            raise _Refusal("this pattern has quotes of its own")
        return Place.WORD
    whole = (node.start_byte, node.end_byte) == (slot.start - part.base, slot.end - part.base)
    if node.type != "expansion" or not whole:
        if not slot.ours and node.type != "heredoc_start":
            return Place.TEXT
        raise _Refusal("nothing is expanded in this place")
    return Place.BARE if _is_quoted(path) else Place.WORD


def _backslashes_before(data: bytes, at: int) -> int:
    count = 0
    while count < at and data[at - count - 1 : at - count] == b"\\":
        count += 1
    return count


def _heredoc_of(path: Sequence[Node]) -> Node | None:
    """The here-document whose body the innermost node is in, unless a command substitution is between."""
    for child, step in itertools.pairwise(path):
        if child.type in _SUBSTITUTIONS:
            return None
        if step.type == "heredoc_redirect":
            return step if child.type == "heredoc_body" else None
    return None


def _is_quoted_delimiter(document: Node) -> bool:
    return any(
        child.type == "heredoc_start" and re.search(rb"['\"\\]", _source(child))
        for child in document.children
    )


def _is_quoted(path: Sequence[Node]) -> bool:
    """Whether an expansion is already taken as one piece by what it stands in."""
    for child, step in itertools.pairwise(path):
        if step.type in _SUBSTITUTIONS:
            return False
        if step.type in {"string", "translated_string", "heredoc_body", "arithmetic_expansion"}:
            return True
        if step.type == "expansion" and _operator(step, child) not in {*_DEFAULT_OPERATORS, ":"}:
            return False
        if _calculates(step, child):
            return True
    return False


def _operator(expansion: Node, child: Node) -> str:
    """What stands between the name and the rest in `${name...}`."""
    for part in expansion.children[1:]:
        if part.start_byte >= child.start_byte:
            break
        if not part.is_named and part.type not in {"!", "}"}:
            return part.type
    return ""


# -------------------------------------------------------------------------------------------- arithmetic


def _calculates(step: Node, child: Node) -> bool:
    """Whether `step` evaluates its child `child` as arithmetic."""
    match step.type:
        case "arithmetic_expansion" | "arithmetic_command":
            return True
        case "compound_statement":
            return bool(step.children) and step.children[0].type == "(("
        case "c_style_for_statement":
            return child.type not in {"do_group", "compound_statement"}
        case "subscript":
            return child != step.children[0]
        case "expansion":
            return _operator(step, child) == ":"
        case "binary_expression":
            return _is_numeric_test(step)
        case _:
            return False


def _is_numeric_test(node: Node) -> bool:
    """`[[ a -eq b ]]`; the same in `[ ]` only compares."""
    if not any(
        _source(child).decode() in _NUMERIC_TESTS
        for child in node.children
        if child.type == "test_operator"
    ):
        return False
    test = node.parent
    while test is not None and test.type != "test_command":
        test = test.parent
    return test is not None and test.children[0].type == "[["


def _is_calculated(path: Sequence[Node], part: Part, slot: Slot, counted: Collection[str]) -> bool:
    for child, step in itertools.pairwise(path):
        if step.type in _SUBSTITUTIONS:
            return False
        if _calculates(step, child):
            return True
        if step.type == "variable_assignment" and _assigned(step) in counted:
            return True
        if step.type == "for_statement" and child.type != "do_group":
            return any(name.decode() in counted for name in _names(step))
        if step.type == "array":
            # `x=([KEY]=value)`: the grammar sees only a word that begins with a bracket.
            before = part.data[step.start_byte : slot.start - part.base]
            if re.search(rb"(^\(|\s)\[[^\]\s]*$", before):
                return True
        if step.type == "command":
            name = step.child_by_field_name("name")
            return name is not None and _source(name) == b"let"
    return False


def _names(node: Node) -> Iterator[bytes]:
    for child in node.children:
        if child.type == "variable_name":
            yield _source(child)


def _assigned(assignment: Node) -> str:
    target = assignment.children[0] if assignment.children else assignment
    return _source(target).partition(b"[")[0].decode()


def _arithmetic_names(parts: Sequence[Part]) -> set[str]:
    """Variables whose value bash calculates with somewhere: used in arithmetic, or declared as integers."""
    names: set[str] = set()
    for part in parts:
        for node in _walk(part.root):
            if node.type == "declaration_command":
                options = [_source(child) for child in node.children if child.type == "word"]
                if any(re.fullmatch(rb"-[a-zA-Z]*i[a-zA-Z]*", option) for option in options):
                    names |= {name.decode() for name in _names(node)}
                    names |= {
                        _assigned(child)
                        for child in node.children
                        if child.type == "variable_assignment"
                    }
                continue
            calculated = [child for child in node.children if _calculates(node, child)]
            name = node.child_by_field_name("name") if node.type == "command" else None
            if name is not None and _source(name) == b"let":
                calculated = list(node.children[1:])
            for child in calculated:
                names |= {
                    word.decode() for word in re.findall(rb"[A-Za-z_][A-Za-z0-9_]*", _source(child))
                }
    return names


# ------------------------------------------------------------------------------- names, programs, second shells


_NAME_TAKERS: Final = frozenset(
    {"getopts", "local", "mapfile", "read", "readarray", "typeset", "unset"}
)


def _assigned_names(parts: Sequence[Part]) -> set[str]:
    """Variables that the script itself sets: an undotted placeholder of that name is the script's own."""
    names: set[str] = set()
    for part in parts:
        for node in _walk(part.root):
            if node.type == "variable_assignment":
                names.add(_assigned(node))
            elif node.type in {"for_statement", "declaration_command"}:
                names |= {name.decode() for name in _names(node)}
            elif node.type == "command":
                names |= _read_names(_words(node))
    return names


def _read_names(words: Sequence[Word]) -> set[str]:
    name = words[0].text if words else ""
    if name in _NAME_TAKERS:
        return {word.text for word in words[1:] if word.is_fixed}
    if name == "printf" and len(words) > 2 and words[1].text == "-v":
        return {words[2].text}
    return set()


def _check_foreign(found: Placeholder, place: Place) -> None:
    """A dotted name that is not ours is text where nothing expands; bash itself has no such names."""
    if place in {Place.TEXT, Place.SINGLE, Place.ANSI, Place.HEREDOC} or "." not in found.name:
        return
    head = found.name.partition(".")[0]
    near = difflib.get_close_matches(head, sorted(NAMESPACES), n=1)
    names = ", ".join(sorted(NAMESPACES))
    raise _Refusal(
        "neither oj nor bash has a variable of that name",
        f"did you mean ${{{near[0]}{found.name[len(head) :]}}}?"
        if near
        else f"our names begin with {names}",
    )


def _check_meaning(path: Sequence[Node], found: Placeholder) -> None:
    """Refuse places in which a value would be a program, a name, or program text."""
    through: Node | None = None
    for child, step in itertools.pairwise(path):
        match step.type:
            case "command":
                _check_command(step, child, through, found)
            case "declaration_command" | "unset_command":
                if through is None and child.type != "variable_assignment":
                    raise _Refusal(
                        "the value would choose a variable, and bash evaluates such names"
                    )
            case "unary_expression":
                operator = _source(step.children[0])
                if through is None and operator in {b"-v", b"-R"}:
                    raise _Refusal(
                        "the value would choose a variable, and bash evaluates such names"
                    )
            case "heredoc_redirect" | "redirected_statement":
                _check_input(step, child, through)
            case "pipeline":
                _check_pipeline(step, child, through)
            case "function_definition" | "variable_name":
                if child.type == "word":
                    raise _Refusal("the value would be a name")
            case _:
                pass
        if step.type in _SUBSTITUTIONS and (
            through is None or through.type != "process_substitution"
        ):
            through = step


def _check_command(command: Node, child: Node, through: Node | None, found: Placeholder) -> None:
    nodes = _word_nodes(command)
    words = [_word(node) for node in nodes]
    if child.type == "herestring_redirect" and (through is None or _is_passed_on(through)):
        danger = programs.reads_program(words)
        if danger is not None:
            raise _Refusal(danger.reason, danger.hint)
    if child not in nodes:
        return
    at = nodes.index(child)
    danger = programs.code_words(words).get(at)
    if danger is not None and _reaches(through):
        raise _Refusal(danger.reason, danger.hint)
    if through is not None:
        return
    position, danger = programs.chosen_program(words)
    if at == position and not _is_trusted_path(found):
        raise _Refusal(danger.reason, danger.hint)
    if words[0].text in _NAME_TAKERS and not _is_value_of(words, at):
        raise _Refusal("the value would choose a variable, and bash evaluates such names")
    if words[0].text in {"printf", "test", "[", "wait"} and words[at - 1].text in {
        "-v",
        "-p",
        "-R",
    }:
        raise _Refusal("the value would choose a variable, and bash evaluates such names")


def _is_value_of(words: Sequence[Word], at: int) -> bool:
    """`local x=...` gives a value; so do the options of `read` and `mapfile` that take one."""
    if words[0].text in {"local", "typeset"}:
        return "=" in words[at].text
    return words[at - 1].text in {"-p", "-d", "-n", "-N", "-t", "-u", "-c", "-O", "-s"}


def _is_trusted_path(found: Placeholder) -> bool:
    """Names that hold folders oj made or text of the runbook, not something that came from outside."""
    head, dot, _ = found.name.partition(".")
    return found.name == "workspace" if not dot else head in {"const", "invoke", "local", "source"}


def _reaches(through: Node | None) -> bool:
    """Whether the value itself, and not only what a command makes of it, gets there."""
    return through is None or through.type == "process_substitution" or _is_passed_on(through)


def _is_passed_on(substitution: Node) -> bool:
    """`$(echo ...)` and the like put the value out as it came in."""
    commands = [node for node in _walk(substitution) if node.type == "command"]
    return all(programs.passes_on(_words(command)) for command in commands)


def _check_input(step: Node, child: Node, through: Node | None) -> None:
    """A here-document or here-string that is the program of a shell."""
    if child.type not in {
        "heredoc_redirect",
        "herestring_redirect",
        "heredoc_body",
    } or not _reaches(through):
        return
    for reader in _commands_of(step):
        danger = programs.reads_program(_words(reader))
        if danger is not None:
            raise _Refusal(danger.reason, danger.hint)


def _check_pipeline(pipeline: Node, child: Node, through: Node | None) -> None:
    """`echo VALUE | bash`."""
    if child not in pipeline.children or not _reaches(through):
        return
    writers = _commands_of(child) if child.type != "command" else [child]
    if not all(programs.passes_on(_words(writer)) for writer in writers):
        return
    behind = pipeline.children[pipeline.children.index(child) + 1 :]
    for reader in (command for node in behind for command in _commands_of(node)):
        danger = programs.reads_program(_words(reader))
        if danger is not None:
            raise _Refusal(danger.reason, danger.hint)


def _commands_of(node: Node) -> list[Node]:
    """The commands of a statement that share its input and output."""
    if node.type == "command":
        return [node]
    if node.type in {
        "redirected_statement",
        "pipeline",
        "heredoc_redirect",
        "subshell",
        "compound_statement",
        "list",
    }:
        return [command for child in node.children for command in _commands_of(child)]
    return []


def _word_nodes(command: Node) -> list[Node]:
    return [
        child
        for child in command.children
        if child.is_named
        and child.type
        not in {"variable_assignment", "file_redirect", "herestring_redirect", "heredoc_redirect"}
    ]


def _words(command: Node) -> list[Word]:
    return [_word(node) for node in _word_nodes(command)]


def _word(node: Node) -> Word:
    text, fixed = _fixed_text(node)
    return Word(text, is_fixed=fixed)


def _fixed_text(node: Node) -> tuple[str, bool]:
    """The text of a word without quotes, up to the first thing that expands."""
    source = _source(node).decode()
    match node.type:
        case "word" | "number" | "string_content" | "test_operator":
            return re.sub(r"\\(.)", r"\1", source), True
        case "raw_string":
            return source[1:-1], True
        case "ansi_c_string":
            return source[2:-1], True
        case "command_name" | "concatenation" | "string" | "translated_string":
            text = ""
            for child in node.children:
                if not child.is_named:
                    continue
                more, fixed = _fixed_text(child)
                text += more
                if not fixed:
                    return text, False
            return text, True
        case _:
            return "", False


# ---------------------------------------------------------------------------------------------- here-documents


def _open_heredoc(part: Part, document: Node, edits: Sequence[Edit]) -> list[Edit]:
    """Rewrite a here-document with a quoted delimiter so that references expand and all else stays literal."""
    kept = list(edits)
    for child in document.children:
        start, end = part.base + child.start_byte, part.base + child.end_byte
        if child.type == "heredoc_start":
            kept.append(Edit(start, end, re.sub(rb"['\"\\]", b"", _source(child))))
        elif child.type == "heredoc_body":
            inside = sorted(
                (edit for edit in edits if start <= edit.start < end), key=lambda edit: edit.start
            )
            at = start
            for edit in inside:
                kept.append(_escaped(part, at, edit.start))
                at = edit.end
            kept.append(_escaped(part, at, end))
    return kept


def _escaped(part: Part, start: int, end: int) -> Edit:
    piece = part.data[start - part.base : end - part.base]
    return Edit(start, end, re.sub(rb"[\\$`]", rb"\\\g<0>", piece))


# ------------------------------------------------------------------------------------------------ texts


def _printing_script(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A script that prints `text` with its `$(...)` replaced, and pairs (place in the script, place in the text).

    Each substitution is a command of its own, so that one that fails ends the script; within one word bash would
    look at the last only.
    """
    script = ""
    shown = ""
    origins: list[tuple[int, int]] = []
    shown_origins: list[tuple[int, int]] = []
    count = at = 0
    while at < len(text):
        shown_origins.append((len(shown), at))
        if text[at] == "\\" and text[at + 1 : at + 2] in {"$", "\\"}:
            shown += text[at : at + 2]
            at += 2
        elif text.startswith("$${", at):
            shown += "\\${"
            at += 3
        elif text.startswith("$(", at):
            end = _substitution_end(text, at)
            name = f"OJ_T{count}"
            count += 1
            origins.append((len(script) + len(name) + 1, at))
            script += f"{name}={text[at:end]} || exit\n"
            shown += f"${{{name}}}"
            at = end
        else:
            shown += f"\\{text[at]}" if text[at] in '"`\\' else text[at]
            at += 1
    head = "printf '%s' \""
    origins += [(len(script) + len(head) + begun, origin) for begun, origin in shown_origins]
    return f'{script}{head}{shown}"', origins


def _substitution_end(text: str, start: int) -> int:
    """Where the `$(` at `start` ends: at the first parenthesis with which bash accepts it."""
    for match in re.compile(r"\)").finditer(text, start):
        draft, _ = _draft(text[start : match.end()], ())
        if _bash_problem(f": {draft.decode()}") is None:
            return match.end()
    raise _error(
        text, start, "the substitution $( is not closed, or what is in it is not valid bash"
    )


# ---------------------------------------------------------------------------------------------- positions


def _error(text: str, at: int, message: str, *, hint: str = "") -> ShellError:
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    return ShellError(message, line=line, column=column, hint=hint)


def _offset(text: str, line: int, column: int) -> int:
    lines = text.split("\n")
    return sum(len(before) + 1 for before in lines[: line - 1]) + column - 1
