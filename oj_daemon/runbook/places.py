"""Where in a script a placeholder stands, found with the tree of a bash grammar, and whether a value may stand there.

Rule: trees stay in this file. It only reads them; `shell` writes the script. What the tree leaves in doubt is a `Refusal`.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from oj_daemon.runbook import programs
from oj_daemon.runbook.programs import Word
from oj_daemon.runbook.template import Placeholder

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

ASSIGN_FIRST: Final = 'assign it first, on a line of its own: x="{placeholder}", then use "$x"'

MOST_SPLITS: Final = 60
"""How many places to look at for one at which a script can be split; each costs a run of bash."""
DOUBT: Final = "oj does not understand enough of this part of the script"


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
    is_escaped: bool
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


class Refusal(Exception):
    """Why a placeholder cannot stand where it does; `{placeholder}` in the hint is its text."""

    def __init__(self, reason: str, hint: str = ASSIGN_FIRST) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


# ------------------------------------------------------------------------------------------------------ the tree


@functools.lru_cache(maxsize=1)
def _parser() -> Parser:
    # Only texts with placeholders pay for the grammar: 10 to 30 ms.
    import tree_sitter  # noqa: PLC0415
    import tree_sitter_bash  # noqa: PLC0415

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def _parse(data: bytes) -> Node:
    return _parser().parse(data).root_node


def parts_of(
    draft: bytes, is_script: Callable[[str], bool], base: int = 0, row: int = 0
) -> list[Part]:
    """The draft as one tree, or where the grammar stumbles as pieces that bash reads one after the other.

    Bash reads whole commands, so where it accepts the lines before some place, nothing of them reaches beyond that.
    """
    whole = Part(root=_parse(draft), data=draft, base=base, row=row)
    if not whole.root.has_error:
        return [whole]
    lines = re.findall(rb"[^\n]*\n|[^\n]+", draft)
    middle = len(lines) // 2
    for at in sorted(range(1, len(lines)), key=lambda at: abs(at - middle))[:MOST_SPLITS]:
        before = b"".join(lines[:at])
        continued = re.search(rb"(?<!\\)(\\\\)*\\\n\Z", before) is not None
        if not continued and is_script(before.decode()):
            after = parts_of(draft[len(before) :], is_script, base + len(before), row + at)
            return parts_of(before, is_script, base, row) + after
    return [whole]


def part_at(parts: Sequence[Part], start: int) -> Part:
    """The piece of the draft that holds the byte at `start`."""
    return max((part for part in parts if part.base <= start), key=lambda part: part.base)


def path_to(part: Part, start: int, end: int) -> list[Node]:
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


def empty_braces(parts: Sequence[Part]) -> tuple[int, int] | None:
    """Line and column of a `{}` that stands for commands; bash would only notice when it comes there."""
    for part in parts:
        for node in _walk(part.root):
            if node.type == "compound_statement" and re.fullmatch(rb"\{\s*\}", _source(node)):
                begun = part.data.rfind(b"\n", 0, node.start_byte) + 1
                column = len(part.data[begun : node.start_byte].decode()) + 1
                return part.row + node.start_point.row + 1, column
    return None


# ------------------------------------------------------------------------------------------------ places


_DEFAULTS: Final = frozenset({":-", "-", ":?", "?", ":+", "+"})
_ASSIGNING: Final = frozenset({":=", "="})
_REPLACING: Final = frozenset({"/", "//", "/#", "/%"})
_SUBSTITUTIONS: Final = frozenset({"command_substitution", "process_substitution"})
_QUOTES: Final = frozenset({"string", "translated_string", "heredoc_body", "arithmetic_expansion"})


def place_of(part: Part, path: Sequence[Node], slot: Slot) -> Place:
    """What surrounds the placeholder of `slot`; the path begins at its bytes."""
    if part.root.has_error:
        raise Refusal(DOUBT)
    node = path[0]
    document = heredoc_of(path)
    in_backticks = any(map(_is_backticks, path))
    if node.type == "comment":
        return Place.TEXT
    if in_backticks and document is not None:
        raise Refusal("a here-document in backticks", "use $(...) in place of backticks")
    if document is not None and has_quoted_delimiter(document):
        return _in_quoted_heredoc(document)
    if node.type == "raw_string":
        return _in_single_quotes(path)
    if _backslashes_before(part.data, slot.start - part.base) % 2:
        if in_backticks or node.type == "ansi_c_string":
            raise Refusal("a backslash stands before it")
        return Place.TEXT
    return _where_expanded(part, path, slot)


def is_literal(path: Sequence[Node]) -> bool:
    """Whether nothing is expanded here."""
    document = heredoc_of(path)
    return path[0].type in {"raw_string", "ansi_c_string", "comment"} or (
        document is not None and has_quoted_delimiter(document)
    )


def is_read_later(path: Sequence[Node]) -> bool:
    """Whether bash looks into this text only when it runs it."""
    return any(step.type == "heredoc_body" or _is_backticks(step) for step in path)


def _is_backticks(node: Node) -> bool:
    return node.type == "command_substitution" and _source(node).startswith(b"`")


def _in_quoted_heredoc(document: Node) -> Place:
    if re.fullmatch(r"\w[\w.-]*", delimiter_of(document)) is None:
        raise Refusal(
            "the delimiter of this here-document is not a plain word", "use a word such as 'END'"
        )
    return Place.HEREDOC


def _in_single_quotes(path: Sequence[Node]) -> Place:
    for step in path:
        if step.type in _SUBSTITUTIONS:
            break
        if step.type == "expansion":
            raise Refusal(
                "single quotes inside of ${...} mean different things in different places"
            )
    return Place.SINGLE


def _where_expanded(part: Part, path: Sequence[Node], slot: Slot) -> Place:
    node = path[0]
    start, end = slot.start - part.base, slot.end - part.base
    if node.type == "ansi_c_string":
        return Place.ANSI
    if node.type in {"heredoc_body", "heredoc_content"}:
        # The grammar does not always look into the body of `<<-`; bash does.
        return Place.BARE
    if node.type in {"regex", "extglob_pattern"}:
        if re.search(rb"['\"\\`]|\$\(", part.data[node.start_byte : start]):
            raise Refusal("this pattern has quotes of its own")
        return Place.WORD
    if node.type != "expansion" or (node.start_byte, node.end_byte) != (start, end):
        raise Refusal("nothing is expanded in this place")
    return Place.BARE if _is_quoted(path) else Place.WORD


def _backslashes_before(data: bytes, at: int) -> int:
    count = 0
    while count < at and data[at - count - 1 : at - count] == b"\\":
        count += 1
    return count


def heredoc_of(path: Sequence[Node]) -> Node | None:
    """The here-document whose body the innermost node is in, unless a command substitution is between."""
    for child, step in itertools.pairwise(path):
        if child.type in _SUBSTITUTIONS:
            return None
        if step.type == "heredoc_redirect":
            return step if child.type == "heredoc_body" else None
    return None


def has_quoted_delimiter(document: Node) -> bool:
    """Whether nothing expands in the here-document."""
    return re.search(rb"['\"\\]", _delimiter(document)) is not None


def delimiter_of(document: Node) -> str:
    """The line that ends the here-document."""
    return re.sub(rb"['\"\\]", b"", _delimiter(document)).decode()


def _delimiter(document: Node) -> bytes:
    return b"".join(_source(child) for child in document.children if child.type == "heredoc_start")


def _is_quoted(path: Sequence[Node]) -> bool:
    """Whether an expansion is already taken as one piece by what it stands in."""
    for child, step in itertools.pairwise(path):
        if step.type in _SUBSTITUTIONS:
            break
        if step.type in _QUOTES or _calculates(step, child):
            return True
        if step.type == "expansion":
            operator = _operator(step, child)
            if operator in _REPLACING | _ASSIGNING and not _is_one_word(step):
                raise Refusal(
                    "what ${...} makes of it would be split into words",
                    "put double quotes around the whole expansion",
                )
            if operator not in _DEFAULTS | _ASSIGNING:
                # Patterns: quotes make the value stand for itself, also within double quotes.
                return False
    return False


def _is_one_word(expansion: Node) -> bool:
    around = expansion.parent
    while around is not None and around.type in {"concatenation", "expansion"}:
        around = around.parent
    return around is not None and around.type in _QUOTES | {"variable_assignment"}


def _operator(expansion: Node, child: Node) -> str:
    """What stands between the name and the rest in `${name...}`."""
    for part in expansion.children[1:]:
        if part.start_byte >= child.start_byte:
            break
        if not part.is_named and part.type not in {"!", "}"}:
            return part.type
    return ""


# -------------------------------------------------------------------------------------------- arithmetic


_NUMERIC_TESTS: Final = frozenset({b"-eq", b"-ne", b"-lt", b"-le", b"-gt", b"-ge"})


class Facts(NamedTuple):
    """What the whole script says about its variables."""

    assigned: frozenset[str]
    """It sets them itself: an undotted placeholder of such a name is the script's own."""
    counted: frozenset[str]
    """It calculates with them somewhere, where bash would run a `$(...)` in their value."""
    keyed: frozenset[str]
    """They are associative arrays, whose subscripts are not arithmetic."""


