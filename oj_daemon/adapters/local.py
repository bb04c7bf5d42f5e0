"""Agents on this machine: each in a sidecar that is run like a step, so that it outlives the daemon and leaves nothing.

Rule: the sidecar is a run of `shell.py` (claimed once, found again by its folder, ended with everything it started), whose
script becomes `oj-sidecar`. What is needed to find it again is in the route: the path of its socket.

    <state>/agents/<job id>/<agent id>/config.json   what the sidecar is told
                                       session/      the sidecar's own files
                                       sock          its API
    <state>/runs/<job id>/<agent id>/                the run
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from oj_daemon import drivers
from oj_daemon.adapters.session import Ear, Session, UnixTransport
from oj_daemon.core import events
from oj_daemon.core.effects import SpawnAgent
from oj_daemon.errors import AdapterError, OjError
from oj_daemon.runbook import template
from oj_daemon.settings import SOCKET_PATH_LIMIT, TOKEN_NAME, Secret
from oj_daemon.shell import RunSpec, RunState, ShellRuns
from oj_daemon.wire.names import AgentId, JobId

NAME: Final = "local"
READY_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 5.0
"""How long a run may take until its wrapper can be found."""
READY_POLL: Final = 0.05
LOOK_EVERY: Final = 10
"""Polls of a socket between two looks at the run itself, which cost more."""
STARTS_PER_CPU: Final = 2
"""Sessions that may be on their way up at once: more only slow each other, and everybody else, down."""
GOODBYE_SECONDS: Final = 5.0
"""How long a sidecar may take to hear that it is to end."""
LINGER_SECONDS: Final = 60
"""How long a sidecar stays after its agent ended, should no daemon be there to read its last screen."""
PASSED: Final = frozenset({
    "CLAUDE_CONFIG_DIR", "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "CLAUDE_CODE_MAX_RETRIES", "DISABLE_AUTOUPDATER", "IS_SANDBOX",
})  # fmt: skip
"""What an agent inherits from the environment of the daemon besides credentials: where its configuration and its API are, how
it deals with the network, and that the machine is a sandbox, which is a fact about the machine. A runbook's `env` wins."""
LOG_TAIL: Final = 2000
"""Bytes of a sidecar's log that a failed start shows."""


