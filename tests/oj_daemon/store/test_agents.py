"""Tests of oj_daemon/store/agents.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from oj_daemon.drivers.activity import Activity, Deed
from oj_daemon.store import agents
from oj_daemon.store.agents import AgentBook, Counters, Scribe, UsageLog

AT = 1_764_000_000_000
STAMP = "2025-11-24T16:00:00Z"


def read(entry: dict[str, Any]) -> list[Activity]:
    """A reader whose entries say what was done."""
    return [Activity(*done) for done in entry["did"]]


BASH = {"did": [(Deed.BASH, "make\nall", "1")]}
READ = {"did": [(Deed.READ, "/a")]}
DONE = {"did": [(Deed.RESULT, "exit 0", "1")]}
TURN = {"did": [(Deed.TURN,)]}


def tell(book: AgentBook, *entries: dict[str, Any]) -> Scribe:
    """What a daemon does that hears these entries from the first on."""
    scribe = Scribe(book.log("agt-1"), read)
    for position, entry in enumerate(entries, 1):
        scribe.take(entry, position, is_old=bool(entry.get("old")), at=AT)
    return scribe


def lines(book: AgentBook) -> list[str]:
    return book.path("agt-1").read_text().splitlines()


def test_a_command_is_told_with_its_result_and_all_is_counted(tmp_path: Path) -> None:
    book = AgentBook(tmp_path)
    tell(book, BASH, READ, DONE, {"did": [(Deed.WROTE, "/b"), (Deed.EDITED, "/b")]}, TURN)
    assert lines(book) == [
        f"{STAMP} read: /a",
        f"{STAMP} bash: make\\nall (exit 0)",
        f"{STAMP} wrote: /b",
        f"{STAMP} edited: /b",
        f"{STAMP} turn complete",
    ]
    expected = Counters(files_read=1, files_written=2, commands=1)
    assert book.log("agt-1").counters == expected
    assert AgentBook(tmp_path).log("agt-1").counters == expected


@pytest.mark.parametrize("heard", range(5))
def test_a_daemon_that_hears_all_again_tells_nothing_twice(tmp_path: Path, heard: int) -> None:
    entries = [BASH, READ, DONE, TURN, READ]
    tell(AgentBook(tmp_path), *entries[:heard])
    book = AgentBook(tmp_path)
    tell(book, *entries)
    assert [line.partition(" ")[2] for line in lines(book)] == [
        "read: /a", "bash: make\\nall (exit 0)", "turn complete", "read: /a",
    ]  # fmt: skip


def test_an_append_that_was_announced_and_torn_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = AgentBook(tmp_path)
    tell(book, READ)

    def torn(fd: int, data: bytes) -> None:
        os.write(fd, data[:10])
        raise KeyboardInterrupt  # as kill -9: nothing is tidied up

    monkeypatch.setattr(agents, "write_all", torn)
    with pytest.raises(KeyboardInterrupt):
        tell(book, READ, TURN)
    monkeypatch.undo()
    again = AgentBook(tmp_path)
    tell(again, READ, TURN)
    assert lines(again) == [f"{STAMP} read: /a", f"{STAMP} turn complete"]


def test_what_an_earlier_session_wrote_is_not_told(tmp_path: Path) -> None:
    book = AgentBook(tmp_path)
    tell(book, {**READ, "old": True}, TURN)
    assert lines(book) == [f"{STAMP} turn complete"]


def test_the_end_is_told_once(tmp_path: Path) -> None:
    tell(AgentBook(tmp_path), BASH).finish(AT, "killed by signal 9")
    book = AgentBook(tmp_path)
    tell(book, BASH).finish(AT, "killed by signal 9")
    assert lines(book) == [
        f"{STAMP} bash: make\\nall (interrupted)",
        f"{STAMP} error: killed by signal 9",
    ]


def test_entries_that_are_lost_are_told_unless_they_were_known(tmp_path: Path) -> None:
    tell(AgentBook(tmp_path), READ, TURN)
    book = AgentBook(tmp_path)
    scribe = Scribe(book.log("agt-1"), read)
    scribe.skip(2, AT)
    assert len(lines(book)) == 2
    scribe.skip(5, AT)
    assert lines(book)[2:] == [f"{STAMP} error: 3 entries of the session log were missed"]


def test_remains_are_kept_and_removed(tmp_path: Path) -> None:
    book = AgentBook(tmp_path)
    tell(book, READ)
    book.keep("agt-1", screen={"lines": ["a", "b"]}, transcript="{}\n", usage={"request_count": 1})
    book.keep("agt-1", screen=None, transcript=None, usage=None)
    assert book.screen("agt-1") == {"lines": ["a", "b"]}
    assert book.usage("agt-1") == {"request_count": 1}
    assert (tmp_path / "agt-1" / "capture.latest.txt").read_text() == "a\nb\n"
    assert (tmp_path / "agt-1" / "session.jsonl").read_text() == "{}\n"
    book.remove(["agt-1", "agt-unknown"])
    assert list(tmp_path.iterdir()) == []
    assert book.screen("agt-1") is None


def test_figures_are_rotated_and_a_full_disk_is_only_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "USAGE_BYTES", 10)
    log = UsageLog(tmp_path / "metrics" / "usage.jsonl")
    for number in range(5):
        log.append([{"number": number}])
    files = sorted((tmp_path / "metrics").iterdir())
    assert [path.name for path in files] == ["usage.jsonl", "usage.jsonl.1", "usage.jsonl.2"]
    assert [json.loads(path.read_text())["number"] for path in files] == [4, 3, 2]

    def full(_fd: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agents, "write_all", full)
    log.append([{"number": 6}])
    assert "no space left" in log.problem
