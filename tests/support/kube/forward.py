"""The address of a pod: a way to where its containers really listen, which can move.

Rule: knows nothing of what passes.
"""

from __future__ import annotations

import asyncio
import contextlib


class Forward:
    """From an address and port to another address and the same port."""

    def __init__(self, port: int, target: str) -> None:
        self._port, self._target = port, target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def listen(self, address: str) -> None:
        """Be reachable there, and nowhere else."""
        self.close()
        self._server = await asyncio.start_server(self._serve, address, self._port)

    def cut(self) -> None:
        """Break the connections that are open."""
        for writer in list(self._open):
            writer.transport.abort()

    def close(self) -> None:
        """Be reachable no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there, back = await asyncio.open_connection(self._target, self._port)
            self._open.add(back)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        try:
            await asyncio.gather(_pass(reader, back), _pass(there, writer))
        finally:
            self._open -= {writer, back}
            writer.transport.abort()
            back.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
        return
    writer.transport.abort()
