from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.harness import Harness

STARTER = {".oj/config.toml", ".oj/runbooks/starter.hcl"}


@pytest.fixture
def bare(cli: Harness) -> Harness:
    shutil.rmtree(cli.work / ".oj")
    return cli


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_starter_is_written_and_right(bare: Harness) -> None:
    result = bare.oj("init")
    assert result.code == 0
    assert "oj run hello" in result.out
    assert files(bare.work) == STARTER
    assert bare.oj("runbook", "check") == (0, "ok: 1 file, 0 errors, 0 warnings\n", "")
    names = [each["name"] for each in bare.oj("run", "-o", "json").json["commands"]]
    assert names == ["count", "hello"]


def test_nothing_that_exists_is_touched(bare: Harness) -> None:
    mine = bare.work / ".oj" / "runbooks" / "starter.hcl"
    mine.parent.mkdir(parents=True)
    mine.write_text("# mine\n")
    result = bare.oj("init", "-o", "json")
    assert result.json == {
        "root": str(bare.work),
        "written": [".oj/config.toml"],
        "kept": [".oj/runbooks/starter.hcl"],
    }
    assert mine.read_text() == "# mine\n"


def test_a_project_with_runbooks_of_its_own_gets_no_second_set_of_commands(bare: Harness) -> None:
    mine = bare.work / ".oj" / "runbooks" / "mine.hcl"
    mine.parent.mkdir(parents=True)
    mine.write_text("# mine\n")
    assert bare.oj("init").code == 0
    assert files(bare.work) == {".oj/config.toml", ".oj/runbooks/mine.hcl"}


def test_a_folder_that_cannot_be_written_is_an_error_with_its_path(bare: Harness) -> None:
    (bare.work / ".oj").write_text("a file")
    result = bare.oj("init")
    assert result.code == 1
    assert str(bare.work / ".oj") in result.err


def test_a_folder_inside_a_project_is_told_apart_from_it(
    cli: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = cli.work / "deep"
    below.mkdir()
    monkeypatch.chdir(below)
    result = cli.oj("init")
    assert (result.code, files(below)) == (0, STARTER)
    assert f"inside the project {cli.work}" in result.err
