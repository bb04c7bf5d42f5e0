"""One agent session: the terminal, the machine and everybody who listens, joined.

Rule: all that happens goes into the machine through `tell`, and what comes out is carried out in order. Nothing is
decided here about the agent. Slow readers keep a position in what is remembered here; nobody is ever waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from oj_daemon import processes
from oj_daemon.drivers.base import AgentState, Json, LaunchPlan, Step
from oj_daemon.drivers.keys import ENTER, ESCAPE
from oj_daemon.errors import AdapterError
from oj_daemon.processes import COOKIE
from oj_daemon.sidecar import frames, keys
from oj_daemon.sidecar.journal import Journal
from oj_daemon.sidecar.machine import Machine
from oj_daemon.sidecar.options import Delays
from oj_daemon.sidecar.pty import Ended, Launch, Pty
from oj_daemon.sidecar.ring import Ring
from oj_daemon.sidecar.screen import BRACKETED_PASTE, open_screen
from oj_daemon.sidecar.sources import LogTail, Transcripts, epoch_ms
from oj_daemon.sidecar.tasks import Spawn, through
from oj_daemon.sidecar.values import (
    ApiReply,
    Broadcast,
    CancelTimer,
    ChildExited,
    ChildStarted,
    Exit,
    FollowLog,
    HookCalled,
    HookClosed,
    HookReply,
    Input,
    InputSeen,
    KeysTyped,
    LogLine,
    Note,
    Output,
    OutputSeen,
    ReadScreen,
    Restarting,
    SaveTranscript,
    ScreenSeen,
    SetTimer,
    TimerFired,
    Transition,
    TypeKeys,
)

logger = logging.getLogger(__name__)

STATE_FRAMES: Final = 4096
STATE_BYTES: Final = 4 * 1024 * 1024
MESSAGE_BYTES: Final = 4 * 1024 * 1024
HOOK_BYTES: Final = 2 * 1024 * 1024
HOOK_MOST: Final = 128 * 1024
"""Of one payload that is remembered; the machine gets all of it."""
OUTPUT_SEEN_SECONDS: Final = 0.1
_ALLOW: Final = HookReply(hook_id=0)
_BUSY: Final = (AgentState.WORKING, AgentState.PROMPT)
"""States in which there is something to interrupt before the end."""

T = TypeVar("T")


class Plans(msgspec.Struct, frozen=True):
    """How to start the agent the first time, and again with its conversation."""

    fresh: LaunchPlan
    again: Callable[[str], LaunchPlan]
    """Given the id of the conversation."""
    has_prompt: bool = False
    """The first one is started with a message."""
    is_groomed: bool = True
    """Harmless start-up dialogs are dismissed."""


class Session:
    """Everything about the one agent of this process."""

    def __init__(  # noqa: PLR0913 - the composition root hands over its parts
        self,
        machine: Machine,
        plans: Plans,
        *,
        env: Mapping[str, str],
        delays: Delays,
        folder: Path,
        size: tuple[int, int],
        ring_size: int,
        spawn: Spawn,
    ) -> None:
        self.machine = machine
        self.delays = delays
        self.folder = folder
        self.id = plans.fresh.session_id or secrets.token_hex(8)
        self._plans = plans
        self._env = env
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._born = self._loop.time()
        self.cols, self.rows = size
        self.screen = open_screen(self.cols, self.rows, self._reply)
        self.screen_seq = 0
        self.ring = Ring(ring_size)
        self.states = Journal(most=STATE_FRAMES, most_bytes=STATE_BYTES)
        self.messages = Journal(most=STATE_FRAMES, most_bytes=MESSAGE_BYTES)
        self.hooks = Journal(most=STATE_FRAMES, most_bytes=HOOK_BYTES)
        self.transcript_frames = Journal(most=256, most_bytes=64 * 1024)
        self.transcripts = Transcripts(folder / "transcripts")
        self.log = LogTail()
        self.pty: Pty | None = None
        self.ended: Ended | None = None
        self.child_over = asyncio.Event()
        """The agent and everything it started are gone; not set while it is being replaced."""
        self.is_stopping = False
        self.is_over = False
        """Nothing more will happen; listeners get the rest and are let go."""
        self.is_replacing = False
        self.listeners: set[asyncio.Event] = set()
        """Set after each change; whoever waits clears its own."""
        self.ws_clients = 0
        self.bytes_read = 0
        self._typing = asyncio.Lock()
        self._last_delivery = 0.0
        self._old: dict[Path | None, int] = {}
        """How much of a session log was there before the agent that now writes it."""
        self._inputs: deque[Input] = deque()
        self._is_telling = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._requests: dict[int, asyncio.Future[ApiReply]] = {}
        self._held: dict[int, asyncio.Future[HookReply]] = {}
        self._last_id = 0
        self._screen_told = -1
        self._screen_timer: asyncio.TimerHandle | None = None
        self._screen_due = 0.0
        self._output_told = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None
        self._log_timer: asyncio.TimerHandle | None = None
        self.on_idle_timeout: Callable[[], None] = _nothing

    # -- figures ---------------------------------------------------------------------------------------------------

    @property
    def uptime(self) -> int:
        """Whole seconds since the start."""
        return int(self._loop.time() - self._born)

    @property
    def pid(self) -> int | None:
        """Of the agent, while it runs."""
        return self.pty.pid if self.pty is not None and self.pty.ended is None else None

    @property
    def bytes_written(self) -> int:
        """Typed into the agent."""
        return 0 if self.pty is None else self.pty.bytes_written

    # -- the machine -----------------------------------------------------------------------------------------------

    def tell(self, what: Input) -> None:
        """Hand something to the machine and do what it says. What that leads to is told after it, in order."""
        self._inputs.append(what)
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._inputs:
                for output in self.machine.handle(self._inputs.popleft(), self._now()):
                    self._perform(output)
        finally:
            self._is_telling = False
        self._wake()

    async def ask(self, make: Callable[[int], Input]) -> ApiReply:
        """Hand a request to the machine and wait for its answer."""
        self._last_id += 1
        request_id = self._last_id
        future: asyncio.Future[ApiReply] = self._loop.create_future()
        self._requests[request_id] = future
        try:
            self.tell(make(request_id))
            return await future
        finally:
            self._requests.pop(request_id, None)

    async def hook(self, event: str, payload: Json) -> HookReply:
        """A hook of the agent waits, maybe for hours, for what to print."""
        self._last_id += 1
        hook_id = self._last_id
        future: asyncio.Future[HookReply] = self._loop.create_future()
        self._held[hook_id] = future
        self._remember_hook(event, payload)
        try:
            # What the agent wrote to its log before the hook is older than the hook.
            self.read_log()
            self.tell(HookCalled(hook_id, event, payload))
            return await future
        finally:
            self._held.pop(hook_id, None)
            if not future.done() or future.cancelled():
                self.tell(HookClosed(hook_id))

    def _remember_hook(self, event: str, payload: Json) -> None:
        head = {"event": "hook:raw", "hook_seq": self.hooks.last + 1, "timestamp_ms": epoch_ms()}
        text = frames.encode({**head, "data": {"event": event, "data": payload}})
        if len(text) > HOOK_MOST:
            text = frames.encode({**head, "data": {"event": event, "omitted_bytes": len(text)}})
        self.hooks.append(text)

    def _perform(self, output: Output) -> None:  # noqa: C901, PLR0912 - one match over a closed union
        match output:
            case Broadcast(event=event):
                shape = frames.event_shape(event) | {"timestamp_ms": epoch_ms()}
                self.states.append(frames.encode(shape), seq=event.seq)
                if isinstance(event, Transition):
                    self._watch_idleness(event.next)
                if isinstance(event, Transition | Exit):
                    logger.info("agent state", extra=_story(shape))
            case SetTimer(name=name, at_ms=at_ms):
                self._cancel(name)
                self._timers[name] = self._loop.call_at(at_ms / 1000, self._fire, name)
            case CancelTimer(name=name):
                self._cancel(name)
            case TypeKeys():
                self._spawn(self._type(output))
            case HookReply(hook_id=hook_id):
                if (held := self._held.get(hook_id)) is not None and not held.done():
                    held.set_result(output)
            case ApiReply(request_id=request_id):
                if (asked := self._requests.get(request_id)) is not None and not asked.done():
                    asked.set_result(output)
            case ReadScreen():
                self._inputs.append(self._screen_input())
            case FollowLog(path=path):
                self.log.follow(Path(path))
                self._loop.call_soon(self.read_log)
            case SaveTranscript():
                self.save_transcript()
            case Note(text=text):
                logger.info("%s", text)

    def _fire(self, name: str) -> None:
        self._timers.pop(name, None)
        self.tell(TimerFired(name))

    def _cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _now(self) -> int:
        return int(self._loop.time() * 1000)

    def _wake(self) -> None:
        for listener in self.listeners:
            listener.set()

    # -- the child -------------------------------------------------------------------------------------------------

    def start(self, plan: LaunchPlan | None = None) -> None:
        """Start the agent."""
        plan = self._plans.fresh if plan is None else plan
        for file in plan.files:
            _write_file(Path(file.path), file.text, file.mode)
        for note in plan.notes:
            logger.warning("%s", note)
        env = {**self._env, **plan.env}
        # An outer cookie stays: whoever ends that step ends this agent as well.
        env[COOKIE] = f"sidecar:{self.id} {env.get(COOKIE, '')}".rstrip()
        self.pty = Pty(
            Launch(argv=plan.argv, env=env, cols=self.cols, rows=self.rows),
            on_output=self._output,
            on_exit=self._exited,
        )
        self.ended = None
        if plan.transcript_path:
            path = Path(plan.transcript_path)
            with contextlib.suppress(OSError):
                self._old[path] = path.stat().st_size
        logger.info("agent started", extra={"pid": self.pty.pid, "program": plan.argv[0]})
        self.tell(
            ChildStarted(
                session_id=plan.session_id,
                transcript_path=plan.transcript_path,
                accept_dialogs=plan.accept_dialogs if self._plans.is_groomed else (),
                has_prompt=self._plans.has_prompt and plan is self._plans.fresh,
            )
        )
        if self._log_timer is None:
            self._poll_log()
        self._poll_screen()

    def _output(self, data: bytes) -> None:
        self.bytes_read += len(data)
        self.ring.append(data)
        self.screen.feed(data)
        self.screen_seq += 1
        self._wake()
        now = self._loop.time()
        if now - self._output_told >= OUTPUT_SEEN_SECONDS:
            self._output_told = now
            self.tell(OutputSeen())
        self._see_screen_by(now + self.delays.screen_debounce_ms / 1000)

    def _reply(self, data: bytes) -> None:
        if self.pty is not None:
            self.pty.reply(data)

    def _exited(self, ended: Ended) -> None:
        self.ended = ended
        logger.info("agent ended", extra={"code": ended.code, "signal": ended.signal})
        self.read_log()
        self.tell(self._screen_input())
        self._wake()
        if self.is_replacing:
            return  # whoever replaces it goes on from here
        self.tell(ChildExited(ended.code, ended.signal))
        if not self.is_stopping:
            self._spawn(self._sweep())

    async def _sweep(self) -> None:
        """End what the agent left behind."""
        if self.pty is not None:
            await self._end_child(min(self.delays.shutdown_timeout_ms, 2000) / 1000)
        self.child_over.set()
        self._wake()

    async def _end_child(self, hang_up_seconds: float) -> None:
        pty = self.pty
        if pty is None:
            return
        left = await pty.end(hang_up_seconds=hang_up_seconds)
        if left:
            pids = ", ".join(str(process.pid) for process in left)
            logger.error("processes of the agent do not end: %s", pids)
        pty.close()

    async def stop(self) -> None:
        """End the agent politely, then for good, with all it started; the API lives on meanwhile."""
        self.is_stopping = True
        self._wake()
        if self.pty is not None and self.pty.ended is None:
            await self._drain(self.pty)
        await self._end_child(self.delays.shutdown_timeout_ms / 1000)
        if self.ended is None:  # it never began
            self.ended = Ended(None, None)
        for held in self._held.values():
            if not held.done():
                held.set_result(_ALLOW)
        for timer in (
            *self._timers.values(),
            self._log_timer,
            self._screen_timer,
            self._idle_timer,
        ):
            if timer is not None:
                timer.cancel()
        self.child_over.set()
        self._wake()

    def say_goodbye(self) -> None:
        """Let listeners read what is left and go."""
        self.is_over = True
        self._wake()

    async def _drain(self, pty: Pty) -> None:
        patience = self.delays.drain_timeout_ms / 1000
        if self.machine.state not in _BUSY or not patience:
            return
        listener = asyncio.Event()
        self.listeners.add(listener)
        try:
            async with asyncio.timeout(patience):
                while pty.ended is None and self.machine.state in _BUSY:
                    pty.write(ESCAPE)
                    await self._until_calm(listener, pty)
        except (TimeoutError, AdapterError):
            pass
        finally:
            self.listeners.discard(listener)

    async def _until_calm(self, listener: asyncio.Event, pty: Pty) -> None:
        """Return when the agent is no longer busy, or when it is time to ask again."""
        try:
            async with asyncio.timeout(self.delays.drain_escape_ms / 1000):
                while pty.ended is None and self.machine.state in _BUSY:
                    listener.clear()
                    await listener.wait()
        except TimeoutError:
            return

    async def restart(self, *, force: bool) -> None:
        """Replace the agent by a new process with the same conversation; the caller has set `is_replacing`."""
        try:
            if not force and self.pty is not None and self.pty.ended is None:
                await self._until_idle(self.pty)
            if self.is_stopping:
                return
            session_id = self.machine.session_id or self.id
            self.tell(Restarting())
            await self._end_child(self.delays.shutdown_timeout_ms / 1000)
            self.screen.feed(b"\x1bc")
            self.ring.append(b"\x1bc")
            self.child_over.clear()
            self.start(self._plans.again(session_id))
        except AdapterError as error:
            logger.error("restart the agent: %s", error)
            self.tell(ChildExited(1, None))
        finally:
            self.is_replacing = False

    async def _until_idle(self, pty: Pty) -> None:
        listener = asyncio.Event()
        self.listeners.add(listener)
        try:
            while pty.ended is None and self.machine.state in _BUSY and not self.is_stopping:
                listener.clear()
                await listener.wait()
        finally:
            self.listeners.discard(listener)

    def kill_now(self) -> None:
        """For a sidecar that is told to vanish: no grace for the agent's own group."""
        if self.pid is not None:
            with _quietly():
                os.killpg(self.pid, signal.SIGKILL)

    def collect_orphans(self, spared: set[int]) -> None:
        """Collect ended processes that came to us as the subreaper; those of others stay."""
        mine = set() if self.pty is None or self.pty.ended is not None else {self.pty.pid}
        processes.collect_orphans(mine | spared)
        if self.pty is not None:
            self.pty.look()

    # -- input -----------------------------------------------------------------------------------------------------

    async def through(self, work: Coroutine[object, object, T]) -> T:
        """The result of something that is carried through even when whoever asked goes away in the middle."""
        return await through(self._spawn, work)

    async def type_raw(self, data: bytes) -> int:
        """Type for a client, never in the middle of somebody else's delivery."""
        return await self.through(self._type_raw(data))

    async def type_text(self, text: str, *, enter: bool) -> int:
        """Type text and, after a pause, Enter."""
        return await self.through(self._type_text(text, enter=enter))

    async def _type_raw(self, data: bytes) -> int:
        async with self._typing:
            pty = self._alive()
            pty.write(data)
            await pty.written(self.delays.write_timeout_ms / 1000)
        self.tell(InputSeen())
        return len(data)

    async def _type_text(self, text: str, *, enter: bool) -> int:
        data = text.encode()
        async with self._typing:
            pty = self._alive()
            pty.write(data)
            await pty.written(self.delays.write_timeout_ms / 1000)
            if enter:
                if data:
                    await asyncio.sleep(self._pause(len(data)))
                pty.write(ENTER)
                await pty.written(self.delays.write_timeout_ms / 1000)
        self.tell(InputSeen())
        return len(data) + (len(ENTER) if enter else 0)

    def _pause(self, size: int) -> float:
        most = self.delays.input_delay_max_ms
        extra = self.delays.input_delay_per_byte_ms * max(0, size - 256)
        return min(most, self.delays.input_delay_ms + extra) / 1000

    async def _type(self, order: TypeKeys) -> None:
        is_written = False
        try:
            async with self._typing:
                gap = self._last_delivery + self.delays.input_delay_ms / 1000 - self._loop.time()
                if gap > 0:
                    await asyncio.sleep(gap)
                await self._type_steps(order.keys)
                self._last_delivery = self._loop.time()
                is_written = True
        except AdapterError as error:
            logger.warning("%s", error)
        self.tell(KeysTyped(order.delivery_id, is_written))

    async def _type_steps(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            pty = self._alive()
            pty.write(step.data)
            await pty.written(self.delays.write_timeout_ms / 1000)
            if step.pause_ms:
                await asyncio.sleep(step.pause_ms / 1000)

    def _alive(self) -> Pty:
        if self.pty is None or self.pty.ended is not None:
            raise AdapterError("type into the agent: it has ended", code="exited")
        return self.pty

    def signal(self, number: int, reach: keys.Reach) -> None:
        """Signal the agent."""
        self._alive().signal(number, reach)

    def resize(self, cols: int, rows: int) -> None:
        """Change the size of the terminal."""
        self.cols, self.rows = cols, rows
        self.screen.resize(cols, rows)
        if self.pty is not None:
            self.pty.resize(cols, rows)
        self.screen_seq += 1
        self._wake()

    # -- screen and log --------------------------------------------------------------------------------------------

    def _screen_input(self) -> ScreenSeen:
        self._screen_told = self.screen_seq
        return ScreenSeen(self.screen.lines(), self.screen.mode(BRACKETED_PASTE))

    def _see_screen_by(self, due: float) -> None:
        """Look at the screen then, if not before."""
        if self._screen_timer is not None:
            if self._screen_due <= due:
                return
            self._screen_timer.cancel()
        self._screen_due = due
        self._screen_timer = self._loop.call_at(due, self._poll_screen)

    def _poll_screen(self) -> None:
        if self._screen_timer is not None:
            self._screen_timer.cancel()
            self._screen_timer = None
        if self.pty is None or self.pty.ended is not None:
            return
        # An idle agent whose screen has not changed says nothing new.
        if self._screen_told != self.screen_seq or self.machine.state is not AgentState.IDLE:
            self.tell(self._screen_input())
        self._see_screen_by(self._loop.time() + self.delays.screen_poll_ms / 1000)

    def read_log(self) -> None:
        """Tell every new line of the session log."""
        for line in self.log.read():
            self._tell_line(line)

    def _tell_line(self, line: str) -> None:
        try:
            data = msgspec.json.decode(line)
        except msgspec.MsgspecError:
            data = None
        is_old = self._old.get(self.log.path, 0) >= self.log.consumed
        if isinstance(data, dict):
            self.messages.append(
                frames.encode(
                    {"event": "message:raw", "data": data, "source": "log", "old": is_old}
                )
            )
        self.tell(LogLine(line, is_old))

    def _poll_log(self) -> None:
        self.read_log()
        if self.child_over.is_set():
            self._log_timer = None
            return
        is_quiet = self.machine.state is AgentState.IDLE
        pause = self.delays.log_poll_ms / 1000 * (4 if is_quiet else 1)
        self._log_timer = self._loop.call_later(pause, self._poll_log)

    def save_transcript(self) -> None:
        """Keep a copy of the session log."""
        if self.log.path is None:
            return
        saved = self.transcripts.save(self.log.path)
        if saved is not None:
            self.transcript_frames.append(
                frames.encode(
                    {
                        "event": "transcript:saved",
                        "number": saved.number,
                        "timestamp": saved.timestamp,
                        "line_count": saved.line_count,
                        "seq": self.transcript_frames.last + 1,
                    }
                )
            )
            self._wake()

    def _watch_idleness(self, state: AgentState) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if state is AgentState.IDLE and self.delays.idle_timeout_ms:
            self._idle_timer = self._loop.call_later(
                self.delays.idle_timeout_ms / 1000, self.on_idle_timeout
            )


def _nothing() -> None:
    """Until somebody wants to know."""


def _quietly() -> contextlib.suppress:
    """The process is gone already, or is not ours."""
    return contextlib.suppress(ProcessLookupError, ChildProcessError, PermissionError)


def _story(shape: Mapping[str, object]) -> dict[str, object]:
    return {
        name: shape[name]
        for name in ("event", "prev", "next", "seq", "cause", "code", "signal")
        if name in shape
    }


def _write_file(path: Path, text: str, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()  # half a file must not keep a full disk full
        raise AdapterError(f"write {path}: {error.strerror or error}", code="spawn") from error
