"""Tokens of people and of programs outside: what each may do, until when, and that it was revoked.

Rule: a token is known by the hash of its secret; nothing here, in the log or in a snapshot opens anything. Whether one has
expired is decided by the clock when it is shown, so nothing has to happen at that moment. Tokens of steps and agents are no
records: they live as long as what they were made for (oj_daemon/tokens.py).
"""

from __future__ import annotations

from typing import Final, assert_never

from msgspec import structs

from oj_daemon.core import events
from oj_daemon.core.events import AnyEvent
from oj_daemon.core.state import Answer, Changes, State, Token, Turn
from oj_daemon.errors import Rejected
from oj_daemon.wire import replies, requests
from oj_daemon.wire.names import PREFIXES, TokenId, Verb, short_id

DAY_MS: Final = 86_400_000
LONGEST_MS: Final = 3650 * DAY_MS
"""A token that nobody will be there to revoke is a mistake."""
KEPT_MS: Final = 30 * DAY_MS
"""How long one that has ended is still listed."""
NAME_LENGTH: Final = 64


def admit(state: State, request: requests.TokenRequest, turn: Turn) -> Answer:
    """Decide what a request makes true; raises Rejected when it cannot be."""
    match request:
        case requests.TokenCreate():
            return _admit_create(state, request, turn)
        case requests.TokenRevoke(id=ref):
            token = state.find_token(ref)
            if token.revoked_at:
                raise Rejected(
                    f"token {short_id(token.id)} is already revoked",
                    code="conflict",
                    hint="oj token list",
                )
            return Answer(
                replies.TokenRevoked(id=token.id), [events.TokenRevoked(token_id=token.id)]
            )
        case _:
            assert_never(request)


def _admit_create(state: State, request: requests.TokenCreate, turn: Turn) -> Answer:
    verbs = tuple(verb for verb in Verb if verb in request.verbs)
    problem = _problem(request, verbs)
    if problem:
        raise Rejected(
            f"cannot make a token: {problem}", code="invalid", hint="oj token create --help"
        )
    if not turn.secret_hash:
        raise Rejected("cannot make a token: it has no secret", code="internal")
    created = events.TokenCreated(
        token_id=TokenId(turn.fresh(PREFIXES["token"])),
        hash=turn.secret_hash,
        name=request.name,
        project=request.project,
        verbs=verbs,
        expires_at=turn.now + request.expires_ms,
    )
    facts: list[AnyEvent] = [
        events.TokenForgotten(token_id=token.id)
        for token in state.tokens.values()
        if (ended_at := token.ended_at(turn.now)) and turn.now - ended_at >= KEPT_MS
    ]
    reply = replies.TokenCreated(
        id=created.token_id,
        name=created.name,
        project=created.project,
        verbs=verbs,
        expires_at_ms=created.expires_at,
    )
    return Answer(reply, [*facts, created])


def _problem(request: requests.TokenCreate, verbs: tuple[Verb, ...]) -> str:
    if not verbs:
        return f"say what it may do: {', '.join(Verb)}"
    if request.project and Verb.DAEMON in verbs:
        return "the daemon serves every project, so `daemon` cannot be limited to one"
    if not 0 < request.expires_ms <= LONGEST_MS:
        return f"it has to expire, within {LONGEST_MS // DAY_MS} days from now"
    if len(request.name) > NAME_LENGTH or not (request.name or " ").isprintable():
        return f"its name has to be one line of at most {NAME_LENGTH} characters"
    return ""


def accepts(state: State, event: events.TokenEvent) -> bool:
    """Whether the fact may still become true."""
    match event:
        case events.TokenCreated():
            return True
        case events.TokenRevoked(token_id=token_id):
            return token_id in state.tokens and not state.tokens[token_id].revoked_at
        case events.TokenForgotten(token_id=token_id):
            return token_id in state.tokens
        case _:
            assert_never(event)


def _created(state: State, event: events.TokenCreated, at: int) -> None:
    state.tokens[event.token_id] = Token(
        id=event.token_id,
        hash=event.hash,
        name=event.name,
        project=event.project,
        verbs=event.verbs,
        created_at=at,
        expires_at=event.expires_at,
    )


def _revoked(state: State, event: events.TokenRevoked, at: int) -> None:
    token = state.tokens[event.token_id]
    state.tokens[token.id] = structs.replace(token, revoked_at=at)


def _forgotten(state: State, event: events.TokenForgotten, _at: int) -> None:
    del state.tokens[event.token_id]


CHANGES: Final[Changes] = {
    events.TokenCreated: _created,
    events.TokenRevoked: _revoked,
    events.TokenForgotten: _forgotten,
}
"""What each fact makes true of the token records; nothing follows from any of them."""
