"""Shell steps with real processes: how they start, end, are found again, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from oj_daemon import processes, shell
from oj_daemon.errors import AdapterError, StoreError
from oj_daemon.shell import Found, RunSpec, RunState, ShellRuns, base_env
from tests.support.waiting import until

# ruff: noqa: ASYNC110, ASYNC221, ASYNC240 - files and processes are what is being awaited and looked at

RUN = "job-0123456789abcdef/1"
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
DEADLINE = 30.0

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(autouse=True)
def _nothing_survives(tmp_path: Path) -> Iterator[None]:
    """Whatever a test starts is ended, also when it fails."""
    yield
    marker = f"{tmp_path}".encode()
    for process in processes.table().values():
        with contextlib.suppress(OSError):
            if (
                marker in Path(f"/proc/{process.pid}/environ").read_bytes()
                and process.pid != os.getpid()
            ):
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture(params=["pidfd", "polling"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> ShellRuns:
    return ShellRuns(
        tmp_path / "runs", grace_seconds=0.3, pidfd=None if request.param == "pidfd" else False
    )


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[ShellRuns]:
    runs = ShellRuns(tmp_path / "runs", grace_seconds=0.3)
    yield runs
    await runs.end(*{survivor.run_id for survivor in runs.survivors()}, grace_seconds=0)


def spec(tmp_path: Path, script: str, run_id: str = RUN, **env: str) -> RunSpec:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return RunSpec(run_id=run_id, script=script, env={**ENV, "T": str(tmp_path), **env}, cwd=work)


async def run(runs: ShellRuns, tmp_path: Path, script: str, **env: str) -> Found:
    runs.start(spec(tmp_path, script, **env))
    return await asyncio.wait_for(runs.wait(RUN), DEADLINE)


def output(runs: ShellRuns, run_id: str = RUN) -> str:
    return (runs.folder(run_id) / "output").read_text()


async def until_exists(path: Path) -> str:
    """A file that a step writes as its sign; complete once it ends in a newline."""
    async with asyncio.timeout(DEADLINE):
        while not (path.exists() and path.read_text().endswith("\n")):
            await asyncio.sleep(0.005)
    return path.read_text().strip()


def is_alive(pid: int) -> bool:
    process = processes.look(pid)
    return process is not None and not process.is_zombie


# -- what a script sees and says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("true", 0),
        ("exit 7", 7),
        ("false; echo not reached", 1),
        ("false | true", 1),
        ("echo $OJ_NO_SUCH_NAME", 1),
        ("no-such-program-anywhere", 127),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("kill -TERM 0", 143),
        ("if true; then", 2),
        ("", 0),
    ],
)
async def test_the_status_is_the_scripts_and_128_plus_n_for_a_signal(
    quick: ShellRuns, tmp_path: Path, script: str, status: int
) -> None:
    found = await run(quick, tmp_path, script)
    assert found == Found(RunState.EXITED, status=status)
    assert quick.exit_status(RUN) == status
    assert "not reached" not in output(quick)


async def test_output_holds_stdout_and_stderr_in_order_and_nothing_else(
    quick: ShellRuns, tmp_path: Path
) -> None:
    await run(quick, tmp_path, "echo one; echo two >&2; printf 'three, no newline'")
    assert output(quick) == "one\ntwo\nthree, no newline"


async def test_a_killed_script_adds_no_remarks_of_the_wrapper(
    quick: ShellRuns, tmp_path: Path
) -> None:
    await run(quick, tmp_path, "echo before; kill -KILL $$")
    assert output(quick) == "before\n"


async def test_error_messages_name_the_line_of_the_script(quick: ShellRuns, tmp_path: Path) -> None:
    await run(quick, tmp_path, "true\ntrue\nno-such-program-anywhere")
    assert "script: line 3: no-such-program-anywhere: command not found" in output(quick)


async def test_ten_megabytes_of_bytes_arrive_unchanged(quick: ShellRuns, tmp_path: Path) -> None:
    data = os.urandom(10 * 1024 * 1024)
    (tmp_path / "data").write_bytes(data)
    await run(quick, tmp_path, 'cat "$T/data"')
    assert (quick.folder(RUN) / "output").read_bytes() == data


async def test_a_script_larger_than_any_argument_list_runs(
    quick: ShellRuns, tmp_path: Path
) -> None:
    script = "x='" + "y" * 4_000_000 + "'\necho ${#x}"
    assert (await run(quick, tmp_path, script)).status == 0
    assert output(quick) == "4000000\n"


async def test_bytes_that_are_not_utf8_pass_through_script_and_environment(
    quick: ShellRuns, tmp_path: Path
) -> None:
    odd = os.fsdecode(b"\xff\xfe")
    await run(quick, tmp_path, f"printf '%s' '{odd}'; printf '%s' \"$ODD\"", ODD=odd)
    assert (quick.folder(RUN) / "output").read_bytes() == b"\xff\xfe\xff\xfe"


async def test_the_environment_is_what_was_given_and_the_cookie(
    quick: ShellRuns, tmp_path: Path
) -> None:
    await run(quick, tmp_path, "env -0", GREETING="two\nlines")
    seen = dict(entry.split("=", 1) for entry in output(quick).split("\0") if entry)
    bash_adds = {"PWD": str(tmp_path / "work"), "SHLVL": "1", "_": seen["_"]}
    assert seen == {
        **ENV, "T": str(tmp_path), "GREETING": "two\nlines", "OJ_STEP": quick.cookie(RUN), **bash_adds
    }  # fmt: skip


async def test_a_step_has_no_input_no_terminal_no_foreign_descriptors_and_default_signals(
    tmp_path: Path,
) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # as one that the daemon was born with
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        quick = ShellRuns(tmp_path / "runs")
        os.set_blocking(reading, False)
        script = """
        ls -l /proc/$$/fd
        grep -E 'SigIgn|SigBlk' /proc/self/status
        (exec 3</dev/tty) 2>/dev/null || echo no terminal
        ps -o sid= -p $$ | tr -d ' '
        umask
        """
        await run(quick, tmp_path, script)
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(reading)
        os.close(writing)
    lines = output(quick).splitlines()
    folder = quick.folder(RUN)
    assert sorted(" ".join(line.split()[-3:]) for line in lines if "->" in line) == [
        "0 -> /dev/null",
        f"1 -> {folder}/output",
        f"2 -> {folder}/output",
        f"255 -> {folder}/script",
    ]
    masks = [int(line.split()[1], 16) for line in lines if "Sig" in line]
    private_to_libc = 1 << 31 | 1 << 32  # signals 32 and 33 cannot be set by programs
    assert [mask & ~private_to_libc for mask in masks] == [0, 0]
    assert "no terminal" in lines
    assert int(lines[-2]) not in {os.getsid(0), 0}
    assert lines[-1] == "0022"


# -- starting ----------------------------------------------------------------------------------------------------


def test_a_missing_working_directory_is_refused_before_anything_starts(tmp_path: Path) -> None:
    runs = ShellRuns(tmp_path / "runs")
    gone = RunSpec(run_id=RUN, script="true", env=ENV, cwd=tmp_path / "gone")
    with pytest.raises(AdapterError, match="gone: there is no such directory") as caught:
        runs.start(gone)
    assert caught.value.code == "cwd"
    assert runs.adopt(RUN).state is RunState.NEVER


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any directory")
async def test_a_directory_that_cannot_be_entered_has_an_outcome_of_its_own(  # pragma: no cover
    quick: ShellRuns, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir(mode=0)
    found = await run(quick, tmp_path, "true")
    assert found == Found(
        RunState.EXITED, detail="the working directory is gone or cannot be entered"
    )


def test_a_working_directory_that_vanishes_has_an_outcome_of_its_own(tmp_path: Path) -> None:
    runs = ShellRuns(tmp_path / "runs")
    folder = runs.folder(RUN)
    folder.mkdir(parents=True)
    (folder / "script").write_text("echo ran")
    wrapper = Path(processes.__file__).with_name("step.sh")
    done = subprocess.run(
        ["/bin/sh", wrapper, folder, tmp_path / "gone", "bash", "0022"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert runs.adopt(RUN) == Found(
        RunState.EXITED, detail="the working directory is gone or cannot be entered"
    )
    assert runs.exit_status(RUN) is None
    assert (done.returncode, done.stdout) == (125, "")
    assert (
        done.stderr == f"oj: the working directory {tmp_path}/gone is gone or cannot be entered\n"
    )


@pytest.mark.parametrize("stopped", ["before it looks around", "after that"])
async def test_a_daemon_that_was_stopped_while_it_started_a_run_does_not_repeat_it(
    quick: ShellRuns, tmp_path: Path, stopped: str
) -> None:
    """The one that took over ran it to its end and removed the folder, which the first one may make again."""
    old = ShellRuns(quick.root)
    wanted = spec(tmp_path, "echo ran >>$T/ledger")

    def take_over() -> None:
        quick.start(wanted)
        until(lambda: quick.exit_status(RUN) is not None, DEADLINE, "it ran")
        quick.remove(RUN)
        if stopped == "before it looks around":
            old.folder(RUN).mkdir(parents=True)
            raise StoreError("somebody else acts now", code="replaced")

    old.guard = take_over
    with pytest.raises((StoreError, AdapterError)):
        old.start(wanted)
    await quick.wait(RUN)
    assert (tmp_path / "ledger").read_text() == "ran\n"
    assert old.survivors() == []


@pytest.mark.parametrize(
    ("env", "code", "message"),
    [
        ({"BIG": "x" * 200_000}, "spawn", "the largest value is BIG with 195 KB"),
        ({"NUL": "a\0b"}, "invalid", "null"),
        ({"A=B": "x"}, "invalid", "illegal environment variable name"),
    ],
)
def test_an_impossible_environment_is_a_clear_error(
    tmp_path: Path, env: dict[str, str], code: str, message: str
) -> None:
    runs = ShellRuns(tmp_path / "runs")
    with pytest.raises(AdapterError, match=message) as caught:
        runs.start(spec(tmp_path, "true", **env))
    assert caught.value.code == code
    assert runs.adopt(RUN).state is RunState.NEVER


def test_no_bash_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    runs = ShellRuns(tmp_path / "runs")
    with pytest.raises(AdapterError, match="there is no bash on PATH") as caught:
        runs.start(spec(tmp_path, "true", PATH=str(tmp_path)))
    assert caught.value.code == "bash"


@pytest.mark.parametrize("run_id", ["", "..", "../x", "job/../..", "/etc", "a//b", "-rf", "a b"])
def test_a_run_id_cannot_leave_the_root(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(AdapterError, match="cannot name a run"):
        ShellRuns(tmp_path / "runs").folder(run_id)


async def test_starting_twice_runs_once(runs: ShellRuns, tmp_path: Path) -> None:
    script = 'echo ran >> "$T/ran"'
    runs.start(spec(tmp_path, script))
    assert runs.start(spec(tmp_path, script)).state is RunState.RUNNING
    assert (await runs.wait(RUN)).status == 0
    assert runs.start(spec(tmp_path, script)) == Found(RunState.EXITED, status=0)
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_two_daemons_that_start_one_run_at_once_run_it_once_and_both_learn_its_status(
    tmp_path: Path,
) -> None:
    # Neither has seen the other's claim: as when a daemon dies between the order and the claim.
    script = 'echo ran >> "$T/ran"; until [ -e "$T/go" ]; do sleep 0.01; done; exit 5'
    for number in range(10):
        run_id = f"job-race/{number}"
        first, second = ShellRuns(tmp_path / "runs"), ShellRuns(tmp_path / "runs")
        (tmp_path / "go").unlink(missing_ok=True)
        first.start(spec(tmp_path, script, run_id))
        second.start(spec(tmp_path, script, run_id))
        both = asyncio.gather(first.wait(run_id), second.wait(run_id))
        (tmp_path / "go").touch()
        assert [found.status for found in await asyncio.wait_for(both, DEADLINE)] == [5, 5]
    assert (tmp_path / "ran").read_text() == "ran\n" * 10


async def test_a_run_that_was_ended_before_its_wrapper_could_claim_it_never_runs(
    quick: ShellRuns, tmp_path: Path
) -> None:
    quick.folder(RUN).mkdir(parents=True)
    await quick.end(RUN)
    assert quick.start(spec(tmp_path, 'touch "$T/ran"')).state is RunState.LOST
    wrapper = Path(processes.__file__).with_name("step.sh")
    (quick.folder(RUN) / "script").write_text('touch "$T/ran"')
    late = subprocess.run(
        ["/bin/sh", wrapper, quick.folder(RUN), tmp_path, "bash", "0022"],
        env={**ENV, "T": str(tmp_path)},
        check=False,
    )
    assert late.returncode == 0
    assert not (tmp_path / "ran").exists()


async def test_ending_a_run_right_after_its_start_leaves_it_ended(
    quick: ShellRuns, tmp_path: Path
) -> None:
    for number in range(20):
        run_id = f"job-soon/{number}"
        quick.start(spec(tmp_path, "sleep 1000", run_id))
        assert await quick.end(run_id) == []
        found = await asyncio.wait_for(quick.wait(run_id), DEADLINE)
        assert found.state is RunState.LOST or found.status == 143
    assert quick.survivors() == []


# -- found again -------------------------------------------------------------------------------------------------


async def test_a_run_is_never_running_exited_or_lost(quick: ShellRuns, tmp_path: Path) -> None:
    assert quick.adopt(RUN) == Found(RunState.NEVER)
    started = quick.start(spec(tmp_path, 'echo $$ > "$T/pid"; sleep 1000'))
    await until_exists(tmp_path / "pid")
    assert quick.adopt(RUN) == Found(RunState.RUNNING, pid=started.pid)
    await quick.end(RUN)
    assert quick.adopt(RUN) == Found(RunState.EXITED, status=143)


async def test_a_wrapper_killed_with_kill_is_lost_and_its_script_is_ended(
    runs: ShellRuns, tmp_path: Path
) -> None:
    started = runs.start(spec(tmp_path, 'echo $$ > "$T/pid"; sleep 1000'))
    script = int(await until_exists(tmp_path / "pid"))
    assert started.pid is not None
    os.kill(started.pid, signal.SIGKILL)
    found = await asyncio.wait_for(runs.wait(RUN), DEADLINE)
    assert found == Found(RunState.LOST, detail="its wrapper is gone and left no exit status")
    assert not is_alive(script)


@pytest.mark.parametrize("claim", [b"", b"12", b"4194304\n"])
def test_a_claim_that_nobody_lives_for_is_lost(tmp_path: Path, claim: bytes) -> None:
    runs = ShellRuns(tmp_path / "runs")
    runs.folder(RUN).mkdir(parents=True)
    (runs.folder(RUN) / "claim").write_bytes(claim)
    assert runs.adopt(RUN).state is RunState.LOST


@pytest.mark.parametrize("claim", [b"%d\n", b"%d\n1", b"%d\nnonsense\n"])
def test_a_claim_by_a_pid_that_now_means_another_process_is_lost(
    tmp_path: Path, claim: bytes
) -> None:
    runs = ShellRuns(tmp_path / "runs")
    runs.folder(RUN).mkdir(parents=True)
    (runs.folder(RUN) / "claim").write_bytes(claim % os.getppid())
    assert runs.adopt(RUN).state is RunState.LOST


def daemon(tmp_path: Path, body: str) -> subprocess.Popen[bytes]:
    """Another daemon process with the same runs."""
    code = f"""
