"""Small files in and out of a place: what an agent is told comes in, what it leaves goes out.

Rule: nothing outside of the place's own folder is reached, also not through links that an agent made. A file is there as a
whole or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Final

from aiohttp import web

from oj_daemon.errors import AdapterError, Rejected
from oj_daemon.sidecar.bodies import Refused
from oj_daemon.sidecar.replies import json_reply

FILE_MOST: Final = 64 * 1024 * 1024
"""Bytes of one file."""
_CHUNK: Final = 256 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class Files:
    """The endpoints of files below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add_to(self, router: web.UrlDispatcher, base: str) -> None:
        """Register them."""
        router.add_get(f"{base}/files/{{name:.+}}", self._get, allow_head=False)
        router.add_put(f"{base}/files/{{name:.+}}", self._put)

    async def _put(self, request: web.Request) -> web.Response:
        path = self._path(request.match_info["name"])
        if (request.content_length or 0) > FILE_MOST:
            raise _too_large(path)
        fd, fresh = _begin(
            path
        )  # not in a thread: who is cancelled meanwhile would leave both behind
        size = 0
        try:
            with os.fdopen(fd, "wb") as file:
                async for data in request.content.iter_chunked(_CHUNK):
                    size += len(data)
                    if size > FILE_MOST:
                        raise _too_large(path)
                    await asyncio.to_thread(file.write, data)
            await asyncio.to_thread(os.replace, fresh, path)
        except OSError as error:
            raise AdapterError(f"write {path}: {error.strerror or error}") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)  # noqa: PTH108 - as a rule it has its name by now
        return json_reply({"path": str(path), "size": size})

    async def _get(self, request: web.Request) -> web.StreamResponse:
        path = self._path(request.match_info["name"])
        fd, size = _open(path)  # the same
        with os.fdopen(fd, "rb") as file:
            if size > FILE_MOST:
                raise _too_large(path)
            response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
            # One that grows meanwhile is given as it was.
            response.content_length = size
            await response.prepare(request)
            while size and (data := await asyncio.to_thread(file.read, min(size, _CHUNK))):
                size -= len(data)
                await response.write(data)
        if size and request.transport is not None:
            request.transport.abort()  # it shrank: what was promised cannot be given
        await response.write_eof()
        return response

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise Rejected(f"'{name}' cannot name a file of the place", code="invalid")
        path = self._folder / name
        root = self._folder.resolve()
        if not path.parent.resolve().is_relative_to(root):
            raise Rejected(f"'{name}' leads out of the place's folder", code="invalid")
        return path


def _begin(path: Path) -> tuple[int, str]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            raise Rejected(f"{path} is a folder", code="conflict")
        return tempfile.mkstemp(prefix=".put-", dir=path.parent)
    except OSError as error:
        raise AdapterError(f"write {path}: {error.strerror or error}") from error


def _open(path: Path) -> tuple[int, int]:
    """A regular file and its size: no link is followed, and no pipe waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Rejected(f"there is no file {path}", code="not_found") from error
    except OSError as error:
        raise Rejected(f"read {path}: {error.strerror}", code="invalid") from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise Rejected(f"{path} is no regular file", code="invalid")
    return fd, found.st_size


def _too_large(path: Path) -> Refused:
    return Refused(413, "TOO_LARGE", f"{path.name} has more than {FILE_MOST} bytes")
