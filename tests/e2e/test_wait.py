"""`oj job wait`: its exit codes, what it tells, and that nothing makes it hang or give up."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support.world import World

GATE = "until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"


def read_until(child: subprocess.Popen[str], text: str) -> str:
    """Read the child's stdout up to the line that holds the text."""
    assert child.stdout is not None
    seen = ""
    for line in child.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(
        f"{text!r} never came: {seen} {child.stderr.read() if child.stderr else ''}"
    )


@pytest.fixture
def gated(shop: World) -> World:
    """A project whose job ends when a file `go` is there, with the code that it was given."""
    (shop.project / "go").unlink(missing_ok=True)
    shop.job(f'step "gate" {{ run = "{GATE}; exit ${{var.code}}" }}', args="<name> [code]")
    shop.job(
        'step "quick" { run = "exit ${var.code}" }',
        args="<name> [code]",
        command="quick",
        name="quick.hcl",
    )
    return shop


def test_a_job_that_succeeds_is_exit_zero(gated: World) -> None:
    """A029, C52."""
    job_id = gated.start("quick", "q", "0")
    waited = gated.oj("job", "wait", job_id)
    assert "quick completed" in waited.out
    assert waited.err == ""


def test_a_job_that_fails_is_exit_one_with_the_reason_on_stderr(gated: World) -> None:
    """A030, C52."""
    job_id = gated.start("quick", "q", "3")
    waited = gated.oj("job", "wait", job_id, code=1)
    assert "quick failed" in waited.out
    assert "exit code: 3" in waited.err


def test_an_unknown_job_is_exit_three(gated: World) -> None:
    """A031, C52."""
    assert "Job not found: nosuch" in gated.oj("job", "wait", "nosuch", code=3).err
    good = gated.run("quick", "q", "0")["id"]
    gated.oj("job", "wait", "--all", good, "nosuch", code=3)


def test_of_several_jobs_the_first_to_end_ends_the_wait(gated: World) -> None:
    """A032, C53, C54."""
    slow, fast = gated.start("build", "slow", "0"), gated.start("quick", "fast", "0")
    waited = gated.oj("job", "wait", slow, fast)
    assert "[fast] quick completed" in waited.out
    assert gated.status(slow) == "running"
    gated.oj("cancel", slow)


def test_with_all_each_job_is_waited_for_and_told_about(gated: World) -> None:
    """A033, C53, C54."""
    slow, fast = gated.start("build", "slow", "0"), gated.start("quick", "fast", "0")
    child = gated.spawn("job", "wait", "--all", slow, fast)
    seen = read_until(child, "Job fast")
    (gated.project / "go").touch()
    assert child.stdout is not None
    seen += child.stdout.read()
    assert child.wait(60) == 0
    assert seen.count("[slow] gate started") == 1
    assert seen.count("[slow] gate completed") == 1
    assert seen.count("[fast] quick completed") == 1
    assert "Job slow" in seen


@pytest.mark.parametrize(("ends", "code"), [(("0", "1"), 1), (("0", "0"), 0)])
def test_with_all_the_worst_end_decides(gated: World, ends: tuple[str, str], code: int) -> None:
    """A034, C54."""
    jobs = [gated.start("quick", f"j{end}", end) for end in ends]
    gated.oj("job", "wait", "--all", *jobs, code=code)


def test_failed_beats_cancelled(gated: World) -> None:
    """C54."""
    failed, cancelled = gated.start("quick", "f", "1"), gated.start("build", "c", "0")
    gated.oj("cancel", cancelled)
    gated.oj("job", "wait", "--all", cancelled, failed, code=1)


def test_the_same_job_named_twice_is_one_job(gated: World) -> None:
    """C54, Y4."""
    job_id = gated.start("quick", "q", "0")
    short = job_id.removeprefix("job-")[:8]
    waited = gated.oj("job", "wait", "--all", job_id, short, job_id)
    assert waited.out.count("quick completed") == 1
    assert "[" not in waited.out


def test_every_step_is_told_once_and_in_order(shop: World) -> None:
    """C53."""
    (shop.project / "go").unlink(missing_ok=True)
    shop.job(f"""
        step "one" {{
          run     = "true"
          on_done = {{ step = "two" }}
        }}
        step "two" {{
          run     = "{GATE}"
          on_done = {{ step = "three" }}
        }}
        step "three" {{ run = "exit 4" }}
    """)
    job_id = shop.start("build")
    child = shop.spawn("job", "wait", job_id)
    read_until(child, "two started")
    (shop.project / "go").touch()
    child.wait(60)
    told = [line.split(" (")[0] for line in shop.oj("job", "wait", job_id, code=1).out.splitlines()]
    assert told == [
        "one started",
        "one completed",
        "two started",
        "two completed",
        "three started",
        "three failed",
    ]


