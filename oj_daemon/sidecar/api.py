"""What the API can say and do, without HTTP and without WebSockets.

Rule: one method for each view and each deed, so that an endpoint and the frame of the same meaning cannot differ. Refusals
are raised.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable

import msgspec

from oj_daemon.drivers.base import Json
from oj_daemon.sidecar import frames, keys
from oj_daemon.sidecar.bodies import (
    InputBody,
    KeysBody,
    NudgeBody,
    RawBody,
    Refused,
    RespondBody,
    RestartBody,
    SignalBody,
    SizeBody,
    bad,
)
from oj_daemon.sidecar.frames import Shape
from oj_daemon.sidecar.session import Session
from oj_daemon.sidecar.sources import catch_up
from oj_daemon.sidecar.tasks import Spawn
from oj_daemon.sidecar.values import ApiReply, Nudge, Resolve, Respond, SetStart, SetStop

SIZE_MOST = 1000
"""Columns or rows."""
NUDGES_KEPT = 1000
"""Messages whose answer is remembered."""


class Api:
    """Around one session."""

    def __init__(
        self,
        session: Session,
        names: tuple[str, str],
        configs: tuple[Json, Json],
        shut_down: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        self.session = session
        self._agent, self._version = names
        self.stop_config, self.start_config = configs
        self._shut_down = shut_down
        self._spawn = spawn
        self._nudges: dict[str, asyncio.Future[ApiReply]] = {}

    # -- views -----------------------------------------------------------------------------------------------------

    def health(self) -> Shape:
        """How sidecar and agent are."""
        session = self.session
        ended = session.ended
        return {
            "status": "stopping" if session.is_stopping else "running",
            "session_id": session.machine.session_id or session.id,
            "pid": session.pid,
            "uptime_secs": session.uptime,
            "agent": self._agent,
            "agent_state": str(session.machine.state),
            "exit": None if ended is None else {"code": ended.code, "signal": ended.signal},
            "terminal": {"cols": session.cols, "rows": session.rows},
            "terminal_cols": session.cols,
            "terminal_rows": session.rows,
            "ws_clients": session.ws_clients,
            "ready": session.machine.is_ready,
            "version": self._version,
        }

    def agent(self) -> Shape:
        """The state of the agent in full."""
        session = self.session
        machine = session.machine
        view = machine.view()
        view.pop("error", None)
        return {
            "agent": self._agent,
            **view,
            "session_id": machine.session_id or session.id,
            "prompt": frames.prompt_shape(machine.prompt),
            **frames.error_shape(machine.error),
            "screen_seq": session.screen_seq,
        }

    def status(self) -> Shape:
        """Figures."""
        session = self.session
        return {
            "session_id": session.machine.session_id or session.id,
            "state": str(session.machine.state),
            "pid": session.pid,
            "uptime_secs": session.uptime,
            "exit_code": None if session.ended is None else session.ended.status,
            "screen_seq": session.screen_seq,
            "bytes_read": session.bytes_read,
            "bytes_written": session.bytes_written,
            "ws_clients": session.ws_clients,
        }

    def usage(self) -> Shape:
        """What the agent spent."""
        usage = frames.usage_shape(self.session.machine.usage)
        return {**usage, "uptime_secs": self.session.uptime}

    def screen(self, *, cursor: bool) -> Shape:
        """The screen with and without colours."""
        return frames.screen_shape(
            self.session.screen,
            (self.session.cols, self.session.rows, self.session.screen_seq),
            cursor=cursor,
        )

    def output(self, offset: int, limit: int | None) -> Shape:
        """A piece of the raw output."""
        return frames.output_shape(self.session.ring, offset, limit)

    def transcripts(self) -> Shape:
        """The kept copies of the session log."""
        return {"transcripts": msgspec.to_builtins(self.session.transcripts.list())}

    def transcript(self, number: int) -> str:
        """The text of one copy."""
        content = self.session.transcripts.read(number)
        if content is None:
            raise bad(f"there is no transcript {number}")
        return content

    def catch_up(self, since_transcript: int, since_line: int) -> Shape:
        """Everything of the conversation after a place; reads files."""
        session = self.session
        return catch_up(session.transcripts, session.log.path, since_transcript, since_line)

    def events(self, since_seq: int, since_hook_seq: int) -> Shape:
        """What was told after a place, as far as it is remembered."""
        states, hooks = self.session.states, self.session.hooks
        told, missed = states.after(states.position_before(since_seq), most=len(states))
        held, _ = hooks.after(since_hook_seq, most=len(hooks))
        return {
            "state_events": [msgspec.Raw(entry.text.encode()) for entry in told],
            "hook_events": [msgspec.Raw(entry.text.encode()) for entry in held],
            "missed": missed,
        }

    def messages(self, since: int) -> list[msgspec.Raw]:
        """Entries of the session log after a place, up to what the agent has written by now."""
        self.session.read_log()
        journal = self.session.messages
        entries, missed = journal.after(since, most=len(journal))
        texts = [entry.placed for entry in entries]
        if missed:
            lag = {"event": "lagged", "stream": "messages", "missed": missed}
            texts.insert(0, frames.encode(lag))
        return [msgspec.Raw(text.encode()) for text in texts]

    # -- deeds -----------------------------------------------------------------------------------------------------

    async def nudge(self, body: NudgeBody) -> ApiReply:
        """Give the agent a message. Under an id it goes on when whoever asked goes away, and is given once."""
        known = self._nudges.get(body.id) if body.id else None
        if known is None:
            self._need_agent()
            known = asyncio.get_running_loop().create_future()
            if body.id:
                self._nudges[body.id] = known
                if len(self._nudges) > NUDGES_KEPT:
                    del self._nudges[next(iter(self._nudges))]
            self._spawn(self._deliver(body, known))
        return await asyncio.shield(known)

    async def _deliver(self, body: NudgeBody, answered: asyncio.Future[ApiReply]) -> None:
        try:
            reply = await self.session.ask(lambda number: Nudge(number, body.message, body.wait_ms))
            answered.set_result(reply)
        finally:
            answered.cancel()  # only where there is no answer

    async def respond(self, body: RespondBody) -> ApiReply:
        """Answer the open prompt."""
        self._need_agent()
        answer, seq = body.answer(), body.prompt_seq
        return await self.session.ask(lambda number: Respond(number, answer, seq))

    async def resolve(self, body: Json) -> ApiReply:
        """Let the agent stop."""
        return await self.session.ask(lambda number: Resolve(number, body))

    async def type(self, body: InputBody) -> Shape:
        """Type text."""
        return {"bytes_written": await self.session.type_text(body.text, enter=body.enter)}

    async def type_raw(self, body: RawBody) -> Shape:
        """Type bytes."""
        try:
            data = base64.b64decode(body.data, validate=True)
        except binascii.Error as error:
            raise bad(f"data is not base64: {error}") from error
        return {"bytes_written": await self.session.type_raw(data)}

    async def type_keys(self, body: KeysBody) -> Shape:
        """Type keys by name, all or none."""
        try:
            data = keys.encode(body.keys)
        except KeyError as error:
            raise bad(f"there is no key {error.args[0]!r}") from error
        return {"bytes_written": await self.session.type_raw(data)}

    def signal(self, body: SignalBody) -> Shape:
        """Signal the agent."""
        try:
            number, reach = keys.signal_of(str(body.signal))
        except KeyError as error:
            raise bad(f"there is no signal {body.signal!r}") from error
        self.session.signal(number, reach)
        return {"delivered": True}

    def resize(self, body: SizeBody) -> Shape:
        """Change the size of the terminal."""
        if not (0 < body.cols <= SIZE_MOST and 0 < body.rows <= SIZE_MOST):
            raise bad(f"cols and rows are numbers from 1 to {SIZE_MOST}")
        self.session.resize(body.cols, body.rows)
        return {"cols": body.cols, "rows": body.rows}

    async def configure_stop(self, config: Json) -> ApiReply:
        """What happens from now on when the agent wants to stop."""
        reply = await self.session.ask(lambda number: SetStop(number, config))
        if reply.status == 200:
            self.stop_config = config
        return reply

    async def configure_start(self, config: Json) -> ApiReply:
        """What the agent is told from now on when a session starts."""
        reply = await self.session.ask(lambda number: SetStart(number, config))
        if reply.status == 200:
            self.start_config = config
        return reply

    def restart(self, body: RestartBody) -> Shape:
        """Begin to replace the agent's process."""
        session = self.session
        if session.is_replacing or session.is_stopping:
            raise Refused(409, "SWITCH_IN_PROGRESS", "the agent is being replaced or ended already")
        session.is_replacing = True
        self._spawn(session.restart(force=body.force))
        return {"scheduled": True}

    def shut_down(self) -> Shape:
        """Begin the end."""
        self._shut_down()
        return {"accepted": True}

    def _need_agent(self) -> None:
        if self.session.ended is not None:
            raise Refused(410, "EXITED", "the agent has ended")
