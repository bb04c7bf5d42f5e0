"""Jobs in a real cluster, with the daemon as a pod of it; without a cluster these tests are skipped, with the reason.

    OJ_TEST_KUBECONFIG=FILE    credentials that may make and remove a namespace and everything in it
    OJ_TEST_IMAGE=IMAGE        target `daemon` of the Dockerfile, where the cluster can pull it
    OJ_TEST_AGENT_IMAGE=IMAGE  target `agent` of it; default: the name of the former with `agent` instead of its last `daemon`,
                               so that registry.example.com/oj-daemon:1 goes with registry.example.com/oj-agent:1
    OJ_TEST_MANIFEST=OPTIONS   more options of `oj daemon manifest` that this cluster needs, such as
                               `--storage-class fast --access-mode ReadWriteOnce --image-pull-secret registry`

Rule: all is made in one namespace, which takes restricted pods only and is removed at the end; nothing outside of it is
changed. Pods and this machine reach nothing but the cluster: the repository of the jobs is served by a pod, too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World
from tests.support.yard import GIT, GIT_PORT, NAME, Yard


def _agent_image(daemon: str) -> str:
    before, word, after = daemon.rpartition("daemon")
    named = os.environ.get("OJ_TEST_AGENT_IMAGE", "")
    if not named and not word:
        pytest.fail(f"OJ_TEST_AGENT_IMAGE does not name the agent image that goes with {daemon}")
    return named or f"{before}agent{after}"


@pytest.fixture(scope="session")
def running() -> Iterator[Yard]:
    """A daemon in a namespace of its own, a repository beside it, and a user who reaches both."""
    image, kubeconfig = os.environ.get("OJ_TEST_IMAGE"), os.environ.get("OJ_TEST_KUBECONFIG")
    if not kubeconfig:
        pytest.skip("OJ_TEST_KUBECONFIG does not name a cluster")
    if not image:
        pytest.skip("OJ_TEST_IMAGE does not name an image of the daemon")
    folder = Path(tempfile.mkdtemp(prefix="oj-", dir="/tmp"))
    world = World(folder)
    yard = Yard(kubeconfig, world, image, _agent_image(image))
    try:
        yard.make_namespace()
        yard.apply("--storage-size", "1Gi", *shlex.split(os.environ.get("OJ_TEST_MANIFEST", "")))
        remote = yard.serve_git()
        yard.until_ready(f"{NAME}-0")
        yard.connect()
        yard.push_url = f"git://127.0.0.1:{yard.forward(GIT, GIT_PORT)}/repo.git"
        world.git_project()
        world.git("remote", "add", "origin", remote)
        yield yard
    finally:
        try:
            yard.close()
        finally:
            world.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def yard(running: Yard) -> Iterator[Yard]:
    """The same for each test, which leaves no place behind."""
    yield running
    running.until_clean()