import asyncio, os, sys
from pathlib import Path
from oj_daemon import processes, shell
from oj_daemon.shell import RunSpec, ShellRuns
tmp = Path({str(tmp_path)!r})
env = {ENV | {"T": str(tmp_path)}!r}
runs = ShellRuns(tmp / "runs", grace_seconds=0.3)
async def main():
    {body}
asyncio.run(main())
"""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}
    )


STARTER = "runs.start(RunSpec({run!r}, {script!r}, env, tmp)); await asyncio.sleep(1000)"


@pytest.fixture
def killed_daemon() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


async def test_after_a_kill_of_the_daemon_the_next_one_gets_the_exit_status(
    runs: ShellRuns, tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]]
) -> None:
    script = 'echo up > "$T/up"; until [ -e "$T/go" ]; do sleep 0.01; done; echo after; exit 9'
    killed_daemon.append(daemon(tmp_path, STARTER.format(run=RUN, script=script)))
    await until_exists(tmp_path / "up")
    killed_daemon[0].kill()
    killed_daemon[0].wait()
    assert runs.adopt(RUN).state is RunState.RUNNING
    waiting = asyncio.gather(runs.wait(RUN))
    await asyncio.sleep(0)
    (tmp_path / "go").touch()
    (found,) = await asyncio.wait_for(waiting, DEADLINE)
    assert found == Found(RunState.EXITED, status=9)
    assert output(runs) == "after\n"


async def test_what_a_step_left_behind_while_no_daemon_lived_is_ended_by_the_next(
    quick: ShellRuns, tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]]
) -> None:
    script = (
        'setsid sleep 1000 & echo $! > "$T/pid"; until [ -e "$T/go" ]; do sleep 0.01; done; exit 4'
    )
    killed_daemon.append(daemon(tmp_path, STARTER.format(run=RUN, script=script)))
    left = int(await until_exists(tmp_path / "pid"))
    killed_daemon[0].kill()
    killed_daemon[0].wait()
    (tmp_path / "go").touch()
    async with asyncio.timeout(DEADLINE):
        while quick.adopt(RUN).state is RunState.RUNNING:
            await asyncio.sleep(0.005)
    assert is_alive(left)
    assert await quick.wait(RUN) == Found(RunState.EXITED, status=4)
    assert not is_alive(left)


async def test_a_run_of_a_killed_daemon_can_be_ended(
    runs: ShellRuns, tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]]
) -> None:
    script = 'trap "" TERM; (trap "" TERM; setsid sleep 1000) & echo up > "$T/up"; sleep 1000; sleep 1000'
    killed_daemon.append(daemon(tmp_path, STARTER.format(run=RUN, script=script)))
    await until_exists(tmp_path / "up")
    killed_daemon[0].kill()
    killed_daemon[0].wait()
    assert await asyncio.wait_for(runs.end(RUN), DEADLINE) == []
    assert runs.adopt(RUN).state in {RunState.EXITED, RunState.LOST}
    assert runs.survivors() == []


async def test_cancelling_a_wait_leaves_the_run_alone(quick: ShellRuns, tmp_path: Path) -> None:
    quick.start(spec(tmp_path, 'until [ -e "$T/go" ]; do sleep 0.01; done'))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(quick.wait(RUN), 0.01)
    assert quick.adopt(RUN).state in {RunState.NEVER, RunState.RUNNING}
    (tmp_path / "go").touch()
    assert (await asyncio.wait_for(quick.wait(RUN), DEADLINE)).status == 0


# -- ending everything -------------------------------------------------------------------------------------------

RUNAWAYS = {
    "a background process": "sleep 1000 & echo $! > $T/pid",
    "one in a session of its own": "setsid sleep 1000 & echo $! > $T/pid",
    "one that ignores TERM": "bash -c 'trap \"\" TERM; echo $$ > $T/pid; while :; do sleep 0.05; done' &",
    "a daemon by double fork": "(setsid bash -c '(echo $BASHPID > $T/pid; trap \"\" TERM HUP; sleep 1000; sleep 1000) &' &)",
    "a stopped one": "sleep 1000 & kill -STOP $!; echo $! > $T/pid",
    "one without environment, in the same session": "env -i sleep 1000 & echo $! > $T/pid",
    "one without environment whose parent has it": (
        "bash -c 'setsid env -i sleep 1000 & echo $! > $T/pid; sleep 1000; true' &"
    ),
    "one without environment in a session with one that has it": (
        "setsid bash -c 'env -i sleep 1000 & echo $! > $T/pid; sleep 1000; true' &"
    ),
}


@pytest.mark.parametrize("script", RUNAWAYS.values(), ids=RUNAWAYS.keys())
async def test_what_a_finished_step_leaves_running_is_ended_before_the_wait_returns(
    quick: ShellRuns, tmp_path: Path, script: str
) -> None:
    found = await run(quick, tmp_path, f'{script}\nuntil [ -s "$T/pid" ]; do sleep 0.01; done')
    assert found == Found(RunState.EXITED, status=0)
    assert not is_alive(int((tmp_path / "pid").read_text()))
    assert quick.survivors() == []


@pytest.mark.parametrize("script", RUNAWAYS.values(), ids=RUNAWAYS.keys())
async def test_ending_a_step_ends_everything_that_it_started(
    runs: ShellRuns, tmp_path: Path, script: str
) -> None:
    runs.start(spec(tmp_path, f"{script}\nsleep 1000"))
    pid = int(await until_exists(tmp_path / "pid"))
    waiting = asyncio.gather(runs.wait(RUN))
    await asyncio.sleep(0)
    assert await asyncio.wait_for(runs.end(RUN), DEADLINE) == []
    assert not is_alive(pid)
    assert runs.survivors() == []
    assert list(await asyncio.wait_for(waiting, DEADLINE)) == [Found(RunState.EXITED, status=143)]


async def test_a_script_that_ignores_term_is_killed_and_its_status_still_recorded(
    runs: ShellRuns, tmp_path: Path
) -> None:
    runs.start(spec(tmp_path, 'trap "" TERM; echo up > "$T/up"; while :; do sleep 0.05; done'))
    await until_exists(tmp_path / "up")
    assert await asyncio.wait_for(runs.end(RUN), DEADLINE) == []
    found = await asyncio.wait_for(runs.wait(RUN), DEADLINE)
    assert found == Found(RunState.EXITED, status=137)


async def test_a_script_may_clean_up_on_term(quick: ShellRuns, tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 3' TERM; echo up > \"$T/up\"; while :; do sleep 0.01; done"
    quick.start(spec(tmp_path, script))
    await until_exists(tmp_path / "up")
    await quick.end(RUN, grace_seconds=DEADLINE)
    assert await quick.wait(RUN) == Found(RunState.EXITED, status=3)
    assert output(quick).endswith("cleaned\n")


async def test_processes_that_multiply_while_being_ended_are_all_ended(
    quick: ShellRuns, tmp_path: Path
) -> None:
    script = 'trap "" TERM; echo up > "$T/up"; while :; do (trap "" TERM; setsid sleep 1000; sleep 1000) & sleep 0.02; done'
    quick.start(spec(tmp_path, script))
    await until_exists(tmp_path / "up")
    assert await asyncio.wait_for(quick.end(RUN), DEADLINE) == []
    assert quick.survivors() == []


async def test_ending_one_run_leaves_its_neighbours_alone(quick: ShellRuns, tmp_path: Path) -> None:
    quick.start(spec(tmp_path, 'echo up > "$T/up1"; sleep 1000', "job-x/1"))
    quick.start(spec(tmp_path, 'echo up > "$T/up11"; sleep 1000', "job-x/11"))
    await until_exists(tmp_path / "up1")
    await until_exists(tmp_path / "up11")
    await quick.end("job-x/1")
    assert quick.adopt("job-x/11").state is RunState.RUNNING
    assert {survivor.run_id for survivor in quick.survivors()} == {"job-x/11"}
    await quick.end("job-x/1", "job-x/11")
    assert quick.survivors() == []


async def test_runs_of_another_state_folder_are_not_ours(quick: ShellRuns, tmp_path: Path) -> None:
    other = ShellRuns(tmp_path / "other")
    other.start(spec(tmp_path, 'echo up > "$T/up"; sleep 1000'))
    await until_exists(tmp_path / "up")
    assert await quick.end(RUN) == []
    assert other.adopt(RUN).state is RunState.RUNNING
    assert quick.survivors() == []
    await other.end(RUN)


async def test_ending_a_step_ends_the_steps_that_run_inside_it(
    quick: ShellRuns, tmp_path: Path
) -> None:
    inner = ShellRuns(tmp_path / "inner")
    given = base_env({**ENV, "OJ_STEP": quick.cookie(RUN)})
    inner.start(spec(tmp_path, 'echo up > "$T/up"; sleep 1000', **given))
    await until_exists(tmp_path / "up")
    await quick.end(RUN)
    assert await inner.wait(RUN) == Found(RunState.EXITED, status=143)


# -- tidiness ----------------------------------------------------------------------------------------------------


LEAKS = """
    def descriptors():
        return sorted(os.listdir("/proc/self/fd"))
    before = descriptors()
    for number in range(0, {count}, 4):
        ids = [f"job-many/{{number + lane}}" for lane in range(4)]
        for run_id in ids:
            runs.start(RunSpec(run_id, "true", env, tmp))
        found = await asyncio.gather(*map(runs.wait, ids))
        assert [each.status for each in found] == [0] * 4
    assert descriptors() == before
    assert processes.children() == []
