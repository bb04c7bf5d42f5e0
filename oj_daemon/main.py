"""The daemon: puts the parts together, says READY, and ends them in order.

Rule: the composition root; the only place that knows all parts, and the only one that ends the process. Nothing of the state
folder is touched before its lock is held, except to make the folder. Whatever goes wrong on the way is one line on stderr, the
same in the log, and exit code 1; where the log is JSON on stdout, it is one object there and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, Protocol, TextIO

from oj_daemon import listener, log, processes, settings
from oj_daemon.access import OWNER, Principal
from oj_daemon.attach import Upgrade
from oj_daemon.build import identity
from oj_daemon.errors import OjError, StoreError
from oj_daemon.probes import Probes
from oj_daemon.readiness import Readiness
from oj_daemon.settings import READY, Profile, Settings
from oj_daemon.store import files, lock
from oj_daemon.tenure import Hooks, Pulse, Tenure, elected, is_contested, refuse_nonsense
from oj_daemon.wire.names import PROTOCOL, Verb
from oj_daemon.wire.replies import AnyReply, Choice, DaemonInfo, DaemonStopping, Error
from oj_daemon.wire.requests import AgentAttach, AnyRequest, DaemonStatus, DaemonStop, is_change
from oj_daemon.works import Figures
from oj_daemon.works import start as start_works

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from oj_daemon import tls

logger = logging.getLogger(__name__)

USAGE: Final = """\
Usage: oj daemon    (or: python -m oj_daemon)

  Run the daemon in the foreground. It is configured by the environment alone.

  --recover          Start on a damaged log with what of it is sound; the damaged files are kept
  -v, -V, --version  Show the version and exit
  -h, --help         Show this and exit
"""
DETACHED: Final = "--detached"
"""Given by oj_cli/autostart.py: let go of the standard streams once READY is said."""
RECOVER: Final = "--recover"
"""Start on a damaged log or snapshot with what of it can be used; copies of the damaged files are kept."""
ALREADY_RUNNING: Final = 75
"""Exit code of a detached daemon that lost the race for the lock (EX_TEMPFAIL); by hand it is 1."""
KILL_SECONDS: Final = 10.0
"""How much longer an end with `kill` may take: everything that runs gets TERM, then KILL."""
LOG_BROKEN: Final = "the log can no longer be written; see oj daemon logs"
"""What a probe is told; where the log is, and what is wrong with it, is not for everybody who reaches the port."""


class AlreadyRunning(OjError):
    """Another daemon holds the lock; not a failure for whoever only wants one to run."""


class Works(Protocol):
    """Everything behind the listener."""

    @property
    def broken(self) -> asyncio.Future[None]:
        """Gets the StoreError when nothing can be made durable any more; until then it is pending."""

    async def handle(self, request: AnyRequest, who: Principal = OWNER) -> AnyReply | Upgrade:
        """Answer one request, as far as this principal may make it; raises Rejected where it may not."""

    def check(self, request: AnyRequest, who: Principal) -> AnyRequest:
        """Raise Rejected for what this principal may not ask."""

    def authenticate(self, token: str) -> Principal | None:
        """Whose token this is; None for one that opens nothing (any more)."""

    def local_principal(self, token: str) -> Principal | None:
        """Who a peer on the unix socket is, with the token that it brings; None when it is refused."""

    def figures(self) -> Figures:
        """How things are."""

    def tell(self, readiness: Readiness) -> None:
        """Keep it told of the conditions that are known here."""

    async def drain(self, *, kill: bool) -> None:
        """Let no further order leave; return when none is in flight. With `kill`, end what runs first.

        May be cancelled at any moment, when time is up.
        """

    async def close(self) -> None:
        """Write a snapshot and close the log."""


StartWorks = Callable[[Settings, Callable[[], None] | None], Awaitable[Works]]
"""The second is a guard: it raises StoreError when this daemon may act no more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon as the command line says; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = {word for word in (DETACHED, RECOVER) if word in arguments}
    detached = DETACHED in options
    if arguments in (["-v"], ["-V"], ["--version"]):
        _tell(sys.stdout, f"oj daemon {identity()}")
        return 0
    if arguments in (["-h"], ["--help"], ["help"]):
        _tell(sys.stdout, USAGE.rstrip("\n"))
        return 0
    unknown = [word for word in arguments if word not in options]
    if unknown:
        _tell(sys.stderr, f"Error: unexpected argument '{unknown[0]}'")
        return 1
    logging.getLogger().addHandler(
        logging.NullHandler()
    )  # until there is a log, stderr is told by us, once
    config: Settings | None = None
    try:
        config = settings.load()
        os.chdir(
            "/"
        )  # a daemon keeps nobody from removing or unmounting the folder it was started in
        probes = Probes(config)
        works = functools.partial(start_works, recover=RECOVER in options, metrics=probes.metrics)
        pulse = Pulse()
        with asyncio.Runner(loop_factory=pulse.loop) as runner:
            ending = runner.run(run(config, works, probes, detached=detached, pulse=pulse))
    except OjError as exc:
        is_heard = _hears_json(config) and not detached
        logger.critical("%s", exc.message, extra={"hint": exc.hint} if exc.hint else {})
        if not is_heard:
            _tell(sys.stderr, f"Error: {exc.message}" + (f"\nHint: {exc.hint}" if exc.hint else ""))
        return ALREADY_RUNNING if detached and isinstance(exc, AlreadyRunning) else 1
    except BaseException:
        # A bug: whoever started us sees the traceback, but only the log keeps it.
        is_heard = _hears_json(config) and not detached
        logger.critical("the daemon crashed", exc_info=True)
        if is_heard:
            return 1
        raise
    finally:
        log.tear_down()
    if not ending.clean:
        # Something (a thread, a child's pipe) would not end in time, and the interpreter would wait for it.
        os._exit(ending.code)
    return ending.code


