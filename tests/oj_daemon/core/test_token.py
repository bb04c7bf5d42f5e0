"""Tokens of people: made, listed, revoked, forgotten."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from oj_daemon.core import machine, views
from oj_daemon.core.state import State, StateData, Turn
from oj_daemon.core.token import DAY_MS, KEPT_MS, LONGEST_MS
from oj_daemon.errors import Rejected
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import Verb
from tests.support.scenario import Scenario, job, step

DAY = DAY_MS


class Tokens(Scenario):
    """Makes tokens."""

    def __init__(self) -> None:
        super().__init__(job(step("a")))

    def turn(self, command: str = "build") -> Turn:
        turn = super().turn(command)
        turn.secret_hash = "5" * 64
        return turn

    def make(self, *verbs: Verb, days: int = 1, **fields: Any) -> str:
        request = requests.TokenCreate(verbs=verbs or (Verb.READ,), expires_ms=days * DAY, **fields)
        reply = self.ask(request)
        assert isinstance(reply, replies.TokenCreated)
        return reply.id

    def listed(self, **fields: Any) -> list[tuple[str, str]]:
        found = views.tokens(self.state, project=fields.get("project"), now=self.now)
        return [(token.id, token.status) for token in found.tokens]


def test_a_token_is_listed_with_what_it_may_do_and_nothing_that_opens_anything() -> None:
    world = Tokens()
    id_ = world.make(Verb.RUN, Verb.READ, Verb.RUN, name="ci", project="shop")
    (shown,) = views.tokens(world.state, project=None, now=world.now).tokens
    assert (shown.id, shown.name, shown.project, shown.status) == (id_, "ci", "shop", "active")
    assert shown.verbs == ("read", "run")
    assert (shown.created_at_ms, shown.expires_at_ms) == (world.now, world.now + DAY)
    assert b"5555" not in msgspec.json.encode(shown)


def test_tokens_are_listed_newest_first_or_those_of_one_project() -> None:
    world = Tokens()
    shop, every = world.make(project="shop"), world.make()
    assert [id_ for id_, _ in world.listed()] == [every, shop]
    assert [id_ for id_, _ in world.listed(project="shop")] == [shop]


def test_a_token_expires_by_itself_at_its_time_and_not_before() -> None:
    world = Tokens()
    id_ = world.make()
    world.passes(DAY - 1)
    assert world.listed() == [(id_, "active")]
    world.passes(1)
    assert world.listed() == [(id_, "expired")]


def test_a_token_is_revoked_by_part_of_its_id_once() -> None:
    world = Tokens()
    id_ = world.make()
    assert world.ask(requests.TokenRevoke(id=id_[4:])) == replies.TokenRevoked(id=id_)
    assert world.listed() == [(id_, "revoked")]
    with pytest.raises(Rejected, match="already revoked"):
        world.ask(requests.TokenRevoke(id=id_))
    with pytest.raises(Rejected, match="Token not found: nonsense") as caught:
        world.ask(requests.TokenRevoke(id="nonsense"))
    assert caught.value.hint == "oj token list"


def test_a_part_that_two_tokens_share_revokes_neither() -> None:
    world = Tokens()
    world.make(), world.make()
    with pytest.raises(Rejected, match="any of 2 tokens"):
        world.ask(requests.TokenRevoke(id="tok-0"))


def test_a_new_token_makes_those_forgotten_that_ended_long_ago() -> None:
    world = Tokens()
    expired, revoked, lasting = world.make(), world.make(days=400), world.make(days=400)
    world.passes(DAY)
    world.ask(requests.TokenRevoke(id=revoked))
    world.passes(KEPT_MS - 1)
    fresh = world.make()
    assert [id_ for id_, _ in world.listed()] == [fresh, lasting, revoked, expired]
    world.passes(1)
    newest = world.make()
    assert [id_ for id_, _ in world.listed()] == [newest, fresh, lasting]


def test_tokens_are_there_after_a_restart() -> None:
    world = Tokens()
    kept, revoked = world.make(), world.make()
    world.ask(requests.TokenRevoke(id=revoked))
    world.restart()
    assert world.listed() == [(revoked, "revoked"), (kept, "active")]


def test_a_snapshot_from_before_there_were_tokens_is_read() -> None:
    assert State.load(msgspec.json.decode(b'{"jobs": []}', type=StateData)).tokens == {}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"verbs": ()}, "read, run, send, answer, manage, attach, daemon"),
        ({"expires_ms": 0}, "has to expire"),
        ({"expires_ms": -1}, "has to expire"),
        ({"expires_ms": LONGEST_MS + 1}, "has to expire"),
        ({"project": "shop", "verbs": (Verb.READ, Verb.DAEMON)}, "every project"),
        ({"name": "a\nb"}, "one line"),
        ({"name": "x" * 65}, "64 characters"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(fields: dict[str, Any], problem: str) -> None:
    world = Tokens()
    request = requests.TokenCreate(verbs=(Verb.READ,), expires_ms=DAY)
    with pytest.raises(Rejected, match=problem) as caught:
        world.ask(msgspec.structs.replace(request, **fields))
    assert caught.value.hint == "oj token create --help"


def test_a_token_without_a_secret_is_never_made() -> None:
    world = Scenario(job(step("a")))
    request = requests.TokenCreate(verbs=(Verb.READ,), expires_ms=DAY)
    with pytest.raises(Rejected, match="no secret"):
        machine.admit(world.state, request, world.turn())
