"""The only writer of stdout: lines, tables and JSON, coloured where colour is wanted.

Rule: commands hand over plain values. Text is made safe for a terminal here, padded before it is coloured, measured in
columns and not in bytes, and cut only where a terminal would wrap it. A `Span` is the only way to ask for a colour.
"""

from __future__ import annotations

import os
import re
import sys
from typing import NamedTuple, TypeAlias

from oj_daemon.errors import OjError
from oj_daemon.wire.text import cut, one_line, visible, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

HEADER = "38;5;74"
LITERAL = "38;5;250"
CONTEXT = "38;5;245"
MUTED = "38;5;240"
GREEN = "32"
YELLOW = "33"
RED = "31"
STATUS_WORDS = {
    GREEN: "completed done running started ready on",
    YELLOW: "waiting escalated pending idle orphaned suspended stopping stopped creating cleaning deleting ending full off",
    RED: "failed cancelled dead gone error",
}
STATUS_COLORS = {word: color for color, words in STATUS_WORDS.items() for word in words.split()}
"""Colour of a status, by its first word."""

GAP = "  "
NARROWEST = 6
"""A column is not cut below this many terminal columns."""
PLAIN = str.maketrans({"…": "~", "─": "-", "→": ">", "⚠": "!"})
"""Our own signs for a stdout that is not UTF-8."""
REPLIES_WITHIN = ("workspace", "agents", "decisions")
"""Fields of replies that hold replies."""


class Span(NamedTuple):
    """Text with a colour (SGR parameters; empty for none)."""

    text: str
    style: str


Text: TypeAlias = "str | Span"


class _Terminal:
    """What is known about stdout; asked once, because a call of `oj` writes many lines."""

    def __init__(self) -> None:
        self.is_tty = sys.stdout is not None and sys.stdout.isatty()
        self.color = self.is_tty
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self.is_plain = not encoding.lower().replace("-", "").startswith("utf")
        self.width = 0
        """Columns; 0 when nothing has to be cut."""
        self.measure()
        if sys.stdout is not None and hasattr(sys.stdout, "reconfigure"):
            # A name that the locale cannot show must not end a listing with a traceback.
            sys.stdout.reconfigure(errors="backslashreplace")

    def measure(self) -> None:
        """Ask how wide the terminal is now."""
        if self.is_tty:
            try:
                self.width = os.get_terminal_size(sys.stdout.fileno()).columns
            except (OSError, ValueError):
                self.width = 0


_terminal: _Terminal | None = None


def terminal() -> _Terminal:
    """What is known about stdout."""
    global _terminal  # noqa: PLW0603 - stdout is global
    if _terminal is None:
        _terminal = _Terminal()
    return _terminal


def configure(*, color: bool, no_color: bool) -> None:
    """Decide about colour anew: `no_color` beats `color` beats whether stdout is a terminal."""
    global _terminal  # noqa: PLW0603 - stdout is global
    _terminal = _Terminal()
    _terminal.color = not no_color and (color or _terminal.is_tty)


def forget() -> None:
    """Look at stdout again before the next line; for those who replaced it."""
    global _terminal  # noqa: PLW0603 - stdout is global
    _terminal = None


def measure() -> None:
    """Ask again how wide the terminal is; for what is shown again and again."""
    terminal().measure()


def is_tty() -> bool:
    """Whether a person looks at stdout."""
    return terminal().is_tty


def status(word: str, text: str = "") -> Span:
    """A status in the colour of its first word; shown as `text` if given."""
    style = STATUS_COLORS.get(word)
    if style is None:
        first = re.match(r"[^\W\d_]*", word.strip())
        style = STATUS_COLORS.get(first.group().lower() if first else "", "")
    return Span(text or word, style)


def header(text: str) -> Span:
    """A label or a heading."""
    return Span(text, HEADER)


def literal(text: str) -> Span:
    """Something that can be typed: an id, a command."""
    return Span(text, LITERAL)


def context(text: str) -> Span:
    """Something said by the way."""
    return Span(text, CONTEXT)


def muted(text: str) -> Span:
    """Something of little interest."""
    return Span(text, MUTED)


def line(*parts: Text) -> None:
    """Print one line made of parts."""
    write(render(*parts) + "\n")


def lines(rows: Iterable[Text | Sequence[Text]]) -> None:
    """Print several lines at once; each is a text or a list of parts."""
    write("".join(f"{_row(row)}\n" for row in rows))


def block(text: str) -> None:
    """Print text of several lines that came from outside as it is, ending with a newline."""
    if text:
        raw = text if text.endswith("\n") else f"{text}\n"
        write(visible(raw) if is_tty() else raw)


def json(value: object) -> None:
    """Print one JSON document."""
    from json import dumps  # noqa: PLC0415 - not needed for text

    write(dumps(value, indent=2, ensure_ascii=False) + "\n")


def json_line(value: object) -> None:
    """Print one JSON document on one line, for streams of them."""
    from json import dumps  # noqa: PLC0415 - not needed for text

    write(dumps(value, ensure_ascii=False) + "\n")


