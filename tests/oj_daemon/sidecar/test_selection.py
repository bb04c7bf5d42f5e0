"""One option on its way to being confirmed."""

from __future__ import annotations

from oj_daemon.drivers.base import Dialog
from oj_daemon.sidecar.selection import MOVES, Selection


def at(selected: int, name: str = "trust") -> Dialog:
    return Dialog(name, ("No", "Yes"), selected)


def test_it_moves_looks_twice_and_confirms() -> None:
    selection = Selection("trust", 2, "api", "Yes")
    assert selection.step(at(1), 0, 100) == "type"
    assert selection.step(at(2), 50, 100) == "wait", "the picture may be older than the key"
    assert selection.step(at(2), 100, 100) == "look"
    assert selection.step(at(2), 150, 100) == "wait"
    assert selection.step(at(2), 200, 100) == "type"


def test_a_mark_that_moves_on_between_two_looks_is_not_confirmed() -> None:
    selection = Selection("trust", 2, "api", "Yes")
    assert selection.step(at(2), 0, 100) == "look"
    assert selection.step(at(1), 100, 100) == "type"
    assert selection.step(at(2), 200, 100) == "look"


def test_a_key_without_effect_is_given_time_then_typed_again() -> None:
    selection = Selection("trust", 2, "api", "Yes")
    assert selection.step(at(1), 0, 100) == "type"
    assert [selection.step(at(1), now, 100) for now in (100, 300, 500)] == ["look"] * 3
    assert selection.step(at(1), 600, 100) == "type"


def test_it_waits_while_another_dialog_stands_there_and_gives_up_in_the_end() -> None:
    selection = Selection("trust", 2, "api", "Yes", moves=MOVES)
    assert selection.step(at(1, "other"), 0, 100) == "wait"
    assert selection.step(at(1), 10_000, 100) == "give up"


def test_a_page_without_options_is_left_after_two_looks() -> None:
    selection = Selection("login_success", -1, "groom", "Enter")
    page = Dialog("login_success")
    assert selection.step(page, 0, 100) == "look"
    assert selection.step(page, 100, 100) == "type"
