from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from oj_daemon.errors import StoreError
from oj_daemon.store import snapshot
from oj_daemon.store import wal as wal_module
from oj_daemon.store.files import write_all
from oj_daemon.store.segment import line, segment_names, segment_path
from oj_daemon.store.wal import Wal
from tests.support.store import Daemon

Start = Callable[..., Daemon]


@pytest.fixture(params=["inline", "thread"])
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_module, "INLINE_SECONDS", 1e9 if request.param == "inline" else 0.0)


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of hundreds of starts, none of which loses power."""
    monkeypatch.setattr(wal_module, "sync_file", lambda _: None)
    monkeypatch.setattr(wal_module, "sync_folder", lambda _: None)


@pytest.mark.usefixtures("_both_ways")
def test_what_was_acknowledged_is_replayed_in_order(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path / "wal")
    assert first.replayed == []
    assert first.write(b'{"a":1}')
    assert first.write(b'{"b":2}', b'{"c":"\xc3\xa9"}')
    first.wal.close()

    second = start(tmp_path / "wal")
    assert second.replayed == [(1, b'{"a":1}'), (2, b'{"b":2}'), (3, b'{"c":"\xc3\xa9"}')]
    assert second.wal.warnings == []
    assert second.wal.epoch == first.wal.epoch + 1
    assert second.wal.append(b"{}") == 4


@pytest.mark.usefixtures("_both_ways")
def test_close_writes_out_and_announces_what_was_only_queued(tmp_path: Path, start: Start) -> None:
    first = start(tmp_path / "wal")
    first.wal.append(b"1")
    first.wal.append(b"2")
    first.wal.close()
    assert first.acknowledged == [2]
    assert start(tmp_path / "wal").payloads == [b"1", b"2"]


def test_one_commit_announces_a_whole_group_once(tmp_path: Path, start: Start) -> None:
    daemon = start(tmp_path / "wal")
    assert daemon.write(*[b"%d" % number for number in range(500)])
    daemon.wal.close()
    assert daemon.acknowledged == [500]


def test_nothing_is_announced_before_it_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    wal = Wal.open(tmp_path / "wal")
    list(wal.replay())
    path = segment_path(tmp_path / "wal", wal.epoch, 1)
    monkeypatch.setattr(wal_module, "INLINE_SECONDS", 0.0)
    wal.start(lambda seq: seen.append((seq, path.read_bytes().count(b"\n") - 1)), _never)
    for number in range(2000):
        wal.append(b"%d" % number)
        wal.commit()
    wal.close()
    assert seen[-1][0] == 2000
    assert all(written >= seq for seq, written in seen)
    assert [seq for seq, _ in seen] == sorted({seq for seq, _ in seen})


def test_replay_gives_only_what_the_snapshot_does_not_hold(tmp_path: Path, start: Start) -> None:
    start(tmp_path / "wal").write(b"1", b"2", b"3")
    assert start(tmp_path / "wal", after_seq=2).replayed == [(3, b"3")]


def test_numbers_go_on_after_a_snapshot_that_is_ahead_of_the_log(
    tmp_path: Path, start: Start
) -> None:
    start(tmp_path / "wal").write(b"1", b"2")
    daemon = start(tmp_path / "wal", after_seq=7)
    assert daemon.replayed == []
    assert daemon.wal.append(b"8") == 8
    daemon.wal.close()
    assert start(tmp_path / "wal", after_seq=7).replayed == [(8, b"8")]


def test_an_epoch_given_from_outside_is_taken_if_it_is_higher(tmp_path: Path, start: Start) -> None:
    assert start(tmp_path / "wal", epoch=40).wal.epoch == 40
    assert start(tmp_path / "wal", epoch=7).wal.epoch == 41


def test_segments_and_their_folder_are_private(tmp_path: Path, start: Start) -> None:
    start(tmp_path / "wal")
    modes = [
        path.stat().st_mode & 0o777 for path in [tmp_path / "wal", *(tmp_path / "wal").iterdir()]
    ]
    assert modes == [0o700, 0o600]


def test_a_log_cannot_be_written_before_it_was_read(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path / "wal")
    with pytest.raises(StoreError, match="replayed to its end"):
        wal.start(lambda _: None, lambda _: None)
    wal.close()


def test_a_record_of_two_lines_is_a_bug_and_is_not_written(tmp_path: Path, start: Start) -> None:
    daemon = start(tmp_path / "wal")
    with pytest.raises(ValueError, match="one line"):
        daemon.wal.append(b"{}\n{}")
    assert daemon.write(b"{}")
    daemon.wal.close()
    assert start(tmp_path / "wal").replayed == [(1, b"{}")]


def test_a_start_that_fails_leaves_no_file(tmp_path: Path) -> None:
    for _ in range(3):
        Wal.open(tmp_path / "wal").close()
    assert segment_names(tmp_path / "wal") == []


def _never(error: StoreError) -> None:
    raise AssertionError(error)


# Rotation


def test_segments_are_dropped_once_a_snapshot_holds_all_their_records(
    tmp_path: Path, start: Start
) -> None:
    folder = tmp_path / "wal"
    daemon = start(folder)
    daemon.write(b"1", b"2")
    daemon.wal.rotate()
    daemon.write(b"3")
    daemon.wal.rotate()
    daemon.write(b"4")
    daemon.write(b"5")
    assert len(segment_names(folder)) == 3
    daemon.wal.drop_before(1)
    assert len(segment_names(folder)) == 3
    daemon.wal.drop_before(2)
    assert len(segment_names(folder)) == 2
    daemon.wal.drop_before(4)
    assert len(segment_names(folder)) == 1
    daemon.wal.close()
    assert start(folder, after_seq=3).replayed == [(4, b"4"), (5, b"5")]


def test_segments_of_earlier_starts_are_dropped_too(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "wal"
    for number in range(4):
        daemon = start(folder)
        daemon.write(b"%d" % number)
        daemon.wal.close()
    daemon = start(folder)
    daemon.wal.drop_before(3)
    assert segment_names(folder) == [segment_path(folder, epoch, 1).name for epoch in (4, 5)]


def test_a_record_missing_between_snapshot_and_log_is_refused(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "wal"
    daemon = start(folder)
    daemon.write(b"1", b"2")
    daemon.wal.rotate()
    daemon.write(b"3")
    daemon.wal.drop_before(2)
    daemon.wal.close()
    with pytest.raises(
        StoreError, match="records 2 to 2, which came before it, are missing"
    ) as caught:
        start(folder, after_seq=1)
    assert "--recover" in caught.value.hint


def test_a_log_that_is_gone_is_not_taken_for_an_empty_one(tmp_path: Path, start: Start) -> None:
    with pytest.raises(StoreError, match="is gone, but a snapshot says that it had 9 records"):
        start(tmp_path / "wal", after_seq=9)
    daemon = start(tmp_path / "wal", after_seq=9, recover=True)
    assert "started from the snapshot alone" in daemon.wal.warnings[0]
    assert daemon.wal.append(b"10") == 10


def test_segments_left_empty_by_starts_that_died_are_swept(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "wal"
    daemon = start(folder)
    daemon.write(b"1")
    daemon.wal.close()
    for epoch in (2, 3):
        segment_path(folder, epoch, 1).touch()
    again = start(folder)
    assert again.payloads == [b"1"]
    assert segment_names(folder) == [segment_path(folder, epoch, 1).name for epoch in (1, 4)]


def test_a_damaged_newest_snapshot_costs_a_longer_replay_and_nothing_else(
    tmp_path: Path, start: Start
) -> None:
    folder, snapshots = tmp_path / "wal", tmp_path / "snapshots"
    daemon = start(folder)
    for number in range(1, 5):
        daemon.write(b"%d" % number)
        daemon.wal.rotate()
        kept = snapshot.write(
            snapshots, b"state", seq=number, epoch=1, fence=daemon.wal.check_fence
        )
        daemon.wal.drop_before(kept)
    daemon.write(b"5")
    daemon.wal.close()
    (snapshots / "000000000004-1.zst").write_bytes(b"damaged")

    wal = Wal.open(folder)
    loaded = snapshot.load(snapshots, fences=wal.fences)
    assert loaded.seq == 3
    assert list(wal.replay(after_seq=loaded.seq)) == [(4, b"4"), (5, b"5")]
    wal.close()


# Damage


RECORDS = [b'{"n":%d,"text":"%s"}' % (number, b"x" * (number * 4)) for number in range(4)]


def one_segment(folder: Path) -> Path:
    daemon = Daemon(folder)
    daemon.write(*RECORDS)
    daemon.wal.close()
    return segment_path(folder, 1, 1)


def test_a_log_cut_at_any_byte_gives_the_whole_records_before_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_syncs(monkeypatch)
    whole = one_segment(tmp_path / "wal").read_bytes()
    ends = [
        at for at, byte in enumerate(whole) if byte == 10
    ]  # a record without its line end is whole
    folder = tmp_path / "cut"
    for length in range(len(whole) + 1):
        folder.mkdir()
        segment_path(folder, 1, 1).write_bytes(whole[:length])
        expected = RECORDS[: sum(end <= length for end in ends[1:])]
        daemon = Daemon(folder)
        assert daemon.payloads == expected, length
        torn = [path for path in folder.iterdir() if ".torn-" in path.name]
        starts = [0, *(end + 1 for end in ends)]
        assert bool(torn) == (length > ends[0] and length not in {*starts, *ends}), length
        assert len(daemon.wal.warnings) == len(torn)
        daemon.write(b"next")
        daemon.wal.close()
        again = Daemon(folder)
        assert again.payloads == [*expected, b"next"], length
        assert again.wal.warnings == []
        again.wal.close()
        shutil.rmtree(folder)


def test_a_flipped_bit_is_reported_and_never_loses_or_changes_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_syncs(monkeypatch)
    whole = one_segment(tmp_path / "wal").read_bytes()
    folder = tmp_path / "flipped"
    folder.mkdir()
    path = segment_path(folder, 1, 1)
    harmless, reported = 0, set()
    for at in range(len(whole)):
        flipped = whole[at] ^ (1 << (at % 8))
        path.write_bytes(whole[:at] + bytes([flipped]) + whole[at + 1 :])
        wal = Wal.open(folder)
        try:
            assert [payload for _, payload in wal.replay()] == RECORDS, at
            harmless += 1
        except StoreError as exc:
            reported.add(exc.code)
        finally:
            wal.close()
            segment_path(folder, 2, 1).unlink(missing_ok=True)
    assert reported == {"corrupt"}
    assert (
        harmless <= 2
    )  # the line ends of the last record and, without a second line, of the header


def test_damage_names_file_line_and_byte_and_the_command_that_recovers(
    tmp_path: Path, start: Start
) -> None:
    path = one_segment(tmp_path / "wal")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"x", b"y", 1)
    path.write_bytes(b"".join(lines))
    with pytest.raises(StoreError) as caught:
        start(tmp_path / "wal")
    offset = len(b"".join(lines[:3]))
    assert caught.value.message == (
        f"the log is damaged: {path}, line 4, byte {offset}: the record is damaged (checksum); "
        "1 intact records follow"
    )
    assert caught.value.hint.startswith("oj daemon start --recover")
    assert segment_names(tmp_path / "wal") == [path.name]

    recovered = start(tmp_path / "wal", recover=True)
    assert recovered.payloads == RECORDS[:2]
    [warning] = recovered.wal.warnings
    assert "dropped 1 intact records after record 2" in warning
    assert (path.parent / f"{path.name}.damaged-1").read_bytes() == path.read_bytes()
    recovered.write(b"new")
    recovered.wal.close()

    later = start(tmp_path / "wal")
    assert later.payloads == [*RECORDS[:2], b"new"]


def test_recovery_drops_every_later_segment(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "wal"
    for number in range(3):
        daemon = start(folder)
        daemon.write(b"%d-a" % number, b"%d-b" % number)
        daemon.wal.rotate()
        daemon.write(b"%d-c" % number)
        daemon.wal.close()
    path = segment_path(folder, 2, 1)
    path.write_bytes(path.read_bytes().replace(b"1-b", b"1-x"))
    with pytest.raises(StoreError, match="4 intact records follow"):
        start(folder)
    recovered = start(folder, recover=True)
    assert recovered.payloads == [b"0-a", b"0-b", b"0-c", b"1-a"]
    recovered.write(b"new")
    recovered.wal.close()
    later = start(folder)
    assert later.payloads == [b"0-a", b"0-b", b"0-c", b"1-a", b"new"]
    later.wal.drop_before(5)
    assert start(folder, after_seq=5).replayed == []


def test_a_log_of_which_nothing_is_left_is_not_recovered_to_nothing(
    tmp_path: Path, start: Start
) -> None:
    path = one_segment(tmp_path / "wal")
    path.write_bytes(b"garbage" + path.read_bytes())
    with pytest.raises(StoreError, match="no part of it can be used") as caught:
        start(tmp_path / "wal", recover=True)
    assert "backup" in caught.value.hint


def test_a_missing_line_is_damage(tmp_path: Path, start: Start) -> None:
    path = one_segment(tmp_path / "wal")
    lines = path.read_bytes().splitlines(keepends=True)
    for missing in range(1, 4):
        path.write_bytes(b"".join(lines[:missing] + lines[missing + 1 :]))
        with pytest.raises(StoreError, match=f"record {missing + 1} follows record {missing - 1}"):
            start(tmp_path / "wal")


def test_a_segment_that_lost_bytes_after_a_later_start_had_read_them_is_damage(
    tmp_path: Path, start: Start
) -> None:
    path = one_segment(tmp_path / "wal")
    start(tmp_path / "wal").wal.close()
    whole = path.read_bytes()
    for length in (len(whole) - 3, len(whole) - len(line(b"4", RECORDS[3])), 0):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="damaged"):
            start(tmp_path / "wal")


def test_a_page_that_a_power_loss_left_empty_is_a_torn_write(tmp_path: Path, start: Start) -> None:
    path = one_segment(tmp_path / "wal")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30] + bytes(20) + whole[-10:])
    daemon = start(tmp_path / "wal")
    assert daemon.payloads == RECORDS[:3]
    assert "never acknowledged" in daemon.wal.warnings[0]


def test_only_the_last_three_torn_tails_are_kept(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "wal"
    path = one_segment(folder)
    for number in range(5):
        with path.open("ab") as file:
            file.write(b"torn %d" % number)
        start(folder).wal.close()
        for name in segment_names(folder)[1:]:
            (folder / name).unlink()
        path.write_bytes(path.read_bytes().partition(b"torn")[0])
    kept = {p.name: p.read_bytes() for p in folder.iterdir() if "torn" in p.name}
    assert kept == {f"{path.name}.torn-{n + 1}": b"torn %d" % n for n in (2, 3, 4)}


def test_a_newer_format_is_refused_and_both_versions_are_named(
    tmp_path: Path, start: Start
) -> None:
    folder = tmp_path / "wal"
    folder.mkdir()
    segment_path(folder, 1, 1).write_bytes(line(b"head", b'{"format":99,"other":[]}'))
    for recover in (False, True):
        with pytest.raises(StoreError, match=r"log format 99 of .* is newer than supported \(1\)"):
            start(folder, recover=recover)
    assert segment_names(folder) == [segment_path(folder, 1, 1).name]


# A daemon that was replaced


def test_a_replaced_daemon_is_told_and_what_it_wrote_is_ignored_and_reported(
    tmp_path: Path, start: Start
) -> None:
    folder = tmp_path / "wal"
    old = start(folder)
    assert old.write(b"1")
    new = start(folder)
    assert new.payloads == [b"1"]

    assert not old.write(b"stray")
    assert old.acknowledged in ([1], [])
    [error] = old.errors
    assert error.code == "replaced"
    assert "no longer owns the log" in error.message
    with pytest.raises(StoreError, match="no longer owns"):
        old.wal.append(b"more")

    assert new.write(b"2")
    [told] = new.wal.new_strays()
    assert told.startswith(f"1 records in {segment_path(folder, 1, 1)} from byte ")
    assert new.wal.new_strays() == [], "once"
    new.wal.close()
    third = start(folder)
    assert third.payloads == [b"1", b"2"]
    assert third.wal.new_strays() == [], "known since the start"
    [warning] = third.wal.warnings
    assert warning.startswith(f"1 records in {segment_path(folder, 1, 1)} from byte ")


def test_a_replaced_daemon_can_neither_drop_segments_nor_rotate(
    tmp_path: Path, start: Start
) -> None:
    folder = tmp_path / "wal"
    old = start(folder)
    old.write(b"1")
    old.wal.rotate()
    old.write(b"2")
    new = start(folder)
    with pytest.raises(StoreError, match="no longer owns"):
        old.wal.drop_before(1)
    old.wal.rotate()
    assert not old.write(b"stray in a segment of its own")
    new.write(b"3")
    new.wal.close()
    third = start(folder)
    assert third.payloads == [b"1", b"2", b"3"]
    assert "1 records in" in third.wal.warnings[0]


def test_a_record_written_while_the_next_daemon_reads_is_not_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    old = Daemon(folder)
    old.write(b"1")
    new = Wal.open(folder)
    records = new.replay()
    assert next(records) == (1, b"1")
    assert not old.write(b"late")
    rest = list(records)  # may or may not hold it: nobody was told
    new.close()
    old.wal.close()
    assert rest in ([], [(2, b"late")])
    daemon = Daemon(folder)
    assert daemon.replayed == [(1, b"1"), *rest]
    daemon.wal.close()


def test_a_write_that_is_under_way_while_the_next_daemon_reads_is_no_damage(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    old = Daemon(folder)
    old.write(b"1")
    old.wal.close()
    path = segment_path(folder, 1, 1)
    group = line(b"2", b"x" * 100) + line(b"3", b"y" * 100)
    with path.open("ab", buffering=0) as file:
        for at in (1, 50, 117, 118, 130):
            with path.open("r+b") as whole:
                whole.truncate(len(line(b"1", b"1")) + path.read_bytes().index(b"\n") + 1)
            file.write(group[:at])
            new = Wal.open(folder)
            file.write(group[at:])
            records = [payload[:1] for _, payload in new.replay()]
            assert records in ([b"1"], [b"1", b"x"], [b"1", b"x", b"y"])
            new.close()
            again = Wal.open(folder)
            assert [payload[:1] for _, payload in again.replay()] == records
            again.close()
            for name in segment_names(folder)[1:]:
                (folder / name).unlink()


@pytest.mark.usefixtures("_both_ways")
@pytest.mark.parametrize("is_before", [True, False])
def test_a_record_is_acknowledged_only_if_a_daemon_that_takes_over_meanwhile_has_read_it(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, *, is_before: bool
) -> None:
    old = start(tmp_path / "wal")
    old.write(b"1")
    real = write_all
    taken: list[Daemon] = []

    def write_around_a_takeover(fd: int, data: bytes) -> None:
        monkeypatch.setattr(wal_module, "write_all", real)
        if not is_before:
            real(fd, data)
        taken.append(start(tmp_path / "wal"))
        if is_before:
            real(fd, data)

    monkeypatch.setattr(wal_module, "write_all", write_around_a_takeover)
    is_acknowledged = old.write(b"2")
    assert taken[0].payloads == ([b"1"] if is_before else [b"1", b"2"])
    assert not is_acknowledged


def test_a_daemon_that_was_replaced_while_it_started_does_not_begin(tmp_path: Path) -> None:
    early, late = Wal.open(tmp_path / "wal"), Wal.open(tmp_path / "wal")
    assert list(late.replay()) == []
    with pytest.raises(StoreError, match="no longer owns"):
        list(early.replay())
    early.close()
    late.close()


def test_a_log_whose_file_was_removed_under_it_is_not_written_in_the_dark(
    tmp_path: Path, start: Start
) -> None:
    daemon = start(tmp_path / "wal")
    daemon.write(b"1")
    segment_path(tmp_path / "wal", 1, 1).unlink()
    assert not daemon.write(b"2")
    assert "its file was removed" in daemon.errors[0].message


# Figures


@pytest.mark.usefixtures("_both_ways")
def test_each_batch_that_is_on_disk_is_told_with_its_bytes(tmp_path: Path, start: Start) -> None:
    daemon = start(tmp_path / "wal")
    told: list[tuple[float, int]] = []
    daemon.wal.on_commit = lambda seconds, size: told.append((seconds, size))
    before = on_disk(tmp_path / "wal")
    daemon.write(b"1", b"2")
    daemon.write(b"3")
    daemon.wal.close()
    assert len(told) == 2
    assert all(seconds > 0 for seconds, _ in told)
    assert sum(size for _, size in told) == on_disk(tmp_path / "wal") - before


def test_its_size_is_that_of_all_its_segments(tmp_path: Path, start: Start) -> None:
    folder = tmp_path / "wal"
    first = start(folder)
    first.write(b"1", b"2")
    assert first.wal.size == on_disk(folder)
    first.wal.close()
    second = start(folder)
    assert second.wal.size == on_disk(folder)
    second.wal.rotate()
    second.write(b"3")
    assert second.wal.size == on_disk(folder)
    second.wal.drop_before(2)
    assert second.wal.size == on_disk(folder)
    assert len(list(folder.iterdir())) < 3


# Disks


@pytest.mark.usefixtures("_both_ways")
def test_a_full_disk_ends_the_log_and_loses_nothing_acknowledged(small_disk: Path) -> None:
    daemon = Daemon(small_disk / "wal")
    payload = b'"' + b"x" * 3000 + b'"'
    count = 0
    while daemon.write(payload):
        count += 1
    [error] = daemon.errors
    assert error.code == "full"
    assert "no space left" in error.message
    assert str(small_disk) in error.message
    with pytest.raises(StoreError):
        daemon.wal.append(payload)
    assert not daemon.wal.commit()
    daemon.wal.close()
    with pytest.raises(StoreError, match="no space left"):
        Daemon(small_disk / "wal")

    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    again = Daemon(small_disk / "wal")
    assert again.payloads == [payload] * count
    assert again.write(payload)
    again.wal.close()


def test_a_read_only_folder_is_named(read_only_disk: Path) -> None:
    with pytest.raises(StoreError, match=f"{read_only_disk}.*read-only"):
        Wal.open(read_only_disk / "wal")


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from oj_daemon.errors import StoreError
from oj_daemon.store.wal import Wal
os.setgid(54321); os.setuid(54321)
try:
    list(Wal.open(Path(sys.argv[1])).replay())
except StoreError as exc:
    print(exc.code, exc.message, exc.hint, sep="\\n")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("is_folder", [True, False])
def test_a_log_of_another_user_is_refused_and_its_owner_is_named(
    reachable: Path, is_folder: bool
) -> None:
    folder = reachable / "wal"
    one_segment(folder)
    if not is_folder:
        folder.chmod(0o777)
    command = [sys.executable, "-c", UNPRIVILEGED, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    code, message, hint = done.stdout.splitlines()
    assert code == "denied"
    where = (
        f"open the log {folder}"
        if is_folder
        else f"read the log segment {segment_path(folder, 1, 1)}"
    )
    mode = "0700" if is_folder else "0600"
    assert (
        message
        == f"cannot {where}: permission denied (owned by root, mode {mode}; this is uid 54321)"
    )
    assert "chown" in hint
    assert segment_names(folder) == [segment_path(folder, 1, 1).name]


LIMITED = """
import resource, sys, threading
from pathlib import Path
from oj_daemon.store.wal import Wal

