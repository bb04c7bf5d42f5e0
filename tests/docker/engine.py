"""The Docker engine that tests talk to, and one container of it.

Rule: the command line is used as people use it; every container and volume is named here and removed with its test. What an
engine has in common with no other test run is found by name: the base image, which takes longest to make.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.waiting import until

BASE: Final = "oj-test-base:{codename}"
"""Debian with what the Dockerfile would install, and nothing else."""
PACKAGES: Final = ("bash", "ca-certificates", "git", "openssh-client", "python3", "python3-venv")
SLIM: Final = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")
)
SECONDS: Final = 60.0


class Result:
    """What one command did."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.args, self.code, self.out, self.err = (
            done.args,
            done.returncode,
            done.stdout,
            done.stderr,
        )

    @property
    def json(self) -> Any:
        """stdout, which has to be one JSON document."""
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"{self.args} -> {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def run(
    *words: str, code: int | None = 0, seconds: float = SECONDS, stdin: str | None = None
) -> Result:
    """Run one command to its end; `code` is the exit code it must have (None: any)."""
    done = subprocess.run(
        words,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
    result = Result(done)
    assert code is None or result.code == code, result
    return result


def docker(*words: str, **options: Any) -> Result:
    """Run `docker` to its end."""
    return run("docker", *words, **options)


def find_engine() -> None:
    """Skip the test, with the reason, where no engine answers."""
    if shutil.which("docker") is None:
        pytest.skip("there is no docker: as root, `scripts/lib/docker.sh start FOLDER` gets one")
    answer = docker("version", code=None)
    if answer.code:
        pytest.skip(
            f"no Docker engine answers ({answer.err.strip().splitlines()[-1]}): as root, "
            "`scripts/lib/docker.sh start FOLDER` starts one"
        )


def base_image() -> str:
    """The base image, made from Debian's packages if the engine has none yet; skips where that cannot be."""
    release = dict(
        line.split("=", 1)
        for line in Path("/etc/os-release").read_text().splitlines()
        if "=" in line
    )
    name = BASE.format(codename=release.get("VERSION_CODENAME", "stable"))
    if docker("image", "inspect", name, code=None).code == 0:
        return name
    if release.get("ID") != "debian" or shutil.which("mmdebstrap") is None or os.getuid() != 0:
        pytest.skip(
            f"there is no image {name}, and only root on Debian with mmdebstrap can make it"
        )
    sources = [
        str(path)
        for path in (
            Path("/etc/apt/sources.list.d/debian.sources"),
            Path("/etc/apt/sources.list"),
        )
        if path.is_file() and path.stat().st_size
    ][:1]
    with tempfile.TemporaryDirectory(prefix="oj-base-") as folder:
        made = run(
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            *SLIM,
            release["VERSION_CODENAME"],
            f"{folder}/base.tar",
            *sources,
            code=None,
            seconds=300,
        )
        if made.code:
            pytest.skip(f"mmdebstrap cannot make the base image: {made.err.strip()[-300:]}")
        docker("import", f"{folder}/base.tar", name, seconds=120)
    return name


class Container:
    """A container that runs until its test has ended, with a volume that outlives each of its starts."""

    def __init__(
        self,
        image: str,
        *options: str,
        command: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"oj-test-{secrets.token_hex(4)}"
        variables = [word for pair in (environ or {}).items() for word in ("-e", "=".join(pair))]
        docker("volume", "create", self.name)
        docker(
            *("create", "--pull=never", "--name", self.name, *LOCKED_UP),
            *("-v", f"{self.name}:/var/lib/oj", "--health-interval=1s"),
            *(*variables, *options, image, *command),
        )

    def start(self) -> None:
        """Start it, for the first time or again."""
        docker("start", self.name)

    def stop(self, seconds: int = 30) -> int:
        """End it as an engine does: SIGTERM, and SIGKILL after so many seconds; returns its exit code."""
        docker("stop", "-t", str(seconds), self.name, seconds=seconds + SECONDS)
        return int(self.inspect()["State"]["ExitCode"])

    def kill(self) -> None:
        """End it at once."""
        docker("kill", self.name)

    def exec(
        self, *words: str, code: int | None = 0, stdin: str | None = None, at: str = "/var/lib/oj"
    ) -> Result:
        """Run a command in it."""
        interactive = () if stdin is None else ("-i",)
        return docker("exec", *interactive, "-w", at, self.name, *words, code=code, stdin=stdin)

    def oj(self, *words: str, code: int | None = 0, at: str = "/var/lib/oj") -> Result:
        """Run `oj` in it."""
        return self.exec("oj", *words, code=code, at=at)

    def inspect(self) -> dict[str, Any]:
        """What the engine knows about it."""
        (found,) = docker("inspect", self.name).json
        return dict(found)

    def log(self) -> str:
        """What it has written to stdout and stderr."""
        shown = docker("logs", self.name)
        return shown.out + shown.err

    def until_ready(self) -> None:
        """Wait until its daemon answers."""

        def is_running() -> bool:
            answer = self.oj("daemon", "status", "-o", "json", code=None)
            return answer.code == 0 and answer.json["status"] == "running"

        until(is_running, SECONDS, self.log, pause=0.2)

    def until_healthy(self) -> None:
        """Wait until its own health check says so."""
        until(
            lambda: self.inspect()["State"]["Health"]["Status"] == "healthy",
            SECONDS,
            lambda: str(self.inspect()["State"]),
            pause=0.2,
        )

    def job(self, job_id: str) -> dict[str, Any]:
        """A job of its daemon."""
        return dict(self.oj("job", "show", job_id, "-o", "json").json)

    def remove(self) -> None:
        """Remove it, running or not, with its volume."""
        docker("rm", "-f", "-v", self.name, code=None)
        docker("volume", "rm", self.name, code=None)


LOCKED_UP: Final = (
    "--read-only",
    "--tmpfs=/tmp",
    "--user=65532",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)
"""As Kubernetes runs it under the restricted profile."""


def has_bridge() -> bool:
    """Whether containers get a network of their own, with ports that can be published."""
    return docker("network", "inspect", "bridge", code=None).code == 0
