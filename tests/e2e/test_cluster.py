"""The tests of tests/cluster on the loopback cluster: they are written for a real one, and have to be right before they get there.

Rule: they run as they do before a release, in a pytest of their own that is told a kubeconfig and an image.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kube.container import unsupported
from tests.support.kube.process import cluster
from tests.support.world import ROOT

pytestmark = pytest.mark.skipif(bool(unsupported()), reason=unsupported())

IMAGE = "registry.example.com/oj-daemon:1"


@pytest.mark.timeout(900)
def test_the_tests_for_a_real_cluster_pass_on_the_loopback_cluster(short_path: Path) -> None:
    with cluster(short_path, daemon_image=IMAGE, is_direct=True) as kube:
        told = {"OJ_TEST_KUBECONFIG": str(kube.kubeconfig), "OJ_TEST_IMAGE": IMAGE}
        words = (
            "-m",
            "pytest",
            "-q",
            "-x",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "tests/cluster/test_jobs.py",
        )
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "skipped" not in done.stdout
