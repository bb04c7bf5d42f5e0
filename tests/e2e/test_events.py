"""`oj events`: the log of facts, as people and programs see it."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.support.world import World


def facts(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_job_is_told_from_its_beginning_to_its_end(world: World) -> None:
    world.job('step "only" { run = "true" }')
    job_id = world.start("build")
    world.finish(job_id)
    told = facts(world.oj("events", job_id, "-o", "json").out)
    tags = [fact["fact"] for fact in told]
    assert tags[0] == "job:created"
    assert {fact["job_id"] for fact in told} == {job_id}
    assert [tag for tag in tags if tag.startswith("step:")] == ["step:started", "step:exited"]
    chosen = facts(world.oj("events", job_id, "-t", "step", "-o", "json").out)
    assert [fact["fact"] for fact in chosen] == ["step:started", "step:exited"]
    assert "step:exited" in world.oj("events", "-n", "5").out


def test_a_follower_hears_each_fact_once_although_the_daemon_is_killed(world: World) -> None:
    world.job('step "one" { run = "echo 1" }\nstep "two" { run = "echo 2" }')
    world.oj("daemon", "start")
    child = world.spawn("events", "-f", "--since", "0", "-o", "json")
    assert child.stdout is not None
    ids: list[str] = []
    for _ in range(3):
        ids.append(world.start("build"))
        world.kill_daemon()
        world.oj("daemon", "start")
        world.finish(ids[-1])
    expected = facts(world.oj("events", "--since", "0", "-o", "json").out)
    heard = [json.loads(child.stdout.readline()) for _ in expected]
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert heard == expected
    created = [fact["job_id"] for fact in heard if fact["fact"] == "job:created"]
    assert created == ids
