"""The real `oj` and its real daemon, in a state folder and a project of their own.

Rule: black box. A test types commands and reads what they print; it ends every process that it started, by its id, and at the
end nothing that carries a cookie of its state folder may be left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oj_daemon import settings
from oj_daemon.shell import ShellRuns
from oj_daemon.wire.client import Client
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]

NESTED = f"PYTHONPATH={ROOT} {sys.executable} -m oj_cli"
"""How the script of a step calls this very `oj`."""


class Result:
    """What one call of `oj` did."""

    def __init__(self, args: tuple[str, ...], code: int, out: str, err: str) -> None:
        self.args, self.code, self.out, self.err = args, code, out, err

    @property
    def json(self) -> Any:
        """stdout, which has to be one JSON document."""
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"oj {' '.join(self.args)} -> {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class World:
    """One user: a home, a project folder, a state folder and perhaps a daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "s"
        self.project = folder / "shop"
        (self.project / ".oj" / "runbooks").mkdir(parents=True)
        home = folder / "home"
        home.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OJ_STATE_DIR": str(self.state),
            "PYTHONPATH": str(ROOT),
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        for name in ("OJ_TEST_RUN",):
            if name in os.environ:
                self.environ[name] = os.environ[name]
        (home / ".gitconfig").write_text(
            "[user]\n  name = Test\n  email = test@example.com\n[init]\n  defaultBranch = main\n"
        )
        self._children: list[subprocess.Popen[str]] = []

    # Files

    def runbook(self, text: str, name: str = "main.hcl") -> Path:
        """Write a runbook file; the common indentation goes."""
        path = self.project / ".oj" / "runbooks" / name
        path.write_text(textwrap.dedent(text))
        return path

    def job(
        self, steps: str, *, command: str = "build", args: str = "", name: str = "main.hcl"
    ) -> Path:
        """Write a runbook whose command runs one job with this body."""
        spec = f'args = "{args}"' if args else ""
        body = textwrap.indent(textwrap.dedent(steps), "  ")
        text = f'command "{command}" {{\n  {spec}\n  run = {{ job = "{command}" }}\n}}\njob "{command}" {{\n{body}\n}}\n'
        path = self.project / ".oj" / "runbooks" / name
        path.write_text(text)
        return path

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run git in the project."""
        done = subprocess.run(
            ["git", *args],
            cwd=cwd or self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def git_project(self) -> None:
        """Make the project a repository with one commit."""
        self.git("init", "-q")
        (self.project / "README").write_text("hello\n")
        self.git("add", ".")
        self.git("commit", "-qm", "first")

    def other_project(self, name: str, steps: str, **options: Any) -> Path:
        """Another project of the same user, with a job as `job` writes it; returns its folder."""
        folder = self.folder / name
        (folder / ".oj" / "runbooks").mkdir(parents=True, exist_ok=True)
        written = self.job(steps, name="moved.hcl", **options)
        written.rename(folder / ".oj" / "runbooks" / "main.hcl")
        return folder

    # Commands

    def oj(
        self,
        *args: str,
        code: int | None = 0,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60,
    ) -> Result:
        """Run `oj` to its end; `code` is the exit code it must have (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "oj_cli", *args],
            cwd=cwd or self.project,
            env={**self.environ, **(environ or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        result = Result(args, done.returncode, done.stdout, done.stderr)
        assert code is None or result.code == code, result
        return result

    def spawn(
        self, *args: str, cwd: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start `oj` as a process of its own; ended with the world."""
        child = subprocess.Popen(
            [sys.executable, "-m", "oj_cli", *args],
            cwd=cwd or self.project,
            env={**self.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._children.append(child)
        return child

    # Jobs

    def start(self, *args: str, **options: Any) -> str:
        """`oj run --detach ARGS`; returns the job's id."""
        return str(self.oj("run", "--detach", "-o", "json", *args, **options).json["job_id"])

    def run(self, *args: str, code: int = 0, **options: Any) -> dict[str, Any]:
        """`oj run --wait -o json ARGS`: the job as it ended."""
        ended: dict[str, Any] = self.oj(
            "run", "--wait", "-o", "json", *args, code=code, **options
        ).json
        return ended

    def start_many(self, command: str, count: int) -> list[str]:
        """Start a command often, over one connection as a program would; returns the ids of the jobs."""
        path = self.project / ".oj" / "runbooks" / "main.hcl"
        fields: dict[str, Any] = {
            "project": self.project.name,
            "project_root": str(self.project),
            "invoke_dir": str(self.project),
            "command": command,
            "sources": {
                "files": [{"path": ".oj/runbooks/main.hcl", "text": path.read_text()}],
            },
        }
        self.oj("daemon", "start")
        with Client(settings.load(self.environ)) as client:
            return [str(client.call("RunCommand", **fields)["job_id"]) for _ in range(count)]

    def show(self, job_id: str) -> dict[str, Any]:
        """The job as JSON."""
        found: dict[str, Any] = self.oj("job", "show", job_id, "-o", "json").json
        return found

    def status(self, job_id: str) -> str:
        """The job's status word."""
        return str(self.show(job_id)["status"])

    def finish(self, job_id: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until the job has ended; returns it."""
        self.oj(
            "job", "wait", job_id, "--timeout", f"{int(seconds)}s", code=None, timeout=seconds + 30
        )
        shown = self.show(job_id)
        assert shown["status"] in ("completed", "failed", "cancelled", "suspended"), shown
        return shown

    def until_status(self, job_id: str, *words: str, seconds: float = 60) -> None:
        """Wait until the job has one of these statuses."""
        until(
            lambda: self.status(job_id) in words,
            seconds,
            lambda: f"{job_id} is {self.show(job_id)}",
            pause=0.1,
        )

    def until_listed(self, job_id: str, text: str, seconds: float = 60) -> None:
        """Wait until the job's log holds this text."""
        until(lambda: text in self.log(job_id), seconds, lambda: f"{text!r} in {self.log(job_id)}")

    def until_running(self, job_id: str, step: str, seconds: float = 60) -> None:
        """Wait until that step of the job is running."""

        def running() -> bool:
            return any(
                run["name"] == step and run["status"] == "running"
                for run in self.show(job_id)["steps"]
            )

        until(running, seconds, lambda: f"step {step} of {self.show(job_id)}", pause=0.1)

    def log(self, job_id: str) -> str:
        """The job's whole log."""
        return self.oj("logs", job_id, "-n", "100000").out

    # The daemon

    @property
    def daemon_pid(self) -> int:
        """Process id of the daemon; fails when none is recorded."""
        return int(json.loads((self.state / "daemon.pid").read_text())["pid"])

    def signal_daemon(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        os.kill(self.daemon_pid, number)

    def kill_daemon(self) -> None:
        """SIGKILL, and wait until it is gone."""
        pid = self.daemon_pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid), 20, "the daemon is gone")

    def until_file(self, path: Path, seconds: float = 60) -> str:
        """Wait until the file holds something, and return that."""
        until(lambda: path.exists() and path.stat().st_size > 0, seconds, f"{path} is written")
        return path.read_text()

    def survivors(self) -> list[str]:
        """Processes of steps of this state folder."""
        if not (self.state / "runs").is_dir():
            return []
        return [str(survivor) for survivor in ShellRuns(self.state / "runs").survivors()]

    def _family(self) -> dict[int, str]:
        """Every process whose home is that of this world: command lines by process id."""
        mark = f"HOME={self.folder / 'home'}".encode()
        found: dict[int, str] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0") and alive(int(path.name)):
                    found[int(path.name)] = (path / "cmdline").read_text("utf-8", "replace")
        return found

    def close(self) -> None:
        """End everything, and prove that it has ended."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.communicate()
        if (self.state / "daemon.pid").exists():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
                pid = self.daemon_pid
                self.oj("daemon", "stop", "--kill", code=None)
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
                    until(lambda: not alive(pid), 20, "the daemon is gone")
        left = self._family()
        with contextlib.suppress(AssertionError):
            until(lambda: not self._family(), 5, "what was told to end has ended")
            left = {}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"left behind: {left}"


def ran(job: Mapping[str, Any]) -> list[str]:
    """The steps of a job as `oj job show -o json` gives it, in order of start, each as `name status`."""
    return [f"{run['name']} {run['status']}" for run in job["steps"]]


def alive(pid: int) -> bool:
    """Whether the process is there and no zombie.

    A zombie with threads is still there: its first thread is gone, and the others hold its files and its socket open.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False