"""
ADOPTING = """assert processes.become_subreaper()
    runs = ShellRuns(tmp / "runs", grace_seconds=0.3)
"""


@pytest.mark.parametrize(
    ("count", "prefix"), [(200, ADOPTING), (40, "")], ids=["adopting", "plain"]
)
async def test_many_runs_leave_no_zombie_and_no_descriptor(
    tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]], count: int, prefix: str
) -> None:
    killed_daemon.append(daemon(tmp_path, prefix + LEAKS.format(count=count)))
    assert await asyncio.to_thread(killed_daemon[0].wait, DEADLINE) == 0


async def test_ended_runs_leave_no_zombie_even_if_nobody_waits(
    quick: ShellRuns, tmp_path: Path
) -> None:
    started = quick.start(spec(tmp_path, "sleep 1000"))
    await quick.end(RUN)
    assert started.pid is not None
    assert processes.look(started.pid) is None


async def test_removing_a_run_frees_its_folder_and_its_jobs(
    quick: ShellRuns, tmp_path: Path
) -> None:
    await run(quick, tmp_path, "true")
    quick.remove(RUN)
    quick.remove(RUN)
    assert sorted(path.name for path in quick.root.iterdir()) == ["instance"]


def test_a_full_disk_is_a_clear_error_and_the_run_has_not_begun(tmp_path: Path) -> None:
    # A limit on the size of files stands in for the full disk.
    runs = ShellRuns(tmp_path / "runs")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6, hard))
    try:
        with pytest.raises(AdapterError, match=r"write the run folder .*: File too large"):
            runs.start(spec(tmp_path, "echo a script of more than six bytes"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert runs.adopt(RUN).state is RunState.NEVER


async def test_a_step_that_deletes_its_own_run_folder_is_lost(
    quick: ShellRuns, tmp_path: Path
) -> None:
    assert await run(quick, tmp_path, f'rm -rf "{quick.root}"') == Found(
        RunState.LOST, detail="its run folder is gone"
    )


def test_the_identity_of_a_root_is_made_once(tmp_path: Path) -> None:
    first = ShellRuns(tmp_path / "runs")
    assert ShellRuns(tmp_path / "runs").instance == first.instance
    assert ShellRuns(tmp_path / "other").instance != first.instance


# -- with orphans coming to us -----------------------------------------------------------------------------------


async def test_a_daemon_that_adopts_orphans_ends_and_collects_them_all(
    tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]]
) -> None:
    body = f"""{ADOPTING}
    for number, script in enumerate({list(RUNAWAYS.values())!r}):
        run = f"job-x/{{number}}"
        (tmp / "pid").unlink(missing_ok=True)
        script += "\\nuntil [ -s $T/pid ]; do sleep 0.01; done; exit 3"
        runs.start(RunSpec(run, script, env, tmp))
        found = await runs.wait(run)
        assert found.status == 3, found
        process = processes.look(int((tmp / "pid").read_text()))
        assert process is None or process.is_zombie, (script, process)
    assert runs.survivors() == []
    shell._ABANDONED = -1.0  # one that had left the step's session is taken for somebody else's
    runs.start(RunSpec("job-x/last", "true", env, tmp))
    await runs.wait("job-x/last")
    left = [processes.look(pid) for pid in processes.children()]
    assert left == [], left
