"""Client of a sidecar's API: what an agent does becomes facts, what is decided reaches it.

Rule: news is asked for from the last number that is known, so a connection that breaks misses nothing and repeats nothing.
Whether the agent lives is never concluded from a broken connection: `is_up` says whether its sidecar still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from oj_daemon.core import events
from oj_daemon.core.events import (
    AgentAnswering,
    AgentExited,
    AgentReported,
    AgentStopBlocked,
    Choice,
    Prompt,
    Question,
)
from oj_daemon.errors import AdapterError
from oj_daemon.wire.names import AgentId, PromptKind

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.2
REPLY_SECONDS: Final = 30.0
"""Longest wait for one reply; a nudge is answered when it is typed."""
CLOSE_SECONDS: Final = 1.0
"""How long a sidecar that is left may take to say goodbye: a daemon that ends does not wait for one that hangs."""
REMAINS_SECONDS: Final = 10.0
"""How long the end of a session may wait for what it leaves."""
QUIET_SECONDS: Final = 30.0
"""Heartbeat of the stream."""
STATES: Final = {"restarting": "starting"}
"""States of a sidecar that mean another one to us."""


ASIDE: Final = ("message:raw", "usage:update", "lagged")
"""Frames that are no news of the state."""
PAST_ALL: Final = 1 << 60


class Ear(Protocol):
    """Who wants to know what the agent does, besides its state."""

    position: int
    """The entry of the session log that was heard last."""

    def hear(self, frame: Mapping[str, Any]) -> None:
        """Take a frame of ASIDE."""
        ...


class Remains(NamedTuple):
    """What a session leaves to be looked at; None for what could not be had."""

    screen: dict[str, Any] | None = None
    transcript: str | None = None
    usage: dict[str, Any] | None = None


class Transport(Protocol):
    """The way to one sidecar."""

    @property
    def base(self) -> str:
        """What the URL of each of its endpoints begins with, without a slash at the end."""
        ...

    def connected(self) -> contextlib.AbstractAsyncContextManager[ClientSession]:
        """A client that reaches it, for one request or one stream."""
        ...


class UnixTransport:
    """A sidecar on this machine, by its unix socket."""

    base = "http://sidecar"

    def __init__(self, socket: str) -> None:
        self._socket = socket

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[ClientSession]:
        """A client with a connection of its own."""
        import aiohttp  # noqa: PLC0415 - 200 ms and 10 MB, for daemons that run agents

        connector = aiohttp.UnixConnector(path=self._socket)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REPLY_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as client:
            yield client


class Session:
    """One sidecar, wherever it is."""

    def __init__(
        self,
        agent_id: AgentId,
        transport: Transport,
        is_up: Callable[[], bool],
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.agent_id = agent_id
        self._transport = transport
        self._is_up = is_up
        self._pause = pause
        """Returns after so many seconds, or as soon as `is_up` may say something else."""

    async def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """One request to `/api/v1`; raises AdapterError when there is no answer, or a refusal."""
        import aiohttp  # noqa: PLC0415 - see above

        try:
            async with (
                asyncio.timeout(REPLY_SECONDS),
                self._transport.connected() as client,
                client.request(method, f"{self._transport.base}/api/v1/{path}", json=body) as reply,
            ):
                text = await reply.read()
                if reply.status >= 400:
                    raise AdapterError(_refusal(text), code=str(reply.status))
                decoded: dict[str, Any] = msgspec.json.decode(text or b"{}")
                return decoded
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            raise AdapterError(
                f"ask the agent's sidecar for {path}: {type(error).__name__}: {error}",
                code="unreachable",
            ) from error

    async def follow(
        self, since: int, report: Callable[[events.AgentEvent], None], ear: Ear | None = None
    ) -> AgentExited:
        """Report every state after number `since`; returns when the agent has exited or nothing of it is left."""
        import aiohttp  # noqa: PLC0415 - see above

        while True:
            try:
                async with self._transport.connected() as client:
                    url = f"/ws?subscribe=state&since_seq={since}"
                    if ear is not None:
                        ear.hear({"event": "usage:update", "cumulative": await self.usage()})
                        url = f"/ws?subscribe=state,messages,usage&since_seq={since}&since_message={ear.position}"
                    async with client.ws_connect(
                        self._transport.base + url,
                        heartbeat=QUIET_SECONDS,
                        max_msg_size=0,
                        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                    ) as stream:
                        async for message in stream:
                            if message.type is not aiohttp.WSMsgType.TEXT:
                                continue
                            frame = msgspec.json.decode(message.data)
                            if ear is not None and frame.get("event") in ASIDE:
                                ear.hear(frame)
                                continue
                            if (
                                frame.get("event") == "stop:outcome"
                                and frame.get("type") == "blocked"
                            ):
                                report(AgentStopBlocked(agent_id=self.agent_id))
                            exited = self._exit(frame)
                            if exited is not None:
                                return exited
                            fact = self._report(frame)
                            if fact is not None:
                                since = max(since, fact.seq)
                                report(fact)
            except (aiohttp.ClientError, AdapterError, OSError, msgspec.MsgspecError) as error:
                logger.debug("stream of %s broke: %s", self.agent_id, error)
            if not self._is_up():
                return AgentExited(agent_id=self.agent_id, reason="its session is gone")
            await self._pause(RETRY_SECONDS)

    async def catch_up(self, ear: Ear) -> bool:
        """Hear what the session log holds besides; for the end of a session, after which nothing more comes.

        Returns whether there was an answer.
        """
        path = f"events/catchup?since_seq={PAST_ALL}&since_hook_seq={PAST_ALL}&since_message={ear.position}"
        try:
            async with asyncio.timeout(REMAINS_SECONDS):
                found = await self.ask("GET", path)
        except (AdapterError, TimeoutError):
            return False
        for frame in found.get("messages", ()):
            ear.hear(frame)
        return True

    async def usage(self) -> dict[str, Any]:
        """What was spent so far."""
        return await self.ask("GET", "session/usage")

    async def screen(self) -> dict[str, Any]:
        """What the terminal shows now."""
        return await self.ask("GET", "screen")

    async def remains(self) -> Remains:
        """The last screen, the whole transcript and the usage, as far as they can be had."""
        screen = usage = None
        transcript: str | None = None
        with contextlib.suppress(AdapterError, TimeoutError):
            async with asyncio.timeout(REMAINS_SECONDS):
                screen = await self.screen()
                usage = await self.usage()
                found = await self.ask("GET", "transcripts/catchup")
                kept = [line for each in found["transcripts"] for line in each["lines"]]
                lines = [*kept, *found["live_lines"]]
                transcript = "".join(f"{line}\n" for line in lines) if lines else None
        return Remains(screen, transcript, usage)

    async def log_since(self, copies: int, line: int) -> tuple[list[str], int, int]:
        """Lines of the session log from one on, and where it ends: how many copies were made of it, and its lines.

        Where that is another number of copies (-1: none is known), everything is given: the copies, then what is new.
        """
        found: dict[str, Any] = {}
        if copies >= 0:
            query = f"since_transcript={copies}&since_line={line}"
            found = await self.ask("GET", f"transcripts/catchup?{query}")
        if found.get("current_transcript") != copies:
            found = await self.ask("GET", "transcripts/catchup")
        kept = [text for each in found["transcripts"] for text in each["lines"]]
        lines = [*kept, *found["live_lines"]]
        return lines, int(found["current_transcript"]), int(found["current_line"])

    @contextlib.asynccontextmanager
    async def terminal(self, cols: int, rows: int) -> AsyncIterator[ClientWebSocketResponse]:
        """The agent's terminal as a stream of bytes; raises AdapterError when there is none, or it breaks."""
        import aiohttp  # noqa: PLC0415 - see above

        size = f"?cols={cols}&rows={rows}" if cols and rows else ""
        try:
            async with (
                self._transport.connected() as client,
                client.ws_connect(
                    f"{self._transport.base}/ws/raw{size}",
                    heartbeat=QUIET_SECONDS,
                    max_msg_size=0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                ) as socket,
            ):
                yield socket
        except (aiohttp.ClientError, OSError) as error:
            raise AdapterError(
                f"enter the agent's terminal: {type(error).__name__}: {error}", code="unreachable"
            ) from error

    def _exit(self, frame: Mapping[str, Any]) -> AgentExited | None:
        if frame.get("event") == "exit" or (
            frame.get("event") == "transition" and frame.get("next") == "exited"
        ):
            code, number = frame.get("code"), frame.get("signal")
        else:
            return None
        reason = f"killed by signal {number}" if number is not None else ""
        return AgentExited(agent_id=self.agent_id, exit_code=code, reason=reason)

    def _report(self, frame: Mapping[str, Any]) -> AgentReported | None:
        if frame.get("event") == "stalled":
            seconds = int(frame.get("age_ms", 0)) // 1000
            detail = (
                f"{frame.get('state')} for {seconds} s without a sign of life ({frame.get('type')})"
            )
            return AgentReported(
                agent_id=self.agent_id,
                seq=int(frame.get("seq", 0)),
                state="stalled",
                error="stalled",
                detail=detail,
            )
        if frame.get("event") != "transition":
            return None
        shown = frame.get("prompt")
        if shown is not None and (not shown.get("ready", True) or shown.get("groomed")):
            # Its options are still being read, or it is being dismissed: if need be, the same number comes again.
            return None
        state = str(frame.get("next", "unknown"))
        return AgentReported(
            agent_id=self.agent_id,
            seq=int(frame.get("seq", 0)),
            state=STATES.get(state, state),
            prompt=_prompt(shown) if shown is not None else None,
            error=str(frame.get("error_category") or ""),
            detail=str(frame.get("error_detail") or ""),
            last_message=str(frame.get("last_message") or ""),
            session_id=str(frame.get("session_id") or ""),
        )

    async def nudge(self, number: int, message: str) -> str:
        """Type a message, once for each number; says why not, empty when it was typed."""
        body = {"message": message, "id": str(number)}
        try:
            reply = await self.ask("POST", "agent/nudge", body)
        except AdapterError as error:
            return error.message
        return "" if reply.get("delivered") else str(reply.get("reason") or "it was not delivered")

    async def answer(self, answer: AgentAnswering) -> str:
        """Answer the dialog of that number; says why not, empty when the answer arrived."""
        body: dict[str, object] = {"prompt_seq": answer.prompt}
        if answer.accept is not None:
            body["accept"] = answer.accept
        if answer.option is not None:
            body["option"] = answer.option
        if answer.text:
            body["text"] = answer.text
        if answer.answers:
            body["answers"] = [
                {"options": list(each.options), "text": each.text or None}
                for each in answer.answers
            ]
        try:
            reply = await self.ask("POST", "agent/respond", body)
        except AdapterError as error:
            return error.message
        return "" if reply.get("delivered") else str(reply.get("reason") or "it was not delivered")


def _refusal(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text)["error"]["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        return text.decode("utf-8", "replace")[:200] or "refused without a reason"


def _prompt(shape: Mapping[str, Any]) -> Prompt:
    return Prompt(
        kind=PromptKind(shape.get("type", "permission")),
        seq=int(shape.get("seq", 0)),
        tool=str(shape.get("tool") or ""),
        input=str(shape.get("input") or ""),
        options=tuple(shape.get("options") or ()),
        questions=tuple(
            Question(
                question=str(each.get("question", "")),
                header=str(each.get("header") or ""),
                multi_select=bool(each.get("multi_select")),
                options=tuple(
                    Choice(label=label, description=description or "")
                    for label, description in zip(
                        each.get("options") or (),
                        [*(each.get("descriptions") or ()), *[""] * len(each.get("options") or ())],
                        strict=False,
                    )
                ),
            )
            for each in shape.get("questions") or ()
        ),
    )
