"""What a terminal shows."""

from __future__ import annotations

import random
import re
import unicodedata

import pytest

from oj_daemon.sidecar.screen import BRACKETED_PASTE, Screen, open_screen


def screen(*parts: bytes, cols: int = 20, rows: int = 4) -> tuple[Screen, list[bytes]]:
    replies: list[bytes] = []
    made = open_screen(cols, rows, replies.append)
    for part in parts:
        made.feed(part)
    return made, replies


def test_there_are_as_many_lines_as_rows_and_no_blanks_at_their_ends() -> None:
    made, _ = screen(b"one   \r\n\r\n  three \x1b[1;18H ")
    assert made.lines() == ["one", "", "  three", ""]


def test_a_character_cut_in_the_middle_is_whole_on_the_screen() -> None:
    data = "é 漢字".encode()
    made, _ = screen(*(data[index : index + 1] for index in range(len(data))))
    assert made.lines()[0] == "é 漢字"


def test_the_alternate_screen_is_seen_across_cuts() -> None:
    made, _ = screen(b"main\x1b[?10", b"49h\x1b[Halt")
    assert (made.is_alternate(), made.lines()[0]) == (True, "alt")
    made.feed(b"\x1b[?1")
    made.feed(b"049l")
    assert (made.is_alternate(), made.lines()[0]) == (False, "main")


def test_styled_lines_carry_colours_and_no_other_sequences() -> None:
    made, _ = screen(
        b"\x1b]0;title\x07\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\x1b]8;;\x07\x1b[5n\r\nplain"
    )
    styled = made.styled()
    assert len(styled) == 4
    assert re.sub(r"\x1b\[[0-9;:]*m", "", styled[0]) == "red link"
    assert "\x1b[38;5;1m" in styled[0]
    assert styled[1].startswith("plain")


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (b"\x1b[c", rb"\x1b\[\?6\d"),
        (b"\x1b[6n", rb"\x1b\[1;1R"),
        (b"\x1b[>q", rb"\x1bP>\|"),
        (b"\x1b[?2004$p", rb"\x1b\[\?2004;2\$y"),
        (b"\x1b]11;?\x07", rb"\x1b\]11;rgb:"),
    ],
)
def test_a_program_that_asks_its_terminal_is_answered(query: bytes, answer: bytes) -> None:
    _, replies = screen(query)
    assert re.match(answer, b"".join(replies))


def test_modes_are_known() -> None:
    made, _ = screen(b"\x1b[?2004h")
    assert made.mode(BRACKETED_PASTE)


def test_another_terminal_shows_the_same_after_a_restore() -> None:
    made, _ = screen(b"\r\n".join(b"line %d" % index for index in range(9)),
                     b"\x1b[?1049h\x1b[2J\x1b[2;3H\x1b[7malt\x1b[0m\x1b[?2004h\x1b[?25l")  # fmt: skip
    other, _ = screen(b"garbage \x1b[?1000h\x1b[31m", made.restore())
    assert other.lines() == made.lines()
    assert other.cursor() == made.cursor()
    assert [other.mode(mode) for mode in (1049, 2004, 25, 1000)] == [True, True, False, False]


def test_a_resize_reflows_and_is_not_a_loss() -> None:
    made, _ = screen(b"0123456789abcdefghij", cols=20)
    made.resize(10, 6)
    assert made.lines()[:2] == ["0123456789", "abcdefghij"]
    assert len(made.lines()) == 6


def test_nothing_that_is_fed_breaks_it() -> None:
    chance = random.Random(7)
    made, replies = screen(cols=80, rows=24)
    made.feed(chance.randbytes(300_000))
    made.feed(b"x" * 1_000_000)
    made.feed(b"\x1b[" + b"9;" * 50_000 + b"m\x1b]52;c;" + b"A" * 200_000)
    made.feed(b"\x1b[c" * 1000 + b"\x1b\\\x1bc")
    assert made.lines() == [""] * 24
    assert sum(map(len, replies)) < 1_000_000


def test_no_control_character_comes_through_as_a_letter() -> None:
    made, _ = screen(bytes(range(1, 32)) + b"\x7f\xc2\x9b31m\xc2\x85\x9b\x80A", b"\x1b\\\x18B\x7f")
    text = "".join(made.lines()) + re.sub(r"\x1b\[[0-9;:]*m", "", "".join(made.styled()))
    assert [char for char in text if unicodedata.category(char) == "Cc"] == []
    assert "B\u2421" in text
