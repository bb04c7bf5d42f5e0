"""Who may ask a sidecar anything, and how a refusal and a failure look.

Rule: probes are open; everything else needs what the sidecar was told to insist on. There is no CORS: what a browser sends on
behalf of a web page is refused.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from oj_daemon.errors import OjError
from oj_daemon.settings import Secret
from oj_daemon.sidecar.bodies import STATUS, Refused
from oj_daemon.sidecar.replies import refusal

logger = logging.getLogger(__name__)

API: Final = "/api/v1"
OPEN: Final = frozenset({f"{API}/health", f"{API}/ready", f"{API}/livez"})
"""Answered without a token and without a certificate: probes."""
_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "TOO_LARGE"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Tokens:
    """Who may do what."""

    def __init__(self, full: Secret[str], hook: Secret[str]) -> None:
        self._full = full.reveal().encode()
        self._hook = hook.reveal().encode()

    @property
    def is_needed(self) -> bool:
        """There is a token at all."""
        return bool(self._full)

    def is_full(self, token: str) -> bool:
        """This is the daemon's."""
        return hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self._full)

    def is_hook(self, token: str) -> bool:
        """This is the agent's."""
        given = token.encode("utf-8", "surrogateescape")
        return bool(self._hook) and hmac.compare_digest(given, self._hook)


def bearer(request: web.Request) -> str | None:
    """The token that a request carries, None where it carries none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else None


def forbid_strangers(request: web.Request, *, needs_certificate: bool) -> None:
    """What no token makes up for: web pages, tokens where everybody reads them, no certificate where one is needed."""
    if "Origin" in request.headers:
        raise Refused(403, "FORBIDDEN", "web pages may not use this API")
    if "token" in request.query:
        raise Refused(401, "UNAUTHORIZED", "the token belongs into the Authorization header")
    if needs_certificate and request.path not in OPEN and not _is_certified(request):
        raise Refused(401, "UNAUTHORIZED", "a client certificate is needed")


def _is_certified(request: web.Request) -> bool:
    """TLS has checked a certificate of the other side. A unix socket has no TLS: the folder says who may use it."""
    transport = request.transport
    if transport is None:
        return False
    return transport.get_extra_info("ssl_object") is None or bool(
        transport.get_extra_info("peercert")
    )


def guarded(admit: Callable[[web.Request], None]) -> Middleware:
    """Around every request: who is not admitted is refused, and each failure has the one shape of an error."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            admit(request)
            return await handler(request)
        except Refused as error:
            return refusal(error.status, error.code, error.message)
        except OjError as error:
            status, code = STATUS.get(error.code, (500, "INTERNAL"))
            return refusal(status, code, error.message)
        except web.HTTPException as error:
            return refusal(error.status, _CODES.get(error.status, "BAD_REQUEST"), error.reason)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("%s %s failed", request.method, request.path)
            return refusal(500, "INTERNAL", "the sidecar failed; its log says how")

    return guard
