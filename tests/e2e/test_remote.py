"""The whole of `oj` against a daemon that is reached over TLS (issue 4.2, roadmap 14)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.agents import equip, runbook
from tests.support.far import TOKEN, Far
from tests.support.waiting import until
from tests.support.world import ROOT, World, ran

SECONDS = 60.0


@pytest.fixture
def far(world: World) -> Iterator[Far]:
    equip(world)
    made = Far(world)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def _shared_far(shared_world_without_daemon: World) -> Iterator[Far]:
    made = Far(equip(shared_world_without_daemon))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def shop(_shared_far: Far) -> Far:
    """One daemon for the tests that leave it as it is."""
    for path in (_shared_far.world.project / ".oj" / "runbooks").iterdir():
        path.unlink()
    return _shared_far


def waiting(name: str, far: Far) -> str:
    """A script that says so, and ends once the file is there."""
    file = far.world.folder / name
    return f"echo waiting for {name}; until test -e {file}; do sleep 0.05; done; echo {name} came"


def test_a_job_is_run_and_followed(shop: Far) -> None:
    shop.world.job('step "a" { run = "echo from afar" }')
    done = shop.world.oj("run", "build")
    assert "from afar" in done.out
    assert "completed build" in done.out
    assert done.err == ""
    (job,) = shop.world.oj("job", "list", "-o", "json").json
    assert ran(shop.world.show(job["id"])) == ["a completed"]


def test_every_command_that_asks_answers(shop: Far) -> None:
    shop.world.job('step "a" { run = "echo out" }')
    job = shop.world.start("build")
    shop.world.finish(job)
    for words in (
        ("status",), ("job", "list"), ("job", "show", job), ("job", "logs", job), ("logs", job), ("show", job),
        ("job", "wait", job), ("agent", "list"), ("decision", "list"), ("workspace", "list"), ("project", "list"),
        ("daemon", "status"), ("daemon", "-v"), ("job", "prune", "--all", "--dry-run"), ("runbook", "list"),
    ):  # fmt: skip
        done = shop.world.oj(*words)
        assert "Error" not in done.err, done
        assert shop.world.oj(*words, "-o", "json").json is not None


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OJ_AUTH_TOKEN": ""}, "a token is needed"),
        ({"OJ_AUTH_TOKEN": "guess"}, "the token is not known here"),
        ({"OJ_TLS_FINGERPRINT": "ab" * 32}, "another daemon, or somebody in between"),
        ({"OJ_TLS_FINGERPRINT": ""}, "is not trusted"),
        ({"OJ_DAEMON_URL": "tls://127.0.0.1:1"}, "Connection refused"),
    ],
)
@pytest.mark.parametrize("words", [("run", "build"), ("status",), ("job", "list", "-o", "json")])
def test_what_is_wrong_is_told_and_no_daemon_is_started_here(
    shop: Far, environ: dict[str, str], said: str, words: tuple[str, ...]
) -> None:
    shop.world.job('step "a" { run = "true" }')
    refused = shop.world.oj(*words, code=1, environ=environ)
    assert said in refused.err
    assert "Hint: " in refused.err
    assert "Traceback" not in refused.err
    assert not (shop.world.folder / "mine").exists()
    if "json" in words:
        assert said in refused.json["error"]["message"]


def test_the_token_may_stand_in_a_file_and_shows_nowhere(shop: Far) -> None:
    file = shop.world.folder / "token"
    file.write_text(f"{TOKEN}\n")
    config = shop.world.folder / "home" / ".config" / "oj" / "token"
    config.parent.mkdir(parents=True, exist_ok=True)
    shop.world.oj("status", environ={"OJ_AUTH_TOKEN": "", "OJ_AUTH_TOKEN_FILE": str(file)})
    config.write_text(TOKEN)
    shop.world.oj("status", environ={"OJ_AUTH_TOKEN": ""})
    told = shop.world.oj("daemon", "status", "-o", "json").out
    log = (shop.world.state / "daemon.log").read_text()
    assert TOKEN not in told
    assert TOKEN not in log
    assert shop.info["tls_fingerprint"] in told


def test_a_ca_is_as_good_as_a_fingerprint(shop: Far) -> None:
    ca = shop.world.state / "tls" / "ca.pem"
    shop.world.oj("status", environ={"OJ_TLS_FINGERPRINT": "", "OJ_TLS_CA": str(ca)})


def test_a_log_is_followed_over_a_restart_without_gap_or_repeat(far: Far) -> None:
    """Spec cli 7: byte offsets."""
    far.world.job(f"""
        step "a" {{
          run     = "for i in 1 2 3; do echo line $i; done; {waiting("one", far)}"
          on_done = {{ step = "b" }}
        }}
        step "b" {{ run = "for i in 4 5 6; do echo line $i; done; {waiting("two", far)}" }}
    """)
    job = far.world.start("build")
    child = far.world.spawn("logs", "-f", job)
    waiter = far.world.spawn("job", "wait", job)
    assert child.stdout is not None
    assert waiter.stdout is not None
    assert waiter.stdout.readline() == "a started\n"
    lines = [child.stdout.readline()]
    while "waiting for one" not in lines[-1]:
        lines.append(child.stdout.readline())
    far.restart()
    (far.world.folder / "one").touch()
    while "waiting for two" not in lines[-1]:
        lines.append(child.stdout.readline())
    far.restart()
    (far.world.folder / "two").touch()
    lines += child.stdout.readlines()
    assert child.wait(SECONDS) == 0
    assert waiter.wait(SECONDS) == 0
    texts = [line.rstrip("\n").partition("] ")[2] for line in lines]
    for said in [*(f"line {n}" for n in range(1, 7)), "one came", "two came", "job completed"]:
        assert texts.count(said) == 1, lines


def test_jobs_are_cancelled_suspended_and_resumed(shop: Far) -> None:
    shop.world.job(f"""step "a" {{ run = "{waiting("never", shop)}" }}""")
    job = shop.world.start("build")
    shop.world.until_running(job, "a")
    shop.world.oj("suspend", job)
    shop.world.until_status(job, "suspended")
    shop.world.oj("resume", job)
    shop.world.until_status(job, "running")
    shop.world.oj("cancel", job)
    shop.world.until_status(job, "cancelled")


def with_agent(far: Far, *deeds: dict[str, object]) -> str:
    """Start a job whose agent does that, and wait until the agent is there; the agent's id."""
    plan = far.world.folder / "plan.json"
    plan.write_text(json.dumps({"turns": [{"do": list(deeds)}], "otherwise": [{"say": "Done?"}]}))
    runbook(
        far.world, f'env = {{ AGENT_SCENARIO = "{plan}" }}\non_idle = {{ action = "escalate" }}'
    )
    far.world.start("build")

    def found() -> list[dict[str, str]]:
        every = far.world.oj("agent", "list", "-o", "json").json
        return [each for each in every if each["status"] in ("running", "waiting")]

    until(found, SECONDS, lambda: far.world.oj("status").out)
    return found()[0]["id"]


