"""The daemon goes, by SIGKILL or as asked, at every moment of an agent's life: one session each, told once, decided once."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.support.agents import agents, decision, equip, runbook, scenario, turn
from tests.support.waiting import until
from tests.support.world import World, alive


@pytest.fixture
def shop(world: World) -> World:
    return equip(world)


def restart(world: World) -> None:
    """Kill the daemon without a warning, and start the next one."""
    world.kill_daemon()
    world.oj("daemon", "start")


def press(world: World, job_id: str, text: str) -> None:
    """Type at the agent's terminal, as a person does who sits in front of it."""
    agent_id = agents(world, job_id)[0]["id"]
    press_at(world.state / "agents" / job_id / agent_id / "sock", text)


def press_at(path: Path, text: str) -> None:
    """Type at the terminal behind this socket."""
    body = json.dumps({"text": text})
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(str(path))
        head = f"POST /api/v1/input HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        line.sendall((head + body).encode())
        assert b" 200 " in line.recv(4096)


def test_killed_before_the_session_was_started_it_is_started_once(shop: World) -> None:
    runbook(
        shop,
        "max_concurrency = 1",
        'step "init" {\n run = "true"\n on_done = ["a", "b"]\n}\n'
        'step "a" { run = { agent = "coder" } }\nstep "b" { run = { agent = "coder" } }\n',
    )
    go = shop.folder / "go"
    scenario(
        shop,
        turn({"run": "echo $OJ_STEP_NAME >> ran; echo x", "to": "at"}, {"await": str(go)}),
        otherwise=[{"say": "x"}],
    )
    job_id = shop.start("build")
    shop.until_file(shop.project / "at")
    assert sorted(each["status"] for each in agents(shop, job_id)) == ["queued", "running"]
    restart(shop)
    assert sorted(each["status"] for each in agents(shop, job_id)) == ["queued", "running"]
    go.touch()
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert sorted((shop.project / "ran").read_text().split()) == ["a", "b"]
    assert len(agents(shop, job_id)) == 2
    assert shop.survivors() == []


def test_killed_while_the_session_is_being_ended_it_is_ended(shop: World) -> None:
    runbook(shop)
    child = shop.folder / "child"
    deaf = {"pid": str(child), "ignore": ["HUP", "TERM"], "session": True, "seconds": 300}
    scenario(
        shop,
        turn({"child": deaf}, {"await": str(shop.folder / "never")}),
        ignore=["HUP", "TERM"],
    )
    job_id = shop.start("build")
    shop.until_file(child)
    shop.oj("cancel", job_id)
    restart(shop)
    assert shop.finish(job_id)["status"] == "cancelled"
    assert len(agents(shop, job_id)) == 1
    assert not alive(int(child.read_text()))
    assert shop.survivors() == []


@pytest.mark.parametrize("moment", ["running", "over"])
def test_killed_while_a_gate_runs_it_runs_once_and_its_verdict_counts(
    shop: World, moment: str
) -> None:
    ledger, go = shop.folder / "ledger", shop.folder / "go"
    command = f"echo ran >>{ledger}; until test -e {go}; do sleep 0.05; done"
    runbook(shop, f'on_idle = {{ action = "gate", run = "{command}" }}')
    scenario(shop, turn({"say": "done"}))
    job_id = shop.start("build")
    shop.until_file(ledger)
    if moment == "over":
        shop.kill_daemon()
        go.touch()
        shop.oj("daemon", "start")
    else:
        restart(shop)
        go.touch()
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert ledger.read_text().splitlines() == ["ran"]
    assert shop.survivors() == []


def test_a_prompt_that_was_answered_at_the_terminal_meanwhile_needs_no_decision_any_more(
    shop: World,
) -> None:
    go = shop.folder / "go"
    runbook(shop)
    scenario(shop, turn({"write": "w", "text": "x", "ask": True}, {"await": str(go)}, {"say": "x"}))
    job_id = shop.start("build")
    asked = decision(shop)
    socket_path = shop.state / "agents" / job_id / agents(shop, job_id)[0]["id"] / "sock"
    shop.kill_daemon()
    press_at(socket_path, "1")
    until((shop.project / "w").exists, 60, "the answer was taken")
    shop.oj("daemon", "start")
    until(
        lambda: shop.oj("decision", "list", "-o", "json").json == [],
        60,
        lambda: shop.oj("decision", "show", asked["id"]).out,
        pause=0.2,
    )
    late = shop.oj("decision", "resolve", asked["id"], "2", code=None)
    assert late.code != 0
    assert "Traceback" not in late.err
    go.touch()
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert len(agents(shop, job_id)) == 1