def _hears_json(config: Settings | None) -> bool:
    """Whether the log is what whoever started us reads; then it is open from now on, also if nothing else came to be."""
    config = config or settings.log_alone()
    if config.speaks_json:
        log.set_up(config, version=identity(), pid=os.getpid())
    return config.speaks_json


class Ending(NamedTuple):
    """How a daemon came to its end."""

    code: int
    clean: bool
    """Everything that was in flight had ended."""


async def run(
    config: Settings,
    start: StartWorks,
    probes: Probes | None = None,
    *,
    detached: bool = False,
    pulse: Pulse | None = None,
) -> Ending:
    """From settings to the end of the daemon."""
    probes = probes or Probes(config)
    stop = Stop(probes.readiness)
    if config.log_stdout:
        log.set_up(config, version=identity(), pid=os.getpid())
        _announce(config, identity())
    with _signals(stop):
        refuse_nonsense(config)
        async with contextlib.AsyncExitStack() as opened:
            hooks = Hooks(
                functools.partial(_end_at_once, config), probes.on_lease, probes.note_api_call
            )
            if is_contested(config):  # one that stands by is alive, and is not ready
                await opened.enter_async_context(probes.answering())
            tenure = await opened.enter_async_context(elected(config, stop.asked, hooks, pulse))
            if tenure is None:
                return Ending(0, clean=True)
            ending = await _act(config, start, stop, tenure, probes, detached=detached)
            tenure.give_back = not stop.in_hurry
    logger.info("ended")
    return ending


async def _act(  # noqa: PLR0913 - the parts of a daemon
    config: Settings,
    start: StartWorks,
    stop: Stop,
    tenure: Tenure,
    probes: Probes,
    *,
    detached: bool,
) -> Ending:
    """All that only the one daemon of a state folder does."""
    version = identity()
    with _state_folder(config, version):
        if not config.log_stdout:
            # A file in the folder is nobody's but of whoever holds its lock.
            log.set_up(config, version=version, pid=os.getpid())
            _announce(config, version, tenure.choices)
        for warning in tenure.warnings:
            logger.warning("%s", warning)
        _refuse_what_is_missing(config)
        listener.check_path(config.socket_path)
        async with probes.answering() as warned:
            if not is_contested(config):
                probes.readiness.set("lease", True, "none is asked for")
            certificate = _certificate(config)
            works = await start(config, tenure.guard)
            works.tell(probes.readiness)
            works.broken.add_done_callback(lambda _: probes.readiness.fail(LOG_BROKEN))
            warnings = (*_warnings(config), *tenure.warnings, *warned)
            gate = Gate(config, works, stop, Shown(warnings, tenure.choices, certificate))
            async with _serving(config, gate, certificate):
                probes.readiness.set("log", True)
                if not config.speaks_json:  # else the log says it
                    _tell(sys.stdout, READY)
                logger.info(READY)
                if detached:
                    _let_go()
                await _until_stopped(works, stop)
                return await _drain(config, works, gate, stop)


