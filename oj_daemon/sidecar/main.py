"""`oj-sidecar`: options to wiring, signals, and the end.

Rule: the exit code of the agent is ours. What cannot work is said on stderr before the API can be reached: 2 for a wrong
command line, 1 for everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from oj_daemon import log, processes, settings
from oj_daemon.build import identity
from oj_daemon.drivers import load_driver
from oj_daemon.drivers.base import LaunchPlan
from oj_daemon.errors import AdapterError, OjError
from oj_daemon.settings import Secret
from oj_daemon.sidecar import config, entrance, launching, options
from oj_daemon.sidecar.config import AgentConfig
from oj_daemon.sidecar.machine import Machine
from oj_daemon.sidecar.options import Options
from oj_daemon.sidecar.tasks import Tasks

if TYPE_CHECKING:
    from oj_daemon.sidecar.exec import Execs
    from oj_daemon.sidecar.session import Session

logger = logging.getLogger(__name__)

EXIT_FATAL: Final = 1
EXIT_USAGE: Final = 2
EXIT_IMPATIENT: Final = 130
FLUSH_SECONDS: Final = 2.0
"""How long listeners get to read the last frames."""
EXEC_GRACE_SECONDS: Final = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    environ = settings.inherited().reveal()
    if args in (["-v"], ["-V"], ["--version"]):
        sys.stdout.write(f"oj-sidecar {identity()}\n")
        return 0
    if args in (["-h"], ["--help"]):
        sys.stdout.write(options.parser().format_help())
        return 0
    if args[:1] == ["send"]:
        from oj_daemon.sidecar.send import send  # noqa: PLC0415 - agents call it; it needs no other part

        return send(args[1:], environ)
    try:
        chosen = options.parse(args, environ)
    except options.Usage as error:
        return _say(error, EXIT_USAGE)
    try:
        _log_to(chosen)
        ended = asyncio.run(_run(chosen, environ))
    except OjError as error:
        logger.critical("%s", error.message)
        return _say(error, EXIT_FATAL)
    return EXIT_FATAL if ended is None else ended


def _say(error: OjError, code: int) -> int:
    hint = f"\nhint: {error.hint}" if error.hint else ""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"error: {error.message}{hint}\n")
    return code


async def _run(chosen: Options, environ: Mapping[str, str]) -> int | None:
    """From options to the exit code of the agent."""
    processes.become_subreaper()
    processes.seal_descriptors()
    wanted = config.read(chosen.config)
    chosen = _anchored(chosen)
    if chosen.is_place:
        from oj_daemon.sidecar import place  # noqa: PLC0415 - aiohttp, as below

        folder = _folder(chosen, environ, "")
        _enter(chosen.cwd)
        return await place.run(chosen, environ, folder)
    _enter(chosen.cwd)
    # One for each session: the default must not mix with another's.
    fresh_id = str(uuid.uuid4())  # noqa: TID251 - the agent insists on a uuid, and no turn gives one here
    folder = _folder(chosen, environ, fresh_id)
    hook_token = Secret(secrets.token_urlsafe(24) if chosen.token else "")
    if chosen.tls_cert and not chosen.socket:
        # Hooks speak no TLS: they get a way of their own.
        chosen = msgspec.structs.replace(chosen, socket=str(folder / "hooks.sock"))
    with contextlib.ExitStack() as opened:
        made, url = entrance.bind(chosen, opened)
        child_env = launching.child_env(chosen, environ, hook_token, url)
        driver = load_driver(chosen.agent).configured(wanted.screen)
        plans = launching.plans(driver, chosen, wanted, child_env, folder, fresh_id)
        machine = Machine(driver, launching.timing(chosen.delays), wanted.stop, wanted.start)
        sidecar = Sidecar(chosen)
        failed: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                sidecar.enter(group)
                await sidecar.serve(machine, plans, (wanted, child_env, folder), (made, hook_token))
        except* OjError as errors:
            failed += errors.exceptions
        for error in failed:
            raise error
        return sidecar.exit_code


class Sidecar:
    """The running program: parts, signals, and the order in which they end."""

    def __init__(self, chosen: Options) -> None:
        self._chosen = chosen
        self._ending = asyncio.Event()
        self._tasks = Tasks()
        self._is_impatient = False
        self.exit_code: int | None = None

    def enter(self, group: asyncio.TaskGroup) -> None:
        """Where its tasks run."""
        self._tasks.group = group

    def spawn(self, work: Coroutine[object, object, None]) -> object:
        """Run something beside everything else; its failure is logged and ends nothing."""
        return self._tasks.spawn(work)

    async def serve(
        self,
        machine: Machine,
        plans: tuple[LaunchPlan, Callable[[str], LaunchPlan]],
        child: tuple[AgentConfig, Mapping[str, str], Path],
        entry: tuple[Sequence[socket.socket], Secret[str]],
    ) -> None:
        """Start the agent, answer until the end, end everything."""
        # 300 ms and 15 MB that `send`, --help and a wrong command line do not pay.
        from aiohttp import web  # noqa: PLC0415

        from oj_daemon.sidecar.admission import Tokens  # noqa: PLC0415
        from oj_daemon.sidecar.api import Api  # noqa: PLC0415
        from oj_daemon.sidecar.exec import Execs  # noqa: PLC0415
        from oj_daemon.sidecar.server import Server  # noqa: PLC0415
        from oj_daemon.sidecar.session import Plans, Session  # noqa: PLC0415
        from oj_daemon.sidecar.steps import Steps  # noqa: PLC0415

        chosen = self._chosen
        wanted, child_env, folder = child
        sockets, hook_token = entry
        session = Session(
            machine,
            Plans(*plans, has_prompt=bool(wanted.prompt), is_groomed=chosen.groom == "auto"),
            env=child_env,
            delays=chosen.delays,
            folder=folder,
            size=(chosen.cols, chosen.rows),
            ring_size=chosen.ring_size,
            spawn=self.spawn,
        )
        session.on_idle_timeout = self.end
        # Steps are not the agent: what is for its hooks is not for them.
        exec_env = options.without_ours(child_env)
        execs = Execs(folder / "exec", exec_env, self.spawn, Path.cwd())
        api = Api(
            session,
            (chosen.agent, identity()),
            (wanted.stop, wanted.start),
            self.end,
            self.spawn,
        )
        server = Server(
            api,
            Steps(session, execs),
            Tokens(chosen.token, hook_token),
            needs_certificate=bool(chosen.client_ca),
        )
        runner = web.AppRunner(
            server.application(),
            access_log=None,
            handle_signals=False,
            # A hook that is gone must be noticed: its agent answered in another way, or died.
            handler_cancellation=True,
            shutdown_timeout=FLUSH_SECONDS,
        )
        await runner.setup()
        try:
            self._listen_to_signals(session, execs)
            session.start()
            context = entrance.tls_context(chosen)
            for made in sockets:
                is_tcp = made.family != socket.AF_UNIX
                await web.SockSite(runner, made, ssl_context=context if is_tcp else None).start()
            logger.info("sidecar ready", extra={"agent": chosen.agent, "session": session.id})
            if chosen.exit_with_child is not None:
                self.spawn(self._end_with_child(session, chosen.exit_with_child))
            await self._ending.wait()
            await self._wind_up(session, execs)
        finally:
            session.kill_now()
            await runner.cleanup()
            self._tasks.cancel()

    def end(self) -> None:
        """Begin the end; the API answers until the agent is gone."""
        self._ending.set()

    async def _end_with_child(self, session: Session, seconds: float) -> None:
        await session.child_over.wait()
        await asyncio.sleep(seconds)
        self.end()

    async def _wind_up(self, session: Session, execs: Execs) -> None:
        stopping = self._tasks.group.create_task(session.stop())
        await execs.end_all(EXEC_GRACE_SECONDS)
        await stopping
        ended = session.ended
        self.exit_code = None if ended is None else ended.code
        session.say_goodbye()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                while session.ws_clients:  # noqa: ASYNC110 - the last frames are on their way
                    await asyncio.sleep(0.01)
        logger.info("sidecar ends", extra={"exit_code": self.exit_code})

    def _listen_to_signals(self, session: Session, execs: Execs) -> None:
        loop = asyncio.get_running_loop()

        def told() -> None:
            if self._is_impatient:
                session.kill_now()
                os._exit(EXIT_IMPATIENT)
            self._is_impatient = True
            self.end()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told)
        loop.add_signal_handler(signal.SIGHUP, self.end)
        loop.add_signal_handler(signal.SIGCHLD, lambda: session.collect_orphans(execs.wrappers))


# -- wiring --------------------------------------------------------------------------------------------------------


def _log_to(chosen: Options) -> None:
    hidden = [text for text in (chosen.token.reveal(),) if text]
    try:
        handler: logging.Handler = (
            log.PrivateFileHandler(
                chosen.log_file, maxBytes=log.MAX_BYTES, backupCount=1,
                encoding="utf-8", errors="backslashreplace",
            )
            if chosen.log_file
            else logging.StreamHandler(sys.stderr)
        )  # fmt: skip
    except OSError as error:
        raise AdapterError(f"open the log {chosen.log_file}: {error.strerror}") from error
    is_json = chosen.log_format == "json"
    handler.setFormatter(log.JsonFormatter(hidden) if is_json else log.TextFormatter(hidden))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(chosen.log_level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _anchored(chosen: Options) -> Options:
    """Relative paths are the caller's, so they are resolved before we go elsewhere."""
    return msgspec.structs.replace(
        chosen,
        socket=str(Path(chosen.socket).absolute()) if chosen.socket else "",
        session_dir=str(Path(chosen.session_dir).absolute()) if chosen.session_dir else "",
    )


def _enter(cwd: str) -> None:
    # The agent inherits it: starting a program by posix_spawn knows no directory.
    try:
        if cwd:
            os.chdir(cwd)
    except OSError as error:
        raise AdapterError(f"work in {cwd}: {error.strerror}", code="cwd") from error


def _folder(chosen: Options, environ: Mapping[str, str], session_id: str) -> Path:
    base = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME') or '/tmp'}/.local/state"  # noqa: S108 - the last resort, and the folder is private
    folder = Path(chosen.session_dir or f"{base}/oj-sidecar/sessions/{session_id}").absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AdapterError(f"make the session folder {folder}: {error.strerror}") from error
    return folder


if __name__ == "__main__":
    sys.exit(main())