def test_an_agent_that_exits_without_a_daemon_is_acted_on_once(shop: World) -> None:
    ledger, go, pid = shop.folder / "ledger", shop.folder / "go", shop.folder / "pid"
    runbook(shop, f'on_dead = {{ action = "gate", run = "echo dead >>{ledger}" }}')
    scenario(
        shop,
        turn({"run": f"echo $PPID >{pid}", "to": "x"}, {"await": str(go)}, {"exit": 5}),
    )
    job_id = shop.start("build")
    program = int(shop.until_file(pid))
    shop.kill_daemon()
    go.touch()
    until(lambda: not alive(program), 60, "it has exited")
    shop.oj("daemon", "start")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    restart(shop)
    assert ledger.read_text().splitlines() == ["dead"]
    assert len(agents(shop, job_id)) == 1
    assert "exit code 5" in shop.log(job_id)


def test_a_plain_stop_does_not_wait_for_agents_and_the_next_daemon_has_them_again(
    shop: World,
) -> None:
    """A073."""
    go, pid = shop.folder / "go", shop.folder / "pid"
    runbook(shop)
    scenario(shop, turn({"run": f"echo $PPID >{pid}", "to": "x"}, {"await": str(go)}, {"say": "x"}))
    job_id = shop.start("build")
    program = int(shop.until_file(pid))
    shop.oj("daemon", "stop")
    assert alive(program)
    assert shop.survivors()
    shop.oj("daemon", "start")
    assert shop.status(job_id) == "running"
    until(lambda: shop.oj("peek", job_id, "-o", "json").json["live"], 30, "it is seen", pause=0.2)
    go.touch()
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    assert len(agents(shop, job_id)) == 1


def test_a_stop_with_kill_ends_agents_and_the_job_can_go_on_with_the_conversation(
    shop: World,
) -> None:
    """A072."""
    pid = shop.folder / "pid"
    runbook(shop)
    scenario(
        shop,
        turn(
            {"run": f"echo $PPID >{pid}", "to": "x"},
            {"await": str(shop.folder / "never")},
            times=1,
        ),
        turn({"say": "I go on"}, resumed=True),
        ignore=["HUP", "TERM"],
    )
    job_id = shop.start("build")
    program = int(shop.until_file(pid))
    shop.oj("daemon", "stop", "--kill")
    assert not alive(program)
    assert shop.survivors() == []
    shop.oj("daemon", "start")
    assert shop.status(job_id) == "suspended"
    shop.oj("job", "resume", job_id)
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    second, first = agents(shop, job_id)
    assert first["session_id"] == second["session_id"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [20261124])
def test_killed_again_and_again_each_agent_is_there_once_told_once_and_decided_once(
    shop: World, seed: int
) -> None:
    chance = random.Random(seed)
    names = [f"a{number}" for number in range(5)]
    quoted = ", ".join(f'"{name}"' for name in names)
    steps = f'step "init" {{\n run = "true"\n on_done = [{quoted}]\n}}\n'
    steps += "".join(f'step "{name}" {{ run = {{ agent = "coder" }} }}\n' for name in names)
    gate = 'run = "test -e told-$OJ_STEP_NAME", message = "GO-ON", attempts = 2'
    runbook(shop, f'on_idle = {{ action = "gate", {gate} }}', steps)
    path = shop.project / ".oj/runbooks/main.hcl"
    path.write_text(path.read_text().replace("Please do it.", "${step}"))
    scenario(
        shop,
        turn({"bash": "echo $OJ_STEP_NAME >> asked", "ask": True}, {"say": "1"}, when="^a"),
        turn(
            {
                "run": "touch told-$OJ_STEP_NAME; echo $OJ_STEP_NAME >> told",
                "to": str(shop.folder / "gate"),
            },
            {"say": "2"},
            when="GO-ON",
        ),
    )
    job_id = shop.start("build")
    resolved: Counter[str] = Counter()
    for _ in range(8):
        for each in shop.oj("decision", "list", "-o", "json").json[:1]:
            if shop.oj("decision", "resolve", each["id"], "1", code=None).code == 0:
                resolved[each["id"]] += 1
        threading.Event().wait(chance.random())
        restart(shop)
    ended = ("completed", "failed", "cancelled")

    def is_over() -> bool:
        for each in shop.oj("decision", "list", "-o", "json").json:
            if shop.oj("decision", "resolve", each["id"], "1", code=None).code == 0:
                resolved[each["id"]] += 1
        return shop.status(job_id) in ended

    until(is_over, 150, lambda: shop.log(job_id)[-4000:], pause=0.3)
    assert shop.status(job_id) == "completed", shop.log(job_id)
    assert set(resolved.values()) == {1}
    assert Counter((shop.project / "asked").read_text().split()) == dict.fromkeys(names, 1)
    assert Counter((shop.project / "told").read_text().split()) == dict.fromkeys(names, 1)
    assert len(agents(shop, job_id)) == len(names), "one session for each run"
    assert shop.survivors() == []
    assert [path for path in (shop.state / "runs").iterdir() if path.is_dir()] == []
