"""The feed of the live view, beside a scripted daemon."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message

from oj_daemon import settings
from oj_daemon.errors import OjError
from oj_tui import feed
from oj_tui.feed import DaemonFeed, Lost, News
from tests.support.fake_daemon import HANG_UP, SILENCE, FakeDaemon
from tests.support.replies import reply

PATIENCE = 30.0


class Ear:
    """Hears what the feed tells."""

    def __init__(self) -> None:
        self._heard: queue.Queue[Message] = queue.Queue()

    def __call__(self, message: Message) -> None:
        self._heard.put(message)

    def next(self) -> Any:
        return self._heard.get(timeout=PATIENCE)

    @property
    def is_quiet(self) -> bool:
        return self._heard.empty()


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    made = FakeDaemon(folder / "daemon.sock").start()
    yield made
    made.close()


@pytest.fixture
def ours(folder: Path, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[DaemonFeed]:  # noqa: ARG001
    monkeypatch.setattr(feed, "PACE_SECONDS", 0.0)
    monkeypatch.setattr(feed, "FIRST_PAUSE", 0.01)
    made = DaemonFeed(settings.load({"HOME": str(folder), "OJ_STATE_DIR": str(folder)}))
    yield made
    made.close()


def changes(seq: int, **fields: Any) -> dict[str, Any]:
    return reply("Changes", seq=seq, epoch=4, **fields)


def test_each_question_begins_where_the_last_answer_ended(
    daemon: FakeDaemon, ours: DaemonFeed
) -> None:
    chunk = {"content": "abc", "offset": 3}
    daemon.answer("Watch", changes(7, logs={"job-a": chunk}), changes(9), SILENCE)
    ear = Ear()
    follow = ours.follow(ear, nouns=["job"], logs={"job-a": 0})
    for _ in range(2):
        assert isinstance(ear.next(), News)
        follow.taken()
    daemon.wait_for("Watch", 3)
    follow.stop()
    asked = daemon.of("Watch")
    assert [(each.get("since"), each.get("epoch")) for each in asked] == [
        (None, None),
        (7, 4),
        (9, 4),
    ]
    assert [each["logs"] for each in asked] == [{"job-a": 0}, {"job-a": 3}, {"job-a": 3}]


def test_nothing_is_asked_before_the_last_news_were_taken_in(
    daemon: FakeDaemon, ours: DaemonFeed
) -> None:
    """So an app that is busy has one answer waiting at most, however much happens."""
    daemon.answer("Watch", changes(1), changes(2), SILENCE)
    ear = Ear()
    follow = ours.follow(ear)
    ear.next()
    other = Ear()  # the same daemon answers others meanwhile
    second = ours.follow(other)
    other.next()
    assert len(daemon.of("Watch")) == 2
    assert ear.is_quiet
    follow.taken()
    daemon.wait_for("Watch", 3)
    follow.stop()
    second.stop()


def test_a_lost_daemon_is_told_once_and_looked_for_until_it_is_back(
    daemon: FakeDaemon, ours: DaemonFeed
) -> None:
    daemon.answer("Watch", changes(7), HANG_UP, HANG_UP, HANG_UP, changes(8), SILENCE)
    ear = Ear()
    follow = ours.follow(ear)
    assert isinstance(ear.next(), News)
    follow.taken()
    lost = ear.next()
    assert isinstance(lost, Lost)
    assert lost.error.code == "closed"
    back = ear.next()
    assert isinstance(back, News)
    assert back.changes["seq"] == 8
    follow.stop()
    assert [each.get("since") for each in daemon.of("Watch")] == [None, 7, 7, 7, 7]


def test_a_daemon_that_refuses_is_told_in_its_own_words(
    daemon: FakeDaemon, ours: DaemonFeed
) -> None:
    daemon.refuse("Watch", "you may not", code="unauthorized", hint="ask somebody")
    ear = Ear()
    follow = ours.follow(ear)
    lost = ear.next()
    follow.stop()
    assert (lost.error.message, lost.error.hint) == ("you may not", "ask somebody")


def test_an_answer_that_nobody_expected_is_told_and_asking_goes_on(
    daemon: FakeDaemon, ours: DaemonFeed
) -> None:
    daemon.answer("Watch", {"type": "Changes", "epoch": 1}, changes(8), SILENCE)
    ear = Ear()
    follow = ours.follow(ear)
    assert "a bug in oj tui: KeyError" in ear.next().error.message
    assert ear.next().changes["seq"] == 8
    follow.taken()
    follow.stop()


def test_what_was_stopped_tells_nothing_any_more(daemon: FakeDaemon, ours: DaemonFeed) -> None:
    daemon.answer("Watch", changes(7), changes(8))
    ear = Ear()
    follow = ours.follow(ear)
    ear.next()
    follow.stop()
    assert ear.is_quiet


def test_questions_share_a_connection_and_errors_are_raised(
    daemon: FakeDaemon, ours: DaemonFeed
) -> None:
    daemon.answer("Ping", reply("Ok"))
    daemon.refuse("JobShow", "Job not found: x")
    assert ours.call("Ping")["type"] == "Ok"
    with pytest.raises(OjError, match="Job not found: x"):
        ours.call("JobShow", id="x")
    ours.call("Ping")
    assert len(daemon.hellos) == 1
