"""`oj logs`: the last lines of a job, and what is added, each once."""

from __future__ import annotations

import re
import signal

import pytest

from tests.support.waiting import until
from tests.support.world import World

COUNT = "for i in $(seq 1 20); do echo line $i; done"


@pytest.fixture
def calm(shop: World) -> World:
    """The user of the file, without the file that jobs wait for."""
    (shop.project / "go").unlink(missing_ok=True)
    return shop


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"line (\d+)$", text, re.MULTILINE)]


def test_the_last_lines_are_shown_as_many_as_asked_for(calm: World) -> None:
    """C84."""
    calm.job(f'step "only" {{ run = "{COUNT}" }}')
    job_id = calm.run("build")["id"]
    for verb in (("logs",), ("job", "logs")):
        assert calm.oj(*verb, job_id, "-n", "3").out.count("\n") == 3
    whole = calm.oj("logs", job_id, "-n", "0").out
    assert numbers(whole) == list(range(1, 21))
    assert calm.oj("logs", job_id, "-n", "3").out.splitlines() == whole.splitlines()[-3:]
    told = calm.oj("logs", job_id, "-n", "0", "-o", "json").json
    assert told["lines"] == whole.splitlines()
    assert told["log_path"] == calm.show(job_id)["log_path"]


def test_every_line_has_time_and_step_and_stderr_is_there_too(calm: World) -> None:
    """Spec cli 7, issue 2.5."""
    calm.job('step "only" { run = "echo out; echo err >&2; printf unfinished" }')
    lines = calm.log(calm.run("build")["id"]).splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \[[\w#-]+\] ", line) for line in lines)
    texts = [line.split(" ", 2)[2] for line in lines]
    for text in ("step started", "out", "err", "unfinished", "shell completed (exit 0)"):
        assert text in texts


def test_a_step_can_be_picked_out(calm: World) -> None:
    """C84, spec 4.2."""
    calm.job("""
        step "one" {
          run     = "echo from one"
          on_done = { step = "two" }
        }
        step "two" { run = "echo from two" }
    """)
    job_id = calm.run("build")["id"]
    shown = calm.oj("logs", job_id, "-s", "two").out
    assert "[two] from two\n" in shown
    assert "from one" not in shown
    assert "one, two" in calm.oj("logs", job_id, "-s", "three", code=1).err


def test_a_log_of_many_megabytes_is_shown_whole_and_by_step(calm: World) -> None:
    calm.job("""
        step "one" {
          run     = "seq -f %.0f:é 400000"
          on_done = { step = "two" }
        }
        step "two" { run = "echo from two" }
    """)
    job_id = calm.run("build")["id"]
    numbers = [f"{number}:é" for number in range(1, 400_001)]
    whole = calm.oj("logs", job_id, "-n", "0").out.splitlines()
    assert [line[27:] for line in whole if "[one] " in line and ":é" in line] == numbers
    assert whole[-1].endswith("job completed")
    assert calm.oj("logs", job_id, "-s", "two").out.count("from two\n") == 1
    one = calm.oj("logs", job_id, "-s", "one", "-n", "3").out.splitlines()
    assert [line[21:] for line in one] == [
        "[one] 399999:é",
        "[one] 400000:é",
        "[one] shell completed (exit 0)",
    ]
    every = calm.oj("logs", job_id, "-s", "one", "-n", "0", "-o", "json").json["lines"]
    assert [line[27:] for line in every if ":é" in line] == numbers


def test_a_step_that_has_said_nothing_yet_has_an_empty_log_which_is_no_error(calm: World) -> None:
    """C84."""
    calm.job("""
        step "one" {
          run     = "sleep 300"
          on_done = { step = "two" }
        }
        step "two" { run = "true" }
    """)
    job_id = calm.start("build")
    nothing = calm.oj("logs", job_id, "-s", "two")
    assert nothing.out == ""
    assert "No log entries found" in nothing.err
    assert calm.oj("logs", job_id, "-s", "two", "-o", "json").json["lines"] == []
    calm.oj("cancel", job_id)


def test_an_unknown_job_is_an_error(calm: World) -> None:
    """C84 as fixed in spec cli 7."""
    for words in (("logs", "nosuch"), ("logs", "-f", "nosuch"), ("job", "logs", "nosuch")):
        assert "nosuch" in calm.oj(*words, code=1).err


def test_following_shows_every_line_once_and_ends_with_the_job(calm: World) -> None:
    """C85, C86, Y10."""
    calm.job("""
        step "one" {
          run     = "for i in $(seq 1 200); do echo line $i; done; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"
          on_done = { step = "two" }
        }
        step "two" { run = "for i in $(seq 201 400); do echo line $i; done" }
    """)
    job_id = calm.start("build")
    child = calm.spawn("logs", "-f", "-n", "0", job_id)
    assert child.stdout is not None
    seen = ""
    while "line 100\n" not in seen:
        seen += child.stdout.readline()
    (calm.project / "go").touch()
    seen += child.stdout.read()
    assert child.wait(60) == 0
    assert numbers(seen) == list(range(1, 401))


def test_following_a_job_that_has_ended_shows_its_log_and_ends(calm: World) -> None:
    """C85."""
    calm.job(f'step "only" {{ run = "{COUNT}; exit 1" }}')
    job_id = calm.run("build", code=1)["id"]
    assert numbers(calm.oj("logs", "-f", job_id, "-n", "0").out) == list(range(1, 21))


def test_control_c_ends_following_and_nothing_else(calm: World) -> None:
    """C85."""
    calm.job('step "only" { run = "echo up; sleep 300" }')
    job_id = calm.start("build")
    child = calm.spawn("logs", "-f", job_id)
    assert child.stdout is not None
    while "up\n" not in child.stdout.readline():
        pass
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0
    assert calm.status(job_id) == "running"
    calm.oj("cancel", job_id)


def test_following_survives_a_log_that_was_cut_short(calm: World) -> None:
    """C85, Y10."""
    calm.job("""
        step "only" { run = "echo before; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done; echo after" }
    """)
    job_id = calm.start("build")
    child = calm.spawn("logs", "-f", job_id)
    assert child.stdout is not None
    seen = ""
    while "before\n" not in seen:
        seen += child.stdout.readline()
    log = calm.state / "logs" / "job" / f"{job_id}.log"
    until(log.exists, 10, "the log is where `show` says")
    log.write_bytes(b"")
    (calm.project / "go").touch()
    seen += child.stdout.read()
    assert child.wait(60) == 0
    assert "after\n" in seen


def test_following_goes_on_when_the_daemon_comes_back(calm: World) -> None:
    """C85, C55."""
    calm.job("""
        step "only" {
          run = "echo line 1; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done; for i in $(seq 2 50); do echo line $i; done"
        }
    """)
    job_id = calm.start("build")
    child = calm.spawn("logs", "-f", "-n", "0", job_id)
    assert child.stdout is not None
    seen = ""
    while "line 1\n" not in seen:
        seen += child.stdout.readline()
    calm.kill_daemon()
    (calm.project / "go").touch()
    calm.oj("daemon", "start")
    seen += child.stdout.read()
    assert child.wait(60) == 0
    assert numbers(seen) == list(range(1, 51))


def test_a_flood_of_output_is_capped_and_the_job_is_not_harmed(calm: World) -> None:
    """Issue 2.5: size-capped."""
    calm.job(
        'step "only" { run = "head -c 30000000 /dev/zero | tr \'\\\\0\' x | fold -w 1000; echo the end" }'
    )
    job = calm.run("build")
    assert job["status"] == "completed"
    size = (calm.state / "logs" / "job" / f"{job['id']}.log").stat().st_size
    assert size < 25_000_000
    assert "shell completed" in calm.oj("logs", job["id"]).out


def test_bytes_that_are_no_text_arrive_as_something_and_break_nothing(calm: World) -> None:
    """Issue 2.5."""
    calm.job(r"""step "only" { run = "printf 'a\\377b\\000c\\rd\\033[31me\\n'; echo end" }""")
    job_id = calm.run("build")["id"]
    shown = calm.oj("logs", job_id).out
    assert "[only] end\n" in shown
    assert "a" in shown
    assert calm.oj("logs", job_id, "-o", "json").json["lines"]