def table(
    headers: Sequence[str], rows: Sequence[Sequence[Text]], *, right: Sequence[int] = ()
) -> None:
    """Print a table: a header, columns two spaces apart, nothing at all for no rows. `right` aligns columns right."""
    if rows:
        lines([*columns([[header(word) for word in headers], *rows], right=right)])


def fields(pairs: Sequence[tuple[str, Text]]) -> None:
    """Print labels with their values, one a line; empty values are left out."""
    shown = [(label, value) for label, value in pairs if plain(value)]
    room = max((len(label) for label, _ in shown), default=0) + 2
    lines([header(f"{label}:"), " " * (room - len(label) - 1), value] for label, value in shown)


def hidden(count: int) -> None:
    """Say how many rows a limit has hidden and how to see them; nothing when all were shown."""
    if count > 0:
        line(muted(f"... {count} more not shown (use --no-limit or -n N)"))


def reply(value: Mapping[str, object]) -> None:
    """Print a reply as JSON, without `type`, which only the wire needs."""
    json(untagged(value))


def untagged(value: Mapping[str, object]) -> dict[str, object]:
    """A reply, and the replies among its fields, without `type`."""
    return {
        key: _untagged(field) if key in REPLIES_WITHIN else field
        for key, field in value.items()
        if key != "type"
    }


def _untagged(field: object) -> object:
    if isinstance(field, dict):
        return untagged(field)
    return [_untagged(each) for each in field] if isinstance(field, list) else field


def pruned(noun: str, value: Mapping[str, Any], *, json_wanted: bool) -> None:
    """Print what a prune has removed, or would."""
    if json_wanted:
        reply(value)
        return
    entries = value["pruned"]
    verb = "Would prune" if value["dry_run"] else "Pruned"
    lines(
        f"{verb} {noun} {entry['id']}"
        + (f" ({entry['name']})" if entry["name"] else "")
        + (f": {entry['detail']}" if entry["detail"] else "")
        for entry in entries
    )
    kept = f", {value['skipped']} skipped" if value["skipped"] else ""
    line(f"{verb} {len(entries)} {noun}{'' if len(entries) == 1 else 's'}{kept}")


def columns(
    rows: Sequence[Sequence[Text]], *, right: Sequence[int] = (), indent: int = 0
) -> list[list[Text]]:
    """The rows as parts whose columns line up, cut to the width of the terminal if there is one."""
    cells = [[Span(one_line(plain(cell)), _style(cell)) for cell in row] for row in rows]
    widths = (
        [max(width(row[at].text) for row in cells) for at in range(len(cells[0]))] if cells else []
    )
    room = terminal().width - indent
    if terminal().width:
        widths = _fit(widths, room)
    made: list[list[Text]] = []
    for row in cells:
        parts: list[Text] = [" " * indent] if indent else []
        last = len(row) - 1
        for at, cell in enumerate(row):
            text = cut(cell.text, widths[at])
            gap = " " * (widths[at] - width(text))
            if at in right:
                text = gap + text
            elif at != last:
                text += gap
            parts.append(Span(text, cell.style))
            if at != last:
                parts.append(GAP)
        made.append(parts)
    return made


def plain(part: Text) -> str:
    """The text of a part, without its colour."""
    return part.text if isinstance(part, Span) else part


def render(*parts: Text) -> str:
    """The parts as one string, with colours if they are wanted."""
    screen = terminal()
    made = []
    for part in parts:
        text, style = (part.text, part.style) if isinstance(part, Span) else (part, "")
        if screen.is_tty:
            text = visible(text)
        made.append(f"\x1b[{style}m{text}\x1b[0m" if style and text and screen.color else text)
    return "".join(made)


def write(text: str) -> None:
    """Write what has been rendered, at once and completely."""
    if terminal().is_plain:
        text = text.translate(PLAIN)
    if sys.stdout is None:  # closed by the caller (`>&-`)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # click ends quietly: the reader has seen enough
    except OSError as failure:
        _drop_stdout()
        message = f"Could not write to standard output: {failure.strerror}"
        raise OjError(message, code="io") from failure


def _drop_stdout() -> None:
    """Let the flush at exit succeed; the loss has been reported."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return


def _row(row: Text | Sequence[Text]) -> str:
    if isinstance(row, (str, Span)):
        return render(row)
    return render(*row)


def _style(cell: Text) -> str:
    return cell.style if isinstance(cell, Span) else ""


def _fit(widths: list[int], room: int) -> list[int]:
    """The widths, the widest taken down until the row fits; the first column, which holds ids to copy, is never cut."""
    fitted = list(widths)
    too_much = sum(fitted) + len(GAP) * (len(fitted) - 1) - room
    while too_much > 0:
        widest = max(fitted[1:], default=0)
        if widest <= NARROWEST:
            break
        fitted[fitted.index(widest, 1)] -= 1
        too_much -= 1
    return fitted
