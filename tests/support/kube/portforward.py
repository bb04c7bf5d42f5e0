"""The far end of a port-forward through the API server.

Rule: channel 0 carries the bytes, channel 1 errors; each begins with the number of the port.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

SUBPROTOCOL = "v4.channel.k8s.io"


async def forward(request: web.Request, host: str, port: int) -> web.StreamResponse:
    """Connect the request to a port; 0: the pod refuses."""
    socket = web.WebSocketResponse(protocols=[SUBPROTOCOL])
    await socket.prepare(request)
    number = int(request.query["ports"]).to_bytes(2, "little")
    await socket.send_bytes(b"\0" + number)
    await socket.send_bytes(b"\1" + number)
    try:
        if not port:
            raise ConnectionRefusedError
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        await socket.send_bytes(b"\1connection refused")
        await socket.close()
        return socket

    async def back() -> None:
        while data := await reader.read(65536):
            await socket.send_bytes(b"\0" + data)
        await socket.close()

    task = asyncio.ensure_future(back())
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY and message.data[:1] == b"\0":
                writer.write(message.data[1:])
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()
    return socket
