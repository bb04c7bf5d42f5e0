"""The driver of Claude Code: launch plans, answers, and what the recordings do not show."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oj_daemon.drivers.base import (
    AgentError,
    AgentState,
    Answer,
    Channel,
    Dialog,
    Ends,
    ErrorCategory,
    HookAnswer,
    KeyAnswer,
    Launch,
    LaunchPlan,
    Pacing,
    Prompt,
    PromptKind,
    QuestionAnswer,
    Refusal,
    SelectAnswer,
    Step,
    Tier,
)
from oj_daemon.drivers.claude import DRIVER
from oj_daemon.drivers.claude_launch import HOOKS

DATA = Path(__file__).parents[2] / "data" / "drivers" / "claude"
HELPER = ("/usr/bin/python3", "-I", "-S", "/lib/oj/hook.py")
PACING = Pacing(delay_ms=200)
LAUNCH = Launch(
    folder="/state/agents/a1",
    workspace="/home/dev/my.proj",
    fresh_id="11111111-2222",
    hook=HELPER,
    shell="claude --model x",
    home="/home/dev",
)


def plan(**changes: object) -> LaunchPlan:
    return DRIVER.plan(msgspec.structs.replace(LAUNCH, **changes))


def written(found: LaunchPlan, name: str) -> dict[str, Any]:
    [file] = [file for file in found.files if file.path.endswith(name)]
    assert file.mode == 0o600
    return dict(json.loads(file.text))


def recorded(name: str, event: str) -> dict[str, Any]:
    for line in (DATA / name).read_text().splitlines():
        found, _, payload = line.partition("\t")
        if found.startswith(event):
            return dict(json.loads(payload))
    raise AssertionError(event)


def asked(name: str) -> Prompt:
    """The prompt of the hook of a recording."""
    prompt = DRIVER.read_hook("PermissionRequest", recorded(name, "PermissionRequest")).prompt
    assert prompt is not None
    return prompt


# -------------------------------------------------------------------------------------------------------------- launch


def test_a_fresh_session_gets_its_id_and_our_settings_and_the_message_comes_last() -> None:
    found = plan(prompt="do it", mcp={"db": {"command": "x"}})
    assert found.argv == (
        "bash", "-c", 'claude --model x "$@"', "_",
        "--mcp-config", "/state/agents/a1/mcp.json",
        "--settings", "/state/agents/a1/claude-settings.json",
        "--permission-mode", "default",
        "--session-id", "11111111-2222",
        "do it",
    )  # fmt: skip
    assert found.session_id == "11111111-2222"
    assert (
        found.transcript_path == "/home/dev/.claude/projects/-home-dev-my-proj/11111111-2222.jsonl"
    )
    assert written(found, "mcp.json") == {"mcpServers": {"db": {"command": "x"}}}


def test_the_command_line_reaches_the_program_as_planned(tmp_path: Path) -> None:
    program = tmp_path / "claude"
    program.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s|" "$word"; done\n')
    program.chmod(0o755)
    found = plan(shell=f"{program} --flag 'a b'  \n", prompt='it\'s $HOME\n"x"')
    done = subprocess.run(found.argv, capture_output=True, text=True, check=True)
    assert done.stdout.split("|") == ["--flag", "a b", *found.argv[4:], ""]


def test_a_resumed_session_keeps_its_id() -> None:
    found = plan(argv=("claude", "-v"), shell="", resume="99-8", prompt="--now what")
    assert found.argv == (
        "claude", "-v",
        "--settings", "/state/agents/a1/claude-settings.json",
        "--permission-mode", "default",
        "--resume", "99-8",
        "--", "--now what",
    )  # fmt: skip
    assert found.session_id == "99-8"
    assert found.transcript_path.endswith("/99-8.jsonl")


def test_our_hooks_come_after_those_of_the_caller_and_the_rest_stays() -> None:
    theirs = {"hooks": [{"type": "command", "command": "theirs"}]}
    settings: dict[str, Any] = {
        "model": "m",
        "hooks": {"Stop": [theirs], "PreCompact": [theirs]},
        "permissions": {"deny": ["WebFetch"], "allow": ["Read"]},
    }
    merged = written(plan(settings=settings), "settings.json")
    assert merged["model"] == "m"
    assert merged["hooks"]["PreCompact"] == [theirs]
    assert merged["hooks"]["Stop"] == [
        theirs,
        {"hooks": [{"type": "command", "timeout": 30,
                    "command": "/usr/bin/python3 -I -S /lib/oj/hook.py Stop"}]},
    ]  # fmt: skip
    assert merged["permissions"] == {
        "deny": ["WebFetch"],
        "allow": ["Read", "Bash(oj-sidecar send:*)"],
    }
    assert set(merged["hooks"]) == {"PreCompact"} | {event for event, *_ in HOOKS}
    assert settings["hooks"]["Stop"] == [theirs], "the caller's own object is left alone"


def test_the_rule_for_send_is_there_once() -> None:
    settings = {"permissions": {"allow": ["Bash(oj-sidecar send:*)"]}}
    merged = written(plan(settings=settings), "settings.json")
    assert merged["permissions"]["allow"] == ["Bash(oj-sidecar send:*)"]


def test_the_hook_that_answers_may_wait_as_long_as_a_decision_may_take() -> None:
    merged = written(plan(answer_timeout_s=7200), "settings.json")
    [entry] = merged["hooks"]["PermissionRequest"]
    assert (entry["matcher"], entry["hooks"][0]["timeout"]) == ("*", 7200)


@pytest.mark.parametrize(
    ("launch", "is_asked"),
    [
        ({}, True),
        ({"shell": "claude --permission-mode plan"}, False),
        ({"shell": "claude --dangerously-skip-permissions"}, False),
        ({"settings": {"permissions": {"defaultMode": "acceptEdits"}}}, False),
        ({"settings": {"permissions": {"allow": ["Read"]}}}, True),
    ],
)
def test_who_says_nothing_about_permissions_gets_an_agent_that_asks_for_newer_ones_judge_themselves(
    launch: dict[str, Any], is_asked: bool
) -> None:
    assert ("--permission-mode default" in " ".join(plan(**launch).argv)) is is_asked


def test_pristine_injects_nothing() -> None:
    assert plan(hook=()).files == ()
    assert plan(hook=()).argv[4:] == ("--session-id", "11111111-2222")
    found = plan(hook=(), settings={"model": "m"})
    assert written(found, "settings.json") == {"model": "m"}


def test_a_configuration_folder_of_ours_is_set_up_so_that_no_dialog_comes() -> None:
    found = plan(
        config_dir="/state/agents/a1/config",
        owns_config_dir=True,
        api_key="sk-ant-test-0000000000123456789012345",
        config_text='{"numStartups": 3, "projects": {"/other": {"a": 1}}}',
    )
    config = written(found, "/state/agents/a1/config/.claude.json")
    assert config == {
        "numStartups": 3,
        "projects": {"/other": {"a": 1}, "/home/dev/my.proj": {"hasTrustDialogAccepted": True}},
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "customApiKeyResponses": {
            "approved": ["sk-ant-test-0000000000123456789012345"[-20:]],
            "rejected": [],
        },
    }
    assert found.env["CLAUDE_CONFIG_DIR"] == "/state/agents/a1/config"
    assert found.transcript_path.startswith("/state/agents/a1/config/projects/")


@pytest.mark.parametrize("config_dir", ["", "/home/dev/.claude"])
def test_a_folder_of_the_user_is_never_written(config_dir: str) -> None:
    found = plan(config_dir=config_dir, api_key="k" * 40)
    assert [file.path for file in found.files] == ["/state/agents/a1/claude-settings.json"]


def test_dialogs_are_accepted_only_where_the_launch_asked_for_what_they_ask() -> None:
    assert "trust" in plan().accept_dialogs
    assert "api_key" not in plan().accept_dialogs
    assert "api_key" in plan(api_key="k").accept_dialogs
    assert "bypass_permissions" not in plan().accept_dialogs
    bypass = {"shell": "claude --dangerously-skip-permissions"}
    assert "bypass_permissions" in plan(**bypass).accept_dialogs
    assert "IS_SANDBOX" not in plan(**bypass, is_root=True).env
    assert plan(**bypass, is_root=True).notes
    assert plan(**bypass, is_root=True, is_sandboxed=True).env["IS_SANDBOX"] == "1"


def test_only_the_very_session_of_this_workspace_is_resumed() -> None:
    head = (DATA / "transcript-permission-and-stop.jsonl").read_text().splitlines()
    session = "dc5c942a-78ce-45d7-92e2-675b43c6d2c3"
    assert DRIVER.check_resume(head, session, "/home/dev/proj") == ""
    assert "belongs to session" in DRIVER.check_resume(head, "other", "/home/dev/proj")
    assert "worked in /home/dev/proj" in DRIVER.check_resume(head, session, "/home/dev/proj2")
    assert "no entries" in DRIVER.check_resume([], session, "/home/dev/proj")
    assert "no entries" in DRIVER.check_resume(["{", "[]", '{"type":"summary"}'], session, "/x")


# ------------------------------------------------------------------------------------------------------------- answers


def decision(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    delivery = DRIVER.answer(prompt, answer, PACING)
    assert isinstance(delivery, HookAnswer), delivery
    output = json.loads(delivery.body)
    assert set(output) == {"hookSpecificOutput"}
    assert output["hookSpecificOutput"]["hookEventName"] == "PermissionRequest"
    return dict(output["hookSpecificOutput"]["decision"])


PERMISSION = "hooks-permission-approved.jsonl"
PLAN = "hooks-plan.jsonl"
QUESTION = "hooks-question.jsonl"
ALLOW = {"behavior": "allow"}


@pytest.mark.parametrize(
    ("recording", "answer", "expected"),
    [
        (PERMISSION, Answer(accept=True), ALLOW),
        (PERMISSION, Answer(option=1), ALLOW),
        (PERMISSION, Answer(accept=False), {"behavior": "deny", "message": "Denied."}),
        (PERMISSION, Answer(option=2), {"behavior": "deny", "message": "Denied."}),
        (
            PERMISSION,
            Answer(accept=False, text="not rm"),
            {"behavior": "deny", "message": "not rm"},
        ),
        (PERMISSION, Answer(text="why?"), {"behavior": "deny", "message": "why?"}),
        (PLAN, Answer(text="test first"), {"behavior": "deny", "message": "test first"}),
        (
            PLAN,
            Answer(accept=False, text="test first"),
            {"behavior": "deny", "message": "test first"},
        ),
        (PLAN, Answer(accept=False), {"behavior": "deny", "message": "Denied."}),
        (QUESTION, Answer(accept=False), {"behavior": "deny", "message": "Denied."}),
    ],
)
def test_an_answer_becomes_the_decision_of_the_hook(
    recording: str, answer: Answer, expected: dict[str, str]
) -> None:
    assert decision(asked(recording), answer) == expected


@pytest.mark.parametrize(
    "answer", [Answer(accept=True), Answer(option=1), Answer(accept=True, text="go")]
)
def test_a_plan_is_accepted_with_its_input_for_newer_releases_ignore_a_bare_allow(
    answer: Answer,
) -> None:
    plan = {"plan": "# Plan\n1. Do it\n2. Test it"}
    assert decision(asked(PLAN), answer) == {**ALLOW, "updatedInput": plan}


@pytest.mark.parametrize(("option", "mode"), [(2, "acceptEdits"), (3, "default")])
def test_a_plan_is_carried_out_in_the_mode_that_was_chosen(option: int, mode: str) -> None:
    found = decision(asked(PLAN), Answer(accept=True, option=option))
    assert found["behavior"] == "allow"
    [update] = found["updatedPermissions"]
    assert update == {"type": "setMode", "mode": mode, "destination": "session"}


def test_several_questions_and_several_choices_are_answered_as_the_program_wants_them() -> None:
    prompt = asked("hooks-question-answered-by-hook.jsonl")
    given = Answer(answers=(QuestionAnswer(options=(2,)), QuestionAnswer(options=(1, 2))))
    asked_input = recorded("hooks-question-answered-by-hook.jsonl", "PermissionRequest")[
        "tool_input"
    ]
    told = recorded("hooks-question-answered-by-hook.jsonl", "PostToolUse")["tool_response"]
    assert decision(prompt, given) == {
        "behavior": "allow",
        "updatedInput": {**asked_input, "answers": told["answers"]},
    }


def test_a_question_takes_free_text() -> None:
    given = Answer(answers=(QuestionAnswer(text="Grün"), QuestionAnswer(options=(1,), text="Tiny")))
    found = decision(asked(QUESTION), given)
    assert found["updatedInput"]["answers"] == {
        "Which color?": "Grün",
        "Which sizes?": "Small, Tiny",
    }


ONE = json.dumps(
    {
        "questions": [
            {"question": "Go?", "header": "Go", "options": [{"label": "Yes"}, {"label": "No"}]}
        ]
    }
)


def one_question() -> Prompt:
    payload = {"tool_name": "AskUserQuestion", "tool_input": json.loads(ONE)}
    prompt = DRIVER.read_hook("PermissionRequest", payload).prompt
    assert prompt is not None
    return prompt


def test_a_single_question_is_answered_by_an_option_or_a_text_alone() -> None:
    assert decision(one_question(), Answer(option=2))["updatedInput"]["answers"] == {"Go?": "No"}
    assert decision(one_question(), Answer(text="later"))["updatedInput"]["answers"] == {
        "Go?": "later"
    }
    assert one_question().options == ("Yes", "No")


@pytest.mark.parametrize(
    ("recording", "answer", "reason"),
    [
        (PERMISSION, Answer(), "neither yes nor no"),
        (PERMISSION, Answer(option=3), "no option 3"),
        (PERMISSION, Answer(option=0), "no option 0"),
        (QUESTION, Answer(), "chooses no option"),
        (QUESTION, Answer(option=1), "chooses no option"),
        (QUESTION, Answer(answers=(QuestionAnswer(options=(1,)),)), "expected 2 answers"),
        (
            QUESTION,
            Answer(answers=(QuestionAnswer(options=(1,)), QuestionAnswer())),
            "no answer to Size",
        ),
        (
            QUESTION,
            Answer(answers=(QuestionAnswer(options=(1, 2)), QuestionAnswer(options=(1,)))),
            "Color takes one answer",
        ),
        (
            QUESTION,
            Answer(answers=(QuestionAnswer(options=(3,)), QuestionAnswer(options=(1,)))),
            "Color has options 1 to 2",
        ),
    ],
)
def test_half_an_answer_is_refused_with_the_reason(
    recording: str, answer: Answer, reason: str
) -> None:
    delivery = DRIVER.answer(asked(recording), answer, PACING)
    assert isinstance(delivery, Refusal)
    assert reason in delivery.reason


def by_keys(kind: PromptKind, *options: str, **more: object) -> Prompt:
    plain = Prompt(kind=kind, options=options, channel=Channel.KEYS)
    return msgspec.structs.replace(plain, **more)


THREE = ("Yes", "Yes, and don't ask again", "No")
TYPED = (Step(b"more tests", 200), Step(b"\r"))


@pytest.mark.parametrize(
    ("prompt", "answer", "keys"),
    [
        (by_keys(PromptKind.PERMISSION, *THREE), Answer(accept=True), (Step(b"1"),)),
        (by_keys(PromptKind.PERMISSION, *THREE), Answer(accept=False), (Step(b"3"),)),
        (by_keys(PromptKind.PERMISSION, "Yes", "No"), Answer(accept=False), (Step(b"2"),)),
        (by_keys(PromptKind.PERMISSION, *THREE), Answer(option=2), (Step(b"2"),)),
        (
            by_keys(PromptKind.PERMISSION, "Accept", "Cancel", options_fallback=True),
            Answer(accept=True),
            (Step(b"\r"),),
        ),
        (
            by_keys(PromptKind.PERMISSION, "Accept", "Cancel", options_fallback=True),
            Answer(accept=False),
            (Step(b"\x1b"),),
        ),
        (by_keys(PromptKind.PLAN, "Yes", "No"), Answer(option=2), (Step(b"2"),)),
        (
            by_keys(PromptKind.PLAN, "Yes", "No"),
            Answer(text="more tests"),
            (Step(b"2", 200), *TYPED),
        ),
        (
            by_keys(PromptKind.PLAN, "Yes", "No, tell Claude what to change"),
            Answer(accept=False, text="more tests"),
            (Step(b"2", 200), *TYPED),
        ),
        (
            by_keys(PromptKind.PLAN, "Accept", "Cancel", options_fallback=True),
            Answer(text="more tests"),
            (Step(b"\x1b", 200), *TYPED),
        ),
    ],
)
def test_a_dialog_without_a_hook_is_typed_at(
    prompt: Prompt, answer: Answer, keys: tuple[Step, ...]
) -> None:
    delivery = DRIVER.answer(prompt, answer, PACING)
    assert isinstance(delivery, KeyAnswer), delivery
    assert delivery.keys == keys


def test_one_question_is_typed_and_its_text_goes_where_the_dialog_takes_it() -> None:
    on_screen = ("Yes", "No", "Type something.", "Chat about this")
    prompt = msgspec.structs.replace(one_question(), channel=Channel.KEYS, options=on_screen)
    chosen = DRIVER.answer(prompt, Answer(option=2), PACING)
    assert isinstance(chosen, KeyAnswer)
    assert chosen.keys == (Step(b"2"),)
    written_in = DRIVER.answer(prompt, Answer(text="more tests"), PACING)
    assert isinstance(written_in, KeyAnswer)
    assert written_in.keys == (Step(b"3", 200), *TYPED)


def test_what_cannot_be_typed_safely_is_refused() -> None:
    prompt = msgspec.structs.replace(asked(QUESTION), channel=Channel.KEYS)
    given = Answer(answers=(QuestionAnswer(options=(2,)), QuestionAnswer(options=(1, 2))))
    assert isinstance(DRIVER.answer(prompt, given, PACING), Refusal)
    for changes in ({"ready": False}, {"channel": Channel.NONE}):
        unready = msgspec.structs.replace(by_keys(PromptKind.PERMISSION, *THREE), **changes)
        assert isinstance(DRIVER.answer(unready, Answer(accept=True), PACING), Refusal)


# ------------------------------------------------------------------------------------------------------------- dialogs


def dialog(name: str) -> Dialog:
    found = DRIVER.read_screen((DATA / name).read_text().split("\n")).dialog
    assert found is not None
    return found


EVERYTHING = ("trust", "api_key", "bypass_permissions")


@pytest.mark.parametrize(
    ("name", "option", "label"),
    [
        ("screen-dialog-1.txt", 1, "Yes, I trust this folder"),
        ("screen-dialog-2.txt", 1, "Yes"),
        ("screen-dialog-3.txt", 2, "Yes, I accept"),
        ("screen-2.1.330-dialog-1.txt", 2, "Yes, I trust this folder"),
        ("screen-2.1.330-dialog-2.txt", 1, "Yes"),
        ("screen-2.1.330-dialog-3.txt", 2, "Yes, I accept"),
    ],
)
def test_a_start_up_dialog_is_dismissed_by_the_label_of_the_option(
    name: str, option: int, label: str
) -> None:
    found = dialog(name)
    assert DRIVER.dismiss(found, EVERYTHING) == option
    assert found.options[option - 1] == label
    assert DRIVER.dismiss(found, ()) == 0


def test_enter_is_pressed_only_when_the_mark_stands_on_the_option() -> None:
    found = dialog("screen-dialog-3.txt")
    assert DRIVER.select(found, 2) == (Step(b"\x1b[B"),)
    assert DRIVER.select(msgspec.structs.replace(found, selected=2), 2) == (Step(b"\r"),)
    assert DRIVER.select(dialog("screen-dialog-2.txt"), 1) == (Step(b"\x1b[A"),)
    assert DRIVER.select(msgspec.structs.replace(found, selected=0), 2) == ()
    assert DRIVER.select(msgspec.structs.replace(found, options=(), selected=0), 1) == ()
    assert DRIVER.select(Dialog("login_success"), -1) == (Step(b"\r"),)


def test_a_changed_dialog_is_left_to_a_person() -> None:
    changed = Dialog("bypass_permissions", ("Continue", "Quit"), 1, PromptKind.SETUP)
    assert DRIVER.dismiss(changed, EVERYTHING) == 0


def test_a_start_up_dialog_is_answered_by_moving_to_the_option() -> None:
    prompt = by_keys(PromptKind.SETUP, "No, exit", "Yes, I accept", subtype="bypass_permissions")
    assert DRIVER.answer(prompt, Answer(accept=True), PACING) == SelectAnswer(2, "Yes, I accept")
    assert DRIVER.answer(prompt, Answer(option=1), PACING) == SelectAnswer(1, "No, exit")
    assert isinstance(DRIVER.answer(prompt, Answer(option=3), PACING), Refusal)
    assert isinstance(DRIVER.answer(prompt, Answer(), PACING), Refusal)
    unread = by_keys(PromptKind.SETUP, subtype="bypass_permissions")
    assert isinstance(DRIVER.answer(unread, Answer(option=1), PACING), Refusal), "never Enter alone"
    page = by_keys(PromptKind.SETUP, subtype="login_success")
    assert DRIVER.answer(page, Answer(accept=True), PACING) == SelectAnswer(-1, "Enter")


# ------------------------------------------------------------------------------------------------------------ messages


def test_a_message_is_typed_then_entered_after_a_pause_that_grows_with_it() -> None:
    assert DRIVER.nudge("hello", PACING) == (Step(b"hello", 200), Step(b"\r"))
    assert DRIVER.nudge("x" * 1256, PACING)[0].pause_ms == 1200
    assert DRIVER.nudge("x" * 100_000, PACING)[0].pause_ms == 5000


def test_lines_are_pasted_where_the_program_takes_pastes() -> None:
    paste = Pacing(delay_ms=0, per_byte_ms=0, bracketed_paste=True)
    assert DRIVER.nudge("a\nb", paste) == (Step(b"\x1b[200~a\nb\x1b[201~"), Step(b"\r"))
    assert DRIVER.nudge("a b", paste) == (Step(b"a b"), Step(b"\r"))


def test_a_message_cannot_press_keys() -> None:
    paste = Pacing(delay_ms=0, per_byte_ms=0, bracketed_paste=True)
    assert DRIVER.nudge("a\x1b[201~\x03\r\nb\x9b", paste)[0].data == b"\x1b[200~a[201~\nb\x1b[201~"


def test_the_stop_hook_is_told_the_reason_or_nothing() -> None:
    assert json.loads(DRIVER.stop_reply('wait "here"\nü')) == {
        "decision": "block",
        "reason": 'wait "here"\nü',
    }
    assert DRIVER.stop_reply("") == ""


# --------------------------------------------------------------------------------------------------- log, beyond records


def log(**entry: object) -> list[tuple[str | None, int]]:
    return [
        (signal.state and str(signal.state), signal.tier)
        for signal in DRIVER.read_log(json.dumps(entry))
    ]


def user(text: object, **more: object) -> dict[str, Any]:
    return {"type": "user", "message": {"role": "user", "content": text}, **more}


def assistant(*blocks: dict[str, Any], **message: object) -> dict[str, Any]:
    return {
        "type": "assistant",
        "message": {"role": "assistant", "content": list(blocks), **message},
    }


TEXT = {"type": "text", "text": "hm"}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (user("go on"), [("working", Tier.HOOK)]),
        (user("<command-name>/clear</command-name>"), []),
        (user("<local-command-stdout>x"), []),
        (user("<bash-input>ls</bash-input>"), []),
        (user("go on", isMeta=True), []),
        (user("go on", isSidechain=True), []),
        (user([{"type": "text", "text": "[Request interrupted by user]"}]), [("idle", Tier.HOOK)]),
        (user([{"type": "text", "text": "[Request interrupted by user for tool use]"}]), [("idle", Tier.HOOK)]),
        (
            user([{"type": "tool_result", "tool_use_id": "t", "content": "x"}], toolUseResult="User rejected tool use"),
            [("idle", Tier.HOOK)],
        ),
        (user([{"type": "tool_result", "tool_use_id": "t", "content": "x"}]), [("working", Tier.HOOK)]),
        (user([]), []),
        (assistant(TEXT), [("idle", 0)]),
        (assistant(TEXT, stop_reason="tool_use"), [("working", 0)]),
        (assistant({"type": "thinking", "thinking": "x"}), [("working", 0)]),
        (assistant({"type": "tool_use", "name": "Read", "id": "t", "input": {}}), [("working", 0)]),
        (assistant({"type": "tool_use", "name": "AskUserQuestion", "id": "t", "input": {}}), [("prompt", 0)]),
        (assistant(), []),
        ({"type": "summary", "error": None}, []),
        ({"type": "summary", "error": False}, []),
        ({"type": "summary", "error": "rate limit 429"}, [("error", Tier.HOOK)]),
        ({"type": "progress"}, []),
    ],
)  # fmt: skip
def test_a_log_line_claims(entry: dict[str, Any], expected: list[tuple[str, int]]) -> None:
    assert log(**entry) == expected


def test_an_api_error_in_the_log_ends_the_turn_and_a_retry_does_not() -> None:
    failed = {**assistant(TEXT), "error": "rate_limit", "isApiErrorMessage": True}
    [signal] = DRIVER.read_log(json.dumps(failed))
    assert (signal.error, signal.ends) == (AgentError(ErrorCategory.RATE_LIMITED, "hm"), Ends.TURN)
    retry = {
        "type": "system",
        "subtype": "api_error",
        "error": {"status": 529},
        "retryAttempt": 2,
        "maxRetries": 10,
    }
    [signal] = DRIVER.read_log(json.dumps(retry))
    assert signal.state is AgentState.WORKING
    assert signal.error is not None
    assert (signal.error.attempt, signal.error.attempts) == (2, 10)
    assert signal.error.category is ErrorCategory.SERVER_ERROR


@pytest.mark.parametrize(
    ("word", "said", "category"),
    [
        ("billing_error", "Credit balance is too low", "out_of_credits"),
        ("authentication_failed", "Invalid API key", "unauthorized"),
        ("rate_limit", "API Error", "rate_limited"),
        ("server_error", "x", "server_error"),
        ("unknown", "API Error: 529 Overloaded", "server_error"),
        ("unknown", "API Error: Connection error.", "no_internet"),
        ("unknown", "API Error (getaddrinfo ENOTFOUND api.anthropic.com)", "no_internet"),
        ("unknown", "Please run /login", "unauthorized"),
        ("invalid_request", "prompt is too long", "other"),
        ("", "", "other"),
    ],
)
def test_each_failure_of_a_turn_has_its_category(word: str, said: str, category: str) -> None:
    signal = DRIVER.read_hook("StopFailure", {"error": word, "last_assistant_message": said})
    assert signal.error is not None
    assert signal.error.category == category
    assert signal.error.detail == (said or word or "unknown")


# ------------------------------------------------------------------------------------------------ screens, beyond records


def test_text_that_looks_like_a_dialog_is_none_while_the_input_box_stands() -> None:
    lines = (
        (DATA / "screen-after-approve.txt")
        .read_text()
        .replace(
            "● All done: BASH please",
            "● Do you want to proceed?\n  1. Yes\n  2. No\n Esc to cancel",
        )
    )
    signal = DRIVER.read_screen(lines.split("\n"))
    assert (signal.state, signal.dialog) == (AgentState.IDLE, None)


def test_a_spinner_or_the_interrupt_hint_is_work() -> None:
    idle = (DATA / "screen-after-approve.txt").read_text()
    for busy in (
        idle.replace("? for shortcuts", "esc to interrupt"),
        idle.replace("✻ Cooked for 0s", "✶ Cogitating… (3s · ↑ 12 tokens)"),
    ):
        assert DRIVER.read_screen(busy.split("\n")).state is AgentState.WORKING


def test_a_bare_marker_is_idle_and_an_empty_screen_says_nothing() -> None:
    assert DRIVER.read_screen(["hello", "\u276f ", ""]).state is AgentState.IDLE
    assert DRIVER.read_screen(["\u276f 1. Yes", "  2. No"]).state is None
    assert DRIVER.read_screen([]).state is None


# -------------------------------------------------------------------------------------------------------------- garbage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "type",
        "subtype",
        "message",
        "content",
        "error",
        "usage",
        "isMeta",
        "tool_name",
        "tool_input",
        "questions",
        "options",
        "prompt_id",
        "session_id",
        "notification_type",
        "attachment",
        "text",
        "id",
        "name",
        "input",
        "toolUseResult",
        "retryAttempt",
    ]
)
ENTRY = st.dictionaries(
    KEYS,
    JSON
    | st.dictionaries(KEYS, JSON, max_size=4)
    | st.sampled_from(["user", "assistant", "system", "AskUserQuestion"]),
    max_size=6,
)


@given(event=st.sampled_from([event for event, *_ in HOOKS]), payload=ENTRY)
def test_no_payload_breaks_the_driver(event: str, payload: dict[str, Any]) -> None:
    DRIVER.read_hook(event, payload)


@given(entry=ENTRY)
def test_no_log_line_breaks_the_driver(entry: dict[str, Any]) -> None:
    DRIVER.read_log(json.dumps(entry))


@given(
    lines=st.lists(
        st.text(max_size=40)
        | st.sampled_from(["─" * 40, "\u276f 1. Yes", "  2. No", "\u276f", "1.", "✻ a…"])
    )
)
def test_no_screen_breaks_the_driver(lines: list[str]) -> None:
    DRIVER.read_screen(lines)
