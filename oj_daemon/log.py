"""Where log records go: a rotated text file on a workstation, JSON lines on stdout in a cluster.

Rule: times are UTC; a record's `extra` fields are shown after the text; known secrets are blotted out whoever wrote them.
Nothing else in the daemon knows where its log ends up.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from oj_daemon.errors import StoreError
from oj_daemon.settings import START_MARKER, Settings

if TYPE_CHECKING:
    from io import TextIOWrapper

MAX_BYTES: Final = 10_000_000
BACKUPS: Final = 3
KEPT: Final = 2_000
"""Lines that are kept in memory."""
NAMED: Final = ("job", "agent", "workspace", "decision", "notification")
"""What has an id."""
STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else came by `extra`."""


def set_up(settings: Settings, *, version: str, pid: int) -> None:
    """Send the records of this process where the settings say, beginning with the start marker.

    Call it only with the lock of the state folder held: before that, the log belongs to another daemon.
    """
    handler = _handler(settings)
    secrets = [
        secret.reveal()
        for secret in (settings.token, settings.webhook, settings.webhook_secret)
        if secret
    ]
    json = settings.log_format == "json"
    handler.setFormatter(JsonFormatter(secrets) if json else TextFormatter(secrets))
    root = logging.getLogger()
    for old in tuple(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    kept.setFormatter(TextFormatter(secrets))
    root.addHandler(kept)
    root.setLevel(settings.log_level)
    logging.captureWarnings(capture=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    if not json:
        _mark(handler, f"{START_MARKER} {version} pid={pid} {_utc(time.time())} ---")  # noqa: TID251 - a line for people


def ids(about: object) -> dict[str, str]:
    """What an order or a fact is about, as `extra` of a record: `job`, `agent` and so on."""
    named = {name: getattr(about, f"{name}_id", "") for name in NAMED}
    return {name: str(value) for name, value in named.items() if value}


def tear_down() -> None:
    """Close what set_up opened."""
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk: what could not be written is lost anyway
            handler.close()


class PrivateFileHandler(logging.handlers.RotatingFileHandler):
    """A rotated file whose every new piece is for its owner alone."""

    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename,
            "a",
            encoding=self.encoding,
            errors=self.errors,
            opener=_open_privately,
        )


class Kept(logging.Handler):
    """The last lines of the log, wherever it goes: for those who cannot read it there."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - whoever writes a record must not fail for it
            self.handleError(record)
            return
        self._lines.append(line)
        self._count += 1

    def read(self, *, lines: int | None, offset: int | None) -> tuple[str, int]:
        """The last lines, or those after `offset`, and the offset to ask with next time: how many there were so far."""
        with self.lock or contextlib.nullcontext():
            kept, count = list(self._lines), self._count
        if offset is not None:
            lines = count - offset if 0 <= offset <= count else None
        wanted = kept if lines is None else kept[max(0, len(kept) - lines) :]
        return "".join(f"{line}\n" for line in wanted), count


kept: Final = Kept()
"""Of this process, as the loggers are."""


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO oj_daemon.engine: text  job=job-...`."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """One record; lines after the first belong to a traceback and are indented."""
        text = f"{_utc(record.created)} {record.levelname} {record.name}: {record.getMessage()}"
        text += "".join(f"  {name}={value}" for name, value in _extra(record).items())
        if trace := _trace(self, record):
            text += "\n" + trace
        return _blot(text, self._secrets).replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object on one line for each record."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        fields: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _blot(record.getMessage(), self._secrets),
        }
        for name, value in _extra(record).items():
            fields.setdefault(
                name,
                value
                if isinstance(value, (int, float, bool))
                else _blot(str(value), self._secrets),
            )
        if trace := _trace(self, record):
            fields["exception"] = _blot(trace, self._secrets)
        return msgspec.json.encode(fields).decode()


def _handler(settings: Settings) -> logging.Handler:
    if settings.log_stdout:
        return logging.StreamHandler(sys.stdout)
    path = settings.log_path
    try:
        handler = PrivateFileHandler(
            path,
            maxBytes=MAX_BYTES,
            backupCount=BACKUPS,
            encoding="utf-8",
            errors="backslashreplace",
        )
        if path.stat().st_size >= MAX_BYTES:
            handler.doRollover()
    except OSError as exc:
        raise StoreError(f"open the log {path}: {exc.strerror or exc}", hint="oj doctor") from exc
    return handler


def _open_privately(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _mark(handler: logging.Handler, line: str) -> None:
    """Write a line that is no record."""
    if isinstance(handler, logging.StreamHandler) and handler.stream is not None:
        try:
            handler.stream.write(line + "\n")
            handler.flush()
        except OSError as exc:
            raise StoreError(
                f"write to the log: {exc.strerror or exc}", code="full", hint="oj doctor"
            ) from exc


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _blot(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _utc(seconds: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds * 1000) % 1000:03}Z"
