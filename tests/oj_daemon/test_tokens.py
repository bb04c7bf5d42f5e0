"""Tokens as text: whose they are, and that nothing else opens anything."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon import access, tokens
from oj_daemon.access import FULL_TOKEN, OWNER, Principal
from oj_daemon.core import events
from oj_daemon.core.state import State, Token
from oj_daemon.errors import StoreError
from oj_daemon.runbook.model import Text
from oj_daemon.settings import Secret
from oj_daemon.tokens import Tokens
from oj_daemon.wire import requests
from oj_daemon.wire.names import AgentId, JobId, TokenId, Verb
from tests.support.scenario import Scenario, agent_step, coder, job, runbook, step

KEY = bytes(range(32))
MADE = Tokens(KEY, Secret("the-full-token"))
NOW = 1_000


def running() -> Scenario:
    """A job whose first step runs."""
    world = Scenario(job(step("a", on_done=["b"]), step("b")))
    world.run()
    return world


def working() -> Scenario:
    """A job whose agent is on its way."""
    book = msgspec.structs.replace(
        runbook(job(agent_step("code"))), agents={"coder": coder(prompt="Do it.")}
    )
    world = Scenario(book)
    world.run()
    return world


def whose(state: State, token: Secret[str] | str, made: Tokens = MADE) -> Principal | None:
    text = token if isinstance(token, str) else token.reveal()
    return made.principal(state, text, NOW)


# Of steps and agents


def test_the_token_of_a_step_names_its_job_and_project() -> None:
    world = running()
    found = whose(world.state, MADE.of_run(world.job.id, 1))
    assert found is not None
    assert (found.job_id, found.project, found.is_full) == (world.job.id, "demo", False)
    assert found.verbs == {Verb.READ, Verb.RUN, Verb.SEND, Verb.MANAGE}
    assert found.name == "step a of job 00000000"


def test_the_token_of_a_step_ends_with_its_run_and_the_next_step_has_its_own() -> None:
    world = running()
    first, second = MADE.of_run(world.job.id, 1), MADE.of_run(world.job.id, 2)
    assert whose(world.state, second) is None
    world.exits("a")
    assert whose(world.state, first) is None
    assert whose(world.state, second) is not None
    world.exits("b")
    assert whose(world.state, second) is None


def test_the_token_of_a_step_works_while_its_job_is_being_ended_and_no_longer() -> None:
    world = running()
    token = MADE.of_run(world.job.id, 1)
    world.ask(requests.JobCancel(ids=(world.job.id,)))
    assert whose(world.state, token) is not None
    world.exits("a", 143, ended=True)
    assert whose(world.state, token) is None


def test_the_token_of_a_step_outlives_a_restart_of_the_daemon() -> None:
    world = running()
    token = MADE.of_run(world.job.id, 1)
    world.restart()
    assert whose(world.state, token, Tokens(KEY, Secret(""))) is not None


def test_the_token_of_an_agent_lives_as_long_as_its_session() -> None:
    world = working()
    (agent,) = world.state.agents.values()
    token = MADE.of_agent(world.job.id, agent.id)
    found = whose(world.state, token)
    assert found is not None
    assert found.name == f"agent coder ({agent.id[4:12]}) of job 00000000"
    world.tell(events.AgentSpawnFailed(agent_id=agent.id, reason="no"))
    assert whose(world.state, token) is None


def test_the_token_of_locals_lives_until_they_are_evaluated() -> None:
    text = msgspec.convert({"text": "$(date)", "shell": {"text": "date", "script": "date"}}, Text)
    world = Scenario(job(step("a"), locals={"day": text}))
    world.run()
    token = MADE.of_locals(world.job.id)
    assert whose(world.state, token) is not None
    world.tell(events.JobEvaluated(job_id=world.job.id, vars={"local.day": "x"}))
    assert whose(world.state, token) is None


def test_an_agent_is_at_work_for_its_own_job_only() -> None:
    world = working()
    (agent,) = world.state.agents.values()
    assert not access.is_live(world.state, JobId("job-0000000000009999"), agent.id)
    other = MADE.of_agent(JobId("job-0000000000009999"), agent.id)
    assert whose(world.state, other) is None


def test_a_token_of_another_key_opens_nothing() -> None:
    world = running()
    other = Tokens(bytes(32), Secret(""))
    token = other.of_run(world.job.id, 1)
    assert whose(world.state, token) is None
    assert not MADE.is_ours(State(), token.reveal())
    assert other.is_ours(State(), token.reveal())


@given(st.data())
def test_a_token_that_was_tampered_with_opens_nothing(data: st.DataObject) -> None:
    world = running()
    text = MADE.of_run(world.job.id, 1).reveal()
    at = data.draw(st.integers(0, len(text) - 1))
    change = data.draw(st.sampled_from(["cut", "drop", "change", "add"]))
    char = data.draw(st.characters(codec="ascii").filter(lambda char: char != text[at]))
    bad = {
        "cut": text[:at],
        "drop": text[:at] + text[at + 1 :],
        "change": text[:at] + char + text[at + 1 :],
        "add": text[:at] + char + text[at:],
    }[change]
    if bad != text:
        assert whose(world.state, bad) is None


@given(st.text())
def test_any_other_text_opens_nothing(text: str) -> None:
    world = running()
    for start in ("", "ojs_", f"ojs_{'0' * 8}_", "oj_", "oj_tok-"):
        assert whose(world.state, start + text) is None


def test_a_token_with_half_a_character_is_no_crash() -> None:
    assert whose(State(), "ojs_\ud800") is None


# Of people


def person(**changes: object) -> tuple[State, str]:
    """A state with one token, and the token."""
    secret = tokens.new_secret()
    record = Token(
        id=TokenId("tok-1111111111111111"),
        hash=tokens.hash_of(secret.reveal()),
        name="ci",
        verbs=(Verb.READ,),
        expires_at=NOW + 1,
    )
    record = msgspec.structs.replace(record, **changes)
    state = State()
    state.tokens[record.id] = record
    return state, tokens.for_person(record.id, secret)


def test_the_token_of_a_person_says_what_it_may() -> None:
    state, token = person(project="shop", verbs=(Verb.READ, Verb.ANSWER))
    found = whose(state, token)
    assert found is not None
    assert (found.name, found.project, found.job_id) == ("token ci", "shop", "")
    assert found.verbs == {Verb.READ, Verb.ANSWER}


@pytest.mark.parametrize("changes", [{"expires_at": NOW}, {"revoked_at": NOW}, {"hash": "0" * 64}])
def test_the_token_of_a_person_that_ended_opens_nothing(changes: dict[str, object]) -> None:
    state, token = person(**changes)
    assert whose(state, token) is None


@pytest.mark.parametrize("cut", ["oj_", "oj_tok-1111111111111111", "oj_tok-1111111111111111_", ""])
def test_half_a_token_of_a_person_opens_nothing(cut: str) -> None:
    state, token = person()
    assert whose(state, cut) is None
    assert whose(state, token[:-1]) is None
    assert whose(state, token.removeprefix("oj_")) is None


# The daemon's own


def test_the_full_token_opens_everything_and_no_other_of_its_length() -> None:
    assert whose(State(), "the-full-token") is FULL_TOKEN
    assert whose(State(), "the-full-tokem") is None


def test_without_a_full_token_the_empty_one_opens_nothing() -> None:
    assert whose(State(), "", Tokens(KEY, Secret(""))) is None


@pytest.mark.parametrize("other", ["ojs_a_b_c_d", "oj_tok-1111111111111111_abc"])
def test_a_token_that_was_made_for_somebody_never_is_the_full_one(other: str) -> None:
    """A step that starts a daemon hands its environment on."""
    assert whose(State(), other, Tokens(KEY, Secret(other))) is None


# On the unix socket


def local(state: State, token: str) -> Principal | None:
    return access.local_principal(
        token, lambda text: whose(state, text), lambda text: MADE.is_ours(state, text)
    )


@pytest.mark.parametrize("changes", [{"expires_at": NOW}, {"revoked_at": NOW}])
def test_on_the_unix_socket_a_person_whose_token_ended_does_not_become_the_owner(
    changes: dict[str, object],
) -> None:
    state, token = person(**changes)
    assert local(state, token) is None
    assert local(State(), token) is OWNER


def test_on_the_unix_socket_nobody_is_locked_out_but_a_step_stays_a_step() -> None:
    world = running()
    token = MADE.of_run(world.job.id, 1).reveal()
    assert local(world.state, "") is OWNER
    assert local(world.state, "of-another-daemon") is OWNER
    assert local(world.state, "the-full-token") is FULL_TOKEN
    assert (
        local(world.state, Tokens(bytes(32), Secret("")).of_run(world.job.id, 1).reveal()) is OWNER
    )
    found = local(world.state, token)
    assert found is not None
    assert found.job_id == world.job.id
    world.exits("a")
    assert local(world.state, token) is None
    assert local(world.state, token[:-1]) is None


# The key


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    first = Tokens.open(folder, Secret("")).of_run(JobId("job-1"), 1)
    assert Tokens.open(folder, Secret("")).of_run(JobId("job-1"), 1) == first
    key = folder / tokens.KEY_NAME
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    other = Tokens.open(tmp_path / "other", Secret("")).of_run(JobId("job-1"), 1)
    assert other != first


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_replaced_and_never_used(
    tmp_path: Path, damaged: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / tokens.KEY_NAME).write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        made = Tokens.open(tmp_path, Secret(""))
    assert len((tmp_path / tokens.KEY_NAME).read_bytes()) == 32
    assert made.of_run(JobId("job-1"), 1) != Tokens(damaged, Secret("")).of_run(JobId("job-1"), 1)
    assert "damaged" in caplog.text


def test_a_key_that_cannot_be_read_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / tokens.KEY_NAME).mkdir()
    with pytest.raises(StoreError, match=r"token\.key"):
        Tokens.open(tmp_path, Secret(""))


def test_no_repr_shows_a_token() -> None:
    token = MADE.of_agent(JobId("job-1"), AgentId("agt-1"))
    assert repr(token) == str(token) == "***"
    assert "ojs_" not in repr(MADE)
