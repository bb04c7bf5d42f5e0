"""Clones of a private repository over HTTP: the login reaches git, its own server, and nobody else."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.git_server import MOVED, GitServer, git_server
from tests.support.kube.container import unsupported
from tests.support.ward import Ward, ward_of
from tests.support.world import World

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())

USER = "robot"
PASSWORD = """s3cret $(id) $HOME %s 'single' "double" \\ end"""
LOOK = """
    step "look" {
      run = <<-SH
        cat README .git/config
        ls -A /etc/oj
        env
        until test -e GO; do sleep 0.1; done
        grep -rs "s3cre[t]" /etc/oj /workspace /home/oj || echo none of it is here
      SH
    }
"""


class Hall(Ward):
    """A ward whose repositories are served by a git server, beside which there is another."""

    server: GitServer
    other: GitServer

    def origin(self, url: str) -> None:
        """Where the project says that it comes from."""
        self.world.git("remote", "set-url", "origin", url)

    def login(self, **values: str) -> None:
        """Make the Secret."""
        data = {name: base64.b64encode(text.encode()).decode() for name, text in values.items()}
        self.kube.create("secrets", {"metadata": {"name": "git-login"}, "data": data})


@pytest.fixture
def hall(world: World, short_path: Path) -> Iterator[Hall]:
    with (
        git_server(short_path, USER, PASSWORD) as other,
        git_server(short_path, USER, PASSWORD, other.url) as server,
    ):
        world.environ |= {"OJ_K8S_GIT_SECRET": "git-login", "OJ_K8S_GIT_URL": server.url}
        with ward_of(Hall, world, short_path) as made:
            made.server, made.other = server, other
            yield made


def test_a_private_repository_is_cloned_and_the_login_stays_with_the_clone(hall: Hall) -> None:
    world = hall.world
    world.job(LOOK.replace("GO", str(hall.go)))
    hall.push()
    hall.origin(f"{hall.server.url}/repo.git")
    hall.login(username=USER, password=PASSWORD + "\n")
    job = world.start("build")
    pod = hall.kube.pod(hall.pod_of(job))
    hall.go.touch()
    assert world.finish(job)["status"] == "completed", world.log(job)
    assert set(hall.server.logins) == {f"{USER}:{PASSWORD}"}
    log = world.log(job)
    assert "none of it is here" in log
    assert f"url = {hall.server.url}/repo.git" in log
    assert "[look] git\n" not in log, "nothing is mounted for the agent"
    for text in (log, json.dumps(pod), (world.state / "daemon.log").read_text()):
        assert "s3cret" not in text
        assert base64.b64encode(PASSWORD.encode()).decode() not in text


def test_who_is_not_let_in_is_told_what_to_look_at(hall: Hall) -> None:
    world = hall.world
    world.job('step "look" { run = "cat README" }')
    hall.push()
    hall.origin(f"{hall.server.url}/repo.git")
    hall.login(password="of somebody else")
    job = world.start("build")
    assert world.finish(job)["status"] == "failed"
    told = world.oj("job", "show", job).out + world.log(job)
    assert f"fatal: Authentication failed for '{hall.server.url}/repo.git/'" in told
    assert "OJ_K8S_GIT_SECRET for the server of OJ_K8S_GIT_URL" in told
    assert "of somebody else" not in told
    assert set(hall.server.logins) == {"x-access-token:of somebody else"}


@pytest.mark.parametrize(
    ("how", "says"),
    [("named", "could not read Username"), ("redirected to", "Authentication failed")],
)
def test_another_server_is_not_shown_the_login(hall: Hall, how: str, says: str) -> None:
    world = hall.world
    world.job('step "look" { run = "cat README" }')
    hall.push()
    url = hall.other.url if how == "named" else hall.server.url + MOVED
    hall.origin(f"{url}/repo.git")
    hall.login(username=USER, password=PASSWORD)
    job = world.start("build")
    assert world.finish(job)["status"] == "failed"
    told = world.oj("job", "show", job).out + world.log(job)
    assert f"fatal: {says} for '{url}" in told
    assert hall.other.logins == []
    assert bool(hall.server.logins) == (how == "redirected to")


def test_a_secret_of_which_the_server_is_not_said_ends_the_start(hall: Hall) -> None:
    hall.world.kill_daemon()
    environ = {**hall.far.here, "OJ_K8S_GIT_URL": ""}
    refused = hall.world.oj("daemon", "start", environ=environ, code=None)
    assert refused.code != 0
    assert "OJ_K8S_GIT_URL is not set" in refused.err
    assert "OJ_K8S_GIT_URL=https://git.example.com" in refused.err