def test_an_agent_is_looked_at_entered_and_spoken_to(far: Far) -> None:
    """peek, attach with a restart in the middle, send, decision review."""
    agent = with_agent(far, {"say": "Hello from afar."}, {"await": str(far.world.folder / "go")})
    until(lambda: "Hello from afar." in far.world.oj("peek", agent).out, SECONDS, "nothing to see")
    child = pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", "attach", agent],
        env={**far.world.environ, "TERM": "xterm-256color"},
        cwd=str(far.world.project),
        dimensions=(30, 100),
        timeout=SECONDS,
    )
    child.expect_exact(b"Attached to agent")
    child.expect_exact(b"Hello from afar.")
    far.restart()
    child.expect_exact(b"looking for it again")
    child.expect_exact(b"Hello from afar.")
    child.send(b"\x1d")
    child.expect_exact(b"Detached from agent")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    (far.world.folder / "go").touch()

    def decisions() -> list[dict[str, str]]:
        return list(far.world.oj("decision", "list", "-o", "json").json)

    until(decisions, SECONDS, lambda: far.world.oj("status").out)
    review = pexpect.spawn(
        sys.executable,
        ["-m", "oj_cli", "decision", "review"],
        env={**far.world.environ, "TERM": "xterm-256color"},
        cwd=str(far.world.project),
        timeout=SECONDS,
    )
    review.expect_exact(b"Done")
    review.sendline(b"2")
    review.expect(pexpect.EOF)
    review.close()
    (job,) = far.world.oj("job", "list", "-o", "json").json
    assert ran(far.world.finish(job["id"])) == ["code completed", "commit completed"]


