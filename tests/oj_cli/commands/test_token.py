"""`oj token`: the secret alone on stdout, once; lists without any; verbs that are none."""

from __future__ import annotations

import click
import pytest

from oj_cli.commands import completion
from oj_cli.lazy import Options
from oj_daemon.wire import format as format_
from tests.support.fake_daemon import Message
from tests.support.harness import Harness
from tests.support.replies import HOUR, NOW, reply, view

TOKEN = "tok-5h7j9k1m3n5p7q9r"
SECRET = f"oj_{TOKEN}_0123456789abcdef"


def created(**changes: object) -> Message:
    fields = {
        "id": TOKEN, "name": "ci", "project": "shop", "verbs": ["read", "run"], "expires_at_ms": NOW + HOUR,
        "token": SECRET,
    }  # fmt: skip
    return reply("TokenCreated", **{**fields, **changes})


def shown(**changes: object) -> Message:
    fields = {
        "id": TOKEN, "name": "ci", "project": "shop", "verbs": ["read", "run"], "status": "active",
        "created_at_ms": NOW - HOUR, "expires_at_ms": NOW + HOUR, "revoked_at_ms": 0,
    }  # fmt: skip
    return view("TokenView", **{**fields, **changes})


def test_a_new_token_is_alone_on_stdout_and_explained_beside_it(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("TokenCreate", created())
    code, out, err = daemon_cli.oj(
        "token", "create", "--project", "shop", "--verbs", "run, READ", "--expires", "7d", "--name", "ci",
    )  # fmt: skip
    assert (code, out) == (0, f"{SECRET}\n")
    assert SECRET not in err
    assert "Token 5h7j9k1m may read, run in project shop until 20" in err
    (sent,) = daemon_cli.daemon.of("TokenCreate")
    assert sent == {
        "verbs": ["run", "read"], "expires_ms": 7 * 24 * HOUR, "project": "shop", "name": "ci",
    }  # fmt: skip


def test_the_help_does_not_make_run_look_harmless(daemon_cli: Harness) -> None:
    assert "good as a shell on the daemon's machine" in " ".join(
        daemon_cli.oj("token", "create", "--help").out.split()
    )


def test_a_token_reads_and_runs_in_every_project_for_a_month_unless_said_otherwise(
    daemon_cli: Harness,
) -> None:
    daemon_cli.daemon.answer("TokenCreate", created(project=""))
    assert "in every project" in daemon_cli.oj("token", "create").err
    (sent,) = daemon_cli.daemon.of("TokenCreate")
    assert sent == {
        "verbs": ["read", "run"], "expires_ms": 30 * 24 * HOUR, "project": "", "name": "",
    }  # fmt: skip


def test_as_json_the_token_is_a_field(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("TokenCreate", created())
    result = daemon_cli.oj("token", "create", "-o", "json")
    assert result.json["token"] == SECRET
    assert "type" not in result.json
    assert result.err == ""


@pytest.mark.parametrize(
    ("verbs", "what"), [("read,destroy", "'destroy'"), ("", "nothing"), (",", "nothing")]
)
def test_an_unknown_verb_is_an_error_that_lists_them_all(
    daemon_cli: Harness, verbs: str, what: str
) -> None:
    code, out, err = daemon_cli.oj("token", "create", "--verbs", verbs)
    assert (code, out) == (1, "")
    assert what in err
    assert "read, run, send, answer, manage, attach, daemon" in err
    assert daemon_cli.daemon.of("TokenCreate") == []


@pytest.mark.parametrize("expires", ["never", "0", "-1d", "soon"])
def test_a_token_has_to_expire(daemon_cli: Harness, expires: str) -> None:
    result = daemon_cli.oj("token", "create", f"--expires={expires}")
    assert result.code == 1
    assert "is not a duration" in result.err


def test_tokens_are_listed_with_what_they_may(
    daemon_cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shown(id="tok-a1b2c3d4e5f6g7h8", name="", project="", status="revoked")
    daemon_cli.daemon.answer("TokenList", reply("Tokens", tokens=[shown(), other]))
    monkeypatch.setattr("oj_cli.commands.token.moment", lambda _ms: "later")
    assert format_.now_ms() == NOW
    assert daemon_cli.oj("token", "list").out == (
        "ID        NAME  PROJECT  MAY       AGE  STATUS   EXPIRES\n"
        "5h7j9k1m  ci    shop     read,run  1h   active   later\n"
        "a1b2c3d4  -     (every)  read,run  1h   revoked  later\n"
    )
    assert daemon_cli.oj("token", "list", "-o", "json").json == [shown(), other]
    assert daemon_cli.oj("token", "list", "--project", "shop").code == 0
    assert daemon_cli.daemon.of("TokenList")[-1] == {"project": "shop"}


def test_no_tokens_is_a_sentence(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("TokenList", reply("Tokens", tokens=[]))
    assert daemon_cli.oj("token", "list").out == "No tokens\n"
    assert daemon_cli.oj("token", "list", "-o", "json").json == []


def test_a_token_is_revoked_by_its_id(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("TokenRevoke", reply("TokenRevoked", id=TOKEN))
    assert daemon_cli.oj("token", "revoke", "5h7").out == "Revoked token 5h7j9k1m\n"
    assert daemon_cli.oj("token", "revoke", "5h7", "-o", "json").json == {"id": TOKEN}
    assert daemon_cli.daemon.of("TokenRevoke")[0] == {"id": "5h7"}


def test_ids_of_tokens_that_are_good_are_offered(daemon_cli: Harness) -> None:
    other = shown(id="tok-a1b2c3d4e5f6g7h8", status="expired")
    daemon_cli.daemon.answer("TokenList", reply("Tokens", tokens=[shown(), other]))
    context = click.Context(click.Command("revoke"), info_name="revoke", obj=Options())

    def offered(typed: str) -> list[str]:
        items = completion.token_ids(context, click.Argument(["id"]), typed)
        return [item.value for item in items]

    assert offered("") == ["5h7j9k1m"]
    assert offered("tok-5") == [TOKEN]
    assert offered("x") == []
    daemon_cli.daemon.refuse("TokenList", "no")
    assert offered("") == []


def test_a_status_for_a_token_that_may_not_know_more_is_short(daemon_cli: Harness) -> None:
    brief = reply(
        "DaemonInfo", status="running", version="9.9", protocol=1, pid=0, uptime_secs=0, uptime="",
        jobs_active=0, orphan_count=0, state_dir="", profile="", epoch=0, seq=0,
    )  # fmt: skip
    daemon_cli.daemon.answer("DaemonStatus", brief)
    out = daemon_cli.oj("daemon", "status").out
    assert [line.split(":")[0] for line in out.splitlines()] == ["Status", "Version"]
