"""The webhook: what is posted, what counts as taken, and what is never told of the URL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trustme

from oj_daemon import __version__
from oj_daemon.adapters.webhook import Webhook, payload, retry_after_ms
from oj_daemon.core.effects import DeliverNotification
from oj_daemon.core.events import (
    Choice,
    NotificationDelivered,
    NotificationDropped,
    NotificationFailed,
    Question,
)
from oj_daemon.settings import Secret
from oj_daemon.wire.names import DecisionId, JobId, NotificationId, Severity
from tests.support.receiver import Answer, Receiver

NOW = 1_767_225_600_000  # Thu, 01 Jan 2026 00:00:00 GMT
KEY = NotificationId("ntf-0000000000000001")
ORDER = DeliverNotification(
    notification_id=KEY,
    sink="webhook",
    event="job:failed",
    severity=Severity.WARNING,
    title="auth",
    text="it broke",
    at=NOW - 5,
    project="shop",
    job_id=JobId("job-0000000000000001"),
    job_name="auth",
)
DECISION = msgspec.structs.replace(
    ORDER,
    event="decision:idle",
    severity=Severity.CRITICAL,
    title="Decision needed: auth",
    text="Agent coder is idle.",
    decision_id=DecisionId("dec-0123456789abcdef"),
    options=(
        Choice(label="Nudge", recommended=True),
        Choice(label="Done", description="go on"),
    ),
    answer="oj decision resolve 01234567 N [-m TEXT]",
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def post(url: str, order: DeliverNotification = ORDER, secret: str = "", **options: Any) -> Any:
    webhook = Webhook(Secret(url), Secret(secret), now=lambda: NOW, **options)
    return asyncio.run(webhook.deliver(order))


def body(order: DeliverNotification) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(payload(order))
    return decoded


# What is posted


def test_what_is_posted_is_for_chat_services_and_for_programs() -> None:
    with Receiver(Answer(204, body=b"")) as receiver:
        assert post(receiver.url) == NotificationDelivered(notification_id=KEY, sink="webhook")
        (got,) = receiver.posts
    assert got.path == "/hooks/S3CRETPATH"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == f"oj/{__version__}"
    assert got.headers["x-oj-timestamp"] == str(NOW // 1000)
    assert got.key == KEY
    assert "x-oj-signature" not in got.headers
    assert got.json == {
        "text": "[warning] auth (shop)\nit broke",
        "id": KEY,
        "event": "job:failed",
        "severity": "warning",
        "project": "shop",
        "job": "job-0000000000000001",
        "job_name": "auth",
        "title": "auth",
        "body": "it broke",
        "decision": None,
        "at": NOW - 5,
    }


def test_a_secret_signs_the_time_and_the_very_bytes() -> None:
    with Receiver() as receiver:
        post(receiver.url, DECISION, secret="k3y")
        (got,) = receiver.posts
    signed = got.headers["x-oj-timestamp"].encode() + b"." + got.raw
    expected = hmac.new(b"k3y", signed, hashlib.sha256).hexdigest()
    assert got.headers["x-oj-signature"] == f"sha256={expected}"


def test_a_decision_is_told_in_words_with_numbers_and_the_command_that_answers() -> None:
    posted = body(DECISION)
    assert posted["text"] == (
        "[critical] Decision needed: auth (shop)\n"
        "Agent coder is idle.\n"
        "\n"
        "1. Nudge (recommended)\n"
        "2. Done: go on\n"
        "\n"
        "To answer: oj decision resolve 01234567 N [-m TEXT]"
    )
    assert posted["decision"] == {
        "id": "dec-0123456789abcdef",
        "options": [
            {"number": 1, "label": "Nudge", "description": "", "recommended": True},
            {"number": 2, "label": "Done", "description": "go on", "recommended": False},
        ],
        "questions": [],
        "answer": "oj decision resolve 01234567 N [-m TEXT]",
    }


def test_several_questions_each_have_their_own_numbers() -> None:
    questions = (
        Question(question="Which one?", options=(Choice(label="A"), Choice(label="B"))),
        Question(question="What else?", multi_select=True, options=(Choice(label="C"),)),
    )
    posted = body(msgspec.structs.replace(DECISION, questions=questions))
    assert (
        "\n\nQuestion 1: Which one?\n1. A\n2. B\n3. Other\n"
        "\nQuestion 2: What else?\n1. C\n2. Other\n\nTo answer: "
    ) in posted["text"]
    assert posted["decision"]["options"] == []
    assert [each["multi_select"] for each in posted["decision"]["questions"]] == [False, True]


def test_what_an_agent_quotes_rings_no_bell_in_a_chat() -> None:
    posted = body(msgspec.structs.replace(ORDER, text="<!channel> & <https://evil|click>"))
    assert posted["text"].endswith("\n&lt;!channel&gt; &amp; &lt;https://evil|click&gt;")
    assert posted["body"] == "<!channel> & <https://evil|click>"


def test_a_text_without_end_is_cut() -> None:
    posted = body(msgspec.structs.replace(ORDER, text="x" * 100_000))
    assert len(posted["text"]) < 9000
    assert posted["body"].endswith("x ...")


# What counts as taken


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
def test_some_refusals_may_be_overcome(status: int) -> None:
    with Receiver(Answer(status)) as receiver:
        told = post(receiver.url)
        assert isinstance(told, NotificationFailed)
        assert told.reason.startswith(f"HTTP {status}")
        assert told.wait_ms == 0
        assert len(receiver.posts) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418])
def test_others_are_final(status: int) -> None:
    with Receiver(Answer(status, body=b"<html>a whole page</html>")) as receiver:
        told = post(receiver.url)
        assert isinstance(told, NotificationDropped)
        assert told.reason.startswith(f"HTTP {status} ")
        assert "page" not in told.reason


def test_what_failed_once_is_taken_the_next_time_under_the_same_key() -> None:
    with Receiver(Answer(500), Answer()) as receiver:
        assert isinstance(post(receiver.url), NotificationFailed)
        assert isinstance(post(receiver.url), NotificationDelivered)
        assert [got.key for got in receiver.posts] == [KEY, KEY]


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        ("7", 7000),
        ("0", 0),
        ("Thu, 01 Jan 2026 00:01:30 GMT", 90_000),
        ("Thu, 01 Jan 2026 00:01:30 -0000", 90_000),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0),
        ("99999999999999999999", 86_400_000),
        ("Thu, 99999999999999999999 Jan 2026 00:01:30 GMT", 0),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_a_receiver_may_say_when_to_come_again(value: str, wait_ms: int) -> None:
    assert retry_after_ms(value, NOW) == wait_ms
    with Receiver(Answer(429, (("Retry-After", value),))) as receiver:
        told = post(receiver.url)
    assert (type(told), told.wait_ms) == (NotificationFailed, wait_ms)


def test_a_redirect_is_not_followed() -> None:
    with Receiver() as other, Receiver(Answer(307, (("Location", other.url),))) as receiver:
        told = post(receiver.url)
        assert isinstance(told, NotificationDropped)
        assert "redirects (HTTP 307)" in told.reason
        assert (len(receiver.posts), other.posts) == (1, [])


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        assert isinstance(post("http://chat.invalid/hook"), NotificationDelivered)
        (got,) = proxy.posts
    assert got.path == "http://chat.invalid/hook"


def test_a_receiver_that_says_nothing_is_left_when_the_time_is_up() -> None:
    with Receiver(Answer(hangs=True)) as receiver:
        told = post(receiver.url, seconds=0.3)
    assert isinstance(told, NotificationFailed)
    assert told.reason == "no answer within 0.3 s"


def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        told = post(f"http://127.0.0.1:{taken.getsockname()[1]}/S3CRETPATH")
    assert isinstance(told, NotificationFailed)
    assert "onnect" in told.reason
    assert "S3CRETPATH" not in told.reason


def test_a_receiver_with_a_certificate_that_nobody_trusts_is_tried_again() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def run() -> Any:
        async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context) as server:
            url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/S3CRETPATH"
            return await Webhook(Secret(url), Secret(""), now=lambda: NOW).deliver(ORDER)

    told = asyncio.run(run())
    assert isinstance(told, NotificationFailed)
    assert "certificate" in told.reason
    assert "S3CRETPATH" not in told.reason


def test_a_receiver_that_speaks_no_http_is_tried_again_and_its_url_is_not_told() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        async def run() -> Any:
            async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(b"\0garbage\r\n\r\n")
                await writer.drain()
                writer.close()

            async with await asyncio.start_server(babble, sock=server):
                url = f"http://127.0.0.1:{server.getsockname()[1]}/S3CRETPATH"
                return await Webhook(Secret(url), Secret(""), now=lambda: NOW).deliver(ORDER)

        told = asyncio.run(run())
    assert isinstance(told, NotificationFailed)
    assert "S3CRETPATH" not in told.reason


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1/S3CRETPATH", "https://h:99999/S3CRETPATH", "http:///S3CRETPATH"]
)
def test_a_url_that_is_none_is_given_up_and_not_told(url: str) -> None:
    told = post(url)
    assert isinstance(told, NotificationDropped)
    assert told.reason == "its URL, or that of the proxy, is not valid: see OJ_NOTIFY_WEBHOOK_URL"


@pytest.mark.parametrize(
    "make",
    [
        lambda url: url,
        lambda url: url.replace("http://", "http://user:S3CRETPATH@"),
    ],
    ids=["path", "user"],
)
def test_nothing_of_the_url_but_its_host_is_told(
    make: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Receiver(Answer(500, body=b"S3CRETPATH")) as receiver:
        url = make(receiver.url)
        told = post(url, secret="S3CRETKEY")
        label = Webhook(Secret(url), Secret(""), now=lambda: NOW).label
    assert label == "webhook 127.0.0.1"
    assert "S3CRET" not in repr(told) + caplog.text
