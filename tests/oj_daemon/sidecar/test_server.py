"""The HTTP API of a real sidecar around a shell."""

from __future__ import annotations

import base64
import socket
import stat
from pathlib import Path

import pytest

from tests.oj_daemon.sidecar.conftest import SHELL
from tests.support.sidecar import SECONDS, Sidecar, sidecar
from tests.support.waiting import until

pytestmark = pytest.mark.e2e  # a real process, and more than one


def test_health_says_how_sidecar_and_agent_are(shell: Sidecar) -> None:
    health = shell.get("health").body
    assert health["status"] == "running"
    assert (health["agent"], health["exit"]) == ("generic", None)
    assert (health["terminal_cols"], health["terminal_rows"]) == (200, 50)
    assert Path(f"/proc/{health['pid']}").exists()


def test_the_socket_is_for_its_owner_alone(shell: Sidecar) -> None:
    assert stat.S_IMODE(Path(shell.socket or "").stat().st_mode) == 0o600


def test_a_prompt_on_the_screen_makes_the_agent_idle_and_ready(clear: Sidecar) -> None:
    view = clear.becomes("idle")
    assert (view["agent"], view["prompt"]) == ("generic", None)
    assert clear.get("ready").status == 200
    assert clear.get("livez").body["status"] == "alive"
    status = clear.get("status").body
    assert (status["state"], status["exit_code"]) == ("idle", None)
    assert min(status["bytes_read"], status["bytes_written"], status["screen_seq"]) > 0


def test_typed_text_arrives_and_enter_is_a_carriage_return(clear: Sidecar) -> None:
    reply = clear.post("input", {"text": "echo in-$((1+1))", "enter": True})
    assert (reply.status, reply.body) == (200, {"bytes_written": 17})
    clear.shows("in-2")


def test_the_text_of_the_screen_has_no_trailing_blanks(clear: Sidecar) -> None:
    clear.type("printf 'a   \\n'")
    clear.shows("a\n")
    lines = clear.screen().split("\n")
    assert len(lines) == 50
    assert all(line == line.rstrip() for line in lines)


def test_the_screen_comes_with_colours_and_cursor(clear: Sidecar) -> None:
    clear.type("printf '\\e[31mred\\e[0m\\n'")
    clear.shows("\nred")
    screen = clear.get("screen?cursor=true").body
    assert screen["lines"][1] == "red"
    assert "\x1b[38;5;1mred" in screen["ansi"][1]
    assert screen["cursor"]["row"] == 2
    assert clear.get("screen").body["cursor"] is None
    assert screen["alt_screen"] is False


def test_keys_are_typed_all_or_none(clear: Sidecar) -> None:
    before = clear.get("status").body["bytes_written"]
    refused = clear.post("input/keys", {"keys": ["up", "ctrl-c", "nope"]})
    assert (refused.status, refused.body["error"]["code"]) == (400, "BAD_REQUEST")
    assert "'nope'" in refused.body["error"]["message"]
    assert clear.get("status").body["bytes_written"] == before
    assert clear.post("input/keys", {"keys": ["Ctrl-L", "left"]}).body == {"bytes_written": 4}


def test_raw_bytes_must_be_base64(clear: Sidecar) -> None:
    assert clear.post("input/raw", {"data": "%%"}).status == 400
    data = base64.b64encode(b"echo raw-$((2+2))\r").decode()
    assert clear.post("input/raw", {"data": data}).body == {"bytes_written": 18}
    clear.shows("raw-4")


def test_a_resize_reaches_the_program_and_a_zero_is_refused(clear: Sidecar) -> None:
    assert clear.post("resize", {"cols": 100, "rows": 30}).body == {"cols": 100, "rows": 30}
    clear.type("stty size")
    clear.shows("30 100")
    assert clear.post("resize", {"cols": 0, "rows": 30}).status == 400
    assert clear.get("health").body["terminal"] == {"cols": 100, "rows": 30}
    clear.post("resize", {"cols": 200, "rows": 50})


def test_an_interrupt_reaches_what_runs_in_the_foreground(clear: Sidecar) -> None:
    clear.type("bash -c 'trap \"echo GOT-IT; exit\" INT; echo UP; while :; do read -t 1; done'")
    clear.shows("\nUP")
    assert clear.post("signal", {"signal": "sigint"}).body == {"delivered": True}
    clear.shows("GOT-IT")
    assert clear.post("signal", {"signal": "NOPE"}).status == 400


