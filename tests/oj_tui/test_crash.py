from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.worker import WorkerFailed

from oj_tui.crash import CrashLog


def raised(function: Callable[[], object]) -> Exception:
    """The error that a function raises, with where it happened."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - whichever it is
        return error
    raise AssertionError("it raised nothing")


def divide() -> float:
    """Raises."""
    return 1 / 0


def look() -> str:
    """Raises, too."""
    return {"a": "b"}["secret"]


def test_an_error_is_written_down_with_where_it_happened(tmp_path: Path) -> None:
    crashes = CrashLog(tmp_path / "logs")
    words = crashes.write(raised(divide))
    assert words == (
        "a bug in oj tui: ZeroDivisionError: division by zero\n"
        f"the view goes on; what happened is in {tmp_path}/logs/tui.log"
    )
    assert "in divide\n" in crashes.path.read_text()


def test_the_same_error_is_told_and_written_once(tmp_path: Path) -> None:
    crashes = CrashLog(tmp_path)
    assert crashes.write(raised(divide))
    assert crashes.write(raised(divide)) == ""
    assert crashes.write(raised(look)) != ""
    assert crashes.path.read_text().count("Traceback") == 2


def test_the_error_of_a_worker_is_told_and_not_that_a_worker_failed(tmp_path: Path) -> None:
    crashes = CrashLog(tmp_path)
    assert "ZeroDivisionError" in crashes.write(WorkerFailed(raised(divide)))


def test_where_nothing_can_be_written_that_is_told_as_well(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    words = CrashLog(tmp_path / "logs").write(raised(divide))
    assert words.endswith(f"it could not be written to {tmp_path}/logs/tui.log: File exists")
