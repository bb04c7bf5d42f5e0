"""Readiness: every condition counts, and each says why it is not met."""

from __future__ import annotations

from oj_daemon.readiness import Condition, Readiness


def told(readiness: Readiness) -> tuple[bool, list[str]]:
    return readiness.is_ready, list(readiness.waits_for)


def test_nothing_is_ready_before_every_condition_has_been_met() -> None:
    readiness = Readiness("log", "lease")
    assert told(readiness) == (False, ["log: not yet", "lease: not yet"])
    readiness.set("lease", True)
    assert told(readiness) == (False, ["log: not yet"])
    readiness.set("log", True, "record 7")
    assert told(readiness) == (True, [])
    assert readiness.report() == (Condition("log", True, "record 7"), Condition("lease", True, ""))


def test_a_condition_that_is_named_later_counts_too_and_may_be_lost_again() -> None:
    readiness = Readiness()
    assert told(readiness) == (True, [])
    readiness.set("pods", True)
    assert told(readiness) == (True, [])
    readiness.set("pods", False, "nothing heard for 60 s")
    assert told(readiness) == (False, ["pods: nothing heard for 60 s"])


def test_some_conditions_are_met_only_if_they_are_known() -> None:
    readiness = Readiness("log")
    readiness.set("log", True)
    assert readiness.is_met("log")
    assert not readiness.is_met("log", "lease")


def test_what_is_broken_is_not_ready_whatever_its_conditions_are() -> None:
    readiness = Readiness("log")
    readiness.set("log", True)
    readiness.fail("disk full")
    assert told(readiness) == (False, ["broken: disk full"])
