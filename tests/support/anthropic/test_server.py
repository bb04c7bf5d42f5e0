"""The loopback API says what its scenario says, and nothing else."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from tests.support.anthropic.scenario import Asked, load
from tests.support.anthropic.server import ApiServer

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[3]
TOOLS = [{"name": "Bash"}]


def person(text: str) -> Json:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def called(name: str = "Bash", number: int = 1) -> Json:
    block = {"type": "tool_use", "id": f"t{number}", "name": name, "input": {}}
    return {"role": "assistant", "content": [block]}


def result(text: str, number: int = 1) -> Json:
    block = {"type": "tool_result", "tool_use_id": f"t{number}", "content": text}
    return {"role": "user", "content": [block]}


def body(*messages: Json, stream: bool = False, session: str = "s") -> Json:
    user = json.dumps({"session_id": session})
    return {
        "model": "m",
        "messages": list(messages),
        "tools": TOOLS,
        "stream": stream,
        "metadata": {"user_id": user},
    }


def call(url: str, method: str, path: str, sent: Json | None = None) -> tuple[int, Json, str]:
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    try:
        connection.request(method, path, json.dumps(sent) if sent is not None else None)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def ask(api: ApiServer, sent: Json) -> Json:
    status, _, text = call(api.url, "POST", "/v1/messages?beta=true", sent)
    return {"status": status, **json.loads(text)}


def events(text: str) -> Iterator[tuple[str, Json]]:
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n")
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def test_a_story_is_told_step_by_step_and_a_retry_hears_the_same_again() -> None:
    turn = {
        "when": "build",
        "answers": [{"tool": "Bash", "input": {"command": "make"}}, {"say": "got {result}"}],
    }
    with ApiServer({"turns": [turn]}) as api:
        first = ask(api, body(person("build it")))
        again = ask(api, body(person("build it")))
        last = ask(api, body(person("build it"), called(), result("ok")))
        over = ask(api, body(person("build it"), called(), result("ok"), called(), result("x")))
    assert [first["content"][0]["name"], first["stop_reason"]] == ["Bash", "tool_use"]
    assert again["content"][0]["input"] == {"command": "make"}
    assert last["content"] == [{"type": "text", "text": "got ok"}]
    assert over["content"][0]["text"] == "All done: build it"


def test_the_prompt_is_what_a_person_said_last() -> None:
    messages = [
        person("<system-reminder>context"),
        person("[Request interrupted by user]"),
        person("do it"),
        {"role": "system", "content": "SessionStart hook success: primed"},
        called(),
        result("done"),
        person("<system-reminder>more"),
    ]
    asked = Asked.of(body(*messages, session="abc"))
    assert asked == Asked("do it", 1, 1, "done", "abc", ("Bash",))


def test_a_stop_hook_speaks_as_a_person() -> None:
    messages = [person("do it"), called(), result("x"), person("Stop hook feedback:\nnot yet")]
    assert Asked.of(body(*messages)).prompt == "Stop hook feedback:\nnot yet"


def test_times_counts_prompts_and_the_next_turn_takes_over() -> None:
    turns = [
        {"when": "go", "times": 1, "answers": [{"say": "first"}]},
        {"when": "go", "answers": [{"say": "later"}]},
    ]
    said = {"role": "assistant", "content": "first"}
    with ApiServer({"turns": turns}) as api:
        heard = [
            ask(api, body(person("go")))["content"][0]["text"],
            ask(api, body(person("go")))["content"][0]["text"],
            ask(api, body(person("go"), said, person("go")))["content"][0]["text"],
            ask(api, body(person("go"), session="other"))["content"][0]["text"],
        ]
    assert heard == ["first", "first", "later", "later"]


def test_alternatives_are_used_up_in_order() -> None:
    answers = [[{"status": 529, "times": 2}, {"say": "at last"}]]
    with ApiServer({"turns": [{"answers": answers}]}) as api:
        heard = [ask(api, body(person("go")))["status"] for _ in range(4)]
    assert heard == [529, 529, 200, 200]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_failure_looks_like_the_real_one(status: int, kind: str) -> None:
    answer = {"status": status, "retry_after": 3}
    with ApiServer({"turns": [{"answers": [answer]}]}) as api:
        got, headers, text = call(api.url, "POST", "/v1/messages", body(person("go")))
    assert got == status
    assert headers["retry-after"] == "3"
    assert json.loads(text)["error"]["type"] == kind


def test_a_stream_carries_all_blocks_in_the_real_order_of_events() -> None:
    answer = {"think": "hm", "say": "é" * 50, "tool": "Bash", "input": {"command": "x" * 60}}
    with ApiServer({"turns": [{"answers": [answer]}], "usage": {"output_tokens": 7}}) as api:
        sent = body(person("go"), stream=True)
        _, headers, text = call(api.url, "POST", "/v1/messages", sent)
    came = list(events(text))
    block = ["content_block_start", "content_block_delta"]
    assert headers["Content-Type"].startswith("text/event-stream")
    assert [name for name, _ in came] == [
        "message_start",
        "ping",
        *block,
        "content_block_delta",
        "content_block_stop",
        *block,
        "content_block_delta",
        "content_block_stop",
        *block,
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [data["delta"] for name, data in came if name == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "é" * 50
    arguments = "".join(delta.get("partial_json", "") for delta in deltas)
    assert json.loads(arguments) == {"command": "x" * 60}
    assert came[-2][1]["delta"]["stop_reason"] == "tool_use"
    assert came[-2][1]["usage"] == {"output_tokens": 7}
    assert all(data["type"] == name for name, data in came)


def test_a_cut_stream_breaks_off_inside_an_event() -> None:
    turn = {"answers": [{"say": "a long text " * 20, "cut": 4}]}
    with ApiServer({"turns": [turn]}) as api, pytest.raises(http.client.IncompleteRead) as broken:
        call(api.url, "POST", "/v1/messages", body(person("go"), stream=True))
    text = broken.value.partial.decode()
    assert text.count("\n\n") == 4
    assert not text.endswith("\n\n")


def test_a_stream_can_say_that_it_failed() -> None:
    turn = {"answers": [{"say": "a long text " * 20, "error_after": 4}]}
    with ApiServer({"turns": [turn]}) as api:
        _, _, text = call(api.url, "POST", "/v1/messages", body(person("go"), stream=True))
    name, data = list(events(text))[-1]
    assert (name, data["error"]["type"]) == ("error", "overloaded_error")


def test_an_endless_stream_ends_with_the_server() -> None:
    turn = {"answers": [{"say": "and on ", "endless": True}]}
    api = ApiServer({"turns": [turn]}).start()
    at = urlsplit(api.url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=20)
    connection.request("POST", "/v1/messages", json.dumps(body(person("go"), stream=True)))
    answer = connection.getresponse()
    assert answer.read(2000)
    api.close()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_a_held_answer_waits_for_its_release_by_http() -> None:
    with ApiServer({"turns": [{"answers": [{"hold": "gate", "say": "now"}]}]}) as api:
        assert call(api.url, "POST", "/_control/release/gate", {})[0] == 200
        assert ask(api, body(person("go")))["content"][0]["text"] == "now"


def test_a_request_without_tools_gets_a_title_and_is_no_turn() -> None:
    sent = {"model": "m", "messages": [person("<session>go</session>")]}
    with ApiServer({"title": "Going"}) as api:
        answer = ask(api, sent)
        assert api.turns == []
    assert json.loads(answer["content"][0]["text"]) == {"title": "Going"}


def test_a_compaction_is_answered_apart() -> None:
    sent = body(person("go\n\nCRITICAL: Respond with TEXT ONLY. Do NOT call any tools."))
    with ApiServer({"turns": [{"answers": [{"tool": "Bash"}]}]}) as api:
        answer = ask(api, sent)
        assert [request.kind for request in api.requests] == ["compact"]
    assert "<summary>" in answer["content"][0]["text"]


def test_all_requests_are_written_down(tmp_path: Path) -> None:
    record = tmp_path / "requests.jsonl"
    with ApiServer({}, record=record) as api:
        call(api.url, "HEAD", "/")
        ask(api, body(person("go"), {"role": "system", "content": "PRIMED"}))
        _, _, counted = call(api.url, "POST", "/v1/messages/count_tokens", body(person("go")))
        assert call(api.url, "POST", "/api/event_logging", {})[0] == 404
        _, _, listed = call(api.url, "GET", "/_control/requests")
    kinds = ["probe", "turn", "count", "other"]
    assert [request.kind for request in api.requests] == kinds
    assert "PRIMED" in api.turns[0].text
    assert json.loads(counted)["input_tokens"] > 0
    assert [entry["kind"] for entry in json.loads(listed)] == kinds
    assert [json.loads(line)["kind"] for line in record.read_text().splitlines()] == kinds


def test_a_misspelt_scenario_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="anwsers"):
        load({"turns": [{"anwsers": []}]})


def test_it_serves_as_a_process_of_its_own(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"otherwise": {"say": "here"}}))
    command = [sys.executable, "-m", "tests.support.anthropic.server", str(scenario)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        _, _, text = call(url, "POST", "/v1/messages", body(person("go")))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert json.loads(text)["content"][0]["text"] == "here"