wal = Wal.open(Path(sys.argv[1]))
list(wal.replay())
failed = threading.Event()
errors = []
wal.start(lambda seq: None, lambda error: (errors.append(error), failed.set()))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
while not failed.is_set():
    wal.append(b"x" * 777)
    if not wal.commit():
        while wal.durable < wal.seq and not failed.wait(0.01):
            pass
wal.close()
print(wal.durable, errors[0].code, len(errors))
"""


def test_a_size_limit_in_the_middle_of_a_record_leaves_a_torn_tail_only(
    tmp_path: Path, start: Start
) -> None:
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "wal")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60, cwd=Path.cwd()
    )
    assert done.stdout == "12 full 1\n"
    daemon = start(tmp_path / "wal")
    assert daemon.payloads == [b"x" * 777] * 12
    assert "never acknowledged" in daemon.wal.warnings[0]


def test_a_sync_that_fails_is_final(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(tmp_path / "wal")
    daemon.write(b"1")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(wal_module, "sync_file", fail)
        assert not daemon.write(b"2")
    with pytest.raises(StoreError, match="Input/output error"):
        daemon.wal.append(b"3")
    assert not daemon.wal.commit()
    assert daemon.wal.durable == 1
    assert len(daemon.errors) == 1


@pytest.mark.usefixtures("_both_ways")
def test_a_bug_while_writing_ends_the_log_and_is_told(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(tmp_path / "wal")

    def crash(_: int) -> None:
        raise ValueError("odd")

    with monkeypatch.context() as patch:
        patch.setattr(wal_module, "sync_file", crash)
        assert not daemon.write(b"1")
    assert "ValueError('odd')" in daemon.errors[0].message
    with pytest.raises(StoreError, match="odd"):
        daemon.wal.append(b"2")
    assert daemon.wal.durable == 0
    assert len(daemon.errors) == 1


WRITER = """
import sys, threading
from pathlib import Path
from oj_daemon.store.wal import Wal

