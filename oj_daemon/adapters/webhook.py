"""Notifications to a URL: chat services read `text`, programs the fields beside it.

Rule: one try for each order, ten seconds long, and no redirect is followed: what is posted is meant for the URL that was
configured. Nothing of the URL but its host, and nothing that the receiver answers but the status, is ever told: chat services
put the key into the path, and proxies answer with whole pages.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import msgspec

from oj_daemon import __version__
from oj_daemon.core.effects import DeliverNotification
from oj_daemon.core.events import (
    Choice,
    NotificationDelivered,
    NotificationDropped,
    NotificationFailed,
)
from oj_daemon.settings import Secret

TRY_SECONDS: Final = 10.0
LATER: Final = frozenset({408, 425, 429})
"""Refusals that another try may overcome; so may every 5xx."""
LONGEST_WAIT_MS: Final = 24 * 3_600_000
LONGEST_TEXT: Final = 8000
"""Characters; chat services refuse more than some ten thousand."""


class Webhook:
    """One receiver."""

    def __init__(
        self,
        url: Secret[str],
        secret: Secret[str],
        *,
        now: Callable[[], int],
        seconds: float = TRY_SECONDS,
    ) -> None:
        self.label = f"webhook {_host(url.reveal())}"
        self._url = url
        self._secret = secret
        self._now = now
        self._seconds = seconds

    async def deliver(
        self, order: DeliverNotification
    ) -> NotificationDelivered | NotificationFailed | NotificationDropped:
        """Post it once; through the proxy that the environment names, as other programs do."""
        import aiohttp  # noqa: PLC0415 - 250 ms and 14 MB, for daemons that have a webhook

        key, sink = order.notification_id, order.sink
        body = payload(order)
        limit = aiohttp.ClientTimeout(total=self._seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, trust_env=True) as client,
                client.post(
                    self._url.reveal(),
                    data=body,
                    headers=self._headers(order, body),
                    allow_redirects=False,
                ) as reply,
            ):
                status, asked = reply.status, reply.headers.get("Retry-After", "")
        except aiohttp.ClientSSLError as error:  # one about the certificate is a ValueError as well
            return NotificationFailed(notification_id=key, sink=sink, reason=self._cause(error))
        except ValueError:  # aiohttp's InvalidURL is one, and quotes the URL
            reason = "its URL, or that of the proxy, is not valid: see OJ_NOTIFY_WEBHOOK_URL"
            return NotificationDropped(notification_id=key, sink=sink, reason=reason)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return NotificationFailed(notification_id=key, sink=sink, reason=self._cause(error))
        if 200 <= status < 300:
            return NotificationDelivered(notification_id=key, sink=sink)
        reason = _refusal(status)
        if status in LATER or status >= 500:
            wait = retry_after_ms(asked, self._now())
            return NotificationFailed(notification_id=key, sink=sink, reason=reason, wait_ms=wait)
        return NotificationDropped(notification_id=key, sink=sink, reason=reason)

    def _headers(self, order: DeliverNotification, body: bytes) -> dict[str, str]:
        timestamp = str(self._now() // 1000)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"oj/{__version__}",
            "X-OJ-Delivery": order.notification_id,
            "X-OJ-Timestamp": timestamp,
        }
        if self._secret:
            headers["X-OJ-Signature"] = signature(self._secret.reveal(), timestamp, body)
        return headers

    def _cause(self, error: Exception) -> str:
        """Why there was no answer: the kind of the error and the system's words for it; its own text may hold the URL."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self._seconds:g} s"
        system = getattr(error, "os_error", error)
        words = system.strerror if isinstance(system, OSError) else None
        return f"{type(error).__name__}: {words}" if words else type(error).__name__


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What proves that a body comes from somebody who knows the secret, and from when it is."""
    signed = timestamp.encode() + b"." + body
    return f"sha256={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def payload(order: DeliverNotification) -> bytes:
    """The JSON that is posted."""
    fields: dict[str, object] = {
        "text": _escaped("\n".join(_words(order))),
        "id": order.notification_id,
        "event": order.event,
        "severity": order.severity,
        "project": order.project,
        "job": order.job_id,
        "job_name": order.job_name,
        "title": order.title,
        "body": _cut(order.text),
        "decision": None,
        "at": order.at,
    }
    if order.decision_id:
        several = [
            {
                "question": question.question,
                "multi_select": question.multi_select,
                "options": _numbered((*question.options, Choice(label="Other"))),
            }
            for question in order.questions
        ]
        fields["decision"] = {
            "id": order.decision_id,
            "options": [] if several else _numbered(order.options),
            "questions": several,
            "answer": order.answer,
        }
    return msgspec.json.encode(fields)


def retry_after_ms(value: str, now: int) -> int:
    """How long a receiver asks to be left alone: seconds or a date; 0 when it does not say."""
    if value.isascii() and value.isdigit():
        return min(int(value[:9]) * 1000, LONGEST_WAIT_MS)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter: a day of twenty digits
        return 0
    at = int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
    return max(0, min(at - now, LONGEST_WAIT_MS))


def _words(order: DeliverNotification) -> Iterator[str]:
    """All of it, for people."""
    where = f" ({order.project})" if order.project else ""
    yield f"[{order.severity}] {order.title}{where}"
    yield _cut(order.text)
    if not order.decision_id:
        return
    for number, question in enumerate(order.questions, 1):
        yield f"\nQuestion {number}: {question.question}"
        yield from _lines((*question.options, Choice(label="Other")))
    if not order.questions:
        yield ""
        yield from _lines(order.options)
    yield f"\nTo answer: {order.answer}"


def _lines(choices: tuple[Choice, ...]) -> Iterator[str]:
    for number, choice in enumerate(choices, 1):
        said = f": {choice.description}" if choice.description else ""
        yield f"{number}. {choice.label}{said}{' (recommended)' * choice.recommended}"


def _numbered(choices: tuple[Choice, ...]) -> list[dict[str, object]]:
    return [
        {
            "number": number,
            "label": choice.label,
            "description": choice.description,
            "recommended": choice.recommended,
        }
        for number, choice in enumerate(choices, 1)
    ]


def _escaped(text: str) -> str:
    """Chat services take `<!channel>` and `<url|words>` for more than text, and agents quote what they read anywhere."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return f"it redirects (HTTP {status}), which is not followed: set the final URL"
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "?"
    except ValueError:
        return "?"