def _end_at_once(config: Settings, why: str) -> NoReturn:
    """Another daemon may be at work: no drain, no snapshot, no file is removed, nothing that is due is done."""
    message = f"this daemon may act no more: {why}"
    logger.critical("%s", message)
    if not config.speaks_json:
        _tell(sys.stderr, f"Error: {message}")
    log.tear_down()
    os._exit(1)


class Shown(NamedTuple):
    """What `oj daemon status` tells besides the settings."""

    warnings: tuple[str, ...] = ()
    choices: tuple[settings.Choice, ...] = ()
    """Decided after the settings."""
    certificate: tls.Keeper | None = None


class Gate:
    """Stands before the works: stops them, answers how they are, and lets no change in once they drain."""

    def __init__(
        self,
        config: Settings,
        works: Works,
        stop: Stop,
        shown: Shown = Shown(),  # noqa: B008 - immutable
    ) -> None:
        self._config = config
        self._shown = shown
        self._works = works
        self._stop = stop
        self._started = time.monotonic()
        self._changes = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def authenticate(self, token: str) -> Principal | None:
        """Whose token this is; None for one that opens nothing (any more)."""
        return self._works.authenticate(token)

    def local_principal(self, token: str) -> Principal | None:
        """Who a peer on the unix socket is, with the token that it brings; None when it is refused."""
        return self._works.local_principal(token)

    def whose(self, token: str, is_local: bool) -> Principal | None:
        """The same for the listener, which knows at which door it was shown."""
        return self.local_principal(token) if is_local else self.authenticate(token)

    async def handle(self, request: AnyRequest, who: Principal = OWNER) -> AnyReply | Upgrade:
        """Answer one request, as far as this principal may make it; raises Rejected where it may not."""
        if is_change(request) or isinstance(request, AgentAttach):
            if self._stop.asked.done():
                return Error(
                    "daemon is draining",
                    code="unavailable",
                    hint="try again when it is back: oj daemon status",
                )
            return await self._change(request, who)
        if isinstance(request, DaemonStatus | DaemonStop):
            self._works.check(request, who)
        if isinstance(request, DaemonStatus):
            info = self._info()
            return info if who.is_full or Verb.DAEMON in who.verbs else _brief(info)
        if isinstance(request, DaemonStop):
            self._stop.ask("a request" if who.is_full else who.name, kill=request.kill)
            return DaemonStopping(
                pid=os.getpid(),
                drain_seconds=drain_seconds(self._config, kill=self._stop.kill),
                jobs_active=self._works.figures().jobs_active,
            )
        return await self._works.handle(request, who)

    async def quiet(self) -> None:
        """Wait until every change that was let in has been answered."""
        await self._quiet.wait()

    async def _change(self, request: AnyRequest, who: Principal) -> AnyReply | Upgrade:
        self._changes += 1
        self._quiet.clear()
        try:
            return await self._works.handle(request, who)
        finally:
            self._changes -= 1
            if not self._changes:
                self._quiet.set()

    def _info(self) -> DaemonInfo:
        seconds = int(time.monotonic() - self._started)
        figures = self._works.figures()
        certificate = self._shown.certificate
        return DaemonInfo(
            status="draining" if self._stop.asked.done() else "running",
            version=identity(),
            protocol=PROTOCOL,
            pid=os.getpid(),
            uptime_secs=seconds,
            uptime=uptime(seconds),
            jobs_active=figures.jobs_active,
            orphan_count=0,
            state_dir=self._config.state_folder,
            profile=self._config.profile,
            epoch=figures.epoch,
            seq=figures.seq,
            address=address(self._config),
            tls_fingerprint=certificate.fingerprint if certificate is not None else "",
            settings=tuple(
                Choice(*choice) for choice in (*self._config.choices(), *self._shown.choices)
            ),
            warnings=(*self._shown.warnings, *figures.warnings),
            ready=self._stop.readiness.is_ready,
            waits_for=self._stop.readiness.waits_for,
            notifications_waiting=figures.notifications_waiting,
        )


