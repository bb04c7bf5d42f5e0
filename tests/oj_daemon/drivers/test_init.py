"""The table of drivers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oj_daemon import drivers
from oj_daemon.drivers.base import Capabilities, cannot
from oj_daemon.errors import Rejected


@pytest.mark.parametrize("name", drivers.driver_names())
def test_each_row_leads_to_a_driver_of_that_name(name: str) -> None:
    assert drivers.load_driver(name).name == name


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Rejected) as caught:
        drivers.load_driver("codex")
    assert caught.value.hint == "drivers: claude, generic"


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("claude", "claude"),
        ("/opt/bin/claudeless", "claude"),
        ("aider", "generic"),
        ("", "generic"),
    ],
)
def test_a_program_is_recognised_by_its_file_name(program: str, name: str) -> None:
    assert drivers.driver_for(program) == name


def test_what_a_driver_cannot_do_is_said_in_words() -> None:
    claude, generic = drivers.load_driver("claude"), drivers.load_driver("generic")
    assert cannot(claude.capabilities) == []
    assert "resume a conversation (on_dead resume)" in cannot(generic.capabilities)
    assert "be sent a message (on_idle nudge)" not in cannot(generic.capabilities)
    assert len(cannot(Capabilities())) == len(Capabilities.__struct_fields__)


def test_names_are_known_without_loading_a_driver() -> None:
    code = (
        "import sys; from oj_daemon import drivers; drivers.driver_names();"
        "print([m for m in sys.modules if m.startswith('oj_daemon.drivers.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['oj_daemon.drivers.base']"
