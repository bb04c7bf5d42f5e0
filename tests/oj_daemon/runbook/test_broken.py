"""Every file in tests/data/runbooks/broken says what is wrong with it, where, and how to put it right.

A file's first lines (`# expect LINE: part of the message`) or its row in index.json hold all errors it must give, no more.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from oj_daemon.errors import RunbookError
from oj_daemon.runbook import load

BROKEN = Path(__file__).parents[2] / "data" / "runbooks" / "broken"
INDEX: dict[str, list[str]] = json.loads((BROKEN / "index.json").read_text(encoding="utf-8"))
FILES = sorted(path.name for path in BROKEN.iterdir() if path.name != "index.json")


def text_of(name: str) -> str:
    return (BROKEN / name).read_bytes().decode("utf-8")


def expected(name: str) -> list[tuple[int, str]]:
    lines = INDEX.get(name) or re.findall(r"^# expect (.*)$", text_of(name), re.MULTILINE)
    found = [line.partition(": ") for line in lines]
    return [(int(number), message) for number, _, message in found]


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_gives_exactly_its_errors(name: str) -> None:
    wanted = expected(name)
    linked = load.load_text(f".oj/runbooks/{name}", text_of(name))
    shown = "\n".join(each.render() for each in linked.errors)
    assert wanted, "the file does not say what it expects"
    assert [each.line for each in linked.errors] == [line for line, _ in wanted], shown
    for found, (_, message) in zip(linked.errors, wanted, strict=True):
        assert message in found.message, shown


@pytest.mark.parametrize("name", FILES)
def test_an_error_shows_place_source_line_and_caret(name: str) -> None:
    with pytest.raises(RunbookError) as caught:
        load.runbook(f".oj/runbooks/{name}", text_of(name))
    lines = text_of(name).lstrip("\ufeff").splitlines()
    for found in load.load_text(f".oj/runbooks/{name}", text_of(name)).errors:
        head, excerpt, caret, *rest = found.render().split("\n")
        assert head == f".oj/runbooks/{name}:{found.line}:{found.column}: {found.message}"
        assert caret.count("^") >= 1
        assert found.render() in caught.value.message
        if len(lines[found.line - 1]) < 160 and "\0" not in lines[found.line - 1]:
            assert excerpt == f"{found.line:>4} | {lines[found.line - 1]}"
        assert all(line.startswith("     = hint: ") for line in rest)


def test_there_are_enough_broken_files() -> None:
    assert len(FILES) >= 120
