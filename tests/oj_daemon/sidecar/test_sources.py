"""The session log and its copies."""

from __future__ import annotations

import json
from pathlib import Path

from oj_daemon.sidecar.sources import LogTail, Transcripts, catch_up


def append(path: Path, data: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def test_a_line_written_in_two_halves_is_read_once_when_it_is_whole(tmp_path: Path) -> None:
    log, tail = tmp_path / "log", LogTail()
    tail.follow(log)
    assert list(tail.read()) == []
    append(log, '{"a":')
    assert list(tail.read()) == []
    append(log, "1}\n{}\n")
    assert list(tail.read()) == ['{"a":1}', "{}"]
    assert list(tail.read()) == []


def test_a_log_that_was_cut_to_nothing_is_read_from_its_beginning(tmp_path: Path) -> None:
    log, tail = tmp_path / "log", LogTail()
    append(log, "one line that is long\nrest")
    tail.follow(log)
    assert list(tail.read()) == ["one line that is long"]
    log.write_text("two\n")
    assert list(tail.read()) == ["two"]


def test_a_log_that_was_replaced_by_a_longer_one_is_read_from_its_beginning(tmp_path: Path) -> None:
    log, tail = tmp_path / "log", LogTail()
    append(log, "one\n")
    tail.follow(log)
    assert list(tail.read()) == ["one"]
    append(tmp_path / "new", "two\nthree\n")
    (tmp_path / "new").replace(log)
    assert list(tail.read()) == ["two", "three"]


def test_bytes_that_are_no_text_cost_nothing_but_themselves(tmp_path: Path) -> None:
    log, tail = tmp_path / "log", LogTail()
    append(log, b"\xff\xfe bad\n{}\n")
    tail.follow(log)
    assert list(tail.read()) == ["\ufffd\ufffd bad", "{}"]


def test_another_file_is_read_from_its_start_and_the_first_from_where_it_was_left(
    tmp_path: Path,
) -> None:
    first, second, tail = tmp_path / "1", tmp_path / "2", LogTail()
    append(first, "a\nhalf")
    append(second, "b\n")
    tail.follow(first)
    assert list(tail.read()) == ["a"]
    tail.follow(second)
    assert list(tail.read()) == ["b"]
    append(first, " and half\n")
    tail.follow(first)
    assert list(tail.read()) == ["half and half"]


def test_where_a_line_ends_is_known_so_that_old_lines_can_be_told(tmp_path: Path) -> None:
    log, tail = tmp_path / "log", LogTail()
    append(log, "old\n")
    size = log.stat().st_size
    append(log, "new\n")
    tail.follow(log)
    assert [(line, tail.consumed <= size) for line in tail.read()] == [
        ("old", True),
        ("new", False),
    ]


def entry(number: int) -> str:
    return json.dumps({"uuid": f"u{number}"})


def test_a_copy_is_numbered_and_catching_up_shows_no_entry_twice(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", Transcripts(tmp_path / "kept")
    append(log, f"{entry(1)}\n{entry(2)}\n")
    saved = kept.save(log)
    assert saved is not None
    assert (saved.number, saved.line_count) == (1, 2)
    append(log, f"{entry(3)}\n")
    assert kept.save(log) is not None
    append(log, f"{entry(4)}\nno JSON\npart of a li")
    found = catch_up(kept, log, 0, 0)
    kept_lines = [one["lines"] for one in found["transcripts"]]  # type: ignore[attr-defined]
    assert kept_lines == [[entry(1), entry(2)], [entry(3)]]
    assert found["live_lines"] == [entry(4), "no JSON"]
    assert (found["current_transcript"], found["current_line"]) == (2, 5)
    later = catch_up(kept, log, 2, 4)
    assert (later["transcripts"], later["live_lines"]) == ([], ["no JSON"])


def test_without_a_log_there_is_nothing_to_copy(tmp_path: Path) -> None:
    kept = Transcripts(tmp_path / "kept")
    assert kept.save(tmp_path / "nothing") is None
    assert kept.list() == []
    assert kept.read(1) is None
