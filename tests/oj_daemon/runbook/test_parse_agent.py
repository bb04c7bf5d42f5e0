"""What an agent's driver cannot do, as the runbook language knows it."""

from __future__ import annotations

import pytest

from oj_daemon import drivers
from oj_daemon.runbook.parse_agent import CANNOT, DRIVERS, PROGRAMS

CAPABILITIES = {"prime": "prime", "resume": "resume", "auto": "stop_gate", "match": "errors"}
"""Word of the runbook -> the capability of a driver that it needs."""


@pytest.mark.parametrize("name", DRIVERS)
def test_the_language_refuses_what_a_driver_says_that_it_cannot_do(name: str) -> None:
    can = drivers.load_driver(name).capabilities
    missing = {word for word, capability in CAPABILITIES.items() if not getattr(can, capability)}
    assert set(CANNOT.get(name, {})) == missing


def test_the_language_knows_the_drivers_and_their_programs() -> None:
    assert list(DRIVERS) == drivers.driver_names()
    assert {program: drivers.driver_for(program) for program in PROGRAMS} == PROGRAMS
