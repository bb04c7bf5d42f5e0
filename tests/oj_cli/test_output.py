"""stdout: tables that line up, text that cannot act on a terminal, colours only where they are wanted."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_cli import output
from oj_cli.output import Span
from oj_daemon.errors import OjError
from oj_daemon.wire.text import cut, visible, width


class Screen(io.StringIO):
    """A stdout that may be a terminal."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def isatty(self) -> bool:
        return self.columns > 0

    def fileno(self) -> int:
        return 1


Stdout = Callable[..., Screen]


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stdout]:
    """Replaces stdout: `stdout(columns, color=..., no_color=...)`; no columns is a pipe."""

    def replace(columns: int = 0, **settings: bool) -> Screen:
        screen = Screen(columns)
        monkeypatch.setattr("sys.stdout", screen)
        monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((columns, 24)))
        output.configure(**{"color": False, "no_color": False, **settings})
        return screen

    yield replace
    output.forget()


def test_a_piped_table_is_padded_to_its_data_and_never_cut(stdout: Stdout) -> None:
    screen = stdout()
    output.table(
        ["ID", "NAME", "STATUS"],
        [["a", "x" * 200, output.status("failed")], ["bbbb", "漢字", "ok"]],
    )
    assert screen.getvalue() == (
        f"ID    NAME{' ' * 196}  STATUS\na     {'x' * 200}  failed\nbbbb  漢字{' ' * 196}  ok\n"
    )


def test_a_table_without_rows_prints_nothing(stdout: Stdout) -> None:
    screen = stdout()
    output.table(["ID"], [])
    assert screen.getvalue() == ""


def test_numbers_line_up_at_the_right(stdout: Stdout) -> None:
    screen = stdout()
    output.table(["N", "JOBS"], [["a", "5"], ["b", "1234567"]], right=[1])
    assert screen.getvalue() == "N     JOBS\na        5\nb  1234567\n"


@pytest.mark.parametrize("columns", [20, 30, 41, 80])
def test_on_a_terminal_no_row_is_wider_and_ids_stay_whole(stdout: Stdout, columns: int) -> None:
    screen = stdout(columns, no_color=True)
    output.table(
        ["ID", "PATH", "BRANCH"],
        [["12345678", "/a/long/path/" * 5, "漢字" * 9], ["abcdefgh", "x", "y"]],
    )
    shown = screen.getvalue().splitlines()
    assert max(map(width, shown)) <= max(columns, 8 + 2 + output.NARROWEST + 2 + output.NARROWEST)
    assert [line[:8] for line in shown] == ["ID      ", "12345678", "abcdefgh"]
    assert "…" in shown[1]


def test_a_cell_with_line_breaks_stays_one_line(stdout: Stdout) -> None:
    screen = stdout()
    output.table(["A", "B"], [["x\ny", "p\tq\r\nr"]])
    assert screen.getvalue() == "A     B\nx\\ny  p q\\nr\n"


def test_colour_is_outside_of_the_padding(stdout: Stdout) -> None:
    screen = stdout(80)
    output.table(["S", "N"], [[output.status("failed"), "1"], [output.status("completed"), "2"]])
    assert screen.getvalue() == (
        "\x1b[38;5;74mS        \x1b[0m  \x1b[38;5;74mN\x1b[0m\n"
        "\x1b[31mfailed   \x1b[0m  1\n"
        "\x1b[32mcompleted\x1b[0m  2\n"
    )


@pytest.mark.parametrize(
    ("columns", "settings", "is_colored"),
    [
        (80, {}, True),
        (0, {}, False),
        (0, {"color": True}, True),
        (80, {"no_color": True}, False),
        (80, {"color": True, "no_color": True}, False),
    ],
)
def test_colour_is_for_terminals_unless_the_environment_says_otherwise(
    stdout: Stdout, columns: int, settings: dict[str, bool], *, is_colored: bool
) -> None:
    screen = stdout(columns, **settings)
    output.line(output.header("x"))
    assert ("\x1b" in screen.getvalue()) == is_colored


@pytest.mark.parametrize(
    ("word", "color"),
    [
        ("completed", output.GREEN),
        ("running", output.GREEN),
        ("waiting (decision)", output.YELLOW),
        ("Suspended", output.YELLOW),
        ("failed: exit 1", output.RED),
        ("whatever", ""),
        ("", ""),
        ("3 failed", ""),
    ],
)
def test_the_first_word_decides_the_colour_of_a_status(word: str, color: str) -> None:
    assert output.status(word) == Span(word, color)


def test_text_from_outside_cannot_act_on_a_terminal(stdout: Stdout) -> None:
    screen = stdout(80)
    output.line("a\x1b[31mred\x1b[0m\x1b[2J\x07\x9b1m\u202eevil")
    assert screen.getvalue() == "ared^[[2J^G\\u009b1m\\u202eevil\n"


def test_a_pipe_gets_text_from_outside_as_it_is(stdout: Stdout) -> None:
    screen = stdout()
    output.block("a\x1b[31mred\x1b[0m\n\x07")
    assert screen.getvalue() == "a\x1b[31mred\x1b[0m\n\x07\n"


@given(st.text())
def test_nothing_visible_moves_the_cursor(text: str) -> None:
    shown = visible(text)
    assert all(char in "\n\t" or char.isprintable() or ord(char) >= 0xA0 for char in shown)
    assert "\x1b" not in shown


@given(st.text(), st.integers(0, 40))
def test_a_cut_is_never_wider_than_its_room_and_cuts_nothing_that_fits(
    text: str, room: int
) -> None:
    assert width(cut(text, room)) <= room or width(text) <= room
    if width(text) <= room:
        assert cut(text, room) == text


@pytest.mark.parametrize(
    ("text", "columns"), [("abc", 3), ("漢字", 4), ("e\u0301", 1), ("a\u200bb", 2), ("ｱ", 1)]
)
def test_width_is_counted_in_columns(text: str, columns: int) -> None:
    assert width(text) == columns


def test_a_stdout_without_unicode_gets_plain_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.forget()
    output.line("── p → ⚠ … é")
    output.forget()
    assert raw.getvalue() == b"-- p > ! ~ \\xe9\n"


def test_json_keeps_other_scripts_readable(stdout: Stdout) -> None:
    screen = stdout()
    output.json({"name": "漢字", "list": []})
    assert screen.getvalue() == '{\n  "name": "漢字",\n  "list": []\n}\n'


def test_a_closed_stdout_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    output.forget()
    output.line("nobody reads this")
    output.forget()


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

        def fileno(self) -> int:
            raise OSError(9, "no file")

    monkeypatch.setattr("sys.stdout", Full())
    output.forget()
    with pytest.raises(
        OjError, match="Could not write to standard output: No space left on device"
    ):
        output.line("x")
    output.forget()


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"dry_run": False, "pruned": [], "skipped": 0}, "Pruned 0 jobs\n"),
        (
            {
                "dry_run": True,
                "pruned": [{"id": "job-1", "name": "n", "detail": "failed 2d ago"}],
                "skipped": 2,
            },
            "Would prune job job-1 (n): failed 2d ago\nWould prune 1 job, 2 skipped\n",
        ),
    ],
)
def test_a_prune_lists_what_went_and_counts_what_stayed(
    stdout: Stdout, reply: dict[str, Any], text: str
) -> None:
    screen = stdout()
    output.pruned("job", reply, json_wanted=False)
    assert screen.getvalue() == text
