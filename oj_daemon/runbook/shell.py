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
import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from oj_daemon.errors import RunbookError
from oj_daemon.runbook import places
from oj_daemon.runbook.model import Binding, Shell, Text, Use
from oj_daemon.runbook.places import Part, Place, Refusal, Slot
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


class Edit(msgspec.Struct, frozen=True):
    """Bytes of the draft to be replaced."""

    start: int
    end: int
    text: bytes
    is_reference: bool = False


def compile_shell(text: str, known: Collection[str] = ()) -> Shell:
    """Compile a shell template; `known` are the undotted names that are ours, such as `workspace`."""
    _check_characters(text)
    data, slots = _draft(text, known)
    draft = data.decode()
    _check_syntax(draft, text, slots)
    odd = malformed(text)
    if not slots and not odd and not _EMPTY_BRACES.search(text):
        return Shell(text=text, script=text)
    parts = places.parts_of(data, _is_script)
    _check_empty_braces(parts)
    _check_malformed(text, odd, slots, parts)
    script, bindings = _compile(text, data, slots, parts)
    if script != draft:
        # Not known to happen: a placeholder that bash accepted, and its reference that it does not.
        _check_syntax(script, text, (), hint=places.ASSIGN_FIRST.format(placeholder="${...}"))
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


def _is_script(text: str) -> bool:
    return _bash_problem(text) is None


def _check_syntax(script: str, text: str, slots: Sequence[Slot], *, hint: str = "") -> None:
    problem = _bash_problem(script)
    if problem is None:
        return
    line, message = problem
    for number, slot in enumerate(slots):
        message = message.replace(f"${{OJ_V{number}}}", text[slot.found.start : slot.found.end])
    # At the end of the text bash names the line after the last one.
    raise ShellError(
        f"not a valid bash script: {message}",
        line=max(1, min(line, text.count("\n") + 1)),
        hint=hint,
    )


def _check_empty_braces(parts: Sequence[Part]) -> None:
    found = places.empty_braces(parts)
    if found is not None:
        raise ShellError(
            "not a valid bash script: the braces {} are empty",
            line=found[0],
            column=found[1],
            hint="write a command between them, or : for none",
        )


# -------------------------------------------------------------------------------------------------- from text to draft


def _check_characters(text: str) -> None:
    found = re.search("[\0\ud800-\udfff]", text)
    if found is not None:
        raise _error(text, found.start(), f"shell text cannot hold the character {found[0]!a}")


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
        slots.append(
            Slot(found=found, ours=ours, is_escaped=not live, text=written, start=start, end=size)
        )
    pieces.append(text[done:].encode())
    return b"".join(pieces), slots


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
        part = places.part_at(parts, start)
        path = places.path_to(part, start, start + 2)
        if part.root.has_error or not places.is_literal(path):
            raise _error(
                text,
                at,
                "not a placeholder: only a substring (:offset:length) and a default (:-text) can follow the name",
                hint='assign the value first (x="${var.x}") and use ${x//a/b}; for a literal ${ write $${',
            )


# ------------------------------------------------------------------------------------------------ placing


def _compile(
    text: str, draft: bytes, slots: Sequence[Slot], parts: Sequence[Part]
) -> tuple[str, tuple[Binding, ...]]:
    facts = places.facts_of(parts)
    bindings: dict[tuple[object, ...], Binding] = {}
    edits: list[Edit] = []
    documents: dict[int, tuple[Part, Node]] = {}
    for slot in slots:
        part = places.part_at(parts, slot.start)
        path = places.path_to(part, slot.start, slot.end)
        try:
            if not slot.ours or slot.found.name in facts.assigned:
                edits.append(Edit(slot.start, slot.end, _foreign(part, path, slot).encode()))
                continue
            place = places.place_of(part, path, slot)
            if place is Place.TEXT:
                edits.append(Edit(slot.start, slot.end, slot.text.encode()))
                continue
            if b"<<" in part.data[: slot.start - part.base]:
                _check_with_bash(part, slot, place, path)
            places.check_meaning(path, slot.found)
            use = Use.INTEGER if places.is_calculated(path, part, slot, facts) else Use.ANY
        except Refusal as refusal:
            raise _refused(text, slot, refusal) from None
        env = _bind(bindings, slot.found, use).env
        edits.append(Edit(slot.start, slot.end, _reference(place, env).encode(), is_reference=True))
        document = places.heredoc_of(path)
        if place is Place.HEREDOC and document is not None:
            documents[part.base + document.start_byte] = (part, document)
    for part, document in documents.values():
        edits = _open_heredoc(part, document, edits)
    return _apply(draft, edits).decode(), tuple(bindings.values())