@pytest.mark.parametrize(
    ("verb", "code", "word"), [("cancel", 4, "cancelled"), ("suspend", 5, "suspended")]
)
def test_a_job_that_is_ended_by_somebody_has_a_code_of_its_own(
    gated: World, verb: str, code: int, word: str
) -> None:
    """A160, C52, C55, Y4."""
    job_id = gated.start("build", "victim", "0")
    child = gated.spawn("job", "wait", job_id)
    read_until(child, "gate started")
    gated.oj(verb, job_id)
    _, err = child.communicate(timeout=60)
    assert child.returncode == code
    assert word in err
    gated.oj("job", "wait", job_id, code=code)


def test_a_wait_gives_up_after_its_timeout(gated: World) -> None:
    """C52."""
    job_id = gated.start("build", "slow", "0")
    waited = gated.oj("job", "wait", job_id, "--timeout", "1s", code=2)
    assert "timed out" in waited.err
    assert gated.status(job_id) == "running"
    gated.oj("cancel", job_id)


@pytest.mark.parametrize("timeout", ["0", "-1s", "soon", "1.5h", ""])
def test_a_timeout_that_is_no_duration_is_refused(gated: World, timeout: str) -> None:
    """Spec cli 2.7."""
    refused = gated.oj("job", "wait", "x", f"--timeout={timeout}", code=None)
    assert refused.code in (1, 2)
    assert "duration" in refused.err.lower()


@pytest.mark.parametrize("is_deaf", [False, True])
def test_control_c_ends_the_wait_also_while_a_request_is_unanswered(
    gated: World, is_deaf: bool
) -> None:
    """A035, A036, C52: with a daemon that is stopped, the request that is in flight cannot be answered."""
    job_id = gated.start("build", "slow", "0")
    child = gated.spawn("job", "wait", job_id)
    read_until(child, "gate started")
    daemon = gated.daemon_pid
    if is_deaf:
        gated.signal_daemon(signal.SIGSTOP)
    try:
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
    finally:
        if is_deaf:
            gated.signal_daemon(signal.SIGCONT)
    assert gated.daemon_pid == daemon
    assert child.stderr is not None
    assert "Traceback" not in child.stderr.read()
    gated.oj("cancel", job_id)


def test_a_step_called_done_ends_the_job_only_when_its_command_has_ended(shop: World) -> None:
    """A158."""
    (shop.project / "go").unlink(missing_ok=True)
    shop.job(f"""
        step "start" {{
          run     = "true"
          on_done = {{ step = "done" }}
        }}
        step "done" {{
          run     = "{GATE}; echo finished"
          on_done = {{ step = "failed" }}
        }}
        step "failed" {{ run = "echo not really" }}
    """)
    job_id = shop.start("build")
    child = shop.spawn("job", "wait", job_id)
    read_until(child, "done started")
    assert shop.status(job_id) == "running"
    assert child.poll() is None
    (shop.project / "go").touch()
    child.communicate(timeout=60)
    assert child.returncode == 0
    assert "[done] finished\n" in shop.log(job_id)


@pytest.mark.parametrize("how", ["kill", "stop", "restart"])
def test_a_wait_goes_on_when_the_daemon_comes_back(gated: World, how: str) -> None:
    """C55."""
    job_id = gated.start("build", "slow", "0")
    child = gated.spawn("job", "wait", job_id)
    seen = read_until(child, "gate started")
    if how == "kill":
        gated.kill_daemon()
    else:
        gated.oj("daemon", how)
    gated.oj("daemon", "start")
    assert child.poll() is None
    (gated.project / "go").touch()
    assert child.stdout is not None
    seen += child.stdout.read()
    assert child.wait(60) == 0
    assert seen.count("gate started") == 1
    assert seen.count("gate completed") == 1


@pytest.mark.parametrize("words", [(), ("--wait",)])
def test_control_c_of_a_run_leaves_the_job_alone(gated: World, words: tuple[str, ...]) -> None:
    """C36: exit 0, or 130 where the wait was asked for."""
    child = gated.spawn("run", *words, "build", "slow", "0")
    read_until(child, "started")
    job_id = gated.oj("job", "list", "-n", "1", "-o", "json").json[0]["id"]
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == (130 if words else 0)
    assert "Traceback" not in err
    (gated.project / "go").touch()
    assert gated.finish(job_id)["status"] == "completed"


def test_what_run_prints_as_next_commands_works_as_it_stands(gated: World) -> None:
    """A008, C35, Y2."""
    shown = gated.oj("run", "--detach", "quick", "q", "0").out.splitlines()
    assert shown[:2] == ["Project: shop", "Command: quick"]
    assert shown[2].startswith("Started q (job: ")
    hints = [line.partition("oj ")[2].split() for line in shown[3:]]
    assert [words[:-1] for words in hints] == [
        ["job", "show"],
        ["job", "wait"],
        ["logs", "-f"],
        ["suspend"],
        ["cancel"],
    ]
    gated.finish(hints[0][-1])
    for words in hints:
        gated.oj(*words)


def test_a_wait_without_a_daemon_says_so_at_once(world: World) -> None:
    """C11: a query starts nothing."""
    assert "Daemon not running" in world.oj("job", "wait", "x", code=1).err
    assert not (world.state / "daemon.sock").exists()
