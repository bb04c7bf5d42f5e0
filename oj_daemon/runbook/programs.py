"""Which words of a command are program text for yet another interpreter: `bash -c`, `ssh`, `eval`, `awk` and their like.

Rule: pure tables over words; nothing here knows trees or placeholders. A value in such a word would be executed although it
is quoted, so `shell` refuses it with the hint given here. The tables name what people write in runbooks. A program that
interprets its arguments and is not listed stays the author's responsibility, as everywhere in shell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec


class Word(msgspec.Struct, frozen=True):
    """One word of a command: its text without quotes, up to the first part that only running it can tell."""

    text: str
    is_fixed: bool = True
    """Whether `text` is all of it."""
    may_vanish: bool = False
    """It is nothing but an unquoted expansion: if that is empty, the next word takes its place."""


class Danger(msgspec.Struct, frozen=True):
    """Why a value must not stand in a word, and the form to write instead."""

    reason: str
    hint: str
    is_choice: bool = False
    """The value would choose what runs; harmless where it is a folder that the program is in."""


SHELLS: Final = frozenset({"ash", "bash", "dash", "fish", "ksh", "mksh", "rbash", "sh", "zsh"})

_SHELL: Final = Danger(
    "it is part of the program of a second shell, which would run the value as commands",
    """pass the value as an argument: bash -c '... "$1"' _ "{placeholder}\"""",
)
_EVAL: Final = Danger(
    "eval would run the value as commands", 'call the command directly: command "{placeholder}"'
)
_TRAP: Final = Danger(
    "trap would run the value as commands later",
    """assign it first: x="{placeholder}"; trap 'command "$x"' EXIT""",
)
_REMOTE: Final = Danger(
    "the shell on the other side would run the value as commands",
    """quote it for that shell: ssh host "command $(printf '%q' "{placeholder}")\"""",
)
_CODE: Final = Danger(
    "it is part of the program text of another interpreter, which would run the value",
    'pass the value as an argument or in the environment: VALUE="{placeholder}" program ... '
    "and read it there (python os.environ, node process.env, perl $ENV, awk ENVIRON)",
)
_SED: Final = Danger(
    "it is part of a sed script, in which a value can add commands (GNU sed even runs programs)",
    """let perl read it: VALUE="{placeholder}" perl -pe 's/OLD/$ENV{VALUE}/g' file""",
)
_STDIN: Final = Danger(
    "the input it stands in is the program of another interpreter, which would run the value",
    """pass the value as an argument: bash -s -- "{placeholder}" <<'END'""",
)
_FILE: Final = Danger(
    "the value would choose which program is run",
    'name the programs: case "{placeholder}" in build) ./build.sh ;; esac (and quote a "$command" before it)',
    is_choice=True,
)
_HOST: Final = Danger(
    "a host name that begins with a dash would be an option, and options of ssh can run programs",
    'end the options before it: ssh -- "{placeholder}" ...',
)

# Programs that start the command given as their arguments, with the letters of options that take a value.
_WRAPPERS: Final = {
    "builtin": "", "chronic": "", "command": "", "coproc": "", "doas": "uC", "env": "uC", "exec": "a", "ionice": "cnp",
    "nice": "n", "nohup": "", "setsid": "", "stdbuf": "ioe", "sudo": "CDghpRrTtUu", "time": "fo",
    "timeout": "ks", "xargs": "aEIdLnPs",
}  # fmt: skip

# Interpreters and how their options announce program text; such an option may also end in the text itself.
_INTERPRETERS: Final = (
    (re.compile(r"(python|pypy)[0-9.]*"), re.compile(r"-[A-Za-z]*c")),
    (re.compile(r"node|nodejs|deno|bun|tsx"), re.compile(r"-(e|p|pe)|--(eval|print)=?")),
    (re.compile(r"(perl|ruby)[0-9.]*"), re.compile(r"-[A-Za-df-z0-9]*[eE]")),
    (re.compile(r"php[0-9.]*"), re.compile(r"-r|--run=?")),
    (re.compile(r"lua[0-9.]*|luajit|Rscript|osascript"), re.compile(r"-e")),
)
# Programs of which one option takes a command line for a shell.
_COMMAND_OPTIONS: Final = {
    "flock": re.compile(r"-c|--command=?"),
    "git": re.compile(r"-x|--exec=?"),
    "runuser": re.compile(r"-c|--(session-)?command=?"),
    "script": re.compile(r"-[a-z]*c|--command=?"),
    "su": re.compile(r"-c|--(session-)?command=?"),
}
_SSH_VALUES: Final = "BbcDEeFIiJLlmOopQRSWw"
_VERBATIM: Final = frozenset({"cat", "echo", "print", "printf", "tee"})


