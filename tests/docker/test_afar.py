"""A daemon in a container that is driven from outside, over TLS."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import StartDaemon
from tests.docker.engine import Container, has_bridge
from tests.support.far import TOKEN
from tests.support.probes import free_port
from tests.support.waiting import until
from tests.support.world import World, ran

PORT = 7777
STOP_SECONDS = 90
# Each job here has a folder of its own (`source`): the caller's is on another machine.
GATE = "until [ -e $HOME/go ]; do sleep 0.05; done"
"""At home is the volume, which is all that outlives the processes of a container."""


class Ship:
    """The daemon in its container, and a user outside who knows address, token and fingerprint."""

    def __init__(self, world: World, contain: StartDaemon, **environ: str) -> None:
        self.world = world
        port = free_port()
        told = {"OJ_AUTH_TOKEN": TOKEN, "OJ_TCP_PORT": str(PORT), "OJ_TCP_BIND": "0.0.0.0"}
        network = f"--publish=127.0.0.1:{port}:{PORT}"
        if not has_bridge():
            network = "--network=host"
            told |= {"OJ_TCP_PORT": str(port), "OJ_TCP_BIND": "127.0.0.1"}
        self.container: Container = contain(network, **told, **environ)
        self.container.until_ready()
        info = self.container.oj("daemon", "status", "-o", "json").json
        world.environ |= {
            "OJ_DAEMON_URL": f"tls://127.0.0.1:{port}",
            "OJ_AUTH_TOKEN": TOKEN,
            "OJ_TLS_FINGERPRINT": info["tls_fingerprint"],
        }

    def until_written(self, word: str) -> None:
        """Wait until a step has written that."""
        until(lambda: word in self.written(), 60, lambda: f"{word} in {self.written()}", pause=0.2)

    def written(self) -> list[str]:
        """What steps have written, in order."""
        return self.container.exec("cat", "ran", code=None).out.split()

    def go(self) -> None:
        """Let the step that waits go on."""
        self.container.exec("touch", "go")


@pytest.fixture
def sail(contain: StartDaemon) -> Iterator[Callable[..., Ship]]:
    """Starts a daemon in a container and a user outside."""
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    world = World(folder)
    try:
        yield lambda **environ: Ship(world, contain, **environ)
    finally:
        world.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_job_is_run_and_followed_from_outside(sail: Callable[..., Ship]) -> None:
    ship = sail()
    ship.world.job("""
        source = "folder"
        step "who" {
          run     = "echo uid $(id -u)"
          on_done = { step = "end" }
        }
        step "end" { run = "echo the end" }
    """)
    shown = ship.world.oj("run", "build")
    assert "[who] uid 65532\n" in shown.out
    assert "[end] the end\n" in shown.out
    assert not ship.world.state.exists()  # no daemon was started here


def test_a_job_stopped_by_sigterm_in_the_middle_of_a_step_is_finished_after_the_next_start(
    sail: Callable[..., Ship],
) -> None:
    """The step is interrupted, because no process outlives its container; so it is tried again."""
    ship = sail(OJ_DRAIN_TIMEOUT_MS="100")
    ship.world.job(f"""
        source = "folder"
        step "first"  {{
          run     = "echo first >>$HOME/ran"
          on_done = {{ step = "second" }}
        }}
        step "second" {{
          run     = "echo second >>$HOME/ran; {GATE}; echo passed"
          retry   = {{ attempts = 1, backoff = "10ms" }}
          on_done = {{ step = "third" }}
        }}
        step "third"  {{ run = "echo third >>$HOME/ran" }}
    """)
    job_id = ship.world.start("build")
    ship.until_written("second")
    assert ship.container.stop(STOP_SECONDS) == 0
    refused = ship.world.oj("job", "show", job_id, code=1)
    assert "Traceback" not in refused.err
    ship.container.start()
    ship.container.until_ready()
    ship.go()
    ended = ship.world.finish(job_id)
    assert ended["status"] == "completed", ended
    assert ran(ended) == ["first completed", "second failed", "second completed", "third completed"]
    assert ship.written() == ["first", "second", "second", "third"]
    log = ship.world.log(job_id)
    assert "interrupted" in log
    assert log.count("[second#2] passed\n") == 1, log


def test_a_step_that_ends_within_the_grace_period_is_not_run_again(
    sail: Callable[..., Ship],
) -> None:
    """SIGTERM while it runs; the daemon waits for it, and begins the next step after the next start only."""
    ship = sail(OJ_DRAIN_TIMEOUT_MS=str(1000 * STOP_SECONDS))
    ship.world.job(f"""
        source = "folder"
        step "first"  {{
          run     = "echo first >>$HOME/ran; {GATE}"
          on_done = {{ step = "second" }}
        }}
        step "second" {{ run = "echo second >>$HOME/ran" }}
    """)
    job_id = ship.world.start("build")
    ship.until_written("first")
    stopping = subprocess.Popen(["docker", "stop", "-t", str(STOP_SECONDS), ship.container.name])
    try:
        until(lambda: "draining" in ship.container.log(), 60, ship.container.log, pause=0.2)
        late = ship.world.oj("run", "--detach", "build", code=1)
        assert "daemon is draining" in late.err
        ship.go()
        assert stopping.wait(STOP_SECONDS) == 0
    finally:
        stopping.kill()
        stopping.wait()
    assert ship.container.inspect()["State"]["ExitCode"] == 0
    ship.container.start()
    ship.container.until_ready()
    ended = ship.world.finish(job_id)
    assert ran(ended) == ["first completed", "second completed"]
    assert ship.written() == ["first", "second"]
    assert len(ship.world.oj("job", "list", "-o", "json").json) == 1


def test_somebody_who_waits_outside_does_not_notice_the_restart(sail: Callable[..., Ship]) -> None:
    ship = sail(OJ_DRAIN_TIMEOUT_MS="100")
    ship.world.job(f"""
        source = "folder"
        step "only" {{
          run   = "echo only >>$HOME/ran; {GATE}"
          retry = {{ attempts = 1, backoff = "10ms" }}
        }}
    """)
    job_id = ship.world.start("build")
    ship.until_written("only")
    waiting = ship.world.spawn("job", "wait", job_id)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "only started\n"  # it has reached the daemon, that is
    assert ship.container.stop(STOP_SECONDS) == 0
    ship.container.start()
    ship.container.until_ready()
    ship.go()
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, "Traceback" in err) == (0, False), (out, err)