class Stop:
    """Whether somebody wants the daemon to end, and how soon."""

    def __init__(self, readiness: Readiness) -> None:
        self.readiness = readiness
        readiness.set("draining", True, "no")
        self.asked: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.kill = False
        self.in_hurry = False
        self.signal = 0
        self._limit: asyncio.Timeout | None = None

    def ask(self, who: str, *, kill: bool = False) -> None:
        """Begin to end."""
        logger.info("stop asked for by %s%s", who, ", ending everything that runs" if kill else "")
        self.kill = self.kill or kill
        if not self.asked.done():
            self.readiness.set("draining", False, f"stop asked for by {who}")
            self.asked.set_result(None)

    def on_signal(self, number: signal.Signals) -> None:
        """A first signal asks; one during the drain cuts it short."""
        self.signal = number
        if not self.asked.done():
            self.ask(number.name)
            return
        logger.warning("%s while draining: ending at once", number.name)
        self.in_hurry = True
        self._strike()

    @contextlib.asynccontextmanager
    async def within(self, seconds: float | None) -> AsyncIterator[None]:
        """Raise TimeoutError when the time is up, or when somebody is in a hurry."""
        async with asyncio.timeout(seconds) as limit:
            self._limit = limit
            self._strike()
            try:
                yield
            finally:
                self._limit = None

    def _strike(self) -> None:
        if self.in_hurry and self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())


def _brief(info: DaemonInfo) -> DaemonInfo:
    """What everybody who got in may know: that it runs, and whether they understand each other."""
    return DaemonInfo(
        status=info.status,
        version=info.version,
        protocol=info.protocol,
        pid=0,
        uptime_secs=0,
        uptime="",
        jobs_active=0,
        orphan_count=0,
        state_dir="",
        profile="",
        epoch=0,
        seq=0,
    )


def drain_seconds(config: Settings, *, kill: bool) -> float:
    """The longest that a drain may take."""
    return config.drain_ms / 1000 + (KILL_SECONDS if kill else 0)