"""
    killed_daemon.append(daemon(tmp_path, body))
    assert await asyncio.to_thread(killed_daemon[0].wait, DEADLINE) == 0


async def test_as_init_it_collects_what_strangers_left_and_leaves_alone_what_others_collect(
    tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]]
) -> None:
    """Orphans that became ours come from sessions of their own; a child in our session has a parent that waits: us."""
    body = f"""{ADOPTING}
    import subprocess
    shell._ABANDONED = 0.0
    mine = subprocess.Popen(["true"])
    subprocess.run(["setsid", "sh", "-c", "(sleep 0.1 &) ; :"], check=True)
    asyncio.create_task(runs.be_init(0.02))
    async with asyncio.timeout(20):
        while processes.children() != [mine.pid]:
            await asyncio.sleep(0.02)
    assert mine.wait() == 0
"""
    killed_daemon.append(daemon(tmp_path, body))
    assert await asyncio.to_thread(killed_daemon[0].wait, DEADLINE) == 0


CROWD = """
    {prefix}
    async def one(number):
        run_id = f"job-{{number}}/1"
        left = {{0: "sleep 1000 &", 1: "setsid sleep 1000 &"}}.get(number % 5, "")
        script = f'echo {{number}} >> "$T/ran"; sleep 0.0{{number % 7}}; {{left}} exit {{number % 3}}'
        runs.start(RunSpec(run_id, script, env, tmp))
        found = await runs.wait(run_id)
        assert found.status == number % 3, (run_id, found)
    (tmp / "up{life}").write_text("up\\n")
    await asyncio.gather(*map(one, range({count})))
