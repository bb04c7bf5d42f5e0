"""A place as a process: who is let in, what it remembers, and how it ends with everything in it."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from oj_daemon import processes, tls
from oj_daemon.sidecar.files import FILE_MOST
from tests.support.places import TOKEN, Papers, PlaceProcess, place
from tests.support.sidecar import PROGRAM, ROOT, SECONDS, sidecar
from tests.support.waiting import until

pytestmark = pytest.mark.e2e  # a real process, and more than one

BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROBES = ("health", "ready", "livez")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def shared(papers: Papers) -> Iterator[PlaceProcess]:
    with place(papers) as made:
        yield made


def wait(made: PlaceProcess, run_id: str) -> dict[str, Any]:
    view: dict[str, Any] = made.get(f"exec/{run_id}?wait_ms=20000").body
    return view


# -- who is let in -------------------------------------------------------------------------------------------------


def test_probes_need_neither_token_nor_certificate(shared: PlaceProcess, papers: Papers) -> None:
    for probe in PROBES:
        assert shared.ask("GET", f"/api/v1/{probe}", papers.context()).status == 200
    health = shared.ask("GET", "/api/v1/health", papers.context()).body
    assert (health["status"], health["place"], health["ready"]) == ("running", True, True)
    assert TOKEN not in str(health)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/exec"),
        ("POST", "/api/v1/exec"),
        ("GET", "/api/v1/files/x"),
        ("PUT", "/api/v1/files/x"),
        ("POST", "/api/v1/shutdown"),
        ("GET", "/agents/x/api/v1/health"),
        ("GET", "/agents/x/ws"),
        ("GET", "/nowhere"),
    ],
)
def test_everything_else_needs_both(
    shared: PlaceProcess, papers: Papers, method: str, path: str
) -> None:
    wrong = {"Authorization": "Bearer open"}
    for context, headers in (
        (papers.context(), {}),
        (papers.context(), BEARER),
        (papers.daemon, {}),
        (papers.daemon, wrong),
        (papers.daemon, {"Authorization": f"Basic {TOKEN}"}),
    ):
        reply = shared.ask(method, path, context, headers)
        assert (reply.status, reply.body["error"]["code"]) == (401, "UNAUTHORIZED")
    assert shared.ask(method, path, papers.daemon, {**BEARER, "Origin": "http://x"}).status == 403
    assert shared.process.poll() is None


def test_a_certificate_that_another_ca_signed_opens_nothing(
    shared: PlaceProcess, papers: Papers
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shared.ask("GET", "/api/v1/exec", papers.context(trustme.CA()), BEARER)


def test_the_certificate_of_one_place_does_not_open_another(papers: Papers, tmp_path: Path) -> None:
    theirs = tls.make_server(tmp_path / "tls", ["oj-job-2"])
    shutil.copy(tmp_path / "tls/ca.pem", papers.folder / "own.pem")
    options = ("--client-ca", str(papers.folder / "own.pem"))
    with place(papers, *options, context=papers.context()) as made:
        context = papers.context()
        context.load_cert_chain(theirs.chain, theirs.key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            made.ask("GET", "/api/v1/exec", context, BEARER)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls_are_refused(shared: PlaceProcess, papers: Papers) -> None:
    context = papers.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shared.ask("GET", "/api/v1/health", context)


def test_an_agents_sidecar_asks_for_client_certificates_too(papers: Papers) -> None:
    made = PlaceProcess(papers)
    made.close()
    options = [
        "--port", str(made.port), "--tls-cert", str(papers.chain), "--tls-key", str(papers.key),
        "--client-ca", str(papers.ca), "--token-file", str(papers.token),
    ]  # fmt: skip
    with sidecar(("cat",), *options) as agent:
        agent.token = TOKEN
        assert agent.get("agent").status == 200  # by its socket
        assert made.ask("GET", "/api/v1/health", papers.context()).status == 200
        assert made.ask("GET", "/api/v1/agent", papers.context(), BEARER).status == 401
        assert made.ask("GET", "/api/v1/agent", papers.daemon, BEARER).status == 200


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--place", "--port", "0"], "it needs a --session-dir"),
        (["--place", "--session-dir", "/tmp/d"], "neither --socket nor --port"),
        (["--place", "--session-dir", "/tmp/d", "--port", "0", "--host", "0.0.0.0"], "without a token"),
        (["--place", "--session-dir", "/tmp/d", "--port", "0", "--client-ca", "x"], "need TLS"),
        (["--place", "--session-dir", "/tmp/d", "--port", "0", "--", "bash"], "no command"),
        (["--place", "--session-dir", "/tmp/" + "d" * 60, "--port", "0"], "at most"),
    ],
)  # fmt: skip
def test_a_command_line_that_makes_no_sense_is_refused(words: list[str], reason: str) -> None:
    done = started(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr


def test_certificates_that_cannot_be_read_end_it_with_a_sentence(tmp_path: Path) -> None:
    papers = Papers(tmp_path / "papers")
    (tmp_path / "ca").write_text("no certificate")
    with PlaceGone(papers, "--client-ca", str(tmp_path / "ca")) as made:
        assert made.wait() == 1
        assert "error: read --client-ca" in made.log()
        assert "Traceback" not in made.log()


def started(*words: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    return subprocess.run(
        [*PROGRAM, *words], env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )


class PlaceGone(PlaceProcess):
    """A place that is expected to end by itself."""

    def __enter__(self) -> PlaceGone:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- what it remembers ---------------------------------------------------------------------------------------------


def test_steps_run_where_the_place_works_without_what_was_meant_for_the_place(
    papers: Papers, tmp_path: Path
) -> None:
    with place(papers, "--cwd", str(tmp_path), env={"OJ_SIDECAR_TOKEN": "x", "MINE": "1"}) as made:
        made.post("exec", {"id": "a/1", "script": "pwd; env | grep -c ^OJ_SIDECAR || echo $MINE"})
        assert wait(made, "a%2F1")["status"] == 0
        reply = made.get("exec/a%2F1/output?wait_ms=1")
        assert reply.body["total_written"] == len(f"{tmp_path}\n0\n1\n")


def test_after_a_kill_it_knows_what_ended_what_runs_and_what_is_lost(
    papers: Papers, tmp_path: Path
) -> None:
    folder = Path("/tmp") / f"ojp-{os.getpid()}"
    options = ("--session-dir", str(folder))
    try:
        with place(papers, *options) as first:
            boot = first.get("health").body["boot"]
            first.post("exec", {"id": "job/done", "script": "exit 7"})
            assert wait(first, "job%2Fdone")["status"] == 7
            os.mkfifo(tmp_path / "go")
            script = f"echo on > {tmp_path}/up; read -r _ < {tmp_path}/go; exit 5"
            first.post("exec", {"id": "job/busy", "script": script})
            first.post("exec", {"id": "job/lost", "script": "echo $$; exec sleep 1000"})
            until((tmp_path / "up").exists, SECONDS, "it is up")
            until(lambda: output(first, "job%2Flost").endswith("\n"), SECONDS, "it is up")
            first.process.kill()
            first.wait()
            lost = int(output_file(folder, "job/lost").read_text())
            session = processes.look(lost)
            assert session is not None
            os.killpg(session.session, signal.SIGKILL)  # wrapper and all
            with place(papers, *options) as second:
                assert second.get("health").body["boot"] != boot
                assert wait(second, "job%2Fdone")["status"] == 7
                view = wait(second, "job%2Flost")
                assert (view["state"], view["status"]) == ("lost", None)
                assert "left no exit status" in view["detail"]
                # The name is spent: the step is not run a second time.
                again = second.post("exec", {"id": "job/lost", "script": "true"})
                assert (again.status, again.body["state"]) == (200, "lost")
                assert second.get("exec/job%2Fbusy").body["state"] == "running"
                (tmp_path / "go").write_text("\n")
                assert wait(second, "job%2Fbusy")["status"] == 5
                names = [run["id"] for run in second.get("exec").body["runs"]]
                assert sorted(names) == ["job/busy", "job/done", "job/lost"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def output(made: PlaceProcess, run_id: str) -> str:
    reply = made.get(f"exec/{run_id}/output?follow=0")
    return "\n" if reply.body["total_written"] else ""


def output_file(folder: Path, run_id: str) -> Path:
    return folder / "exec" / run_id / "output"


# -- files ---------------------------------------------------------------------------------------------------------


def test_a_file_comes_in_as_a_whole_and_goes_out_again(shared: PlaceProcess) -> None:
    for text in ("first, and longer", "second"):
        reply = shared.request("PUT", "files/agents/a1/config.json", text)
        assert reply.body == {
            "path": str(shared.files / "agents/a1/config.json"),
            "size": len(text),
        }
        assert shared.get("files/agents/a1/config.json").text == text
    path = shared.files / "agents/a1/config.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "%2e%2e/x", "a%2f..%2f..%2fx", "/etc/passwd", ".hidden", "a//b", "a%00b", "a%0ab"],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(shared: PlaceProcess, name: str) -> None:
    assert shared.get(f"files/{name}").status in {400, 404}
    assert shared.request("PUT", f"files/{name}", "x").status in {400, 404}
    assert not (shared.folder / "x").exists()


def test_links_and_pipes_of_an_agent_lead_nowhere(shared: PlaceProcess, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    inside = shared.files / "traps"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "out").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe")
    for name in ("link", "out/secret", "pipe", "."):
        reply = shared.get(f"files/traps/{name}")
        assert reply.status in {400, 404}, name
        assert reply.text != "secret"
    assert shared.request("PUT", "files/traps/out/x", "x").status == 400
    assert shared.request("PUT", "files/traps/link", "mine").status == 200  # replaces the link
    assert (tmp_path / "secret").read_text() == "secret"
    assert not (tmp_path / "x").exists()
    assert shared.request("PUT", "files/traps/out", "x").status == 409
    assert shared.get("files/traps/none").status == 404


def test_files_are_bounded(shared: PlaceProcess) -> None:
    announced = {"Content-Length": str(FILE_MOST + 1)}
    reply = shared.ask("PUT", "/api/v1/files/big", shared.context, {**BEARER, **announced})
    assert (reply.status, reply.body["error"]["code"]) == (413, "TOO_LARGE")
    with (shared.files / "huge").open("wb") as file:
        file.truncate(FILE_MOST + 1)
    assert shared.get("files/huge").status == 413
    assert not (shared.files / "big").exists()


# -- the end -------------------------------------------------------------------------------------------------------

ESCAPED = """
import os, signal, sys, time
if os.fork():
    while not os.path.exists(sys.argv[1]): time.sleep(0.02)
    os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.execve(sys.executable, [sys.executable, "-c", '''
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()) + chr(10))
while True: time.sleep(1000)
''', sys.argv[1]], {})
"""
"""A daemon of the old school with an empty environment: nothing of it tells which step it came from."""


def escape(made: PlaceProcess, path: Path) -> int:
    argv = [sys.executable, "-c", ESCAPED, str(path)]
    made.post("exec", {"id": "escape", "argv": argv})
    until(lambda: path.exists() and path.read_text().endswith("\n"), SECONDS, "it has escaped")
    return int(path.read_text())


@pytest.mark.parametrize("how", ["term", "shutdown"])
def test_the_end_of_a_place_is_the_end_of_everything_in_it(
    papers: Papers, tmp_path: Path, how: str
) -> None:
    with place(papers, env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "1000"}) as made:
        escaped = escape(made, tmp_path / "escaped")
        assert processes.look(escaped) is not None
        busy = "trap '' TERM; echo up; while :; do sleep 0.1; done"
        made.post("exec", {"id": "stubborn", "script": busy})
        until(lambda: output(made, "stubborn"), SECONDS, "it is up")
        with made.in_background("exec/stubborn/end", {"grace_ms": 600_000}) as replies:
            if how == "term":
                made.term()
            else:
                assert made.post("shutdown").body == {"accepted": True}
            assert made.wait() == 0
        # Whoever waited for the step is told how it ended, and the place ends after that.
        assert [reply.body["status"] for reply in replies] == [137]
        found = processes.look(escaped)
        assert found is None or found.is_zombie
        assert made.family() == []


def test_a_place_that_ends_starts_nothing_and_says_so(papers: Papers, tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/told' TERM; echo up; until [ -e {tmp_path}/go ]; do sleep 0.05 || true; done"
    with place(papers, env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "60000"}) as made:
        made.post("exec", {"id": "slow", "script": script})
        until(lambda: output(made, "slow"), SECONDS, "it is up")
        made.term()
        until((tmp_path / "told").exists, SECONDS, "it was told")
        assert made.ask("GET", "/api/v1/ready", papers.context()).status == 503
        assert made.ask("GET", "/api/v1/health", papers.context()).body["status"] == "stopping"
        reply = made.post("exec", {"id": "late", "script": "true"})
        assert (reply.status, reply.body["error"]["code"]) == (503, "STOPPING")
        (tmp_path / "go").touch()
        assert made.wait() == 0


def test_the_second_signal_ends_it_at_once(papers: Papers, tmp_path: Path) -> None:
    with place(papers, env={"OJ_SIDECAR_SHUTDOWN_TIMEOUT_MS": "600000"}) as made:
        escaped = escape(made, tmp_path / "escaped")
        made.term()
        until(lambda: made.get("health").body["status"] == "stopping", SECONDS, "it was told")
        made.term()
        assert made.wait() == 130
        until(lambda: processes.look(escaped) is None, SECONDS, "it is gone")


def test_nothing_else_ends_it_and_orphans_are_collected(papers: Papers) -> None:
    with place(papers) as made:
        made.post(
            "exec", {"id": "orphans", "script": "for i in 1 2 3 4 5; do (setsid true &) ; done"}
        )
        assert wait(made, "orphans")["status"] == 0
        until(lambda: not children(made.process.pid), SECONDS, "no zombie is left")
        assert made.process.poll() is None


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def may_unshare() -> bool:
    words = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_unshare(), reason="process numbers of its own need unshare and root")
def test_as_process_1_it_collects_orphans_and_ends_everything(
    papers: Papers, tmp_path: Path
) -> None:
    under = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
    with place(papers, under=under) as made:
        assert made.get("health").body["pid"] == 1
        outside = int(children(made.process.pid)[0])
        escape(made, tmp_path / "escaped")
        assert wait(made, "escape")["status"] == 0
        script = "for i in $(seq 20); do (setsid sh -c 'exit 3' &) ; done"
        made.post("exec", {"id": "orphans", "script": script})
        assert wait(made, "orphans")["status"] == 0
        # The one that escaped is its child now, and the only one.
        until(lambda: len(children(outside)) == 1, SECONDS, lambda: str(children(outside)))
        escaped = int(children(outside)[0])
        os.kill(outside, signal.SIGTERM)
        assert made.wait() == 0
        assert processes.look(escaped) is None
