"""A log: lines that are added to, scrolled and searched.

Rule: knows lines and text, never whose log it is. Only lines in sight are drawn, and whatever comes between two draws costs no
more than keeping it. The end is followed until somebody scrolls away from it, and what is so is said in the line below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from oj_daemon.wire.text import cut, one_line, visible
from oj_tui.widgets.focus import take_focus
from oj_tui.widgets.log_text import MOST, LogText, Read, Span, wrapped
from oj_tui.widgets.walk import STYLE_CLASSES

Piece = tuple[str, str]
Shape = Callable[[str], list[Piece]]
"""A line -> its pieces, each with its style; together they are the line again."""
SIDEWAYS: Final = 8
"""Columns of one step to the side."""
CUT_SHORT: Final = "-- the log was cut short; what follows is from its beginning --"


def _plain(line: str) -> list[Piece]:
    return [(line, "")]


class LogLines(ScrollView, can_focus=True, inherit_bindings=False):
    """The lines in sight."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "log--found",
        "log--current",
        *STYLE_CLASSES,
    }

    class Moved(Message):
        """Other lines are in sight."""

    def __init__(self, text: LogText, shape: Shape) -> None:
        super().__init__()
        self.log_text = text
        self.follows = True
        """The end stays in sight."""
        self.wraps = False
        self.current: int | None = None
        """Number of the line that was searched for."""
        self.empty = ""
        """What is said when there is no line."""
        self._shape = shape
        self._broken: deque[tuple[int, Span]] = deque()
        """When lines are wrapped: the line of each row, and which part of it."""
        self._broken_end = 0
        """Number of the first line that is not in there."""
        self._first = 0
        """Number of the first line when it was laid out last."""

    # Which row is which line

    def lay(self) -> None:
        """Take in what was added to the text."""
        text = self.log_text
        dropped = self._laid_anew() if self.wraps else text.first - self._first
        self._first = text.first
        rows = len(self._broken) if self.wraps else text.end - text.first
        rows += 0 if text.unfinished is None else 1
        self.virtual_size = Size(self.size.width if self.wraps else text.width, rows)
        if self.follows:
            self.scroll_to(y=self.max_scroll_y, animate=False, force=True)
        elif dropped:
            self.scroll_to(y=max(0, self.scroll_y - dropped), animate=False, force=True)
        self.refresh()

    def _laid_anew(self) -> int:
        """Break what was added into rows; how many rows were dropped."""
        text, dropped = self.log_text, 0
        while self._broken and self._broken[0][0] < text.first:
            self._broken.popleft()
            dropped += 1
        for number in range(max(self._broken_end, text.first), text.end):
            spans = wrapped(text.line(number), self.size.width)
            self._broken.extend((number, span) for span in spans)
        self._broken_end = text.end
        return dropped

    def _row(self, at: int) -> tuple[int, str, Span] | None:
        """Number and text of the line in a row, and which part of it."""
        text = self.log_text
        rows = len(self._broken) if self.wraps else text.end - text.first
        if at < rows:
            number, span = self._broken[at] if self.wraps else (text.first + at, None)
            line = text.line(number)
            return number, line, span or (0, len(line))
        line = text.unfinished or ""
        return (text.end, line, (0, len(line))) if at == rows and line else None

    def row_of(self, number: int) -> int:
        """The first row of a line."""
        if not self.wraps:
            return number - self.log_text.first
        return next((at for at, (line, _) in enumerate(self._broken) if line >= number), 0)

    def number_at(self, row: int) -> int:
        """Number of the line in a row; that of the line after the last one below the end."""
        found = self._row(row)
        return self.log_text.end if found is None else found[0]

    def wrap(self, *, wraps: bool) -> None:
        """Break long lines, or let them go on to the right."""
        top = self.number_at(int(self.scroll_y))
        self.wraps = wraps
        self._broken.clear()
        self._broken_end = self.log_text.first
        self.scroll_to(x=0, animate=False, force=True)
        self.lay()
        if not self.follows:
            self.scroll_to(y=self.row_of(top), animate=False, force=True)

    # Moving

    def go(self, row: float) -> None:
        """Put this row on top."""
        self.scroll_to(y=min(max(row, 0), self.max_scroll_y), animate=False, force=True)

    def show(self, number: int) -> None:
        """Bring a line into sight, with some before it."""
        self.current = number
        self.follows = False
        row = self.row_of(number)
        if not int(self.scroll_y) <= row < int(self.scroll_y) + self.size.height:
            self.go(row - self.size.height // 3)
        self.follows = False
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whoever scrolls away from the end wants to read; whoever comes back wants to follow."""
        super().watch_scroll_y(old_value, new_value)
        self.follows = new_value >= self.max_scroll_y
        self.post_message(self.Moved())

    def on_resize(self, _event: events.Resize) -> None:
        """Another width breaks lines elsewhere."""
        if self.wraps:
            self.wrap(wraps=True)
        self.lay()

    # What it shows

    def render_line(self, y: int) -> Strip:
        """One row."""
        row = self._row(y + int(self.scroll_y))
        room = self.size.width
        if row is None:
            words = self.empty if y == 0 and not self.virtual_size.height else ""
            style = self.get_component_rich_style("style--muted")
            return Strip([Segment(cut(words, room), style)]).adjust_cell_length(
                room, self.rich_style
            )
        number, line, (start, end) = row
        segments = [
            Segment(text, self._style(name, is_found=found, is_current=number == self.current))
            for text, name, found in marked(self._shape(line), list(self.log_text.spans(line)))
        ]
        strip = Strip(_part(segments, start, end) if (start, end) != (0, len(line)) else segments)
        left = 0 if self.wraps else int(self.scroll_x)
        return strip.crop(left, left + room).adjust_cell_length(room, self.rich_style)

    def _style(self, name: str, *, is_found: bool, is_current: bool) -> Style:
        if is_found:
            return self.get_component_rich_style("log--current" if is_current else "log--found")
        return self.get_component_rich_style(f"style--{name or 'plain'}")


class LogPane(Vertical):
    """A log with a line that says where in it one is, and a field to search it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f,space", "page(1)", "Page down", show=False),
        Binding("left", "aside(-1)", "Left", show=False),
        Binding("right", "aside(1)", "Right", show=False),
        Binding("home,g", "top", "First line", show=False),
        Binding("end,G", "follow", "Follow the end"),
        Binding("slash", "search", "Search"),
        Binding("n", "found(1)", "Next found", show=False),
        Binding("N", "found(-1)", "Found before", show=False),
        Binding("w", "wrap", "Wrap"),
    ]

    def __init__(
        self,
        shape: Shape = _plain,
        *,
        read: Read = str,
        most: int = MOST,
        empty: str = "",
        id: str | None = None,  # noqa: A002 - the library's word
    ) -> None:
        super().__init__(id=id)
        self.log_text = LogText(read, most=most)
        self._lines = LogLines(self.log_text, shape)
        self._lines.empty = empty
        self._said = ""

    def compose(self) -> ComposeResult:
        """Lines, where one is, what is searched for."""
        yield self._lines
        yield Static("", markup=False, classes="log--state")
        field = Input(placeholder="search: Enter finds, Esc ends", classes="log--search")
        field.display = False
        yield field

    def on_mount(self) -> None:
        """Say where one is."""
        self._say()

    # What it holds

    def add(self, text: str, *, restarted: bool = False) -> None:
        """What the log says next, which may end within a line; or, `restarted`, from its beginning again."""
        if restarted:
            self.log_text.note(CUT_SHORT)
        self.log_text.add(text)
        self._lay()

    def note(self, words: str) -> None:
        """A line of ours."""
        self.log_text.note(words)
        self._lay()

    def clear(self, read: Read | None = None) -> None:
        """Forget everything; read what comes now like this."""
        self.log_text.clear()
        if read is not None:
            self.log_text.read = read
        self._lines.current = None
        self._lines.follows = True
        self._lay()

    def say(self, words: str) -> None:
        """What is said as long as there is no line."""
        self._lines.empty = visible(one_line(words))
        self._lines.refresh()

    @property
    def follows(self) -> bool:
        """The newest line stays in sight."""
        return self._lines.follows

    @property
    def state(self) -> str:
        """What the line below the log says."""
        return self._said

    def _lay(self) -> None:
        if self._lines.is_attached:
            self._lines.lay()
            self._say()

    def _say(self) -> None:
        lines, text = self._lines, self.log_text
        end = int(lines.scroll_y) + lines.size.height
        below = text.end - lines.number_at(end)
        said = [
            "following the end" if lines.follows else f"{below} lines below: End follows",
            f"{text.end - text.first} lines",
        ]
        if text.query:
            of = f"{text.rank(lines.current)} of " if lines.current is not None else ""
            said.append(f"'{text.query}' in {of}{text.found} lines: n, N")
        if lines.scroll_x:
            said.append(f"from column {int(lines.scroll_x) + 1}")
        self._said = "  ·  ".join(said)
        if self.is_mounted:
            self.query_one(".log--state", Static).update(self._said)

    # Moving

    def on_log_lines_moved(self, message: LogLines.Moved) -> None:
        """Say where one is now."""
        message.stop()
        self._say()

    def action_move(self, by: int) -> None:
        """Scroll by lines."""
        self._lines.go(self._lines.scroll_y + by)

    def action_page(self, by: int) -> None:
        """Scroll by what is in sight."""
        self._lines.go(self._lines.scroll_y + by * max(1, self._lines.size.height - 1))

    def action_aside(self, by: int) -> None:
        """Scroll to the side."""
        self._lines.scroll_to(
            x=max(0, self._lines.scroll_x + by * SIDEWAYS), animate=False, force=True
        )
        self._say()

    def action_top(self) -> None:
        """Show the oldest line."""
        self._lines.go(0)

    def action_follow(self) -> None:
        """Show the newest line, now and from now on."""
        self._lines.follows = True
        self._lay()

    def action_wrap(self) -> None:
        """Break long lines, or not."""
        self._lines.wrap(wraps=not self._lines.wraps)
        self._say()

    # Searching

    def action_search(self) -> None:
        """Ask what to look for."""
        field = self.query_one(Input)
        field.display = True
        field.value = self.log_text.query
        take_focus(field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Look for it, from what is in sight upwards: the newest is asked for most often."""
        event.stop()
        self.query_one(Input).display = False
        take_focus(self._lines)
        self.search(event.value)

    def search(self, query: str) -> None:
        """Look for this; nothing when empty."""
        lines = self._lines
        self.log_text.search(query)
        lines.current = None
        found = self.log_text.last_found(lines.number_at(int(lines.scroll_y) + lines.size.height))
        if found is not None:
            lines.show(found)
        lines.refresh()
        self._say()

    def action_found(self, by: int) -> None:
        """Go to the next line that holds it, or to the one before."""
        at = self._lines.current
        if at is None:
            at = self._lines.number_at(int(self._lines.scroll_y))
        find = self.log_text.next_found if by > 0 else self.log_text.last_found
        number = find(at)
        if number is not None:
            self._lines.show(number)
        self._say()

    def leave(self) -> bool:
        """End the search; False when there is none."""
        field = self.query_one(Input)
        if not field.display and not self.log_text.query:
            return False
        if field.display:
            field.display = False
            take_focus(self._lines)
        self.search("")
        return True


def marked(pieces: list[Piece], spans: list[Span]) -> list[tuple[str, str, bool]]:
    """The pieces, broken where something found begins or ends, and whether it is in there."""
    made: list[tuple[str, str, bool]] = []
    edges = [edge for span in spans for edge in span]
    at = 0
    for text, name in pieces:
        end = at + len(text)
        cuts = [at, *(edge for edge in edges if at < edge < end), end]
        made.extend(
            (text[left - at : right - at], name, any(a <= left < b for a, b in spans))
            for left, right in pairwise(cuts)
        )
        at = end
    return made


def _part(segments: list[Segment], start: int, end: int) -> list[Segment]:
    """Those characters of a line."""
    made: list[Segment] = []
    at = 0
    for segment in segments:
        text = segment.text[max(0, start - at) : max(0, end - at)]
        at += len(segment.text)
        if text:
            made.append(Segment(text, segment.style))
    return made
