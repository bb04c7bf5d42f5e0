"""The daemon in a container: as its first process, not as root, with nothing to write to but /tmp and the volume."""

from __future__ import annotations

import json
import textwrap

from oj_daemon.settings import READY
from tests.docker.conftest import StartDaemon
from tests.docker.engine import Container
from tests.support.waiting import until
from tests.support.world import ran

PROJECT = "/var/lib/oj/shop"
"""Within the volume, so that what steps write outlives the container's processes."""
AT_ONCE = ("--health-retries=1", "--health-start-period=1ms")
"""The first failure counts."""


def job(container: Container, body: str) -> None:
    """Write a project whose command `build` runs one job with this body."""
    body = textwrap.indent(textwrap.dedent(body), "  ")
    container.exec("mkdir", "-p", f"{PROJECT}/.oj/runbooks")
    container.exec(
        *("tee", f"{PROJECT}/.oj/runbooks/main.hcl"),
        stdin=f'command "build" {{\n  run = {{ job = "build" }}\n}}\njob "build" {{\n{body}\n}}\n',
    )


def begin(container: Container) -> str:
    """Start the job; returns its id."""
    return str(container.oj("run", "--detach", "-o", "json", "build", at=PROJECT).json["job_id"])


def finish(container: Container, job_id: str) -> dict[str, object]:
    """Wait until the job has ended; returns it."""
    container.oj("job", "wait", job_id, "--timeout", "50s", code=None)
    return container.job(job_id)


def written(container: Container, name: str) -> list[str]:
    """Words in a file of the project."""
    return container.exec("cat", f"{PROJECT}/{name}", code=None).out.split()


def test_it_answers_is_healthy_runs_a_job_and_ends_by_sigterm(contain: StartDaemon) -> None:
    container = contain()
    container.until_ready()
    info = container.oj("daemon", "status", "-o", "json").json
    assert (info["pid"], info["state_dir"]) == (1, "/var/lib/oj")
    container.until_healthy()
    job(
        container,
        """
        step "who"  {
          run     = "id -u; touch /usr/x || echo read-only; date > $HOME/made"
          on_done = { step = "repo" }
        }
        step "repo" { run = "cd $(mktemp -d); git init -q .; git status --short; echo a repository" }
        """,
    )
    shown = container.oj("run", "build", at=PROJECT)
    for line in ("[who] 65532\n", "[who] read-only\n", "[repo] a repository\n"):
        assert line in shown.out, shown
    assert container.stop() == 0
    log = container.log()
    assert "READY" in log
    assert "stop asked for by SIGTERM" in log


def test_its_health_check_fails_where_no_daemon_answers(contain: StartDaemon) -> None:
    container = contain("--entrypoint=sleep", *AT_ONCE, command=["600"])
    until(
        lambda: container.inspect()["State"]["Health"]["Status"] == "unhealthy",
        60,
        lambda: str(container.inspect()["State"]),
        pause=0.5,
    )
    container.kill()


def test_its_health_check_asks_the_http_port_where_one_is_named(contain: StartDaemon) -> None:
    container = contain(OJ_HTTP_PORT="8080")
    container.until_healthy()
    assert container.stop() == 0


def test_it_is_not_healthy_where_the_http_port_answers_something_else(contain: StartDaemon) -> None:
    """A server that knows no /healthz; that no daemon runs is not why, for the port alone is asked."""
    serve = "exec python3 -m http.server --bind 127.0.0.1 -d /tmp 8080"
    container = contain(
        *("--entrypoint=bash", *AT_ONCE), command=["-c", serve], OJ_HTTP_PORT="8080"
    )
    until(
        lambda: (
            "code 404" in container.log()
            and container.inspect()["State"]["Health"]["Status"] == "unhealthy"
        ),
        60,
        lambda: f"{container.inspect()['State']}\n{container.log()}",
        pause=0.5,
    )
    container.kill()


def test_in_a_cluster_it_logs_lines_of_json_and_locks_nothing(contain: StartDaemon) -> None:
    container = contain(KUBERNETES_SERVICE_HOST="10.0.0.1", OJ_RUNTIME="local")
    container.until_healthy()
    info = container.oj("daemon", "status", "-o", "json").json
    told = {choice["name"]: choice["value"] for choice in info["settings"]}
    assert (told["profile"], told["file_lock"], told["log_format"]) == ("cluster", "no", "json")
    assert container.stop() == 0
    messages = [json.loads(line)["message"] for line in container.log().splitlines()]
    assert (messages.count(READY), messages[-1]) == (1, "ended")


def test_what_docker_exec_leaves_behind_is_collected(contain: StartDaemon) -> None:
    """Orphans go to the first process of a container, which no init stands in for here."""
    container = contain()
    container.until_ready()
    container.exec("bash", "-c", "for _ in 1 2 3; do (sleep 0.1 &); done")

    def sleepers() -> str:
        script = 'for stat in /proc/[0-9]*/stat; do read -r line <$stat && echo "$line"; done'
        return "\n".join(
            line
            for line in container.exec("bash", "-c", script, code=None).out.splitlines()
            if "(sleep)" in line
        )

    until(lambda: not sleepers(), 60, sleepers, pause=0.5)


def test_a_stop_in_the_middle_of_a_step_is_told_and_a_retry_finishes_the_job(
    contain: StartDaemon,
) -> None:
    """Nothing survives its container, so the step is interrupted, and the log knows all before it."""
    container = contain()
    container.until_ready()
    job(
        container,
        """
        step "prepare" {
          run     = "echo prepare >>${invoke.dir}/ran"
          on_done = { step = "work" }
        }
        step "work" {
          run     = "echo work >>${invoke.dir}/ran; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done"
          retry   = { attempts = 1, backoff = "10ms" }
          on_done = { step = "end" }
        }
        step "end" { run = "echo end >>${invoke.dir}/ran" }
        """,
    )
    job_id = begin(container)
    until(lambda: "work" in written(container, "ran"), 60, "the step has begun", pause=0.1)
    assert container.stop() == 0
    container.start()
    container.until_ready()
    container.exec("touch", f"{PROJECT}/go")
    ended = finish(container, job_id)
    assert ended["status"] == "completed", json.dumps(ended, indent=2)
    assert written(container, "ran") == ["prepare", "work", "work", "end"]
    assert "interrupted" in container.oj("logs", job_id).out


def test_without_a_retry_the_job_fails_and_says_that_it_was_interrupted(
    contain: StartDaemon,
) -> None:
    """Also by SIGKILL, with other jobs that were acknowledged a moment before."""
    container = contain()
    container.until_ready()
    job(container, 'step "work" { run = "echo begun >>${invoke.dir}/ran; sleep 600" }')
    first = begin(container)
    until(lambda: written(container, "ran"), 60, "the step has begun", pause=0.1)
    second = begin(container)
    container.kill()
    container.start()
    container.until_ready()
    jobs = [container.job(job_id) for job_id in (first, second)]
    assert ran(finish(container, first)) == ["work failed"]
    assert "interrupted" in str(container.job(first)["error"])
    # Whether its step had begun is a race; that the job is known is not.
    assert [each["id"] for each in jobs] == [first, second]