def uptime(seconds: int) -> str:
    """`1h 2m 3s`, beginning with the first part that is not zero."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours}h"] * bool(hours) + [f"{minutes}m"] * bool(hours or minutes) + [f"{left}s"]
    return " ".join(parts)


@contextlib.contextmanager
def _state_folder(config: Settings, version: str) -> Iterator[None]:
    """Hold the state folder, and say in it who we are."""
    folder = config.state_dir
    lock.prepare_state_dir(folder, trust_owner=config.profile is Profile.CLUSTER)
    held = _acquire(config) if config.file_lock else None
    try:
        record = lock.DaemonRecord(
            pid=os.getpid(),
            start_time=lock.start_time(os.getpid()),
            boot_id=lock.boot_id(),
            version=version,
            protocol=PROTOCOL,
            started_at=int(time.time() * 1000),  # noqa: TID251 - for people, decides nothing
        )
        try:
            lock.write_pid(folder, record)
            try:
                files.replace_file(config.version_path, f"{version}\n".encode(), durable=False)
            except OSError as exc:
                raise files.store_error(exc, "write", config.version_path) from exc
            yield
        finally:
            if lock.read_pid(folder) == record:
                with contextlib.suppress(OSError):
                    config.version_path.unlink()
                lock.remove_pid(folder, record)
    finally:
        if held is not None:
            held.release()


def _acquire(config: Settings) -> BaseFileLock:
    try:
        return lock.acquire(config.state_dir)
    except StoreError as exc:
        if exc.code != "conflict":
            raise
        raise AlreadyRunning(exc.message, code=exc.code, hint=exc.hint) from exc


def _announce(config: Settings, version: str, more: Sequence[settings.Choice] = ()) -> None:
    """The first line of the log: every decision with its reason; and what everybody should see."""
    choices = (*config.choices(), *more)
    decisions = "; ".join(f"{name}={value} ({reason})" for name, value, reason in choices)
    logger.info("oj daemon %s, protocol %d, pid %d: %s", version, PROTOCOL, os.getpid(), decisions)
    for warning in _warnings(config):
        logger.warning("%s", warning)


def _warnings(config: Settings) -> tuple[str, ...]:
    warnings = list(config.warnings)
    if config.tcp_port is not None and not config.tls:
        warnings.append(
            f"the port {config.tcp_port} is plain text (OJ_TLS=off): whoever listens in reads the token"
        )
    return tuple(warnings)


def _refuse_what_is_missing(config: Settings) -> None:
    """What was asked for by name works, or the daemon ends: nobody should believe in a port that is not open."""
    if config.tcp_port is not None and not config.token:
        raise OjError(
            f"OJ_TCP_PORT={config.tcp_port}: without a token anybody could connect",
            code="invalid",
            hint="set OJ_AUTH_TOKEN or OJ_AUTH_TOKEN_FILE, or OJ_TCP_PORT=off",
        )
    if config.runtime == "docker":  # only by its variable
        raise OjError(
            "OJ_RUNTIME=docker: this version of oj cannot do that",
            code="invalid",
            hint="unset OJ_RUNTIME",
        )


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in handled:
        loop.add_signal_handler(number, stop.on_signal, number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _serving(
    config: Settings, gate: Gate, certificate: tls.Keeper | None
) -> AsyncIterator[None]:
    usual = listener.Limits()
    limits = usual._replace(
        first_seconds=config.timeout_ipc_ms / 1000,
        # A quarter of the files that we may open: steps and the log need theirs.
        connections=min(usual.connections, processes.descriptor_limit() // 4),
    )
    remote = None
    if config.tcp_port is not None:
        context = certificate.context if certificate is not None else None
        remote = listener.Remote(config.tcp_bind, config.tcp_port, context)
    async with listener.listen(
        config.socket_path, gate.handle, limits, authenticate=gate.whose, remote=remote
    ):
        if remote is not None:
            shown = f", SHA-256 {certificate.fingerprint}" if certificate is not None else ""
            logger.info("listening on %s%s", address(config), shown)
        yield


def _certificate(config: Settings) -> tls.Keeper | None:
    """What the daemon shows to those from afar; None when they are not let in, or in plain text."""
    if config.tcp_port is None or not config.tls:
        return None
    from oj_daemon import tls  # noqa: PLC0415 - 20 ms that a daemon without a port does not pay

    return tls.keep(config)


def address(config: Settings) -> str:
    """Where the daemon listens for those from afar, as a URL; empty when it does not."""
    if config.tcp_port is None:
        return ""
    host = f"[{config.tcp_bind}]" if ":" in config.tcp_bind else config.tcp_bind
    return f"{'tls' if config.tls else 'tcp'}://{host}:{config.tcp_port}"


async def _until_stopped(works: Works, stop: Stop) -> None:
    """Wait until somebody wants the daemon to end; the StoreError of broken works comes out of here."""
    await asyncio.wait((works.broken, stop.asked), return_when=asyncio.FIRST_COMPLETED)
    if works.broken.done():
        works.broken.result()


async def _drain(config: Settings, works: Works, gate: Gate, stop: Stop) -> Ending:
    """Let what is in flight finish, within the time for it, and close the log."""
    seconds = drain_seconds(config, kill=stop.kill)
    logger.info("draining for at most %g s", seconds)
    clean = True
    try:
        async with stop.within(seconds):
            await gate.quiet()
            await works.drain(kill=stop.kill)
    except TimeoutError:
        clean = False
    if not clean and not stop.in_hurry:
        logger.warning("drain took longer than %g s: the next daemon picks up the rest", seconds)
    try:
        async with stop.within(None):
            await works.close()
    except TimeoutError:
        # The log is whole without a snapshot; replaying it takes the next daemon a little longer.
        logger.warning("no snapshot was written")
    return Ending(128 + stop.signal, clean=False) if stop.in_hurry else Ending(0, clean)


def _let_go() -> None:
    """Leave the standard streams to whoever started us: the log is the only place where we speak from now on."""
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _tell(stream: TextIO | None, text: str) -> None:
    """Say something to whoever started us; that nobody listens is no reason to fail."""
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.write(text + "\n")
            stream.flush()
