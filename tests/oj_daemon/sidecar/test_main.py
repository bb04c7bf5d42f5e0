"""The sidecar as a process: how it starts, whom it tells what, and how it ends with everything it started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oj_daemon.sidecar.conftest import SHELL, write
from tests.support.sidecar import PROGRAM, ROOT, SECONDS, sidecar
from tests.support.waiting import until

pytestmark = pytest.mark.e2e  # a real process, and more than one


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", **environ}
    return subprocess.run(
        [*PROGRAM, *words], env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_a_command_line_without_an_address_is_refused_before_anything_happens() -> None:
    done = run("--", "bash")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: neither --socket nor --port")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--agent-config", "{tmp}/none.json"], "read --agent-config"),
        (["--agent-config", "{tmp}/bad.json"], "colour"),
        (["--agent-config", "{tmp}/regex.json"], "patterns"),
        (["--cwd", "{tmp}/none"], "work in"),
        (["--socket", "{tmp}/none/s"], "listen on"),
    ],
)
def test_what_cannot_work_ends_it_with_1_and_one_sentence(
    words: list[str], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / "bad.json", '{"colour": "red"}')
    write(tmp_path / "regex.json", '{"screen": {"idle": 7}}')
    given = [word.format(tmp=tmp_path) for word in words]
    done = run("--session-dir", str(tmp_path / "d"), "--socket", str(tmp_path / "s"), *given, "--", "bash")  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    last = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(last) == 1
    assert reason in last[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_program_that_is_not_there_ends_it_before_the_api_is_reachable(tmp_path: Path) -> None:
    done = run("--session-dir", str(tmp_path / "d"), "--socket", str(tmp_path / "s"), "--", "no-such-program")  # fmt: skip
    assert done.returncode == 1
    assert "error: start no-such-program: no such program on the PATH" in done.stderr
    assert not (tmp_path / "s").exists()


def test_two_sidecars_do_not_share_a_socket_but_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    with sidecar(SHELL, "--socket", path, socket_path=None, is_ready=False) as first:
        first.socket = path
        first.ready()
        second = run("--session-dir", str(tmp_path / "d"), "--socket", path, "--", "bash")
        assert second.returncode == 1
        assert "another sidecar answers there" in second.stderr
        assert first.get("health").status == 200


def test_paths_are_the_callers_although_the_agent_works_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    options = ("--socket", "s", "--session-dir", "d", "--cwd", str(tmp_path / "work"))
    with sidecar(SHELL, *options, socket_path=None, is_ready=False, cwd=tmp_path) as made:
        made.socket = str(tmp_path / "s")
        made.ready()
        made.type(f"[ $OJ_SIDECAR_SOCKET = {made.socket} ] && echo same-$PWD")
        made.shows(f"\nsame-{tmp_path}/work")
    assert (tmp_path / "d").is_dir()
    assert list((tmp_path / "work").iterdir()) == []


def test_the_agent_is_told_the_real_port_and_reaches_its_sidecar_there() -> None:
    ask = "import os,urllib.request as u; print(u.urlopen(os.environ['OJ_SIDECAR_URL']+'/api/v1/health').status)"
    with sidecar(
        (sys.executable, "-c", f"{ask}; print(os.environ['OJ_SIDECAR_URL']); input()"),
        "--port", "0", is_ready=False,
    ) as made:  # fmt: skip
        made.ready()
        made.shows("200")
        url = next(line for line in made.screen().split("\n") if line.startswith("http://"))
        assert int(url.rsplit(":", 1)[1]) > 1024


def test_the_agent_reaches_its_sidecar_with_nothing_but_its_environment() -> None:
    command = f"{sys.executable} -m oj_daemon.sidecar.main send '{{}}'; echo sent=$?; read"
    with sidecar(("bash", "-c", command), env={"OJ_SIDECAR_TOKEN": "t"}) as made:
        made.token = "t"
        made.shows("sent=0")


def test_sending_outside_of_an_agent_or_nonsense_says_so() -> None:
    outside = run("send", "{}")
    assert (outside.returncode, outside.stderr[:6]) == (2, "error:")
    assert run("send", "{", OJ_SIDECAR_SOCKET="/nowhere").returncode == 2
    assert run("send", "{}", OJ_SIDECAR_SOCKET="/nowhere").returncode == 1


def test_the_agent_has_a_terminal_of_its_own_and_a_clean_environment(tmp_path: Path) -> None:
    environ = {
        "OJ_SIDECAR_TOKEN": "secret",
        "OJ_SIDECAR_GROOM": "auto",
        "PS1": "$ ",
        "COLUMNS": "7",
    }
    with sidecar(SHELL, "--term", "vt100", "--cwd", str(tmp_path), env=environ) as made:
        made.token = "secret"
        made.type("clear; echo $TERM-$PWD-${COLUMNS}; tty; stty size </dev/tty; env | grep -o '^OJ_SIDECAR[A-Z_]*'")  # fmt: skip
        made.shows("OJ_SIDECAR_SOCKET")
        assert f"vt100-{tmp_path}-200" in made.screen()
        assert "/dev/pts/" in made.screen()
        assert "\n50 200\n" in made.screen()
        names = {line for line in made.screen().split("\n") if line.startswith("OJ_SIDECAR")}
        assert names == {"OJ_SIDECAR", "OJ_SIDECAR_SOCKET", "OJ_SIDECAR_HOOK_TOKEN"}


def test_pristine_agents_are_told_nothing() -> None:
    with sidecar(SHELL, "--groom", "pristine", env={"PS1": "$ "}) as made:
        made.type("clear; echo n-$(env | grep -c OJ_SIDECAR)-")
        made.shows("n-0-")


# -- the end -------------------------------------------------------------------------------------------------------


def test_when_the_agent_ends_the_sidecar_stays_and_says_how() -> None:
    with sidecar(("bash", "-c", "exit 7")) as made:
        view = made.becomes("exited")
        assert view["state"] == "exited"
        health = made.get("health").body
        assert (health["status"], health["agent_state"]) == ("running", "exited")
        assert (health["pid"], health["exit"]) == (None, {"code": 7, "signal": None})
        assert made.get("status").body["exit_code"] == 7
        for path, body in [("input", {"text": "x"}), ("signal", {"signal": "INT"}),
                           ("agent/nudge", {"message": "x"}), ("agent/respond", {})]:  # fmt: skip
            reply = made.post(path, body)
            assert (reply.status, reply.body["error"]["code"]) == (410, "EXITED"), path
        assert made.post("shutdown").body == {"accepted": True}
        assert made.wait() == 7


def test_the_last_output_is_there_although_the_agent_is_gone() -> None:
    with sidecar(("bash", "-c", "seq 5000; printf THE-END; kill -SEGV $$")) as made:
        made.becomes("exited")
        assert made.screen().rstrip().endswith("THE-END")
        assert made.get("health").body["exit"] == {"code": None, "signal": 11}
        made.post("shutdown")
        assert made.wait() == 1


def test_it_may_end_with_its_agent() -> None:
    with sidecar(("bash", "-c", "sleep 0.2; exit 9"), "--exit-with-child", is_ready=False) as made:
        assert made.wait() == 9
        assert not Path(made.socket or "").exists()


def test_a_grandchild_that_holds_the_terminal_open_does_not_hide_the_end_and_is_ended(
    tmp_path: Path,
) -> None:
    script = f"(trap '' HUP; echo $BASHPID > {tmp_path}/pid; sleep 1000) & until [ -s {tmp_path}/pid ]; do :; done; exit 3"
    with sidecar(("bash", "-c", script), env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "100"}) as made:
        made.becomes("exited")
        assert made.get("health").body["exit"] == {"code": 3, "signal": None}
        pid = int((tmp_path / "pid").read_text())
        until(lambda: not Path(f"/proc/{pid}").exists(), SECONDS, "the grandchild to end")


HYDRA = """trap '' HUP TERM INT
(setsid bash -c 'trap "" HUP TERM; (while :; do sleep 1; done) & while :; do sleep 1; done' &)
bash -c 'trap "" HUP TERM; while :; do sleep 1; done' &
echo UP
while :; do sleep 1; done"""


@pytest.mark.parametrize("how", ["api", "signal"])
def test_an_agent_that_ignores_everything_is_killed_with_all_it_started(how: str) -> None:
    with sidecar(("bash", "-c", HYDRA), env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "100"}) as made:
        made.shows("UP")
        until(lambda: len(made.family()) > 4, SECONDS, "all of them to be up")
        if how == "api":
            made.post("shutdown")
        else:
            made.term()
        assert made.wait() == 1
        assert made.family() == []
        assert not Path(made.socket or "").exists()


def test_a_polite_agent_is_hung_up_and_its_exit_code_is_ours() -> None:
    with sidecar(("bash", "-c", "trap 'exit 42' HUP; echo UP; while :; do sleep 0.01; done")) as made:  # fmt: skip
        made.shows("UP")
        made.post("shutdown")
        assert made.wait() == 42


def test_while_it_waits_for_a_busy_agent_the_api_answers_and_calm_ends_the_wait(
    config: str,
) -> None:
    script = r"""trap 'echo HANGUP; exit 6' HUP; stty -echo -icanon
    echo WORK; n=0
    while :; do IFS= read -rsn1 -t 1 key; [ "$key" = $'\e' ] || continue
    n=$((n+1)); [ $n = 2 ] && { clear; printf '$ '; }; done"""
    environ = {"OJ_SIDECAR_DRAIN_TIMEOUT_MS": "60000", "OJ_SIDECAR_DRAIN_ESCAPE_MS": "300"}
    with sidecar(("bash", "-c", script), "--agent-config", config, env=environ) as made:
        made.becomes("working")
        made.post("shutdown")
        assert made.get("health").body["status"] == "stopping"
        assert made.post("exec", {"id": "late", "script": "true"}).status == 503
        assert made.wait() == 6


def test_a_second_signal_ends_it_at_once() -> None:
    environ = {"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "60000"}
    with sidecar(("bash", "-c", "trap '' HUP; echo UP; while :; do sleep 1; done"), env=environ) as made:  # fmt: skip
        made.shows("UP")
        made.term()
        until(lambda: made.get("health").body["status"] == "stopping", SECONDS, "it to stop")
        made.term()
        assert made.wait() == 130


def test_a_killed_sidecar_takes_the_agent_with_it() -> None:
    with sidecar(("bash", "-c", "echo UP; exec sleep 1000")) as made:
        made.shows("UP")
        made.process.send_signal(signal.SIGKILL)
        made.wait()
        until(lambda: made.family() == [], SECONDS, "the agent to be hung up")


def test_steps_end_with_the_sidecar(tmp_path: Path) -> None:
    with sidecar(SHELL) as made:
        made.post("exec", {"id": "x", "script": f"echo $$ > {tmp_path}/pid; sleep 1000"})
        until((tmp_path / "pid").exists, SECONDS, "the step to be up")
        made.post("shutdown")
        made.wait()
        assert made.family() == []


def test_orphans_of_the_agent_leave_no_zombies() -> None:
    script = "for i in $(seq 20); do (setsid true &) ; done; echo UP; while :; do sleep 1; done"
    with sidecar(("bash", "-c", script)) as made:
        made.shows("UP")

        def zombies() -> list[str]:
            children = Path(
                f"/proc/{made.process.pid}/task/{made.process.pid}/children"
            ).read_text()
            stats = [Path(f"/proc/{pid}/stat") for pid in children.split()]
            return [stat.name for stat in stats if stat.exists() and " Z " in stat.read_text()]

        until(lambda: not zombies(), SECONDS, "zombies to be collected")


def test_a_restarted_agent_keeps_offsets_and_sequence_numbers_growing(config: str) -> None:
    with sidecar(SHELL, "--agent-config", config, env={"PS1": "$ "}) as made:
        made.becomes("idle")
        before, pid = made.get("agent").body["since_seq"], made.get("health").body["pid"]
        written = made.get("output").body["total_written"]
        assert made.post("session/restart", {"force": True}).status == 202
        until(lambda: made.get("health").body["pid"] not in {None, pid}, SECONDS, made.log)
        made.becomes("idle")
        assert made.get("agent").body["since_seq"] > before
        assert made.get("output").body["total_written"] > written
        assert made.get("health").body["exit"] is None
        events = made.get("events/catchup?since_seq=0").body["state_events"]
        assert sorted({event["epoch"] for event in events}) == [1, 2]
        assert "restarting" in {event.get("next") for event in events}


# -- hostile output ------------------------------------------------------------------------------------------------


HOSTILE = r"""
import os, random, sys
chance = random.Random(3)
out = sys.stdout.buffer
for _ in range(12):
    out.write(chance.randbytes(100_000))
    out.write(b"x" * 1_000_000)
    out.write(b"\x1b[c\x1b[6n\x1b]11;?\x07" * 2_000)
    out.write(b"\x1b[38;5;" + b"\x1b]52;c;" + b"A" * 50_000 + b"\xe2\x9d")
    out.flush()
out.write(b"\x18\x1b\\\x1bc\x1b[?1049lSURVIVED\r\n")
out.flush()
sys.stdin.read()
"""


def test_hostile_output_neither_stalls_nor_breaks_anything(tmp_path: Path) -> None:
    script = write(tmp_path / "hostile.py", HOSTILE)
    with sidecar(("bash", "-c", f"stty raw -echo; exec {sys.executable} {script}")) as made:
        while "SURVIVED" not in made.screen():
            assert made.get("health").status == 200
            assert made.process.poll() is None
        assert len(json.dumps(made.get("screen").body)) < 1_000_000
        made.post("shutdown")
        made.wait()
        assert "Traceback" not in made.log()