"""


async def test_daemons_killed_at_random_moments_run_everything_once_and_leave_nothing(
    tmp_path: Path, killed_daemon: list[subprocess.Popen[bytes]]
) -> None:
    chance = random.Random(20260101)
    lives = 6
    for life in range(lives + 1):
        prefix = ADOPTING if life % 2 else ""
        body = CROWD.format(prefix=prefix, life=life, count=8 * (life + 1))
        killed_daemon.append(daemon(tmp_path, body))
        await until_exists(tmp_path / f"up{life}")
        if life < lives:
            await asyncio.sleep(
                chance.random() * 0.1
            )  # not to wait for something: the moment is the point
            killed_daemon[-1].kill()
    assert await asyncio.to_thread(killed_daemon[-1].wait, DEADLINE) == 0
    ran = sorted(map(int, (tmp_path / "ran").read_text().split()))
    assert ran == list(range(8 * (lives + 1)))
    assert ShellRuns(tmp_path / "runs").survivors() == []


async def test_a_wrapper_that_somebody_else_collected_does_not_stop_the_wait(
    runs: ShellRuns, tmp_path: Path
) -> None:
    started = runs.start(spec(tmp_path, "exit 2"))
    assert started.pid is not None
    await asyncio.to_thread(os.waitpid, started.pid, 0)
    assert await asyncio.wait_for(runs.wait(RUN), DEADLINE) == Found(RunState.EXITED, status=2)


# -- where sh is bash --------------------------------------------------------------------------------------------


async def test_the_wrapper_works_the_same_where_sh_is_bash(
    quick: ShellRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sh").symlink_to(shutil.which("bash") or "")
    monkeypatch.setattr(shell, "SH", str(tmp_path / "sh"))
    for number, (script, status) in enumerate(
        {"echo said": 0, "exit 7": 7, "kill -KILL $$": 137, "kill -TERM 0": 143}.items()
    ):
        run_id = f"job-bash/{number}"
        quick.start(spec(tmp_path, script, run_id))
        found = await asyncio.wait_for(quick.wait(run_id), DEADLINE)
        assert found == Found(RunState.EXITED, status=status)
        assert output(quick, run_id) == ("said\n" if number == 0 else "")
    first, second = ShellRuns(quick.root), ShellRuns(quick.root)
    for each in (first, second):
        each.start(spec(tmp_path, 'echo ran >> "$T/ran"; exit 5'))
    both = await asyncio.wait_for(asyncio.gather(first.wait(RUN), second.wait(RUN)), DEADLINE)
    assert [found.status for found in both] == [5, 5]
    assert (tmp_path / "ran").read_text() == "ran\n"


# -- environment -------------------------------------------------------------------------------------------------


def test_the_base_environment_passes_what_is_listed_and_nothing_else() -> None:
    inherited = {
        "PATH": "/bin", "LC_TIME": "C", "XDG_CONFIG_HOME": "/x", "https_proxy": "http://p", "OJ_STATE_DIR": "/s",
        "VIRTUAL_ENV": "/v", "AWS_PROFILE": "p", "AWSX": "n", "GIT_DIR": "/repo/.git", "BASH_ENV": "/evil",
        "BASH_FUNC_ls%%": "() { evil; }", "PWD": "/somewhere", "SECRET": "s", "OJ_STEP": "outer",
    }  # fmt: skip
    assert base_env(inherited) == {
        "PATH": "/bin", "LC_TIME": "C", "XDG_CONFIG_HOME": "/x", "https_proxy": "http://p", "OJ_STEP": "outer"
    }  # fmt: skip
    assert base_env({"AWS_PROFILE": "p", "AWSX": "n", "PATH": "/bin"}, ["AWS_*"]) == {
        "AWS_PROFILE": "p",
        "PATH": "/bin",
    }


def test_no_extra_name_lets_through_what_turns_git_or_bash_into_something_else() -> None:
    inherited = {
        "GIT_DIR": "x",
        "GIT_WORK_TREE": "x",
        "BASH_ENV": "x",
        "SHELLOPTS": "x",
        "GIT_AUTHOR_NAME": "me",
    }
    assert base_env(inherited, ["*"]) == {
        "GIT_AUTHOR_NAME": "me",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
