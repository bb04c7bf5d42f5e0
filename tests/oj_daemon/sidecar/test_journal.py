"""Frames for whoever comes late."""

from __future__ import annotations

from oj_daemon.sidecar.journal import Journal


def test_a_reader_gets_what_came_after_its_position() -> None:
    journal = Journal(most=10, most_bytes=1000)
    for text in "abc":
        journal.append(text)
    entries, missed = journal.after(1)
    assert ([entry.text for entry in entries], missed) == (["b", "c"], 0)
    assert journal.after(3) == ([], 0)


def test_a_reader_that_fell_behind_is_told_how_much_is_lost() -> None:
    journal = Journal(most=2, most_bytes=1000)
    for text in "abcde":
        journal.append(text)
    entries, missed = journal.after(1)
    assert ([entry.text for entry in entries], missed) == (["d", "e"], 2)


def test_bytes_are_bounded_but_the_newest_frame_stays() -> None:
    journal = Journal(most=10, most_bytes=5)
    journal.append("aaa")
    journal.append("b" * 100)
    assert [entry.text for entry in journal.after(0)[0]] == ["b" * 100]


def test_a_sequence_number_is_found_again_among_frames_that_share_it() -> None:
    journal = Journal(most=10, most_bytes=1000)
    for seq, text in ((1, "a"), (2, "b"), (2, "b again"), (3, "c")):
        journal.append(text, seq=seq)
    assert journal.position_before(1) == 1
    assert journal.position_before(2) == 3
    assert journal.position_before(9) == 4