def test_plain_text_has_to_be_asked_for_by_name(world: World) -> None:
    far = Far(world)
    far.close()
    far.server["OJ_TLS"] = "off"
    far.start()
    try:
        world.oj("status", code=1)
        plain = {"OJ_DAEMON_URL": f"tcp://127.0.0.1:{far.port}", "OJ_TLS_FINGERPRINT": ""}
        told = world.oj("daemon", "status", environ=plain)
        assert "plain text" in told.err
        assert "whoever listens in" in (world.state / "daemon.log").read_text()
    finally:
        far.close()


def test_a_port_without_a_token_or_that_is_taken_ends_the_daemon_with_the_reason(
    world: World,
) -> None:
    refused = world.oj("daemon", "start", code=1, environ={"OJ_TCP_PORT": "7777"})
    assert "without a token anybody could connect" in refused.err
    far = Far(world)
    try:
        other = {**far.here, "OJ_STATE_DIR": str(world.folder / "other")}
        taken = world.oj("daemon", "start", code=1, environ=other)
        assert f"listen on 127.0.0.1:{far.port}: Address already in use" in taken.err
    finally:
        far.close()


def test_a_daemon_far_away_is_stopped_over_the_wire_but_not_started(far: Far) -> None:
    for verb in ("start", "restart"):
        refused = far.world.oj("daemon", verb, code=1)
        assert f"cannot {verb} tls://127.0.0.1:{far.port}" in refused.err
    assert far.world.oj("daemon", "stop").out == "Daemon stopped\n"
    until(lambda: not (far.world.state / "daemon.pid").exists(), 30, "the daemon is gone")
    gone = far.world.oj("daemon", "status", code=1)
    assert "Connection refused" in gone.err
    far.start()


def test_ctrl_c_detaches_and_the_job_goes_on(far: Far) -> None:
    far.world.job(f"""step "a" {{ run = "{waiting("go", far)}" }}""")
    child = far.world.spawn("run", "build")
    assert child.stdout is not None
    while "waiting for go" not in child.stdout.readline():
        pass
    child.send_signal(signal.SIGINT)
    assert "Detached; the job goes on." in child.communicate(timeout=SECONDS)[1]
    (far.world.folder / "go").touch()
    (job,) = far.world.oj("job", "list", "-o", "json").json
    assert far.world.finish(job["id"])["status"] == "completed"


def test_nothing_heavy_is_loaded_for_it(shop: Far) -> None:
    """system.md: `oj status` loads neither asyncio nor what the daemon needs, over TLS either."""
    code = (
        "import sys; from oj_cli.main import main\n"
        "try: main(['status'])\n"
        "except SystemExit: pass\n"
        "bad = {'asyncio', 'aiohttp', 'kubernetes', 'textual', 'cryptography'} & set(sys.modules)\n"
        "print('LOADED', sorted(bad))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=shop.world.environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "LOADED []" in done.stdout
    assert Path(shop.world.environ["OJ_STATE_DIR"]).name == "mine"
