from __future__ import annotations

import pytest

from oj_daemon.errors import OjError
from oj_tui import jump
from oj_tui.jump import Goal
from oj_tui.store import Store
from tests.support.replies import AGENT, DECISION, JOB, OTHER, agent, decision, reply, summary

ENDED = "job-4f9e000000000000"


def store() -> Store:
    """Two jobs of one name, one with an agent that asks something, and one without a name."""
    kept = Store()
    jobs = [
        summary(),
        summary(id=ENDED, status="completed"),
        summary(id=OTHER, name=OTHER, kind="deploy"),
    ]
    kept.take(
        reply(
            "Changes", seq=1, is_snapshot=True, jobs=jobs, agents=[agent()], decisions=[decision()]
        )
    )
    return kept


@pytest.mark.parametrize(
    ("line", "goal"),
    [
        ("jobs", Goal("mode", "jobs")),
        ("  JOB ", Goal("mode", "jobs")),
        ("j", Goal("mode", "jobs")),
        ("o", Goal("mode", "overview")),
        ("ag", Goal("mode", "agents")),
        ("dec", Goal("mode", "decisions")),
        ("da", Goal("mode", "daemon")),
        ("q", Goal("action", "quit")),
        ("h", Goal("action", "help")),
        ("job 4f9h", Goal("open", JOB)),
        ("jobs 4f9h", Goal("open", JOB)),
        (f"job {JOB}", Goal("open", JOB)),
        ("job job-z0", Goal("open", OTHER)),
        ("job z", Goal("open", OTHER)),
        ("j dep", Goal("open", OTHER)),
        ("job fix-login", Goal("open", JOB)),
        ("job fix-login 4f9e0000", Goal("open", ENDED)),
        ("agent cod", Goal("open", AGENT)),
        ("decision k3", Goal("open", DECISION)),
        ("z0y1", Goal("open", OTHER)),
        ("coder", Goal("open", AGENT)),
    ],
)
def test_a_line_says_where_to_go(line: str, goal: Goal) -> None:
    assert jump.read(line, store()) == goal


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("", "nothing was typed", "type jobs, job ID, q"),
        ("d", "'d' may be daemon or decisions", "type one letter more"),
        ("jbos", "there is no 'jbos'", "did you mean 'jobs'?"),
        ("agnets x", "there is no 'agnets'", "did you mean 'agents'?"),
        ("fix-logni", "there is no 'fix-logni'", "did you mean 'fix-login'?"),
        (
            "xyzzy",
            "there is no 'xyzzy'",
            "there are overview, jobs, agents, decisions, daemon and quit",
        ),
        ("job fix-logni", "there is no job 'fix-logni'", "did you mean 'fix-login'?"),
        ("job xyzzy", "there is no job 'xyzzy'", "type jobs to see them all"),
        ("job job-", "there is no job 'job-'", "type jobs to see them all"),
        (
            "job 4f9",
            "'4f9' may be fix-login 4f9h2k7m, fix-login 4f9e0000",
            "type more of the id",
        ),
    ],
)
def test_a_line_that_means_nothing_is_answered_with_what_may_be_meant(
    line: str, message: str, hint: str
) -> None:
    with pytest.raises(OjError) as caught:
        jump.read(line, store())
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("j", ["jobs", "job"]),
        ("job ", ["job fix-login 4f9h2k7m", "job fix-login 4f9e0000", "job deploy z0y1x2w3"]),
        ("job z", ["job deploy z0y1x2w3"]),
        ("job fix-login 4f9e", ["job fix-login 4f9e0000"]),
        ("agent c", ["agent coder 7m2n4p6q"]),
        ("decision ", ["decision fix-login k3j5h7g9"]),
        ("daemon ", []),
        ("xyzzy", []),
        ("d x", []),
    ],
)
def test_a_line_is_completed_by_what_there_is(line: str, offered: list[str]) -> None:
    assert jump.complete(line, store()) == [*offered]


def test_whatever_is_offered_can_be_read() -> None:
    kept = store()
    lines = [f"{word} " for word in ("job", "agent", "decision")]
    offered = [each for line in ["", *lines] for each in jump.complete(line, kept)]
    assert len(offered) == 8 + 5
    for each in offered:
        jump.read(each, kept)


def test_at_most_a_few_of_many_are_named() -> None:
    kept = Store()
    jobs = [summary(id=f"job-{at:016}") for at in range(50)]
    kept.take(reply("Changes", seq=1, is_snapshot=True, jobs=jobs))
    with pytest.raises(OjError) as caught:
        jump.read("job fix", kept)
    assert caught.value.message.endswith(" and 46 more")
    assert len(jump.complete("job ", kept)) == jump.MOST
