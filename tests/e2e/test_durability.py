"""What was acknowledged survives damage, full disks and foreign folders; and when it cannot, the daemon says so and stops."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import pytest
import zstandard

from oj_daemon.shell import ShellRuns
from tests.support import disks
from tests.support.waiting import until
from tests.support.world import World

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def shop(world: World) -> World:
    world.job('step "a" { run = "echo hello" }')
    return world


def segments(world: World) -> list[Path]:
    return sorted((world.state / "wal").glob("*.jsonl"))


def snapshots(world: World) -> list[Path]:
    return sorted((world.state / "snapshots").glob("*.zst"))


def listed(world: World) -> set[str]:
    return {job["id"] for job in world.oj("job", "list", "--no-limit", "-o", "json").json}


def killed_after(world: World, jobs: int) -> set[str]:
    """Run so many jobs to their end, then SIGKILL the daemon; returns their ids."""
    ids = {world.start("build") for _ in range(jobs)}
    for job_id in ids:
        world.finish(job_id)
    world.kill_daemon()
    return ids


def test_a_write_that_was_cut_short_is_put_aside_and_nothing_acknowledged_is_missing(
    shop: World,
) -> None:
    ids = killed_after(shop, 3)
    with segments(shop)[-1].open("ab") as file:
        file.write(b'01234567 99 {"at":1,"cau')
    shop.oj("daemon", "start")
    assert listed(shop) == ids
    assert "cut short" in shop.oj("daemon", "status").err


def test_damage_in_the_middle_refuses_to_start_with_file_line_and_what_to_type(shop: World) -> None:
    ids = killed_after(shop, 4)
    path = segments(shop)[-1]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"job", b"jab", 1)
    path.write_bytes(b"".join(lines))
    refused = shop.oj("daemon", "start", code=1)
    assert f"{path}, line 5" in refused.err
    assert "oj daemon start --recover" in refused.err
    assert path.read_bytes() == b"".join(lines), "nothing was touched"
    # Any command that needs the daemon says the same.
    assert "line 5" in shop.oj("run", "--detach", "build", code=1).err
    shop.oj("daemon", "start", "--recover")
    assert listed(shop) < ids
    assert "recovered a damaged log" in shop.oj("daemon", "status").err
    assert list(path.parent.glob("*.damaged*")), "the damaged file is kept"


def test_a_log_of_a_newer_format_is_refused_with_both_versions(shop: World) -> None:
    killed_after(shop, 1)
    path = segments(shop)[-1]
    first, rest = path.read_bytes().split(b"\n", 1)
    body = b"head " + json.dumps({**json.loads(first[14:]), "format": 99}).encode()
    path.write_bytes(b"%08x %b\n%b" % (crc32(body), body, rest))
    refused = shop.oj("daemon", "start", code=1)
    assert "log format 99" in refused.err
    assert "newer than supported (1)" in refused.err


def snapshot_of(version: int) -> bytes:
    body = b"{}"
    head = json.dumps({"version": version, "seq": 10**6, "epoch": 99, "crc": crc32(body)}).encode()
    return zstandard.ZstdCompressor().compress(head + b"\n" + body)


def test_a_snapshot_of_a_newer_version_is_refused_with_both_versions(shop: World) -> None:
    """A074, C19."""
    killed_after(shop, 1)
    folder = shop.state / "snapshots"
    folder.mkdir(exist_ok=True)
    (folder / "000001000000-99.zst").write_bytes(snapshot_of(99))
    refused = shop.oj("daemon", "start", code=1)
    assert "snapshot version 99 is newer than supported (1)" in refused.err


def test_a_damaged_snapshot_costs_a_longer_replay_and_a_warning(shop: World) -> None:
    ids = set()
    for _ in range(3):
        ids.add(shop.start("build"))
        for job_id in ids:
            shop.finish(job_id)
        shop.oj("daemon", "stop")
    assert len(snapshots(shop)) == 2
    snapshots(shop)[-1].write_bytes(b"garbage")
    shop.oj("daemon", "start")
    assert listed(shop) == ids
    status = shop.oj("daemon", "status").err
    assert "the one before" in status


def test_when_no_snapshot_can_be_read_the_start_is_refused_and_says_what_to_do(shop: World) -> None:
    """A075."""
    for _ in range(3):
        shop.finish(shop.start("build"))
        shop.oj("daemon", "stop")
    for path in snapshots(shop):
        path.write_bytes(path.read_bytes()[:20])
    refused = shop.oj("daemon", "start", code=1)
    assert "no snapshot can be read" in refused.err
    assert "--recover" in refused.err


def test_a_left_over_temporary_snapshot_is_ignored(shop: World) -> None:
    """A076, C96."""
    ids = {shop.start("build")}
    for job_id in ids:
        shop.finish(job_id)
    shop.oj("daemon", "stop")
    (shop.state / "snapshots" / "snapshot.tmp").write_bytes(b"half")
    (shop.state / "snapshots" / (snapshots(shop)[-1].name + ".tmp")).write_bytes(b"half")
    shop.oj("daemon", "start")
    assert listed(shop) == ids


@pytest.fixture
def small_state(shop: World) -> Iterator[Path]:
    """The state folder, with 1 MiB of room."""
    with disks.small_disk(shop.state, "1m") as disk:
        yield disk
        pid = disk / "daemon.pid"
        # First the daemon: without its folder nobody could find it.
        with contextlib.suppress(OSError, ValueError, KeyError):
            os.kill(json.loads(pid.read_text())["pid"], signal.SIGKILL)


@pytest.mark.usefixtures("small_state")
def test_a_full_disk_stops_the_daemon_with_the_reason_and_loses_nothing_acknowledged(
    shop: World,
) -> None:
    shop.oj("daemon", "start")
    pid = shop.daemon_pid
    acknowledged: set[str] = set()
    refused = None
    ballast = shop.state / "ballast"
    ballast.write_bytes(b"x" * 600_000)
    for _ in range(500):
        result = shop.oj("run", "--detach", "-o", "json", "build", code=None)
        if result.code:
            refused = result
            break
        acknowledged.add(result.json["job_id"])
    assert refused is not None, "the disk never filled up"
    assert acknowledged
    assert "no space" in (refused.err + refused.out).lower()
    until(lambda: not Path(f"/proc/{pid}").exists(), 30, "the daemon has ended")
    again = shop.oj("daemon", "start", code=None)
    assert again.code == 1, again
    assert "no space" in again.err.lower()
    ballast.unlink()
    shop.oj("daemon", "start")
    assert acknowledged <= listed(shop)
    for job_id in acknowledged:
        shown = shop.finish(job_id)
        # A step whose folder found no room could not start, and says so.
        assert shown["status"] == "completed" or "no space" in shown["error"].lower(), shown
    shop.oj("daemon", "stop", "--kill")


def test_a_read_only_state_folder_is_named_as_the_cause(shop: World, small_state: Path) -> None:
    disks.make_read_only(small_state)
    refused = shop.oj("daemon", "start", code=1)
    assert str(shop.state) in refused.err
    assert "read-only" in refused.err.lower()
    assert "read-only" in shop.oj("run", "--detach", "build", code=1).err.lower()


@pytest.mark.skipif(not IS_ROOT, reason="giving a folder to another user needs root")
def test_a_state_folder_of_another_user_is_refused_with_its_owner(shop: World) -> None:
    shop.state.mkdir(mode=0o700)
    os.chown(shop.state, 4242, 4242)
    refused = shop.oj("daemon", "start", code=1)
    assert str(shop.state) in refused.err
    assert "4242" in refused.err
    assert {path.name for path in shop.state.iterdir()} <= {"cli.log"}, (
        "the daemon made nothing there"
    )


def test_a_step_of_which_a_power_failure_left_no_trace_is_not_run_again(world: World) -> None:
    marker = world.folder / "marker"
    world.job(
        f"""
        step "a" {{
          run     = "echo begun >> {marker}; sleep 300"
          on_fail = {{ step = "b" }}
        }}
        step "b" {{ run = "echo b" }}
        """
    )
    job_id = world.start("build")
    world.until_file(marker)
    world.kill_daemon()
    for survivor in ShellRuns(world.state / "runs").survivors():
        os.kill(survivor.process.pid, signal.SIGKILL)
    # What the machine forgets when its power fails: everything that was not synced, and which boot this is.
    shutil.rmtree(world.state / "runs" / job_id)
    (world.state / "boot").write_text("another boot")
    world.oj("daemon", "start")
    shown = world.finish(job_id)
    assert shown["status"] == "failed"
    assert "the machine was restarted" in shown["error"]
    assert marker.read_text() == "begun\n"
    assert [run["name"] for run in shown["steps"]] == ["a", "b"]