def facts_of(parts: Sequence[Part]) -> Facts:
    """What the whole script says about its variables."""
    nodes = [node for part in parts for node in _walk(part.root)]
    keyed = frozenset(_declared(nodes, "A"))
    counted = {name for node in nodes for name in _counted(node, keyed)}
    assigned = {name for node in nodes for name in _set_by(node)}
    return Facts(frozenset(assigned), frozenset(counted | set(_declared(nodes, "i"))), keyed)


def is_calculated(  # noqa: PLR0911 - one row per kind of node
    path: Sequence[Node], part: Part, slot: Slot, facts: Facts
) -> bool:
    """Whether bash evaluates the value as arithmetic, here or by way of the variable that it is assigned to."""
    for child, step in itertools.pairwise(path):
        if step.type in _SUBSTITUTIONS:
            return False
        if _calculates(step, child) and not _is_key(step, facts.keyed):
            return True
        match step.type:
            case "variable_assignment":
                if child != step.children[0] and _assigned(step) in facts.counted:
                    return True
            case "for_statement":
                if child.type != "do_group" and not facts.counted.isdisjoint(_names(step)):
                    return True
            case "array":
                # `x=([KEY]=value)`: the grammar sees only a word that begins with a bracket.
                before = part.data[step.start_byte : slot.start - part.base]
                if re.search(rb"(^\(|\s)\[[^\]\s]*$", before) and not _is_key(step, facts.keyed):
                    return True
            case "command":
                return _is_let(step)
            case _:
                pass
    return False