def _check_with_bash(part: Part, slot: Slot, place: Place, path: Sequence[Node]) -> None:
    """A second opinion, because the grammar misreads some here-documents without noticing.

    Where bash expands, it misses the end of `$(` at once; in literal text and here-documents it does not mind.
    """
    # So many that no parentheses behind the placeholder can close them all.
    start, end = slot.start - part.base, slot.end - part.base
    probe = part.data[:start] + b"$" + b"(" * 50 + part.data[end:]
    is_literal = place in {Place.SINGLE, Place.ANSI, Place.HEREDOC} or places.is_read_later(path)
    if _is_script(probe.decode()) != is_literal:
        raise Refusal(places.DOUBT)


def _bind(bindings: dict[tuple[object, ...], Binding], found: Placeholder, use: Use) -> Binding:
    key = (found.name, found.offset, found.length, found.default, use)
    fresh = Binding(
        env=f"OJ_V{len(bindings)}",
        name=found.name,
        offset=found.offset,
        length=found.length,
        default=found.default,
        use=use,
    )
    return bindings.setdefault(key, fresh)


def _refused(text: str, slot: Slot, refusal: Refusal) -> ShellError:
    placeholder = text[slot.found.start : slot.found.end]
    return _error(
        text,
        slot.found.start,
        f"{placeholder} cannot stand here: {refusal.reason}",
        hint=refusal.hint.replace("{placeholder}", placeholder),
    )


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


def _foreign(part: Part, path: Sequence[Node], slot: Slot) -> str:
    """What is written for a name that is not ours: bash has no dotted names, so these have to be plain text."""
    name = slot.found.name
    if "." not in name:
        return slot.text
    place = places.place_of(part, path, slot)
    if place in {Place.TEXT, Place.SINGLE, Place.ANSI, Place.HEREDOC}:
        return slot.text
    if slot.is_escaped:
        return "\\" + slot.text
    head = name.partition(".")[0]
    near = difflib.get_close_matches(head, sorted(NAMESPACES), n=1)
    raise Refusal(
        "neither oj nor bash has a variable of that name",
        f"did you mean ${{{near[0]}{name[len(head) :]}}}?"
        if near
        else f"our names begin with {', '.join(sorted(NAMESPACES))}",
    )


# ---------------------------------------------------------------------------------------------- here-documents


def _open_heredoc(part: Part, document: Node, edits: Sequence[Edit]) -> list[Edit]:
    """Rewrite a here-document with a quoted delimiter so that references expand and all else stays literal."""
    kept = list(edits)
    for child in document.children:
        start, end = part.base + child.start_byte, part.base + child.end_byte
        if child.type == "heredoc_start":
            kept.append(Edit(start, end, places.delimiter_of(document).encode()))
        elif child.type == "heredoc_body":
            inside = [edit for edit in edits if start <= edit.start < end]
            kept = [edit for edit in kept if edit not in inside]
            at = start
            for edit in inside:
                between = part.data[at - part.base : edit.start - part.base]
                text = edit.text if edit.is_reference else _escaped(edit.text)
                kept.append(Edit(at, edit.end, _escaped(between) + text))
                at = edit.end
            kept.append(Edit(at, end, _escaped(part.data[at - part.base : end - part.base])))
    return kept


def _escaped(literal: bytes) -> bytes:
    return re.sub(rb"[\\$`]", rb"\\\g<0>", literal)


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
