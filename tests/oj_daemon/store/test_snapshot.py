from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard

from oj_daemon.errors import StoreError
from oj_daemon.store import snapshot
from oj_daemon.store.snapshot import Loaded, load

BODY = b'{"jobs":["' + b"x" * 300 + b'"]}\n'


def write(folder: Path, seq: int, epoch: int = 1, body: bytes = BODY) -> int:
    return snapshot.write(folder, body, seq=seq, epoch=epoch)


def test_what_was_written_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "snapshots"
    write(folder, 12, 3)
    [path] = folder.iterdir()
    assert load(folder) == Loaded(12, 3, 1, BODY, path.stat().st_mtime_ns // 1_000_000)
    assert path.name == "000000000012-3.zst"
    assert path.stat().st_mode & 0o777 == 0o600


def test_without_snapshots_the_log_is_all_there_is(tmp_path: Path) -> None:
    assert load(tmp_path / "snapshots") == Loaded(0, 0, 1, None)


def test_the_last_two_are_kept_and_the_log_up_to_the_older_may_go(tmp_path: Path) -> None:
    assert write(tmp_path, 10) == 0
    assert write(tmp_path, 20) == 10
    assert write(tmp_path, 30) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000000020-1.zst",
        "000000000030-1.zst",
    ]


def test_files_of_a_write_that_was_cut_short_are_ignored_and_swept(tmp_path: Path) -> None:
    write(tmp_path, 10)
    (tmp_path / "000000000020-1.zst.tmp").write_bytes(b"half")
    (tmp_path / "snapshot.tmp").write_bytes(b"half")
    assert load(tmp_path).seq == 10
    write(tmp_path, 20)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_newest_one_cut_at_any_byte_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 10, body=b"older")
    write(tmp_path, 20)
    newest = tmp_path / "000000000020-1.zst"
    whole = newest.read_bytes()
    for length in range(len(whole)):
        newest.write_bytes(whole[:length])
        loaded = load(tmp_path)
        assert (loaded.seq, loaded.body) == (10, b"older"), length
        [warning] = loaded.warnings
        assert str(newest) in warning
        assert "used 000000000010-1.zst" in warning
        aside = tmp_path / "000000000020-1.zst.corrupt"
        assert aside.read_bytes() == whole[:length]
        assert not newest.exists()
        assert load(tmp_path).warnings == ()


def test_a_flipped_bit_never_yields_another_state(tmp_path: Path) -> None:
    write(tmp_path, 10, body=b"older")
    write(tmp_path, 20)
    newest = tmp_path / "000000000020-1.zst"
    whole = newest.read_bytes()
    for at in range(len(whole)):
        newest.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        assert load(tmp_path).body in (b"older", BODY), at


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\0" * 100, zstandard.compress(b"no header at all")]
)
def test_when_all_are_damaged_the_start_is_refused_every_time_and_nothing_is_moved(
    tmp_path: Path, content: bytes
) -> None:
    write(tmp_path, 10)
    write(tmp_path, 20)
    for path in tmp_path.iterdir():
        path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreError, match="no snapshot can be read") as caught:
            load(tmp_path)
        assert caught.value.code == "corrupt"
        assert "--recover" in caught.value.hint
    loaded = load(tmp_path, recover=True)
    assert (loaded.seq, loaded.body, len(loaded.warnings)) == (0, None, 2)
    assert load(tmp_path) == Loaded()


def test_a_newer_version_is_refused_without_falling_back(tmp_path: Path) -> None:
    write(tmp_path, 10)
    newer = b'{"version":99,"whatever":true}\nbody'
    (tmp_path / "000000000020-1.zst").write_bytes(zstandard.compress(newer))
    for recover in (False, True):
        with pytest.raises(StoreError, match=r"snapshot version 99 is newer than supported \(1\)"):
            load(tmp_path, recover=recover)


def test_a_snapshot_that_a_replaced_daemon_wrote_afterwards_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 90, epoch=4)
    write(tmp_path, 105, epoch=4, body=b"of a replaced daemon")
    assert load(tmp_path, fences={5: 100}).seq == 90
    write(tmp_path, 103, epoch=5)
    assert load(tmp_path, fences={5: 100}).seq == 103


def test_a_replaced_daemon_does_not_push_out_snapshots(tmp_path: Path) -> None:
    def fence() -> None:
        raise StoreError("replaced")

    write(tmp_path, 10)
    with pytest.raises(StoreError, match="replaced"):
        snapshot.write(tmp_path, BODY, seq=20, epoch=1, fence=fence)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000010-1.zst"]


def test_a_full_disk_leaves_the_snapshots_that_were_there(small_disk: Path) -> None:
    folder = small_disk / "snapshots"
    write(folder, 10)
    write(folder, 20)
    noise = os.urandom(400_000)
    with pytest.raises(StoreError, match="no space left"):
        write(folder, 30, body=noise)
    assert load(folder).seq == 20
    assert write(folder, 40) == 20
    assert not list(folder.glob("*.tmp"))


def test_a_read_only_folder_is_named(read_only_disk: Path) -> None:
    with pytest.raises(StoreError, match="read-only"):
        write(read_only_disk / "snapshots", 10)