def dangers(words: Sequence[Word]) -> dict[int, Danger]:
    """The words, by position, in which a value would decide what is executed."""
    first = start(words)
    found = {first: _FILE} | dict(_shell_programs(words))
    for at in range(first, len(words) - 1):
        if not words[at].may_vanish:
            break
        found[at + 1] = _FILE
    if first >= len(words):
        return found
    name, rest = _base(words[first]), range(first + 1, len(words))
    for names, find in _READERS:
        if name in names:
            found |= find(words, rest)
    for program, option in _INTERPRETERS:
        if program.fullmatch(name):
            options = range(rest.start, _skip_options(words, rest.start, "WXrI"))
            found |= dict.fromkeys(_option_values(words, options, option), _CODE)
    if name in _COMMAND_OPTIONS:
        found |= dict.fromkeys(_option_values(words, rest, _COMMAND_OPTIONS[name]), _SHELL)
    return found


def reads_program(words: Sequence[Word]) -> Danger | None:
    """Whether the command takes a program from its standard input."""
    first = start(words)
    for at in range(len(words)):
        if _base(words[at]) in SHELLS and _shell_reads(words, at):
            return _STDIN
    if first >= len(words):
        return None
    name, rest = _base(words[first]), range(first + 1, len(words))
    if name == "ssh":
        remote = [piece for at in _after_host(words, rest) for piece in _split(words[at])]
        return _STDIN if not remote else reads_program(remote)
    if name in {"source", "."}:
        return _STDIN if any(words[at].text.startswith("/dev/") for at in rest) else None
    for program, option in _INTERPRETERS:
        if program.fullmatch(name):
            end = _skip_options(words, rest.start, "WXrI")
            given = any(option.match(words[at].text) for at in range(rest.start, end))
            operand = words[end].text if end < len(words) else "-"
            return _CODE if not given and operand in {"-", "/dev/stdin"} else None
    return None


def passes_on(words: Sequence[Word]) -> bool:
    """Whether the command writes its arguments or input as they are, so that a value goes through it unchanged."""
    first = start(words)
    return first < len(words) and _base(words[first]) in _VERBATIM and not quotes(words)


def quotes(words: Sequence[Word]) -> bool:
    """Whether the command writes its arguments quoted for a shell: `printf %q`."""
    return bool(words) and _base(words[0]) == "printf" and any("%q" in word.text for word in words)


def start(words: Sequence[Word]) -> int:
    """The position of the program that is run in the end, behind `sudo`, `env`, `timeout 5` and the like."""
    at = 0
    while at < len(words) and _base(words[at]) in _WRAPPERS:
        wrapper = _base(words[at])
        if wrapper == "command" and at + 1 < len(words) and words[at + 1].text in {"-v", "-V"}:
            break
        at = _skip_options(words, at + 1, _WRAPPERS[wrapper])
        while wrapper in {"env", "sudo", "doas"} and at < len(words) and "=" in words[at].text:
            at += 1
        if wrapper == "timeout":
            at += 1
    return at


def _base(word: Word) -> str:
    return word.text.rpartition("/")[2] if word.is_fixed else ""


def _split(word: Word) -> list[Word]:
    pieces = word.text.split()
    return [
        Word(piece, is_fixed=word.is_fixed or place < len(pieces) - 1)
        for place, piece in enumerate(pieces)
    ] or [word]


def _skip_options(words: Sequence[Word], at: int, values: str) -> int:
    """Past the options at `at`; `values` are the letters of those that take the next word."""
    while at < len(words) and words[at].text[:1] in {"-", "+"} and len(words[at].text) > 1:
        text = words[at].text
        at += 1
        if text == "--":
            break
        if not text.startswith("--") and words[at - 1].is_fixed and text[-1] in values:
            at += 1
    return at


def _operands(words: Sequence[Word], rest: range, values: str) -> Iterator[int]:
    at = _skip_options(words, rest.start, values)
    yield from range(at, rest.stop)


def _shell_programs(words: Sequence[Word]) -> Iterator[tuple[int, Danger]]:
    """`sh -c PROGRAM` anywhere: behind wrappers, `find -exec`, `docker exec c` and the like."""
    if words and _base(words[0]) in {"echo", "printf"}:
        return
    for at, word in enumerate(words):
        if _base(word) in SHELLS:
            program = _after_c(words, at)
            if program is not None and program < len(words):
                yield program, _SHELL