wal = Wal.open(Path(sys.argv[1]))
list(wal.replay())
durable = threading.Event()
def told(seq):
    sys.stdout.write(f"{seq}\\n")
    sys.stdout.flush()
    durable.set()
wal.start(told, lambda error: None)
while True:
    for size in range(20 if wal.seq % 3 else 2):
        wal.append(b"%d %s" % (wal.seq + 1, b"x" * size * 50))
    if wal.commit():
        told(wal.durable)
    durable.wait()
    durable.clear()
    if wal.seq % 7 == 0:
        wal.rotate()
"""


def test_a_killed_writer_loses_nothing_it_told(tmp_path: Path) -> None:
    folder = tmp_path / "wal"
    told = 0
    for lines in (1, 5, 23, 60):
        command = [sys.executable, "-c", WRITER, str(folder)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        ) as process:
            assert process.stdout is not None
            for _ in range(lines):
                told = int(process.stdout.readline())
            process.kill()
            told = max([told, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        daemon = Daemon(folder)
        assert [seq for seq, _ in daemon.replayed] == list(range(1, len(daemon.replayed) + 1))
        assert len(daemon.replayed) >= told
        assert all(
            payload.split(b" ")[0] == b"%d" % seq
            for seq, payload in daemon.replayed
            if payload != b"mark"
        )
        daemon.write(b"mark")
        daemon.wal.close()


def test_many_threads_of_events_may_come_while_a_group_is_being_written(
    tmp_path: Path, start: Start
) -> None:
    daemon = start(tmp_path / "wal")
    done = threading.Event()

    def drop_often() -> None:
        while not done.is_set():
            daemon.wal.drop_before(0)

    helper = threading.Thread(target=drop_often)
    helper.start()
    for number in range(300):
        daemon.wal.append(b"%d" % number)
        daemon.wal.commit()
        if number % 50 == 0:
            daemon.wal.rotate()
    daemon.write(b"end")
    done.set()
    helper.join()
    daemon.wal.close()
    assert start(tmp_path / "wal").payloads == [*(b"%d" % number for number in range(300)), b"end"]


class Succession(RuleBasedStateMachine):
    """Daemons that follow each other on one log, the replaced ones still writing."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="oj-wal-"))
        self.daemons: list[Daemon] = []
        self.acknowledged: list[bytes] = []
        self.snapshot = 0
        self.counter = 0
        self.monkeypatch = pytest.MonkeyPatch()
        without_syncs(self.monkeypatch)

    @property
    def newest(self) -> int:
        return int(segment_names(self.folder)[-1][:8])

    @rule()
    def start(self) -> None:
        daemon = Daemon(self.folder, after_seq=self.snapshot)
        assert daemon.payloads == self.acknowledged[self.snapshot :]
        self.daemons.append(daemon)

    @precondition(lambda self: self.daemons)
    @rule(data=st.data(), count=st.integers(1, 3))
    def write(self, data: st.DataObject, count: int) -> None:
        daemon = data.draw(st.sampled_from(self.daemons))
        payloads = [b"%d" % (self.counter + number) for number in range(count)]
        self.counter += count
        if daemon.write(*payloads):
            assert daemon.wal.epoch == self.newest
            self.acknowledged += payloads
        else:
            assert daemon.wal.epoch < self.newest
            self.daemons.remove(daemon)
            daemon.wal.close()

    @precondition(lambda self: self.daemons)
    @rule(data=st.data())
    def rotate(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.daemons)).wal.rotate()

    @precondition(lambda self: self.daemons and self.daemons[-1].wal.epoch == self.newest)
    @rule(kept=st.integers(0, 3))
    def take_snapshot(self, kept: int) -> None:
        self.snapshot = len(self.acknowledged)
        self.daemons[-1].wal.drop_before(max(0, self.snapshot - kept))

    @precondition(lambda self: self.daemons)
    @rule(data=st.data(), tail=st.binary(min_size=1, max_size=20))
    def crash_while_writing(self, data: st.DataObject, tail: bytes) -> None:
        daemon = data.draw(st.sampled_from(self.daemons))
        self.daemons.remove(daemon)
        daemon.wal.close()
        mine = [name for name in segment_names(self.folder) if int(name[:8]) == daemon.wal.epoch]
        if not mine:
            return
        path = self.folder / mine[-1]
        with path.open("ab") as file:
            file.write(tail.replace(b"\n", b" "))

    def teardown(self) -> None:
        for daemon in self.daemons:
            daemon.wal.close()
        self.monkeypatch.undo()
        shutil.rmtree(self.folder)


Succession.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSuccession = Succession.TestCase
