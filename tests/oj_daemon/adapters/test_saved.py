"""Conversations of agents in places that were saved: what a session goes on with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from oj_daemon.adapters.saved import LOST, SavedLogs
from oj_daemon.core.effects import SpawnAgent
from oj_daemon.wire.names import AgentId, JobId

FIRST = SpawnAgent(
    agent_id=AgentId("agt-1"),
    job_id=JobId("job-1"),
    label="code",
    driver="claude",
    script="claude",
    env={},
    cwd="/workspace",
    prompt="Do it.",
)
NEXT = msgspec.structs.replace(FIRST, agent_id=AgentId("agt-2"), session_id="s1")
HERE, THERE = {"uid": "u1"}, {"uid": "u2"}


@pytest.fixture
def logs(tmp_path: Path) -> SavedLogs:
    (tmp_path / FIRST.job_id / FIRST.agent_id).mkdir(parents=True)
    made = SavedLogs(tmp_path)
    made.note(FIRST, "s1", HERE)
    return made


def test_a_new_conversation_goes_on_with_nothing(logs: SavedLogs) -> None:
    assert logs.find(FIRST, THERE) == b""


def test_a_conversation_that_nobody_knows_is_left_to_its_place(logs: SavedLogs) -> None:
    assert logs.find(msgspec.structs.replace(NEXT, session_id="other"), THERE) == b""


def test_what_was_saved_is_what_it_goes_on_with_up_to_its_last_whole_line(logs: SavedLogs) -> None:
    logs.path(FIRST, "s1").write_bytes(b'{"a":1}\n{"b":2}\n{"c":')
    assert logs.find(NEXT, THERE) == b'{"a":1}\n{"b":2}\n'


@pytest.mark.parametrize("half", [None, b"", b'{"a":'])
def test_without_a_whole_line_it_is_lost_unless_its_place_is_still_there(
    logs: SavedLogs, half: bytes | None
) -> None:
    if half is not None:
        logs.path(FIRST, "s1").write_bytes(half)
    assert logs.find(NEXT, THERE) is LOST
    assert logs.find(NEXT, HERE) == b""


@pytest.mark.parametrize("name", ["../../../evil", "/tmp/evil", "..", "a/b", "x" * 1000])
def test_whatever_an_agent_calls_its_conversation_stays_in_its_folder(
    logs: SavedLogs, tmp_path: Path, name: str
) -> None:
    logs.note(FIRST, name, HERE)
    folder = tmp_path / FIRST.job_id / FIRST.agent_id
    path = logs.path(FIRST, name)
    assert path.parent == folder
    path.write_bytes(b'{"a":1}\n')
    assert logs.find(msgspec.structs.replace(NEXT, session_id=name), THERE) == b'{"a":1}\n'
    assert {each.parent for each in tmp_path.rglob("*.place")} == {folder}
