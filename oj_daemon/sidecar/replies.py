"""How HTTP replies of the sidecar are made, and how query strings are read.

Rule: shapes only.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from oj_daemon.sidecar.bodies import bad


def json_reply(body: object, *, status: int = 200) -> web.Response:
    """A JSON reply."""
    data = msgspec.json.encode(body)
    return web.Response(body=data, status=status, content_type="application/json")


def refusal(status: int, code: str, message: str) -> web.Response:
    """The one shape of an error."""
    return json_reply({"error": {"code": code, "message": message}}, status=status)


def number(request: web.Request, name: str, default: int) -> int:
    """A whole number of the query string."""
    text = request.query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise bad(f"{name} is a number")
    return int(text)


def flag(request: web.Request, name: str) -> bool:
    """A yes or no of the query string."""
    return request.query.get(name, "").lower() in {"true", "1"}
