"""A followed job that waits for a person: told in a pipe, answered in place on a terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from oj_cli import follow, output
from oj_cli.talk import Talk
from oj_daemon.errors import OjError
from oj_daemon.wire import answers, picture
from tests.oj_cli.test_follow import FakeCtx, changes, done
from tests.oj_daemon.wire.test_picture import draw, job, node, run
from tests.support.replies import DECISION, asked, decision

ID = "job-0123456789abcdef"
OTHER = "dec-a1b2c3d4e5f6g7h8"


def waits(*every: dict[str, Any]) -> dict[str, Any]:
    return job([node("a")], [run("a", "waiting")], status="waiting", decisions=list(every))


def plain(script: list[Any]) -> None:
    ctx = FakeCtx(script)
    assert follow.follow(ctx, ID, wants_view=False)  # type: ignore[arg-type]  # a fake


def test_in_a_pipe_a_decision_is_a_line_with_what_to_type(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.configure(color=False, no_color=False)
    view = decision(summary="Which way?\nsecond")
    stamp = "2026-01-01T00:00:00Z [job] job completed\n"
    plain([changes(1, waits(view)), changes(2, waits(view)), changes(3, done(), stamp, 9)])
    assert capsys.readouterr().out.splitlines()[:2] == [
        "Waits for a decision (idle): Which way?\\nsecond",
        "To answer: oj decision resolve k3j5h7g9 N [-m TEXT]",
    ]


def test_each_decision_is_brought_up_once() -> None:
    talk = Talk(FakeCtx([]))  # type: ignore[arg-type]  # a fake
    first, second = decision(), decision(id=OTHER)
    assert talk.fresh(None) == []
    assert talk.fresh(waits(first)) == [first]
    assert talk.fresh(waits(first, second)) == [second]
    assert talk.fresh(waits(first, second)) == []


def test_the_live_view_says_what_to_type_as_long_as_a_decision_is_open() -> None:
    rows = draw(waits(decision()))
    assert rows[-2:] == [
        "oj decision show k3j5h7g9  idle, it said: Done?",
        "Ctrl-C detaches; the job goes on",
    ]
    every = [decision(id=f"dec-{at:016}") for at in range(30)]
    assert len(draw(waits(*every), height=10)) <= 10
    assert picture.questions(job([], [])) == []


# On a terminal


class Ctx(FakeCtx):
    """Also answers what the talk asks, from scripts by request."""

    def __init__(self, script: list[Any], answers: dict[str, list[Any]]) -> None:
        super().__init__(script)
        self.answers = answers

    def query(self, type: str, /, **fields: Any) -> dict[str, Any]:  # noqa: A002
        answers = self.answers[type]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OjError):
            raise answer
        if type == "DecisionResolve":
            sys.stdout.write(f"SENT {type} {fields.get('choices')} {fields.get('message')}\n")
        return dict(answer)

    action = query


def child(name: str) -> int:
    output.configure(color=False, no_color=True)
    view = decision(**asked(False)) if name == "question" else decision()
    ended = [changes(2, done(), "2026-01-01T00:00:00Z [job] job completed\n", 9)]
    script = [changes(1, waits(view)), *ended]
    closed = decision(status="resolved", choices=[[2]], by="ben")
    replies: dict[str, list[Any]] = {
        "DecisionShow": [closed if name == "elsewhere" else view],
        "DecisionResolve": [{"id": DECISION}],
    }
    if name == "refused":
        replies["DecisionResolve"] = [
            OjError("no such choice", code="invalid"),
            OjError("it is already resolved", code="conflict"),
        ]
    answers.user_name = lambda: "ann"
    shown = follow.follow(Ctx(script, replies), ID, wants_view=True)  # type: ignore[arg-type]  # a fake
    sys.stdout.write(f"ENDED {shown and shown['status']}\n")
    return 0


def spawn(name: str) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable,
        ["-m", "tests.oj_cli.test_talk", name],
        dimensions=(40, 100),
        cwd=str(Path(__file__).parents[2]),
        env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        encoding="utf-8",
        timeout=30,
    )


def ends(process: pexpect.spawn[str], words: str) -> None:
    process.expect(words)
    process.expect(pexpect.EOF)
    process.close()
    assert process.exitstatus == 0


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (["2"], r"\[\[2\]\] "),
        (["9", "2"], r"\[\[2\]\] "),
        (["go on"], r"\[\] go on"),
        (["1", "more"], r"\[\[1\]\] more"),
    ],
    ids=["number", "slip", "text", "message"],
)
def test_a_person_answers_right_there_and_the_following_goes_on(
    typed: list[str], sent: str
) -> None:
    process = spawn("idle")
    process.expect("1. Nudge")
    for line in typed:
        process.expect(": $")
        process.sendline(line)
    process.expect(f"SENT DecisionResolve {sent}")
    process.expect("Resolved decision k3j5h7g9")
    ends(process, "ENDED completed")


def test_a_question_lists_its_options_in_place() -> None:
    process = spawn("question")
    process.expect("1. first 1")
    process.expect("Your answer .1-5.*: $")
    process.sendline("2")
    process.expect(r"SENT DecisionResolve \[\[2\]\]")
    ends(process, "ENDED completed")


def test_enter_leaves_the_decision_open() -> None:
    process = spawn("idle")
    process.expect("Your answer.*: $")
    process.sendline("")
    process.expect("Left open: .*oj decision show k3j5h7g9")
    ends(process, "ENDED completed")


@pytest.mark.parametrize("how", ["q", "interrupt"])
def test_q_and_control_c_detach(how: str) -> None:
    process = spawn("idle")
    process.expect("Your answer.*: $")
    if how == "q":
        process.sendline("q")
    else:
        process.sendintr()
    ends(process, "ENDED None")


def test_an_answer_from_elsewhere_ends_the_question() -> None:
    process = spawn("elsewhere")
    process.expect("Your answer.*: ")
    process.expect("Answered by ben: Done")
    ends(process, "ENDED completed")


def test_a_refused_answer_is_asked_again_and_one_that_came_too_late_is_not() -> None:
    process = spawn("refused")
    process.expect("Your answer.*: $")
    process.sendline("2")
    process.expect("Error: no such choice")
    process.expect("Your answer.*: $")
    process.sendline("2")
    process.expect("Error: it is already resolved")
    ends(process, "ENDED completed")


if __name__ == "__main__":
    sys.exit(child(sys.argv[1]))
