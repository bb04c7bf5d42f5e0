from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from oj_daemon.errors import StoreError
from oj_daemon.store.lock import (
    DaemonRecord,
    acquire,
    boot_id,
    is_alive,
    prepare_state_dir,
    read_pid,
    remove_pid,
    start_time,
    write_pid,
)

HOLDER = """
import sys
from pathlib import Path
from oj_daemon.store.lock import DaemonRecord, acquire, write_pid
import os
lock = acquire(Path(sys.argv[1]))
write_pid(Path(sys.argv[1]), DaemonRecord(os.getpid(), "1", "b", version="0.1.0", protocol=3))
print("held", flush=True)
sys.stdin.read()
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to others needs root")


def mine(pid: int) -> DaemonRecord:
    return DaemonRecord(pid, start_time(pid), boot_id())


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


# The lock


def test_a_second_daemon_is_refused_and_told_which_one_runs_and_touches_nothing(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()
        }
        with pytest.raises(StoreError) as caught:
            acquire(tmp_path)
        assert caught.value.message == (
            f"a daemon is already running (pid {holder.pid}, version 0.1.0, protocol 3)"
        )
        after = {
            path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()
        }
        assert after == before
        holder.kill()
        holder.wait()
        acquire(
            tmp_path
        ).release()  # the kernel has ended the lock; the files left behind do not matter


def test_the_lock_is_free_again_after_release(tmp_path: Path) -> None:
    acquire(tmp_path).release()
    acquire(tmp_path).release()


def test_a_child_process_does_not_hold_the_lock_of_its_daemon(tmp_path: Path) -> None:
    lock = acquire(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        lock.release()
        acquire(tmp_path).release()


# The record


def test_a_running_process_is_alive_and_a_dead_one_is_not() -> None:
    assert is_alive(mine(os.getpid()))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        record = mine(child.pid)
        assert is_alive(record)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(record)  # dead, though nobody has collected it yet
    assert not is_alive(record)


def test_another_process_with_the_same_pid_is_not_taken_for_the_daemon() -> None:
    me = mine(os.getpid())
    assert not is_alive(msgspec.structs.replace(me, start_time=me.start_time + "0"))
    assert not is_alive(msgspec.structs.replace(me, boot_id="another boot"))
    assert not is_alive(msgspec.structs.replace(me, start_time=""))


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = DaemonRecord(7, "8", "b", version="1.2.3", protocol=4, epoch=5, started_at=6)
    write_pid(tmp_path, record)
    assert read_pid(tmp_path) == record
    assert [path.name for path in tmp_path.iterdir()] == ["daemon.pid"]


@pytest.mark.parametrize("content", [b"", b"123\n", b"\xff\xfe", b'{"pid":"x"}'])
def test_a_record_that_makes_no_sense_is_none(tmp_path: Path, content: bytes) -> None:
    assert read_pid(tmp_path) is None
    (tmp_path / "daemon.pid").write_bytes(content)
    assert read_pid(tmp_path) is None


def test_only_our_own_record_is_removed(tmp_path: Path) -> None:
    ours, theirs = DaemonRecord(1, "1", "b"), DaemonRecord(1, "2", "b")
    write_pid(tmp_path, theirs)
    remove_pid(tmp_path, ours)
    assert read_pid(tmp_path) == theirs
    remove_pid(tmp_path, theirs)
    assert read_pid(tmp_path) is None


# The folder


def test_the_state_folder_is_made_private_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    prepare_state_dir(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []
    folder.chmod(0o755)
    prepare_state_dir(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_its_owner_may_not_write_is_refused_even_for_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="is read-only") as caught:
        prepare_state_dir(tmp_path)
    assert caught.value.hint == f"chmod u+rwx {tmp_path}"
    tmp_path.chmod(0o700)


@needs_root
def test_a_folder_of_another_user_is_refused_and_its_owner_is_named(tmp_path: Path) -> None:
    os.chown(tmp_path, 54321, -1)
    with pytest.raises(StoreError, match="belongs to uid 54321, and this is root") as caught:
        prepare_state_dir(tmp_path)
    assert "OJ_STATE_DIR" in caught.value.hint
    prepare_state_dir(tmp_path, trust_owner=True)
    assert tmp_path.stat().st_uid == 54321


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from oj_daemon.errors import StoreError
from oj_daemon.store.lock import prepare_state_dir
os.setgid(54321); os.setuid(54321)
try:
    prepare_state_dir(Path(sys.argv[1]))
    print("fine")
except StoreError as exc:
    print(exc.code, exc.message)
"""


@needs_root
@pytest.mark.parametrize(
    ("mode", "group", "said"),
    [
        (0o2770, 54321, "fine"),  # a volume in a pod: root's, shared by group
        (0o700, 0, "denied"),
        (0o1777, 0, "denied"),  # as /tmp: others could write there too
    ],
)
def test_a_folder_of_root_is_accepted_when_it_was_opened_to_our_group_only(
    reachable: Path, mode: int, group: int, said: str
) -> None:
    os.chown(reachable, 0, group)
    reachable.chmod(mode)
    command = [sys.executable, "-c", UNPRIVILEGED, str(reachable)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.split()[0] == said
    if said == "denied":
        assert str(reachable) in done.stdout


def test_a_full_disk_is_named(small_disk: Path) -> None:
    fill(small_disk / "filler")
    with pytest.raises(StoreError, match=f"state folder {small_disk}: no space left"):
        prepare_state_dir(small_disk)


def test_a_read_only_disk_is_named(read_only_disk: Path) -> None:
    with pytest.raises(StoreError, match="read-only"):
        prepare_state_dir(read_only_disk)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match=f"create the folder {tmp_path / 'state'}: File exists"):
        prepare_state_dir(tmp_path / "state")
