from __future__ import annotations

import json
import signal
from typing import Any

from tests.support.fake_daemon import HANG_UP, SILENCE, Message
from tests.support.harness import Harness
from tests.support.replies import JOB, NOW, OTHER, detail, reply, view

STAMP = "2027-01-15 08:00:00"


def fact(seq: int, tag: str = "step:started", **fields: Any) -> Message:
    return view("StoryLine", **{"seq": seq, "at_ms": NOW, "cause": "r-1", "fact": tag, "data": {"a": "ä"},
                "job_id": JOB, **fields})  # fmt: skip


def told(*facts: Message, seq: int = 0, **fields: Any) -> Message:
    last = seq or max((each["seq"] for each in facts), default=1)
    return reply("Changes", seq=last, epoch=1, facts=list(facts), **fields)


def test_facts_are_lines_with_number_time_job_kind_and_data(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", told(fact(7), fact(12, "token:created", job_id="")))
    assert daemon_cli.oj("events") == (
        0,
        (
            f'     7  {STAMP}  4f9h2k7m  step:started          {{"a": "ä"}}\n'
            f'    12  {STAMP}            token:created         {{"a": "ä"}}\n'
        ),
        "",
    )
    assert daemon_cli.daemon.of("Watch") == [
        {
            "ids": [], "logs": {}, "nouns": ["fact"], "project": None, "since": 0, "limit": 50, "wait_ms": 0,
        }
    ]  # fmt: skip


def test_as_json_each_fact_is_one_document_on_a_line(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", told(fact(7), fact(8)))
    done = daemon_cli.oj("events", "-o", "json")
    assert [json.loads(line) for line in done.out.splitlines()] == [fact(7), fact(8)]


def test_only_some_kinds_or_one_job_are_shown_where_that_is_asked_for(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("JobShow", detail())
    facts = [fact(1), fact(2, "job:created"), fact(3, job_id=OTHER), fact(4, "step:completed")]
    daemon_cli.daemon.answer("Watch", told(*facts))

    def shown(*arguments: str) -> list[int]:
        lines = daemon_cli.oj("events", "-o", "json", *arguments).out.splitlines()
        return [json.loads(line)["seq"] for line in lines]

    assert shown("-t", "step") == [1, 3, 4]
    assert shown("-t", "step:completed", "-t", "job") == [2, 4]
    assert shown("4f9") == [1, 2, 4]
    assert shown("4f9", "-n", "2") == [2, 4]


def test_facts_after_a_number_come_page_by_page(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", told(fact(5)), told(fact(6)), told(seq=6))
    lines = daemon_cli.oj("events", "--since", "4", "-o", "json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [5, 6]
    assert [asked["since"] for asked in daemon_cli.daemon.of("Watch")] == [4, 5, 6]


def test_a_page_of_facts_that_are_not_told_is_not_the_end(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", told(seq=1004), told(fact(1006)), told(seq=1006))
    lines = daemon_cli.oj("events", "--since", "4", "-o", "json").out.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1006]


def test_what_the_log_no_longer_holds_is_said(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", told(fact(50), is_gapless=False), told(seq=50))
    done = daemon_cli.oj("events", "--since", "4")
    assert done.err == "Warning: what happened before is no longer in the log\n"
    daemon_cli.daemon.answer("Watch", told())
    assert daemon_cli.oj("events") == (0, "", "Nothing has happened that the log still holds.\n")


def test_following_goes_on_where_it_was_when_the_daemon_is_back(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Watch", told(fact(1)), HANG_UP, told(fact(2)), SILENCE)
    process = daemon_cli.spawn("events", "-f", "-o", "json")
    daemon_cli.daemon.wait_for("Watch", 4)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2]
    assert "waiting for the daemon to come back" in err
    asked = daemon_cli.daemon.of("Watch")
    assert [each["since"] for each in asked] == [0, 1, 1, 2]
    assert {each.get("epoch") for each in asked} == {
        None
    }  # facts are counted alike by every daemon


def test_following_an_empty_log_does_not_ask_in_circles(daemon_cli: Harness) -> None:
    empty = reply("Changes", seq=0, epoch=3, is_snapshot=True)
    daemon_cli.daemon.answer("Watch", empty, SILENCE)
    process = daemon_cli.spawn("events", "-f")
    daemon_cli.daemon.wait_for("Watch", 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert [each.get("epoch") for each in daemon_cli.daemon.of("Watch")] == [None, 3]