def test_an_error_has_one_shape_everywhere(shell: Sidecar) -> None:
    for method, path, body, status, code in [
        ("GET", "nowhere", None, 404, "NOT_FOUND"),
        ("POST", "health", {}, 405, "METHOD_NOT_ALLOWED"),
        ("POST", "input", "{not json", 400, "BAD_REQUEST"),
        ("POST", "input", {"text": 7}, 400, "BAD_REQUEST"),
        ("GET", "output?offset=x", None, 400, "BAD_REQUEST"),
        ("GET", "transcripts/1", None, 400, "BAD_REQUEST"),
        ("GET", "exec/none", None, 404, "NOT_FOUND"),
    ]:
        reply = shell.request(method, path, body)
        assert (reply.status, reply.body["error"]["code"]) == (status, code), path
        assert reply.body["error"]["message"]


def test_what_a_browser_sends_for_a_web_page_is_refused(shell: Sidecar) -> None:
    reply = shell.request("POST", "input", {"text": "x"}, {"Origin": "http://evil"})
    assert reply.status == 403
    assert "Access-Control-Allow-Origin" not in shell.get("health").headers


def test_the_output_is_addressed_by_offset_and_the_ring_forgets() -> None:
    flood = "head -c 2097152 /dev/zero | tr '\\0' x; echo; echo END; read"
    with sidecar(("bash", "-c", flood), "--ring-size", "1048576") as made:
        made.shows("END")
        output = made.get("output?offset=0").body
        assert output["offset"] > 0
        assert output["next_offset"] == output["total_written"] > 2_097_152
        assert len(base64.b64decode(output["data"])) == 1_048_576
        end = output["total_written"]
        assert made.get(f"output?offset={end}").body["data"] == ""
        piece = made.get(f"output?offset={end - 5}&limit=3").body
        assert base64.b64decode(piece["data"]) == b"END"


def test_with_a_token_everything_but_probes_needs_it() -> None:
    with sidecar(SHELL, env={"OJ_SIDECAR_TOKEN": "s3cret-t0ken"}) as made:
        for path in ("health", "ready", "livez"):
            assert made.get(path).status in {200, 503}
        refused = made.get("agent")
        assert (refused.status, refused.body["error"]["code"]) == (401, "UNAUTHORIZED")
        assert made.get("agent", Authorization="Bearer wrong").status == 401
        assert made.get("agent", Authorization="Basic s3cret-t0ken").status == 401
        assert made.get("agent?token=s3cret-t0ken").status == 401
        made.token = "s3cret-t0ken"
        assert made.get("agent").status == 200
        made.type("env | grep -c s3cret; echo hook=${#OJ_SIDECAR_HOOK_TOKEN}")
        made.shows("hook=32")
        assert "\n0\n" in made.screen()
        made.type("clear; echo token=$OJ_SIDECAR_HOOK_TOKEN.")
        until(lambda: made.screen().startswith("token="), SECONDS, made.screen)
        hook_token = made.screen().split("=", 1)[1].split(".")[0]
        made.token = hook_token
        assert made.post("stop/resolve", {}).status == 200
        assert made.get("agent").status == 401
        assert "s3cret" not in made.log()
        assert hook_token not in made.log()


@pytest.mark.parametrize("size", [1 << 17, 1 << 20])
def test_a_program_that_does_not_read_costs_the_typist_an_error_and_nobody_else_anything(
    size: int,
) -> None:
    with sidecar(("bash", "-c", "stty raw -echo; echo UP; exec sleep 1000")) as made:
        made.shows("UP")
        with made.in_background("input", {"text": "x" * size}) as replies:
            assert made.get("health").status == 200
        assert (replies[0].status, replies[0].body["error"]["code"]) == (409, "AGENT_BUSY")
        assert made.post("input", {"text": "y" * 10}).status in {200, 409}


def test_what_was_begun_is_typed_to_its_end_although_the_client_went_away() -> None:
    with sidecar(SHELL, env={"PS1": "$ ", "OJ_SIDECAR_INPUT_DELAY_MS": "400"}) as made:
        made.shows("$")
        body = b'{"text": "echo through-$((6+1))", "enter": true}'
        head = f"POST /api/v1/input HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(made.socket or "")
            client.sendall(head.encode() + body)
            made.shows("echo through")
        made.shows("through-7")
