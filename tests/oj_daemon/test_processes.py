"""Who belongs to a step, and that a number which changed hands is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from oj_daemon import processes
from oj_daemon.processes import Process

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

ME = os.getpid()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    env = {"OJ_STEP": "a:job:1 outer:job:9", "FIRST_OJ_STEP": "x"}
    with subprocess.Popen(["/bin/sleep", "1000"], env=env, start_new_session=True) as child:
        yield child
        child.kill()


def process(pid: int, ppid: int = 1, *, session: int | None = None, started: int = 100) -> Process:
    own = pid if session is None else session
    return Process(pid=pid, ppid=ppid, group=own, session=own, started=started)


def machine(*others: Process) -> dict[int, Process]:
    """A made-up machine: init, a shell that started us, ourselves, and the others."""
    ours = [process(1, 0), process(50), process(ME, 50, session=50), *others]
    return {each.pid: each for each in ours}


def members(
    everyone: Mapping[int, Process], cookies: dict[int, list[str]], *roots: Process
) -> list[int]:
    found = processes.family(
        everyone, cookies=["c"], roots=roots, read_cookies=lambda pid: cookies.get(pid, [])
    )
    return sorted(each.pid for each in found)


# -- belonging ---------------------------------------------------------------------------------------------------


def test_members_are_found_by_cookie_session_group_and_descent() -> None:
    everyone = machine(
        process(10),  # carries the cookie
        process(11, 10, session=10),  # its session
        process(12, 1, session=10),  # orphan in its session
        process(13, 11),  # child of a member, in a session of its own
        process(14, 1, session=13),  # orphan in the session of that child
        msgspec.structs.replace(process(15, 1, session=50), group=10),  # its group
        process(20),
        process(21, 20),
    )
    assert members(everyone, {10: ["x", "c"], 20: ["cc"], 21: ["x:c"]}) == [10, 11, 12, 13, 14, 15]


def test_nobody_in_our_session_belongs_for_that_alone() -> None:
    everyone = machine(
        process(10, session=50), process(11, session=50), process(12, 10, session=50)
    )
    assert members(everyone, {10: ["c"]}) == [10, 12]


def test_we_our_ancestors_and_init_never_belong() -> None:
    everyone = machine(process(10))
    assert members(everyone, {pid: ["c"] for pid in (0, 1, 50, ME)}) == []
    everyone[ME] = process(ME, 10)  # started by a step: its own step cannot be ended by us
    assert members(everyone, {10: ["c"]}, everyone[10]) == []


def test_a_zombie_proves_its_session_but_is_not_to_be_ended() -> None:
    wrapper = msgspec.structs.replace(process(10, ME), is_zombie=True)
    everyone = machine(wrapper, process(11, 1, session=10))
    assert members(everyone, {}, wrapper) == [11]


def test_a_root_whose_number_means_another_process_now_proves_nothing() -> None:
    everyone = machine(process(10, started=200), process(11, 10, session=10))
    assert members(everyone, {}, process(10, started=100)) == []


def test_kernel_threads_are_not_asked_for_their_environment() -> None:
    asked: list[int] = []

    def read(pid: int) -> list[str]:
        asked.append(pid)
        return []

    everyone = machine(process(2, 0, session=0), process(3, 2, session=0), process(10))
    processes.family(everyone, cookies=["c"], read_cookies=read)
    assert asked == [10]


# -- the real machine --------------------------------------------------------------------------------------------


def test_a_process_is_described_as_the_kernel_knows_it(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.look(sleeper.pid)
    assert found is not None
    assert found == Process(
        pid=sleeper.pid,
        ppid=ME,
        group=sleeper.pid,
        session=sleeper.pid,
        started=found.started,
        name="sleep",
    )
    assert processes.cookies_of(sleeper.pid) == ["a:job:1", "outer:job:9"]
    assert processes.table()[sleeper.pid] == found


def test_psutil_says_the_same_as_proc(sleeper: subprocess.Popen[bytes]) -> None:
    ours, theirs = processes._look_linux(sleeper.pid), processes._look_portable(sleeper.pid)
    assert ours is not None
    assert theirs == msgspec.structs.replace(ours, started=theirs.started if theirs else 0)
    assert processes._cookies_portable(sleeper.pid) == processes._cookies_linux(sleeper.pid)
    assert sleeper.pid in processes._pids_portable()


def test_an_ended_child_is_a_zombie_until_it_is_collected(sleeper: subprocess.Popen[bytes]) -> None:
    before = processes.look(sleeper.pid)
    assert before is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    after = processes.look(sleeper.pid)
    assert after is not None
    assert (after.is_zombie, processes.is_same(before)) == (True, False)
    assert processes.cookies_of(sleeper.pid) == []
    sleeper.wait()
    assert processes.look(sleeper.pid) is None


def test_a_program_name_with_brackets_and_spaces_is_no_trouble(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "1000"]) as child:
        found = processes.look(child.pid)
        child.kill()
    assert found is not None
    assert (found.name, found.ppid) == ("a) S 1 (b", ME)


def test_carriers_are_found_by_the_beginning_of_their_cookie(
    sleeper: subprocess.Popen[bytes],
) -> None:
    found = processes.carriers("a:")
    assert [(each.pid, cookie) for each, cookie in found] == [(sleeper.pid, "a:job:1")]


# -- signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_number_that_was_given_to_another_process_is_not_signalled(
    sleeper: subprocess.Popen[bytes],
    pidfd: bool,
) -> None:
    now = processes.look(sleeper.pid)
    assert now is not None
    earlier = msgspec.structs.replace(now, started=now.started - 1)
    assert not processes.send(earlier, signal.SIGKILL, pidfd=pidfd)
    assert sleeper.poll() is None
    assert processes.send(now, signal.SIGKILL, pidfd=pidfd)
    assert sleeper.wait() == -signal.SIGKILL
    assert not processes.send(now, signal.SIGKILL, pidfd=pidfd)


@pytest.mark.parametrize("pid", [0, 1, -1, ME], ids=["0", "init", "all", "ourselves"])
def test_init_ourselves_and_whole_groups_are_never_signalled(pid: int) -> None:
    found = processes.look(pid) or process(pid)
    assert not processes.send(found, signal.SIGCONT, pidfd=processes.has_pidfd())
    assert not processes.send(found, signal.SIGCONT, pidfd=False)


# -- this process ------------------------------------------------------------------------------------------------


def test_descriptors_that_we_were_born_with_are_sealed() -> None:
    reading, writing = os.pipe()
    try:
        os.set_inheritable(writing, True)
        processes.seal_descriptors()
        assert not os.get_inheritable(writing)
        assert os.get_inheritable(1)
    finally:
        os.close(reading)
        os.close(writing)


def test_our_children_are_listed(sleeper: subprocess.Popen[bytes]) -> None:
    children = processes.children()
    assert children is None or sleeper.pid in children


@pytest.mark.parametrize("is_listed", [True, False])
def test_ended_children_are_collected_but_for_those_of_others(
    monkeypatch: pytest.MonkeyPatch, *, is_listed: bool
) -> None:
    if not is_listed:  # a kernel that does not list children
        monkeypatch.setattr(processes, "children", lambda: None)
    mine, other, busy = (os.posix_spawn("/bin/sh", ["sh", "-c", script], {})
                         for script in ("exit 1", "exit 2", "exec sleep 1000"))  # fmt: skip
    for pid in (mine, other):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    processes.collect_orphans({other})
    assert processes.look(mine) is None
    assert os.waitpid(other, 0)[0] == other
    os.kill(busy, signal.SIGKILL)
    assert os.waitpid(busy, 0)[0] == busy


def test_becoming_a_subreaper_is_seen() -> None:
    code = (
        "from oj_daemon import processes as p; "
        "print(p.is_subreaper(), p.become_subreaper(), p.is_subreaper())"
    )
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["False", "True", "True"]
