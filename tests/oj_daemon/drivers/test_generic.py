"""Programs that are known only by the patterns of a runbook."""

from __future__ import annotations

import pytest

from oj_daemon.drivers.base import (
    AgentState,
    Answer,
    Driver,
    ErrorCategory,
    KeyAnswer,
    Launch,
    Pacing,
    Prompt,
    PromptKind,
    Refusal,
    Step,
)
from oj_daemon.drivers.generic import DRIVER
from oj_daemon.errors import Rejected

PATTERNS = {
    "prompt": r"\(y/n\)|Apply edit\?",
    "working": ["^thinking", r"\d+ tokens"],
    "error": r"^Error: ",
    "idle": "^> $",
    "quiet_ms": 500,
}
PACING = Pacing(delay_ms=10)


def driver() -> Driver:
    return DRIVER.configured(PATTERNS)


@pytest.mark.parametrize(
    ("screen", "state"),
    [
        ("hello\n> \n", AgentState.IDLE),
        ("> \nthinking", AgentState.WORKING),
        ("> \n120 tokens", AgentState.WORKING),
        ("thinking\nError: rate limit reached", AgentState.ERROR),
        ("Error: x\nRun it? (y/n)", AgentState.PROMPT),
        ("just text", None),
        ("", None),
        ("thinking" + "\nmore" * 20, None),
    ],
)
def test_the_patterns_say_what_a_screen_means(screen: str, state: AgentState | None) -> None:
    assert driver().read_screen(screen.split("\n")).state == state


def test_an_error_has_its_line_and_category() -> None:
    error = driver().read_screen(["Error: 429 too many requests  "]).error
    assert error is not None
    assert (error.category, error.detail) == (
        ErrorCategory.RATE_LIMITED,
        "Error: 429 too many requests",
    )


def prompt(*lines: str) -> Prompt:
    found = driver().read_screen(lines).prompt
    assert found is not None
    return found


def test_a_prompt_without_numbers_is_answered_yes_or_no() -> None:
    found = prompt("Run rm -rf? (y/n)")
    assert (found.kind, found.input, found.options) == (
        PromptKind.PERMISSION,
        "Run rm -rf? (y/n)",
        ("Yes", "No"),
    )
    for answer, keys in ((Answer(accept=True), b"y\r"), (Answer(option=2), b"n\r")):
        assert driver().answer(found, answer, PACING) == KeyAnswer(
            (Step(keys),), "accept" if keys == b"y\r" else "deny"
        )
    assert isinstance(driver().answer(found, Answer(), PACING), Refusal)


def test_numbered_options_are_chosen_by_number_and_text_is_typed() -> None:
    found = prompt("Apply edit?", "1) apply", "2) skip")
    assert found.options == ("apply", "skip")
    chosen = driver().answer(found, Answer(option=2), PACING)
    assert chosen == KeyAnswer((Step(b"2", 10), Step(b"\r")), "skip")
    assert isinstance(driver().answer(found, Answer(option=3), PACING), Refusal)
    said = driver().answer(found, Answer(text="later"), PACING)
    assert said == KeyAnswer((Step(b"later", 10), Step(b"\r")), "later")


def test_what_it_cannot_be_given_is_noted() -> None:
    launch = Launch(
        folder="/f",
        workspace="/w",
        fresh_id="x",
        shell="aider",
        prompt="go",
        resume="s",
        mcp={"a": {}},
    )
    plan = DRIVER.plan(launch)
    assert plan.argv == ("bash", "-c", 'aider "$@"', "_", "go")
    assert len(plan.notes) == 2
    assert plan.files == ()


def test_patterns_decide_what_it_can_do() -> None:
    assert driver().capabilities.answer_permission
    assert driver().capabilities.errors
    assert not DRIVER.capabilities.answer_permission
    assert driver().quiet_ms == 500


@pytest.mark.parametrize(
    "patterns", [{"prompt": "("}, {"working": ["ok", "["]}, {"prompts": "x"}, {"quiet_ms": "soon"}]
)
def test_wrong_patterns_are_refused(patterns: dict[str, object]) -> None:
    with pytest.raises(Rejected, match="agent"):
        DRIVER.configured(patterns)