def _calculates(step: Node, child: Node) -> bool:
    """Whether `step` evaluates its child `child` as arithmetic."""
    kind = step.type
    return (
        kind == "arithmetic_expansion"
        or (kind == "compound_statement" and step.children[0].type == "((")
        or (
            kind == "c_style_for_statement" and child.type not in {"do_group", "compound_statement"}
        )
        or (kind == "subscript" and child != step.children[0])
        or (kind == "expansion" and _operator(step, child) == ":")
        or (kind == "binary_expression" and _is_numeric_test(step))
    )


def _is_numeric_test(node: Node) -> bool:
    """`[[ a -eq b ]]`; the same in `[ ]` only compares."""
    operators = {_source(child) for child in node.children if child.type == "test_operator"}
    test = node.parent
    while test is not None and test.type != "test_command":
        test = test.parent
    in_brackets = test is not None and test.children[0].type == "[["
    return in_brackets and not operators.isdisjoint(_NUMERIC_TESTS)


def _is_let(command: Node) -> bool:
    return any(
        _source(child) == b"let" for child in command.children if child.type == "command_name"
    )


def _is_key(step: Node, keyed: Collection[str]) -> bool:
    if step.type == "array" and step.parent is not None:
        return _assigned(step.parent) in keyed
    return step.type == "subscript" and _source(step.children[0]).decode() in keyed


def _names(node: Node) -> Iterator[str]:
    return (_source(child).decode() for child in node.children if child.type == "variable_name")


def _assigned(assignment: Node) -> str:
    return re.match(rb"\w*", _source(assignment))[0].decode()  # type: ignore[index]  # matches always


def _declared(nodes: Sequence[Node], letter: str) -> Iterator[str]:
    """The variables of `declare -A`, `local -i` and the like."""
    for node in nodes:
        if node.type == "declaration_command" and _has_option(node, letter):
            yield from _set_by(node)
            for child in node.children:
                yield from _set_by(child)


def _has_option(declaration: Node, letter: str) -> bool:
    return any(
        re.fullmatch(rf"-[A-Za-z]*{letter}[A-Za-z]*", _source(child).decode())
        for child in declaration.children
        if child.type == "word"
    )


def _counted(node: Node, keyed: Collection[str]) -> Iterator[str]:
    """Names of variables in the arithmetic of `node`."""
    if _is_key(node, keyed):
        return
    for child in node.children:
        if _calculates(node, child) or (node.type == "command" and _is_let(node)):
            yield from _identifiers(child)


def _identifiers(node: Node) -> Iterator[str]:
    if node.type in _SUBSTITUTIONS:
        return
    if not node.children:
        yield from (word.decode() for word in re.findall(rb"[A-Za-z_]\w*", _source(node)))
    for child in node.children:
        yield from _identifiers(child)


# ------------------------------------------------------------------------------- names, programs, second shells


