"""Tokens as a user meets them: made, listed, revoked; and what steps and agents find in their environment."""

from __future__ import annotations

import json

import pytest

from tests.support.agents import equip, runbook, scenario, turn
from tests.support.world import NESTED, World


@pytest.fixture(autouse=True)
def _no_tokens(shop: World) -> None:
    for each in shop.oj("token", "list", "-o", "json").json:
        if each["status"] == "active":
            shop.oj("token", "revoke", each["id"])


def active(world: World) -> list[str]:
    every = world.oj("token", "list", "-o", "json").json
    return [each["name"] for each in every if each["status"] == "active"]


def test_the_life_of_a_token(shop: World) -> None:
    made = shop.oj(
        "token", "create", "--project", "shop", "--verbs", "answer,read", "--name", "ann"
    )
    assert made.out.startswith("oj_tok-")
    assert made.out.count("\n") == 1
    assert "may read, answer in project shop until" in made.err
    row = shop.oj("token", "list").out.splitlines()[1].split()
    assert row[1:6] == ["ann", "shop", "read,answer", "0s", "active"]
    revoked = shop.oj("token", "revoke", row[0])
    assert revoked.out == f"Revoked token {row[0]}\n"
    assert active(shop) == []
    again = shop.oj("token", "revoke", row[0], code=1)
    assert "already revoked" in again.err
    assert "Hint: oj token list" in again.err


def test_tokens_outlive_the_daemon_and_their_secrets_are_nowhere(shop: World) -> None:
    made = shop.oj("token", "create", "--name", "ben", "-o", "json").json
    shop.kill_daemon()
    shop.oj("daemon", "start")
    assert active(shop) == ["ben"]
    shop.oj("daemon", "restart")  # writes a snapshot
    assert active(shop) == ["ben"]
    secret = made["token"].rpartition("_")[2]
    assert len(secret) == 64
    assert secret not in shop.oj("daemon", "logs", "-n", "100000").out
    files = [path for path in shop.state.rglob("*") if path.is_file()]
    assert any(path.parent.name == "snapshots" for path in files)
    for path in files:
        assert secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--verbs", "read,fly"], "'fly': the verbs are read, run, send, answer, manage, attach"),
        (["--expires", "never"], "'never' is not a duration"),
        (["--expires", "36500d"], "within 3650 days"),
        (["--verbs", "daemon", "--project", "shop"], "cannot be limited to one"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(shop: World, args: list[str], problem: str) -> None:
    refused = shop.oj("token", "create", *args, code=1)
    assert (refused.out, problem in refused.err) == ("", True)
    assert active(shop) == []


def test_a_step_has_a_token_of_its_own_and_its_oj_works_as_before(shop: World) -> None:
    shop.job('step "only" { run = "echo inner" }', command="inner", name="inner.hcl")
    shop.job(
        f"""
        step "outer" {{
          run = <<-SH
            echo "$OJ_AUTH_TOKEN" | cut -c 1-4 >kind
            echo "token: $OJ_AUTH_TOKEN"
            {NESTED} -C ${{invoke.dir}} run --wait inner
            {NESTED} status -o json >/dev/null
            {NESTED} job show $OJ_JOB_ID -o json >shown
          SH
        }}
        """
    )
    job = shop.run("build", environ={"OJ_AUTH_TOKEN": "of-another-daemon"})
    assert job["status"] == "completed", shop.log(job["id"])
    assert (shop.project / "kind").read_text() == "ojs_\n"
    assert json.loads((shop.project / "shown").read_text())["id"] == job["id"]
    assert "token: ojs_***\n" in shop.log(job["id"])


def test_a_step_that_starts_a_daemon_does_not_lend_it_its_token(world: World) -> None:
    other = world.folder / "o"
    world.job(f'step "only" {{ run = "OJ_STATE_DIR={other} {NESTED} daemon start" }}')
    try:
        assert world.run("build")["status"] == "completed"
        status = world.oj("daemon", "status", "-o", "json", environ={"OJ_STATE_DIR": str(other)})
        (token,) = [each for each in status.json["settings"] if each["name"] == "token"]
        assert token["value"] == "none"
    finally:
        world.oj("daemon", "stop", environ={"OJ_STATE_DIR": str(other)})


def test_an_agent_has_a_token_of_its_own_and_finds_its_daemon(world: World) -> None:
    shop = equip(world)
    runbook(shop)
    scenario(
        shop,
        turn(
            {"run": "echo $OJ_AUTH_TOKEN", "to": "token.txt"},
            {"run": f"{NESTED} agent show $OJ_AGENT_ID -o json", "to": "shown.txt"},
            {"say": "done"},
        ),
    )
    job_id = shop.start("build")
    assert shop.finish(job_id)["status"] == "completed", shop.log(job_id)
    (agent,) = shop.oj("agent", "list", "--job", job_id, "-o", "json").json
    token = (shop.project / "token.txt").read_text()
    assert token.startswith("ojs_")
    assert f"_{job_id}_{agent['id']}_" in token
    shown = (shop.project / "shown.txt").read_text()
    assert f'"id": "{agent["id"]}"' in shown
    assert shown.endswith("exit 0\n")
