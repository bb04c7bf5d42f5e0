"""What is kept about an agent: the log of what it did, and how its session looked when it ended.

Rule: each deed stands in the log once, whatever is killed when: before lines are appended, the cursor file says what is
about to be appended and up to which entry of the session log that is, and a start compares it with the log's size.

    <state>/logs/agent/<agent id>.log         `2026-11-24T06:37:08Z read: src/shop.py`
                       <agent id>.cursor      our book-keeping
                       <agent id>/            capture.latest.txt, screen.json, session.jsonl, usage.json
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from oj_daemon.drivers.activity import Activity, Deed, Read
from oj_daemon.store.files import make_folder, replace_file, store_error, write_all

logger = logging.getLogger(__name__)

LONGEST_TEXT: Final = 2000
"""Characters of a command or an error in the log."""
PENDING_MOST: Final = 256
"""Commands whose result is waited for; the oldest is told without."""
USAGE_BYTES: Final = 10 * 1024 * 1024
USAGE_FILES: Final = 3
"""The present one and those that were full."""
SCREEN: Final = "screen.json"
CAPTURE: Final = "capture.latest.txt"
TRANSCRIPT: Final = "session.jsonl"
USAGE: Final = "usage.json"
HEAD_LINES: Final = 64
"""Lines of a session log of which one names the session."""


class Counters(msgspec.Struct, frozen=True):
    """How much an agent did, as its log tells."""

    files_read: int = 0
    files_written: int = 0
    commands: int = 0

    def plus(self, deed: str) -> Counters:
        """With one more line of that kind."""
        match deed:
            case Deed.READ:
                return msgspec.structs.replace(self, files_read=self.files_read + 1)
            case Deed.WROTE | Deed.EDITED:
                return msgspec.structs.replace(self, files_written=self.files_written + 1)
            case Deed.BASH:
                return msgspec.structs.replace(self, commands=self.commands + 1)
            case _:
                return self


class Cursor(msgspec.Struct, frozen=True):
    """What the last append was about."""

    size: int = 0
    """Bytes of the log before it."""
    position: int = 0
    """Entries of the session log that were read before it."""
    new_size: int = 0
    new_position: int = 0
    counters: Counters = Counters()
    """After it."""


class AgentBook:
    """Logs and remains of all agents of one daemon; belongs to the event loop's thread."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self._logs: dict[str, AgentLog] = {}

    def path(self, agent_id: str) -> Path:
        """Where the log is, or will be."""
        return self.folder / f"{agent_id}.log"

    def log(self, agent_id: str) -> AgentLog:
        """The log of one agent. Raises StoreError."""
        found = self._logs.get(agent_id)
        if found is None:
            found = self._logs[agent_id] = AgentLog(
                self.path(agent_id), self.folder / f"{agent_id}.cursor"
            )
        return found

    def counters(self, agent_id: str) -> Counters:
        """How much an agent did; of one that has ended, what its cursor file says."""
        found = self._logs.get(agent_id)
        if found is not None:
            return found.counters
        try:
            data = (self.folder / f"{agent_id}.cursor").read_bytes()
            return msgspec.json.decode(data, type=Cursor).counters
        except (OSError, msgspec.MsgspecError):
            return Counters()

    def keep(
        self,
        agent_id: str,
        *,
        screen: Mapping[str, Any] | None,
        transcript: str | None,
        usage: Mapping[str, Any] | None,
    ) -> None:
        """Write down how a session looked; what is None stays as it was. Raises StoreError."""
        folder = self.folder / agent_id
        files: dict[str, bytes] = {}
        if screen is not None:
            files[SCREEN] = msgspec.json.encode(screen)
            files[CAPTURE] = "".join(f"{line}\n" for line in screen.get("lines", ())).encode()
        if transcript is not None:
            files[TRANSCRIPT] = transcript.encode("utf-8", "replace")
        if usage is not None:
            files[USAGE] = msgspec.json.encode(usage)
        if not files:
            return
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            for name, data in files.items():
                replace_file(folder / name, data, durable=False)
        except OSError as exc:
            raise store_error(exc, "write", folder) from exc

    def screen(self, agent_id: str) -> dict[str, Any] | None:
        """The last screen, if it was kept."""
        return self._read(agent_id, SCREEN)

    def usage(self, agent_id: str) -> dict[str, Any] | None:
        """What the session spent, if that was kept."""
        return self._read(agent_id, USAGE)

    def _read(self, agent_id: str, name: str) -> dict[str, Any] | None:
        try:
            data = (self.folder / agent_id / name).read_bytes()
            return msgspec.json.decode(data, type=dict[str, Any])
        except (OSError, msgspec.MsgspecError):
            return None

    def conversation(self, agent_ids: Iterable[str], session_id: str) -> bytes | None:
        """The session log of a conversation, as the last of these agents that had it left it."""
        found: list[tuple[float, Path]] = []
        for agent_id in agent_ids:
            path = self.folder / agent_id / TRANSCRIPT
            with (
                contextlib.suppress(OSError),
                path.open(encoding="utf-8", errors="replace") as file,
            ):
                head = [line for line, _ in zip(file, range(HEAD_LINES), strict=False)]
                if any(session_id in line for line in head):
                    found.append((path.stat().st_mtime, path))
        with contextlib.suppress(OSError):
            return max(found)[1].read_bytes() if found else None
        return None

    def close(self, agent_id: str) -> None:
        """Let go of an agent that has ended; all that was written stays."""
        self._logs.pop(agent_id, None)

    def remove(self, agent_ids: Iterable[str]) -> None:
        """Delete all that is kept about these."""
        for agent_id in agent_ids:
            self.close(agent_id)
            shutil.rmtree(self.folder / agent_id, ignore_errors=True)
            for path in (self.path(agent_id), self.folder / f"{agent_id}.cursor"):
                with contextlib.suppress(OSError):
                    path.unlink()