_NAME_TAKERS: Final = frozenset({"getopts", "mapfile", "read", "readarray", "typeset", "unset"})
_VALUES: Final = {
    "read": ("-d", "-i", "-n", "-N", "-p", "-t", "-u"),
    "mapfile": ("-d", "-n", "-O", "-s", "-u"),
    "readarray": ("-d", "-n", "-O", "-s", "-u"),
}
_EXPANSIONS: Final = frozenset({"expansion", "simple_expansion", "command_substitution"})
_FOLDERS: Final = frozenset({"workspace", "invoke.dir", "source.root", "source.repo_root"})
_NAME: Final = "the value would choose a variable, and bash evaluates such names"


def _set_by(node: Node) -> Iterator[str]:
    """Names of the variables that `node` sets."""
    if node.type == "variable_assignment":
        yield _assigned(node)
    elif node.type in {"for_statement", "declaration_command"}:
        yield from _names(node)
    elif node.type == "command":
        words = _words(node)
        name = words[0].text if words else ""
        if name in _NAME_TAKERS:
            yield from (word.text for word in words[1:] if word.is_fixed)
        elif name == "printf" and len(words) > 2 and words[1].text == "-v":
            yield words[2].text


def check_meaning(path: Sequence[Node], found: Placeholder) -> None:
    """Refuse places in which a value would be a program, a name, or program text."""
    through: Node | None = None
    for child, step in itertools.pairwise(path):
        if _reaches(through):
            match step.type:
                case "command":
                    _check_command(step, child, found)
                case "declaration_command" | "unset_command":
                    _check_declaration(step, child)
                case "unary_expression":
                    if _source(step.children[0]) in {b"-v", b"-R"}:
                        raise Refusal(_NAME)
                case "heredoc_redirect" | "redirected_statement":
                    if child.type in {"heredoc_redirect", "herestring_redirect", "heredoc_body"}:
                        _check_readers(_commands_of(step))
                case "pipeline":
                    _check_pipeline(step, child)
                case _:
                    pass
        if step.type in _SUBSTITUTIONS:
            through = through or step


def _reaches(through: Node | None) -> bool:
    """Whether the value can leave the substitution it is in; only `printf %q` makes sure that it is no program."""
    if through is None or through.type == "process_substitution":
        return True
    commands = [node for node in _walk(through) if node.type == "command"]
    return not any(programs.quotes(_words(command)) for command in commands)


def _check_command(command: Node, child: Node, found: Placeholder) -> None:
    if child.type == "herestring_redirect":
        _check_readers([command])
    nodes = _word_nodes(command)
    if child not in nodes:
        return
    words = [_word(node) for node in nodes]
    at = nodes.index(child)
    danger = programs.dangers(words).get(at)
    if danger is not None and not (danger.is_choice and _is_trusted_path(found)):
        raise Refusal(danger.reason, danger.hint)
    name = words[0].text
    if name in _NAME_TAKERS and not _is_value_of(words, at):
        raise Refusal(_NAME)
    if name in {"printf", "test", "wait"} and words[at - 1].text in {"-v", "-p", "-R"}:
        raise Refusal(_NAME)


def _check_declaration(declaration: Node, child: Node) -> None:
    if declaration.type == "declaration_command" and not _has_option(declaration, "n"):
        if child.type == "variable_assignment":
            return
        if re.match(r"[A-Za-z_]\w*\+?=", _word(child).text):
            return
    raise Refusal(_NAME)


def _is_value_of(words: Sequence[Word], at: int) -> bool:
    """`typeset x=...` gives a value; so do the options of `read` and `mapfile` that take one."""
    if words[0].text == "typeset":
        return "=" in words[at].text
    return words[at - 1].text in _VALUES.get(words[0].text, ())


def _is_trusted_path(found: Placeholder) -> bool:
    """Folders that oj made or text of the runbook, not something that came from outside."""
    head = found.name.partition(".")[0]
    return found.name in _FOLDERS or head in {"const", "local"}


def _check_readers(readers: Sequence[Node]) -> None:
    """A here-document, here-string or pipe that is the program of a shell."""
    for reader in readers:
        danger = programs.reads_program(_words(reader))
        if danger is not None:
            raise Refusal(danger.reason, danger.hint)


def _check_pipeline(pipeline: Node, child: Node) -> None:
    """`echo VALUE | bash`."""
    if all(programs.passes_on(_words(writer)) for writer in _commands_of(child)):
        behind = pipeline.children[pipeline.children.index(child) + 1 :]
        _check_readers([command for node in behind for command in _commands_of(node)])


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
    bare = node.children[0] if node.type == "command_name" else node
    return Word(text, is_fixed=fixed, may_vanish=bare.type in _EXPANSIONS)


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
