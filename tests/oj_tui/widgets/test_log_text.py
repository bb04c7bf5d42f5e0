from __future__ import annotations

import tracemalloc

from oj_tui.widgets.log_text import LONGEST, LogText, wrapped


def lines(text: LogText) -> list[str]:
    return [text.line(number) for number in range(text.first, text.end)]


def test_a_line_that_comes_in_pieces_is_one_line() -> None:
    text = LogText()
    text.add("one\ntw")
    assert lines(text) == ["one"]
    assert text.unfinished == "tw"
    text.add("o\nthree\n")
    assert lines(text) == ["one", "two", "three"]
    assert text.unfinished is None


def test_only_the_newest_lines_are_kept_and_their_numbers_stay() -> None:
    text = LogText(most=3)
    text.add("".join(f"{at}\n" for at in range(5)))
    assert lines(text) == ["2", "3", "4"]
    text.add("5\n")
    assert (text.first, text.end) == (1, 4)
    assert text.line(3) == "5"


def test_nothing_in_a_line_acts_on_the_terminal() -> None:
    text = LogText()
    text.add("\x1b[31mred\x1b[0m\x1b]52;c;x\x07\ta\r\n")
    assert lines(text) == ["red^[]52;c;x^G   a"]


def test_a_line_without_an_end_costs_no_more_than_its_beginning() -> None:
    text = LogText()
    tracemalloc.start()
    for _ in range(1000):
        text.add("x" * 10_000)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000
    text.add("\nnext\n")
    assert lines(text) == ["x" * LONGEST + "…", "next"]


def test_what_read_leaves_out_is_not_kept() -> None:
    text = LogText(lambda line: line.upper() if line.startswith("a") else None)
    text.add("ab\nba\nac\nbc")
    assert lines(text) == ["AB", "AC"]
    assert text.unfinished is None


def test_a_note_ends_a_line_that_will_get_no_end() -> None:
    text = LogText()
    text.add("half")
    text.note("-- restarted --")
    text.add("new\n")
    assert lines(text) == ["-- restarted --", "new"]


def test_lines_are_found_in_both_directions_and_around_the_ends() -> None:
    text = LogText()
    text.search("err")
    text.add("an Error\nnothing\nerror err\n")
    assert text.found == 2
    assert [text.next_found(at) for at in (-1, 0, 2)] == [0, 2, 0]
    assert [text.last_found(at) for at in (3, 2, 0)] == [2, 0, 2]
    assert [text.rank(0), text.rank(2)] == [1, 2]
    assert list(text.spans(text.line(2))) == [(0, 3), (6, 9)]


def test_capital_letters_count_when_they_are_typed() -> None:
    text = LogText()
    text.add("Error\nerror\n")
    text.search("Err")
    assert (text.found, text.next_found(-1)) == (1, 0)


def test_what_is_dropped_is_found_no_more() -> None:
    text = LogText(most=2)
    text.search("x")
    text.add("x1\nx2\n")
    text.add("x3\n")
    assert (text.found, text.next_found(-1)) == (2, 1)


def test_what_has_no_letters_is_found_too() -> None:
    text = LogText()
    text.add("100 %\n")
    text.search("0 %")
    assert text.found == 1


def test_long_lines_are_broken_at_the_edge_wide_characters_included() -> None:
    assert wrapped("", 3) == [(0, 0)]
    assert wrapped("abcdefg", 3) == [(0, 3), (3, 6), (6, 7)]
    assert wrapped("a好b好", 3) == [(0, 2), (2, 4)]
    assert wrapped("好好", 1) == [(0, 1), (1, 2)]