class AgentLog:
    """One log with its cursor and its counters."""

    def __init__(self, path: Path, cursor_path: Path) -> None:
        self._path, self._cursor_path = path, cursor_path
        try:
            self._size, self.position, self.counters = self._restore()
        except OSError as exc:
            raise store_error(exc, "read the log", path) from exc

    def _restore(self) -> tuple[int, int, Counters]:
        """Settle whether the append that was announced last happened."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            size = 0
        try:
            cursor = msgspec.json.decode(self._cursor_path.read_bytes(), type=Cursor)
        except (FileNotFoundError, msgspec.MsgspecError):
            return size, 0, self._count()
        if size == cursor.new_size:
            return size, cursor.new_position, cursor.counters
        if size > cursor.size:
            os.truncate(self._path, cursor.size)
        return min(size, cursor.size), cursor.position, self._count()

    def _count(self) -> Counters:
        counters = Counters()
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            for line in file:
                counters = counters.plus(_deed_of(line))
        return counters

    def append(self, lines: list[tuple[str, str]], at: int, position: int = 0) -> None:
        """Append `deed: text` lines, all or nothing; entries up to `position` are settled by that."""
        stamp = datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        texts = [
            f"{stamp} {deed}{f': {_one_line(text)}' if text else ''}\n" for deed, text in lines
        ]
        block = "".join(texts).encode("utf-8", "replace")
        reached = max(position, self.position)
        if not block:
            self.position = reached  # nothing is lost when these are read once more
            return
        size = self._size + len(block)
        counters = self.counters
        for deed, _ in lines:
            counters = counters.plus(deed)
        cursor = Cursor(self._size, self.position, size, reached, counters)
        try:
            replace_file(self._cursor_path, msgspec.json.encode(cursor), durable=False)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                try:
                    write_all(fd, block)
                except OSError:
                    os.ftruncate(fd, self._size)
                    raise
            finally:
                os.close(fd)
        except OSError as exc:
            raise store_error(exc, "append to the log", self._path) from exc
        self._size, self.position, self.counters = size, reached, counters


class Scribe:
    """Writes down what one session's entries tell; knows of commands whose result is still to come."""

    def __init__(self, log: AgentLog, read: Read) -> None:
        self._log = log
        self._read = read
        self._pending: dict[str, tuple[str, str]] = {}
        self.position = 0
        """The entry that was taken last. One that follows a restart begins at 0: what is settled is not told again."""

    def take(self, entry: Mapping[str, Any], position: int, *, is_old: bool, at: int) -> bool:
        """Take the next entry; `is_old` when an earlier session wrote it. True when the log has grown."""
        if position <= self.position:
            return False
        self.position = position
        if is_old:
            return False
        lines: list[tuple[str, str]] = []
        for done in self._read(entry):
            lines += self._lines(done)
        if position <= self._log.position or not lines:
            return False
        self._log.append(lines, at, position)
        return True

    def skip(self, position: int, at: int) -> None:
        """Entries up to there can not be had any more."""
        missed = position - max(self.position, self._log.position)
        self.position = max(self.position, position)
        if missed > 0:
            text = f"{missed} entries of the session log were missed"
            self._log.append([(Deed.ERROR, text)], at, position)

    def finish(self, at: int, epitaph: str = "") -> None:
        """The session is over: commands that run no more have no result."""
        lines = [(deed, f"{text} (interrupted)") for deed, text in self._pending.values()]
        self._pending.clear()
        if epitaph:
            lines.append((Deed.ERROR, epitaph))
        # One further than any entry, so that a second telling of the end finds it told.
        if self._log.position <= self.position:
            self._log.append(lines, at, self.position + 1)

    def _lines(self, done: Activity) -> list[tuple[str, str]]:
        if done.deed is Deed.RESULT:
            began = self._pending.pop(done.key, None)
            return [(began[0], f"{began[1]} ({done.text})")] if began is not None else []
        text = _cut(done.text)
        if not done.key:
            return [(done.deed, text)]
        told: list[tuple[str, str]] = []
        if len(self._pending) >= PENDING_MOST:
            told.append(self._pending.pop(next(iter(self._pending))))
        self._pending[done.key] = (done.deed, text)
        return told


class UsageLog:
    """Figures about live agents, a line each, in a file that is rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""
        """Why the last lines could not be written; empty when they could."""

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Append some lines. What goes wrong is kept in `problem`: figures are never worth a failure."""
        data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        try:
            if data:
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                self._rotate()
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                try:
                    write_all(fd, data)
                finally:
                    os.close(fd)
            self.problem = ""
        except OSError as exc:
            self.problem = store_error(exc, "write", self._path).message

    def _rotate(self) -> None:
        try:
            if self._path.stat().st_size < USAGE_BYTES:
                return
        except FileNotFoundError:
            return
        for number in range(USAGE_FILES - 1, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _one_line(text: str) -> str:
    return text.strip().replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\n")


def _deed_of(line: bytes) -> str:
    _, _, rest = line.partition(b" ")
    return rest.partition(b":")[0].rstrip().decode("utf-8", "replace")
