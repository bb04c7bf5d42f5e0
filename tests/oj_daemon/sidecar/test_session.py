"""An agent that behaves as Claude Code does, inside of a real sidecar: state, prompts, gate, start hook, messages, log."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.oj_daemon.sidecar.test_streams import frame
from tests.support.agent.session import SCRIPTED
from tests.support.sidecar import SECONDS, Sidecar, sidecar
from tests.support.waiting import until

pytestmark = pytest.mark.e2e  # a real process, and more than one

Json = dict[str, Any]


class Agent(Sidecar):
    """A sidecar around the scripted agent."""

    work: Path

    def touch(self, name: str) -> None:
        """Let the agent go on."""
        (self.work / name).touch()

    def has(self, name: str) -> None:
        """Wait for a file that the agent makes."""
        until(
            (self.work / name).exists,
            SECONDS,
            lambda: f"{name}\n{self.screen()}\n{self.log()}",
        )

    def asks(self, *, after: int = 0) -> Json:
        """Wait for a prompt that can be answered."""

        def found() -> Json | None:
            prompt: Json | None = self.get("agent").body["prompt"]
            is_open = prompt is not None and prompt["ready"] and prompt["channel"] == "hook"
            return prompt if prompt and is_open and prompt["seq"] > after else None

        until(found, SECONDS, lambda: f"a prompt\n{self.screen()}\n{self.log()}")
        return found() or {}

    def frames(self) -> list[Json]:
        """Everything that was told so far."""
        events: list[Json] = self.get("events/catchup?since_seq=0").body["state_events"]
        return events

    def outcomes(self, event: str) -> list[str]:
        """The types of all outcomes of that kind."""
        return [one["type"] for one in self.frames() if one["event"] == event]


Play = Callable[..., Agent]


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    with ExitStack() as opened:

        def begin(
            scenario: Json, config: Json | None = None, *options: str, **environ: str
        ) -> Agent:
            work = tmp_path / "work"
            work.mkdir(exist_ok=True)
            (work / "agent-scenario.json").write_text(
                json.dumps({"notification": None, **scenario})
            )
            (tmp_path / "agent.json").write_text(json.dumps(config or {}))
            words = ("--agent-config", str(tmp_path / "agent.json"), "--cwd", str(work), *options)
            env = {
                "CLAUDE_CONFIG_DIR": str(tmp_path / "claude"),
                "ANTHROPIC_API_KEY": "k" * 30,
                **environ,
            }
            made = opened.enter_context(sidecar((str(SCRIPTED),), *words, env=env))
            made.__class__ = Agent
            assert isinstance(made, Agent)
            made.work = work
            return made

        yield begin


def turn(when: str, *actions: Json, **more: object) -> Json:
    return {"when": when, "do": list(actions), **more}


WAIT = {"await": "go"}


def test_the_agent_starts_with_our_hooks_after_the_callers_and_its_session_id(play: Play) -> None:
    mine: Json = {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "true"}]}]},
            "permissions": {"allow": ["Bash(ls:*)"]}, "model": "opus"}  # fmt: skip
    mcp = {"files": {"command": "files-server"}}
    agent = play({"start": [{"env": "env.json"}]}, {"settings": mine, "mcp": mcp})
    agent.has("env.json")
    words = json.loads((agent.work / "env.json").read_text())["argv"]
    assert words[words.index("--session-id") + 1] == agent.get("health").body["session_id"]
    given = words[words.index("--settings") + 1]
    settings = json.loads(Path(given).read_text())
    assert {"SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "PermissionRequest",
            "Notification", "Stop", "StopFailure"} <= settings["hooks"].keys()  # fmt: skip
    assert settings["hooks"]["Stop"][0] == mine["hooks"]["Stop"][0]
    assert len(settings["hooks"]["Stop"]) == 2
    assert settings["model"] == "opus"
    allowed = settings["permissions"]["allow"]
    assert allowed[0] == "Bash(ls:*)"
    assert [rule for rule in allowed if "oj-sidecar send" in rule] == allowed[1:]
    servers = json.loads(Path(words[words.index("--mcp-config") + 1]).read_text())
    assert servers == {"mcpServers": mcp}


def test_before_any_evidence_it_is_starting_and_takes_no_message(play: Play) -> None:
    agent = play({"start": [WAIT]})
    assert agent.state() == "starting"
    assert agent.get("ready").status == 503
    for path, body in (("agent/nudge", {"message": "x"}), ("agent/respond", {"accept": True})):
        reply = agent.post(path, body)
        assert (reply.status, reply.body["error"]["code"]) == (503, "NOT_READY")
    agent.touch("go")
    agent.becomes("idle")


def test_a_turn_is_working_then_idle_once_with_its_last_message(play: Play) -> None:
    agent = play(
        {"turns": [turn("hello", {"say": "first"}, {"bash": "true"}, WAIT, {"say": "Done."})]}
    )
    agent.becomes("idle")
    reply = agent.post("agent/nudge", {"message": "hello", "wait_ms": 20000}).body
    assert (reply["delivered"], reply["confirmed"]) == (True, True)
    agent.becomes("working")
    agent.touch("go")
    assert agent.becomes("idle")["last_message"] == "Done."
    told = [one["next"] for one in agent.frames() if one["event"] == "transition"]
    assert told == ["idle", "working", "idle"]
    seqs = [one["seq"] for one in agent.frames()]
    assert seqs == sorted(set(seqs))


def test_a_first_message_is_given_at_the_start(play: Play) -> None:
    agent = play({"turns": [turn("task", {"say": "did it"})]}, {"prompt": "the task"})
    until(lambda: agent.get("agent").body["last_message"] == "did it", SECONDS, agent.log)
    agent.becomes("idle")


def test_two_messages_at_once_are_not_mixed(play: Play) -> None:
    agent = play({"keys": "keys", "turns": [turn(".", {"say": "ok"})]})
    agent.becomes("idle")
    first, second = {"message": "a" * 50}, {"message": "b" * 50}
    with agent.in_background("agent/nudge", first), agent.in_background("agent/nudge", second):
        pass
    until(lambda: (agent.work / "keys").read_bytes().count(b"\r") >= 2, SECONDS, "both to be typed")
    typed = (agent.work / "keys").read_bytes()
    assert b"a" * 50 in typed
    assert b"b" * 50 in typed


BASH = turn(
    "BASH",
    {"bash": "touch made", "ask": True, "refused": [{"say": "refused: {answer}"}]},
    {"say": "over"},
)


@pytest.mark.parametrize("accept", [True, False])
def test_a_permission_is_answered_without_typing(play: Play, accept: bool) -> None:
    agent = play({"keys": "keys", "turns": [BASH]}, {"prompt": "BASH"})
    prompt = agent.asks()
    assert (prompt["type"], prompt["tool"], prompt["ready"]) == ("permission", "Bash", True)
    stale = agent.post("agent/respond", {"accept": True, "prompt_seq": prompt["seq"] - 1})
    assert (stale.status, stale.body["error"]["code"]) == (409, "STALE_PROMPT")
    refused = agent.post("agent/nudge", {"message": "please"}).body
    if not refused["delivered"]:
        assert refused["reason"]
        body = {"accept": accept, "text": "" if accept else "not now", "prompt_seq": prompt["seq"]}
        reply = agent.post("agent/respond", body)
        assert reply.body["delivered"] is True, reply.text
    agent.becomes("idle")
    assert (agent.work / "made").exists() is accept
    assert not (agent.work / "keys").exists() or (agent.work / "keys").read_bytes() == b""
    assert agent.outcomes("prompt:outcome") == ["permission"]


def test_a_person_at_the_terminal_may_be_first(play: Play) -> None:
    agent = play({"turns": [BASH]}, {"prompt": "BASH"})
    agent.becomes("prompt")
    agent.shows("1. ")
    agent.post("input", {"text": "1"})
    agent.becomes("idle")
    assert (agent.work / "made").exists()
    late = agent.post("agent/respond", {"accept": False}).body
    assert late["delivered"] is False
    outcome = next(one for one in agent.frames() if one["event"] == "prompt:outcome")
    assert outcome["source"] == "terminal"


ASK = [
    {"question": "Which color?", "header": "Color", "multiSelect": False,
     "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}]},
    {"question": "Which sizes?", "header": "Size", "multiSelect": True,
     "options": [{"label": "Small", "description": "s"}, {"label": "Large", "description": "l"}]},
]  # fmt: skip


def test_several_questions_with_several_choices_are_answered_at_once(play: Play) -> None:
    agent = play({"turns": [turn("ASK", {"ask": ASK}, {"say": "{answer}"})]}, {"prompt": "ASK"})
    prompt = agent.asks()
    assert prompt["type"] == "question"
    assert [one["options"] for one in prompt["questions"]] == [["Red", "Blue"], ["Small", "Large"]]
    assert [one["multi_select"] for one in prompt["questions"]] == [False, True]
    assert prompt["question_current"] == 0
    nothing = agent.post("agent/respond", {"answers": []}).body
    assert nothing["delivered"] is False
    answers = {"answers": [{"option": 2}, {"options": [1, 2]}]}
    reply = agent.post("agent/respond", answers)
    assert reply.body["delivered"] is True, reply.text
    said = json.loads(agent.becomes("idle")["last_message"])
    assert said == {"Which color?": "Blue", "Which sizes?": "Small, Large"}


def test_a_plan_is_sent_back_with_a_reason_and_then_accepted(play: Play) -> None:
    plan = turn(
        "PLAN", {"plan": "# first", "refused": [{"plan": "# second: {answer}"}]}, {"say": "go"}
    )
    agent = play({"turns": [plan]}, {"prompt": "PLAN"})
    first = agent.asks()
    assert first["type"] == "plan"
    assert json.loads(first["input"])["plan"] == "# first"
    reply = agent.post("agent/respond", {"accept": False, "text": "smaller"})
    assert reply.body["delivered"] is True, reply.text

    second = agent.asks(after=first["seq"])
    assert "smaller" in second["input"]
    agent.post("agent/respond", {"accept": True})
    agent.becomes("idle")


@pytest.mark.parametrize(
    ("error", "category"),
    [("rate_limit", "rate_limited"), ("authentication_failed", "unauthorized"), ("billing_error", "out_of_credits")],
)  # fmt: skip
def test_an_error_that_ends_the_turn_has_its_kind_and_work_clears_it(
    play: Play, error: str, category: str
) -> None:
    bad = turn("BAD", {"error": error, "message": "sorry"})
    agent = play({"turns": [bad, turn("again", WAIT)]}, {"prompt": "BAD"})
    view = agent.becomes("error")
    assert view["error_category"] == category
    assert agent.post("agent/nudge", {"message": "again"}).body["delivered"] is True
    assert "error_category" not in agent.becomes("working")


# -- gate ----------------------------------------------------------------------------------------------------------


def stop(agent: Agent, **data: object) -> Json:
    reply: Json = agent.post("hooks/stop", {"event": "stop", "data": data}).body
    return reply


def test_the_gate_holds_once_with_exactly_its_prompt_and_opens_when_told(play: Play) -> None:
    reason = 'wait: "ünï" \\ $HOME\n  second'
    agent = play({"start": [WAIT]}, {"stop": {"mode": "gate", "prompt": reason}})
    assert stop(agent) == {"decision": "block", "reason": reason}
    assert "decision" not in stop(agent, stop_hook_active=True)
    assert agent.post("stop/resolve", {"any": 1}).body["accepted"] is True
    assert "decision" not in stop(agent)
    assert stop(agent)["decision"] == "block"
    assert agent.put("config/stop", {"mode": "allow"}).body == {"updated": True}
    assert agent.get("config/stop").body == {"mode": "allow"}
    assert "decision" not in stop(agent)
    assert agent.put("config/stop", {"mode": "what"}).status in {400, 422}
    assert agent.outcomes("stop:outcome") == [
        "blocked",
        "safety_valve",
        "signaled",
        "blocked",
        "allowed",
    ]


def test_a_blocked_stop_never_looks_idle_and_the_agent_goes_on(play: Play) -> None:
    agent = play(
        {
            "turns": [
                turn("task", {"say": "half"}),
                turn("Stop hook feedback", WAIT, {"say": "whole"}),
            ]
        },
        {"prompt": "task", "stop": {"mode": "gate", "prompt": "not yet"}},
    )
    until(lambda: agent.outcomes("stop:outcome") == ["blocked"], SECONDS, agent.log)
    assert agent.state() == "working"
    agent.touch("go")
    assert agent.becomes("idle")["last_message"] == "whole"
    told = [one["next"] for one in agent.frames() if one["event"] == "transition"]
    assert told.count("idle") == 1
    assert agent.outcomes("stop:outcome") == ["blocked", "safety_valve"]


def test_an_agent_reports_by_itself_and_only_a_final_word_opens_the_gate(play: Play) -> None:
    agent = play({"start": [WAIT]}, {"stop": {"mode": "auto", "prompt": "report"}})
    reason = stop(agent)["reason"]
    assert reason.startswith("report")
    assert reason.count("oj-sidecar send '") == 2
    for body, status in (
        ({"status": "perhaps"}, 422),
        ({}, 422),
        ({"status": 7}, 422),
        ({"status": "continue"}, 200),
    ):
        assert agent.post("stop/resolve", body).status == status, body
    assert stop(agent)["decision"] == "block"
    assert agent.post("stop/resolve", {"status": "done"}).status == 200
    assert "decision" not in stop(agent)


def test_the_agent_itself_can_send(play: Play) -> None:
    import sys  # noqa: PLC0415

    command = f'{sys.executable} -m oj_daemon.sidecar.main send \'{{"status": "done"}}\''
    agent = play(
        {
            "turns": [
                turn("^task$", {"say": "x"}),
                turn("Stop hook", {"run": command, "to": "out"}, {"say": "y"}),
            ]
        },
        {"prompt": "task", "stop": {"mode": "auto"}},
    )
    agent.has("out")
    agent.becomes("idle")
    assert (agent.work / "out").read_text() == "exit 0\n"
    assert agent.outcomes("stop:outcome")[0] == "blocked"


# -- start ---------------------------------------------------------------------------------------------------------


def test_text_for_the_start_arrives_to_the_byte(play: Play) -> None:
    import subprocess  # noqa: PLC0415

    text = 'it\'s "quoted" $HOME `x` \\ ünï\n  two lines'
    override = {"resume": {"shell": ["echo from-resume"]}}
    agent = play({"start": [WAIT]}, {"start": {"text": text, "event": override}})

    def start(source: str) -> str:
        script = agent.post("hooks/start", {"event": "start", "data": {"source": source}}).text
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout  # fmt: skip

    assert start("startup").rstrip("\n") == text
    assert start("resume") == "from-resume\n"
    assert start("clear").rstrip("\n") == text
    agent.put("config/start", {})
    assert start("startup") == ""
    told = [
        (one["source"], one["injected"])
        for one in agent.frames()
        if one["event"] == "start:outcome"
    ]
    assert told[-4:] == [("startup", True), ("resume", True), ("clear", True), ("startup", False)]


# -- log -----------------------------------------------------------------------------------------------------------


async def test_log_lines_are_pushed_and_cost_is_counted_once_per_answer(play: Play) -> None:
    agent = play({"usage": {"input_tokens": 3, "output_tokens": 5},
                  "turns": [turn("go", {"think": "hm"}, {"say": "ok"})]})  # fmt: skip
    agent.becomes("idle")
    async with (
        agent.session() as http,
        http.ws_connect(agent.url("/ws?subscribe=messages")) as socket,
    ):
        agent.post("agent/nudge", {"message": "go"})
        got = await frame(socket, "message:raw")
        assert (got["source"], "type" in got["data"]) == ("log", True)
    until(lambda: agent.get("session/usage").body["request_count"] > 0, SECONDS, agent.log)
    agent.becomes("idle")
    usage = agent.get("session/usage").body
    assert usage["output_tokens"] == 5 * usage["request_count"]
    caught = agent.get("transcripts/catchup?since_transcript=0&since_line=0").body
    assert len(caught["live_lines"]) == caught["current_line"] > 1


def test_a_compaction_keeps_a_copy_and_no_line_appears_twice(play: Play) -> None:
    go = turn("go", {"say": "ok"}, {"compact": True})
    agent = play({"turns": [go, turn("more", {"say": "fine"})]}, {"prompt": "go"})
    until(lambda: agent.get("transcripts").body["transcripts"], SECONDS, agent.log)
    agent.becomes("idle")
    agent.post("agent/nudge", {"message": "more", "wait_ms": 20000})
    agent.becomes("idle")
    caught = agent.get("transcripts/catchup").body
    assert [one["number"] for one in caught["transcripts"]] == [1]
    lines = [*caught["transcripts"][0]["lines"], *caught["live_lines"]]
    uuids = [json.loads(line).get("uuid") for line in lines]
    known = [uuid for uuid in uuids if uuid]
    assert len(known) == len(set(known))
    assert agent.get("transcripts/1").body["content"]
    assert agent.get("transcripts/1", Accept="text/plain").text.startswith("{")


def test_a_conversation_is_resumed_by_its_id_alone(play: Play) -> None:
    scenario = {
        "turns": [turn("one", {"say": "said one"}), turn("two", {"say": "said two"}, resumed=True)]
    }
    first = play(scenario, {"prompt": "one"})
    first.becomes("idle")
    session_id = first.get("health").body["session_id"]
    first.post("shutdown")
    first.wait()
    again = play(scenario, {}, "--resume", session_id)
    view = again.becomes("idle")
    assert (view["session_id"], view["last_message"]) == (session_id, "said one")
    again.post("agent/nudge", {"message": "two", "wait_ms": 20000})
    until(lambda: again.get("agent").body["last_message"] == "said two", SECONDS, again.log)


def test_a_conversation_that_is_not_there_is_an_error(play: Play) -> None:
    with pytest.raises(AssertionError, match=r"it ended with 1: .*resume"):
        play({}, {}, "--resume", "00000000-0000-4000-8000-000000000000")


def test_a_restarted_agent_carries_on_with_its_conversation(play: Play) -> None:
    agent = play(
        {"start": [{"env": "env-{pid}.json"}], "turns": [turn("one", {"say": "x"})]},
        {"prompt": "one"},
    )
    agent.becomes("idle")
    session_id = agent.get("health").body["session_id"]
    assert agent.post("session/restart", {}).status == 202
    assert agent.post("session/restart", {}).status in {202, 409}
    until(lambda: len(list(agent.work.glob("env-*.json"))) > 1, SECONDS, agent.log)
    argvs = [json.loads(path.read_text())["argv"] for path in agent.work.glob("env-*.json")]
    assert [session_id in words and "--resume" in words for words in argvs].count(True) == 1
    agent.becomes("idle")


def test_a_hook_that_dies_leaves_the_answer_to_the_keys(play: Play) -> None:
    agent = play({"turns": [BASH]}, {"prompt": "BASH"})
    agent.asks()
    hooks = [one for one in agent.family() if one.name.startswith("python")]
    waiting = [one for one in hooks if "PermissionRequest" in Path(f"/proc/{one.pid}/cmdline").read_text()]  # fmt: skip
    for one in waiting:
        os.kill(one.pid, signal.SIGKILL)
    assert waiting
    until(
        lambda: (agent.get("agent").body["prompt"] or {}).get("channel") != "hook",
        SECONDS,
        agent.log,
    )


def test_an_agent_that_is_idle_for_too_long_is_sent_home(play: Play) -> None:
    agent = play({}, {}, OJ_SIDECAR_IDLE_TIMEOUT_MS="200")
    assert agent.wait() == 128 + signal.SIGHUP
    assert agent.family() == []