class LocalAgents:
    """Starts, finds, steers and ends the agents of one state folder."""

    def __init__(
        self,
        state_dir: Path,
        shell: ShellRuns,
        environ: Mapping[str, str],
        inherited: Mapping[str, str],
        token: Callable[[JobId, AgentId], Secret[str]],
    ) -> None:
        self._folder = state_dir / "agents"
        self._shell = shell
        self._environ = environ
        self._inherited = inherited
        self._token = token
        """What lets the `oj` of an agent in."""
        self._starting = asyncio.Semaphore(STARTS_PER_CPU * (os.cpu_count() or 1))

    def run_id(self, agent_id: AgentId, job_id: JobId) -> str:
        """The run that the sidecar is."""
        return f"{job_id}/{agent_id}"

    async def spawn(self, order: SpawnAgent) -> tuple[dict[str, str], str]:
        """Start the session, or find it where it runs; returns its route and its conversation. Raises AdapterError."""
        run_id = self.run_id(order.agent_id, order.job_id)
        socket = order.route.get("socket") or self._socket(order.job_id, order.agent_id)
        socket = self._where(order.agent_id, order.job_id, socket)
        if self._shell.adopt(run_id).state is RunState.NEVER:
            if order.route:
                raise AdapterError("its session is gone", code="gone")
            async with self._starting:
                self._begin(order, run_id, socket)
                health = await self._up(order, run_id, socket)
        else:
            health = await self._up(order, run_id, socket)
        return {"socket": socket}, str(health.get("session_id") or "")

    async def _up(self, order: SpawnAgent, run_id: str, socket: str) -> dict[str, object]:
        """Wait until the session answers; a start that failed leaves nothing."""
        try:
            return await self._ready(order, run_id, socket)
        except AdapterError:
            if not order.route:
                await self._shell.end(run_id, grace_seconds=1.0)
                self._shell.remove(run_id)
                _remove_socket(socket)  # one that was killed could not
            raise

    def _begin(self, order: SpawnAgent, run_id: str, socket: str) -> None:
        folder = self._folder / order.job_id / order.agent_id
        if not Path(order.cwd).is_dir():
            raise AdapterError(
                f"start agent in {order.cwd}: there is no such directory", code="cwd"
            )
        (folder / "session").mkdir(mode=0o700, parents=True, exist_ok=True)
        config = folder / "config.json"
        config.write_bytes(msgspec.json.encode(config_of(order, _read_here)))
        config.chmod(0o600)
        words = [
            sys.executable, "-m", "oj_daemon.sidecar.main",
            "--socket", socket, "--agent", order.driver, "--agent-config", str(config),
            "--session-dir", str(folder / "session"), "--cwd", order.cwd, "--log-format", "text",
            "--exit-with-child", str(LINGER_SECONDS),
        ]  # fmt: skip
        if order.session_id:
            words += ["--resume", order.session_id]
        # The driver adds its arguments behind the command, where "$@" takes them up.
        command = ["bash", "-c", f'{order.script.rstrip()} "$@"', "agent"]
        script = "exec " + " ".join(shlex.quote(word) for word in [*words, "--", *command])
        self._shell.start(
            RunSpec(run_id=run_id, script=script, env=self._env(order), cwd=Path("/"))
        )

    def _env(self, order: SpawnAgent) -> dict[str, str]:
        """What the sidecar and its agent get: nothing of the shell that started the daemon, but what a driver asks for."""
        wanted = drivers.load_driver(order.driver).credential_env
        passed = {
            name: value
            for name, value in self._inherited.items()
            if name in wanted or name.startswith("OJ_SIDECAR_") or name in PASSED
        }
        package = str(Path(__file__).resolve().parents[2])
        path = {"PYTHONPATH": package} if (Path(package) / "pyproject.toml").exists() else {}
        token = {TOKEN_NAME: self._token(order.job_id, order.agent_id).reveal()}
        return {**self._environ, **path, **passed, **token, **order.prime_env, **order.env}

    def _where(self, agent_id: AgentId, job_id: JobId, recorded: str) -> str:
        """The socket where it was recorded to be; or where it is, if the state folder has been moved since.

        Whose it is is not known by that but by the run, which carries the agent's cookie wherever the folder is.
        """
        if os.path.exists(recorded):  # noqa: PTH110 - before each request: it has to cost little
            return recorded
        own = self._socket(job_id, agent_id)
        return own if os.path.exists(own) else recorded  # noqa: PTH110 - the same

    def _socket(self, job_id: JobId, agent_id: AgentId) -> str:
        """A path that fits into the address of a unix socket."""
        path = str(self._folder / job_id / agent_id / "sock")
        if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
            return path
        folder = Path(tempfile.gettempdir()) / f"oj-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise AdapterError(
                f"use {folder} for the sockets of agents: it belongs to another user", code="denied"
            )
        return str(folder / hashlib.sha256(path.encode()).hexdigest()[:16])

    async def _ready(self, order: SpawnAgent, run_id: str, socket: str) -> dict[str, object]:
        session = self.session(order.agent_id, order.job_id, socket)
        deadline = time.monotonic() + READY_SECONDS
        # In its first moments a run cannot be told from one whose wrapper is gone.
        settled = time.monotonic() + SETTLE_SECONDS
        for poll in itertools.count():  # pragma: no branch - it ends by returning or raising
            if poll % LOOK_EVERY and not os.path.exists(socket):  # noqa: PTH110, ASYNC240 - asked often, costs little
                await asyncio.sleep(READY_POLL)
                continue
            try:
                return await session.ask("GET", "health")
            except AdapterError as error:
                found = self._shell.adopt(run_id)
                is_gone = found.state is RunState.EXITED or (
                    found.state is not RunState.RUNNING and time.monotonic() > settled
                )
                if is_gone or time.monotonic() > deadline:
                    raise AdapterError(
                        f"the sidecar did not come up: {self._last_words(run_id)}", code="spawn"
                    ) from error
            await asyncio.sleep(READY_POLL)
        raise AssertionError("unreachable")

    def _last_words(self, run_id: str) -> str:
        try:
            text = (self._shell.folder(run_id) / "output").read_bytes()[-LOG_TAIL:]
        except FileNotFoundError:
            text = b""
        return text.decode("utf-8", "replace").strip() or "it said nothing"

    def session(self, agent_id: AgentId, job_id: JobId, socket: str) -> Session:
        """The client of a sidecar."""
        run_id = self.run_id(agent_id, job_id)
        return Session(
            agent_id,
            UnixTransport(self._where(agent_id, job_id, socket)),
            lambda: self._shell.adopt(run_id).state is RunState.RUNNING,
        )

    async def follow(
        self,
        order: SpawnAgent,
        route: Mapping[str, str],
        report: Callable[[events.AgentEvent], None],
        ear: Ear | None = None,
    ) -> events.AgentExited:
        """Report what the agent does until it has exited."""
        session = self.session(order.agent_id, order.job_id, route["socket"])
        return await session.follow(order.seq, report, ear)

    async def end(self, agent_id: AgentId, job_id: JobId, route: Mapping[str, str]) -> str:
        """End the session and everything it started; returns its conversation, where it is known."""
        run_id = self.run_id(agent_id, job_id)
        session_id = ""
        if route.get("socket") and self._shell.adopt(run_id).state is RunState.RUNNING:
            session = self.session(agent_id, job_id, route["socket"])
            # What does not answer is killed.
            with contextlib.suppress(OjError, TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    health = await session.ask("GET", "health")
                    session_id = str(health.get("session_id") or "")
                    await session.ask("POST", "shutdown", {})
        await self._shell.end(run_id, grace_seconds=5.0)
        await self._shell.wait(run_id)
        self._shell.remove(run_id)
        if route.get("socket"):
            socket = self._where(agent_id, job_id, route["socket"])
            await asyncio.to_thread(Path(socket).unlink, missing_ok=True)
        return session_id

    def known(self, job_id: JobId) -> list[str]:
        """The ids of all sessions that a job has had."""
        folder = self._folder / job_id
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def forget(self, job_id: JobId) -> None:
        """Remove the files of a job's sessions."""
        shutil.rmtree(self._folder / job_id, ignore_errors=True)


def _remove_socket(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink(missing_ok=True)


Read = Callable[[str], str | None]
"""The text of a file where the agent works; None when there is none. Raises AdapterError."""


def config_of(order: SpawnAgent, read: Read) -> dict[str, object]:
    """The sidecar's configuration file (sidecar specification 2.5). Raises AdapterError."""
    start: dict[str, object] = {}
    if "" in order.prime:
        start["shell"] = [order.prime[""]]
    named = {source: {"shell": [script]} for source, script in order.prime.items() if source}
    if named:
        start["event"] = named
    stop: dict[str, object] = {"mode": order.stop}
    if order.stop_prompt:
        stop["prompt"] = order.stop_prompt
    prompt = order.message or ("" if order.session_id else _prompt(order, read))
    settings = _settings(order, read)
    return {"settings": settings, "stop": stop, "start": start, "prompt": prompt, **order.extra}


def settings_file(order: SpawnAgent) -> str:
    """The agent settings that the workspace may bring; empty where its driver has none."""
    can = drivers.load_driver(order.driver).capabilities
    return str(PurePosixPath(order.cwd) / ".claude" / "settings.json") if can.settings else ""


def _prompt(order: SpawnAgent, read: Read) -> str:
    """The first message; raises AdapterError when its file cannot be read or refers to what is not there."""
    if not order.prompt_file:
        return order.prompt
    text = read(order.prompt_file)
    if text is None:
        raise AdapterError(
            f"read the prompt file {order.prompt_file}: there is no such file", code="prompt_file"
        )
    try:
        return template.render(text, order.values, order.env)
    except OjError as error:
        raise AdapterError(
            f"fill in the prompt file {order.prompt_file}: {error.message}", code="prompt_file"
        ) from error


def _settings(order: SpawnAgent, read: Read) -> dict[str, object]:
    """What the workspace's own settings say, which ours are merged into. Raises AdapterError."""
    path = settings_file(order)
    text = read(path) if path else None
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.MsgspecError as error:
        raise AdapterError(
            f"read the agent's settings {path}: {error}; mend or remove it", code="settings"
        ) from error


def _read_here(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterError(f"read {path}: {error}", code="file") from error