def _after_c(words: Sequence[Word], at: int) -> int | None:
    """The position of the program of the shell at `at`, or None without `-c`."""
    has_c = False
    at += 1
    while at < len(words) and words[at].text[:1] in {"-", "+"} and len(words[at].text) > 1:
        text = words[at].text
        has_c = has_c or (not text.startswith("--") and "c" in text)
        at += 2 if text in {"-o", "-O", "+o", "+O", "--rcfile", "--init-file"} else 1
        if text == "--":
            break
    return at if has_c else None


def _shell_file(words: Sequence[Word], rest: range) -> Iterator[int]:
    """The script operand of a shell, and an operand that could turn out to be an option."""
    if _after_c(words, rest.start - 1) is not None:
        return
    options = [words[at].text for at in rest]
    at = _skip_options(words, rest.start, "oO")
    if at < rest.stop and not any(
        re.fullmatch(r"-[a-z]*s[a-z]*", text) for text in options[: at - rest.start]
    ):
        yield at


def _shell_reads(words: Sequence[Word], at: int) -> bool:
    if _after_c(words, at) is not None:
        return False
    end = _skip_options(words, at + 1, "oO")
    options = [word.text for word in words[at + 1 : end]]
    if any(re.fullmatch(r"-[a-z]*s[a-z]*", text) for text in options):
        return True
    return end >= len(words) or words[end].text in {"-", "/dev/stdin"}


def _after_host(words: Sequence[Word], rest: range) -> range:
    at = _skip_options(words, rest.start, _SSH_VALUES)
    # Options may follow the host as well.
    return range(_skip_options(words, at + 1, _SSH_VALUES), rest.stop)


def _option_values(words: Sequence[Word], rest: range, option: re.Pattern[str]) -> Iterator[int]:
    for at in rest:
        text = words[at].text
        if option.fullmatch(text) and words[at].is_fixed and not text.endswith("="):
            yield at + 1
        elif option.match(text):
            yield at


def _script_words(
    words: Sequence[Word], rest: range, values: str, code: str, file: str
) -> Iterator[int]:
    """The program of awk or sed: the values of `code` options, or else the first operand."""
    given = list(_option_values(words, rest, re.compile(code)))
    yield from given
    if not given and not any(re.match(file, words[at].text) for at in rest):
        # `sed -i ''` of macOS has an empty word before the program.
        operands = [at for at in _operands(words, rest, values) if words[at] != Word("")]
        yield from operands[:1]


def _eval(_: Sequence[Word], rest: range) -> dict[int, Danger]:
    return dict.fromkeys(rest, _EVAL)


def _trap(words: Sequence[Word], rest: range) -> dict[int, Danger]:
    return dict.fromkeys(list(_operands(words, rest, ""))[:1], _TRAP)


def _whole_line(_: Sequence[Word], rest: range) -> dict[int, Danger]:
    return dict.fromkeys(rest, _SHELL)


def _ssh(words: Sequence[Word], rest: range) -> dict[int, Danger]:
    remote = _after_host(words, rest)
    found = dict.fromkeys(remote, _REMOTE)
    found |= {at: _SHELL for at in rest if "Command" in words[at].text}
    host = _skip_options(words, rest.start, _SSH_VALUES)
    if host < rest.stop and words[host].text == "" and words[host - 1].text != "--":
        found[host] = _HOST
    return found


def _awk(words: Sequence[Word], rest: range) -> dict[int, Danger]:
    program = _script_words(words, rest, "fFv", r"-e|--source=?", r"-f|--file")
    return dict.fromkeys(program, _CODE)


def _sed(words: Sequence[Word], rest: range) -> dict[int, Danger]:
    program = _script_words(words, rest, "fl", r"-[nErsuz]*e|--expression=?", r"-f|--file")
    return dict.fromkeys(program, _SED)


def _source(_: Sequence[Word], rest: range) -> dict[int, Danger]:
    return dict.fromkeys(rest[:1], _FILE)


def _shell(words: Sequence[Word], rest: range) -> dict[int, Danger]:
    return dict.fromkeys(_shell_file(words, rest), _FILE)


_READERS: Final = (
    ({"eval"}, _eval),
    ({"trap"}, _trap),
    ({"parallel", "watch"}, _whole_line),
    ({"ssh"}, _ssh),
    ({"awk", "gawk", "mawk", "nawk", "original-awk"}, _awk),
    ({"gsed", "sed"}, _sed),
    ({".", "source"}, _source),
    (SHELLS, _shell),
)
