"""Notifications as their receiver meets them: signed, once, after a crash too, and never at the expense of a job."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.support.agents import decision, equip, runbook, scenario
from tests.support.desktop import fake_desktop, session_bus
from tests.support.receiver import Answer, Post, Receiver
from tests.support.waiting import until
from tests.support.world import World

KEY = "S3CRETKEY"
QUICK = {
    "ask": [
        {
            "question": "Which database?",
            "header": "DB",
            "options": [{"label": "Postgres", "description": "The big one"}, {"label": "SQLite"}],
        }
    ]
}
TELLING = """
notify {
  on_start = "begins"
  on_done  = "is done"
  on_fail  = "broke: ${error}"
}
"""


@pytest.fixture
def shop(world: World) -> World:
    world.environ |= {"OJ_NOTIFY_WEBHOOK_SECRET": KEY, "OJ_NOTIFY_DESKTOP": "0"}
    return equip(world)


def points_to(world: World, receiver: Receiver) -> None:
    world.environ["OJ_NOTIFY_WEBHOOK_URL"] = receiver.url


def is_signed(post: Post) -> bool:
    signed = post.headers["x-oj-timestamp"].encode() + b"." + post.raw
    expected = hmac.new(KEY.encode(), signed, hashlib.sha256).hexdigest()
    return post.headers["x-oj-signature"] == f"sha256={expected}"


def waiting(world: World) -> dict[str, Any]:
    shown: dict[str, Any] = world.oj("daemon", "status", "-o", "json").json
    return shown


def until_waiting(world: World, count: int) -> None:
    until(
        lambda: waiting(world)["notifications_waiting"] == count,
        60,
        lambda: f"{count} notifications wait: {waiting(world)}",
        pause=0.1,
    )


def test_a_decision_arrives_with_its_options_and_the_command_in_it_answers(shop: World) -> None:
    with Receiver() as receiver:
        points_to(shop, receiver)
        runbook(shop)
        scenario(shop, {"when": "", "do": [QUICK, {"run": "echo '{answer}'", "to": "answer.txt"}]})
        job_id = shop.start("build")
        view = decision(shop)
        (post,) = receiver.until(1)
        assert is_signed(post)
        posted = post.json
        assert (posted["event"], posted["severity"]) == ("decision:question", "warning")
        assert (posted["job"], posted["project"]) == (job_id, "shop")
        assert (posted["id"], posted["decision"]["id"]) == (post.key, view["id"])
        assert [option["label"] for option in posted["decision"]["options"]] == [
            option["label"] for option in view["options"]
        ]
        assert "\n1. Postgres: The big one\n2. SQLite\n3. Other\n" in posted["text"]
        command = posted["decision"]["answer"].replace("N [-m TEXT]", "2").split()
        assert command[0] == "oj"
        assert f"To answer: {posted['decision']['answer']}" in posted["text"]
        shop.oj(*command[1:])
        assert shop.finish(job_id)["status"] == "completed"
        assert "SQLite" in (shop.project / "answer.txt").read_text()
        until_waiting(shop, 0)
        assert [each.key for each in receiver.posts] == [post.key]


def test_what_is_tried_again_bears_the_same_key_and_the_job_goes_on_meanwhile(
    shop: World,
) -> None:
    with Receiver(Answer(500), Answer(503, (("Retry-After", "1"),)), Answer()) as receiver:
        points_to(shop, receiver)
        shop.job('step "a" { run = "true" }' + TELLING)
        job_id = shop.start("build")
        assert shop.finish(job_id)["status"] == "completed"
        receiver.until(4)
        until_waiting(shop, 0)
        keys = [post.key for post in receiver.posts]
        assert len(keys) == 4
        assert len(set(keys)) == 2
        assert {post.json["body"] for post in receiver.posts} == {"begins", "is done"}
        assert all(is_signed(post) for post in receiver.posts)
        assert waiting(shop)["warnings"] == []


def test_what_nobody_took_before_a_crash_is_delivered_after_it(shop: World) -> None:
    with Receiver() as receiver:
        points_to(shop, receiver)
    # The receiver is down.
    runbook(shop, 'on_idle = "escalate"')
    scenario(shop, otherwise=[{"say": "Is that all?"}])
    job_id = shop.start("build")
    view = decision(shop)
    until(lambda: "last failure" in str(waiting(shop)["warnings"]), 60, "a try has failed")
    shown = shop.oj("daemon", "status")
    assert "Notifications: 1 waiting" in shown.out
    assert "1 notification waits for the webhook; last failure: " in shown.err
    shop.kill_daemon()
    with Receiver(port=receiver.port) as back:
        shop.oj("daemon", "start")
        (post,) = back.until(1)
        assert post.json["decision"]["id"] == view["id"]
        until_waiting(shop, 0)
        shop.oj("decision", "resolve", view["id"], "2")
        assert shop.finish(job_id)["status"] == "completed"
        shop.kill_daemon()
        shop.oj("daemon", "start")
        shop.oj("daemon", "stop")
        assert [each.key for each in back.posts] == [post.key]


def test_a_receiver_that_hangs_holds_up_neither_a_job_nor_the_end_of_the_daemon(
    shop: World,
) -> None:
    with Receiver(Answer(hangs=True)) as receiver:
        points_to(shop, receiver)
        shop.job('step "a" { run = "true" }' + TELLING)
        job_id = shop.start("build")
        assert shop.finish(job_id)["status"] == "completed"
        (first,) = receiver.until(1)
        shop.environ["OJ_DRAIN_TIMEOUT_MS"] = "30000"
        stopped = shop.oj("daemon", "stop", "-o", "json").json
        assert stopped == {"status": "stopped", "forced": False}
    with Receiver(port=receiver.port) as back:
        shop.oj("daemon", "start")
        posts = back.until(2)
        assert [post.json["body"] for post in posts] == ["begins", "is done"]
        assert posts[0].key == first.key


def test_what_matters_too_little_is_not_posted(shop: World) -> None:
    with Receiver() as receiver:
        points_to(shop, receiver)
        shop.environ["OJ_NOTIFY_SEVERITY"] = "warning"
        shop.job('step "a" { run = "exit 3" }' + TELLING)
        assert shop.run("build", code=1)["status"] == "failed"
        (post,) = receiver.until(1)
        assert post.json["body"] == "broke: step 'a' failed: shell exit code: 3"
        assert "notification: begins" in shop.log(post.json["job"])
        until_waiting(shop, 0)
        assert len(receiver.posts) == 1


def test_neither_the_url_nor_the_secret_is_seen_anywhere(shop: World) -> None:
    with Receiver(Answer(404, body=b"no hook S3CRETPATH")) as receiver:
        points_to(shop, receiver)
        shop.environ["OJ_LOG"] = "debug"
        shop.job('step "a" { run = "env" }' + TELLING)
        job_id = shop.start("build")
        shop.finish(job_id)
        receiver.until(2)
        until_waiting(shop, 0)
        lines = shop.oj("daemon", "logs", "--no-limit").out
        assert "was not delivered by webhook: HTTP 404 Not Found" in lines
        status = shop.oj("daemon", "status", "-o", "json").out
        assert "the webhook did not take the last notification: HTTP 404" in status
        told = {
            "log of the daemon": lines,
            "status": status,
            "log of the job": shop.log(job_id),
            "command lines": json.dumps(list(shop._family().values())),
            "state folder": b"".join(
                path.read_bytes() for path in shop.state.rglob("*") if path.is_file()
            ).decode("latin-1"),
        }
        assert {name for name, text in told.items() if "S3CRET" in text} == set()


async def test_on_a_workstation_it_appears_on_the_desktop(world: World) -> None:
    with session_bus() as address:
        async with fake_desktop(address) as desktop:
            world.environ["DBUS_SESSION_BUS_ADDRESS"] = address
            world.job('step "a" { run = "true" }' + TELLING)
            job = await asyncio.to_thread(world.run, "build")
            async with asyncio.timeout(60):
                while len(desktop.shown) < 2:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
    assert job["status"] == "completed"
    shown = [(each["title"], each["body"], each["urgency"]) for each in desktop.shown]
    assert shown == [("build", "begins", 0), ("build", "is done", 0)]
    await asyncio.to_thread(until_waiting, world, 0)


def test_a_workstation_without_a_desktop_says_so_once_and_warns_of_nothing(world: World) -> None:
    world.job('step "a" { run = "true" }' + TELLING)
    world.run("build")
    world.run("build")
    until_waiting(world, 0)
    log = world.oj("daemon", "logs", "--no-limit").out
    assert log.count("notifications do not appear on a desktop") == 1
    assert "Traceback" not in log
    assert waiting(world)["warnings"] == []
