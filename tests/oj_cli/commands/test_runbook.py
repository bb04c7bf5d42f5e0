from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.harness import Harness

LIBRARY = """
# Releases
#
# Cuts them.
const "branch" { default = "main" }
const "remote" {}
# Cut a release
command "cut" { run = "echo ${raw(const.branch)} ${raw(const.remote)}" }
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def books(cli: Harness) -> Path:
    return cli.work / ".oj" / "runbooks"


def test_no_runbooks_is_no_error(cli: Harness) -> None:
    assert cli.oj("runbook", "list", "-o", "json") == (0, "[]\n", "")
    for verb in ("list", "check"):
        result = cli.oj("runbook", verb)
        assert (result.code, result.out) == (0, "")
        assert "oj init" in result.err


def test_files_are_listed_with_what_they_define(cli: Harness, books: Path) -> None:
    write(
        books,
        "a/deep.hcl",
        '# Deep things\ncommand "x" { run = { job = "j" } }\njob "j" {\n step "s" { run = "true" }\n}\n',
    )
    write(books, "b.json", '{"command": {"y": {"run": "true"}, "z": {"run": "true"}}}')
    result = cli.oj("runbook", "list")
    assert result.out == (
        "FILE        IMPORTS  COMMANDS  DESCRIPTION\n"
        "a/deep.hcl  -        x         Deep things\n"
        "b.json      -        y, z      \n"
    )
    assert cli.oj("runbook", "list", "-o", "json").json[0] == {
        "file": ".oj/runbooks/a/deep.hcl",
        "imports": [],
        "commands": ["x"],
        "jobs": ["j"],
        "agents": [],
        "queues": [],
        "workers": [],
        "crons": [],
        "description": "Deep things",
    }


def test_a_broken_file_is_told_and_left_out_of_the_list(cli: Harness, books: Path) -> None:
    write(books, "bad.hcl", "command {")
    write(books, "good.hcl", 'command "x" { run = "true" }')
    result = cli.oj("runbook", "list")
    assert result.code == 0
    assert "bad.hcl:1:" in result.err
    assert "bad.hcl" not in result.out


def test_check_shows_every_problem_with_place_caret_and_hint(cli: Harness, books: Path) -> None:
    write(books, "bad.hcl", 'command "x" {\n  rnu = "true"\n}\n')
    write(books, "worse.toml", "[command.y]\nrun = 7\n")
    result = cli.oj("runbook", "check")
    assert result.code == 1
    assert ".oj/runbooks/bad.hcl:2:3: " in result.out
    assert '   2 |   rnu = "true"\n     |   ^^^\n' in result.out
    assert "`run`" in result.out
    assert ".oj/runbooks/worse.toml:2:" in result.out
    assert result.out.splitlines()[-1].startswith("errors: 2 files, ")


def test_check_as_json_has_the_same_problems(cli: Harness, books: Path) -> None:
    write(books, "bad.hcl", 'command "x" {\n  rnu = "true"\n}\n')
    result = cli.oj("runbook", "check", "-o", "json")
    assert result.code == 1
    found = result.json
    assert (found["ok"], found["files"]) == (False, [".oj/runbooks/bad.hcl"])
    assert {(each["path"], each["line"], each["column"]) for each in found["problems"]} >= {
        (".oj/runbooks/bad.hcl", 2, 3)
    }


def test_check_of_a_good_project_says_so(cli: Harness, books: Path) -> None:
    write(books, "good.hcl", 'command "x" { run = "true" }')
    assert cli.oj("runbook", "check") == (0, "ok: 1 file, 0 errors, 0 warnings\n", "")


def test_check_judges_shell_text_and_files_that_cannot_be_read(cli: Harness, books: Path) -> None:
    write(books, "shell.hcl", 'command "x" { run = "echo \'" }')
    (books / "raw.hcl").write_bytes(b'command "\xff" {}')
    result = cli.oj("runbook", "check")
    assert result.code == 1
    assert ".oj/runbooks/shell.hcl:1:" in result.out
    assert ".oj/runbooks/raw.hcl: cannot read: not UTF-8" in result.out


def test_check_of_given_files_judges_those_alone_wherever_they_are(
    cli: Harness, books: Path
) -> None:
    write(books, "bad.hcl", "command {")
    loose = write(cli.work, "loose.hcl", 'command "x" { run = "true" }')
    assert cli.oj("runbook", "check", "loose.hcl").code == 0
    assert cli.oj("runbook", "check", str(loose), ".oj/runbooks/bad.hcl").code == 1
    assert cli.oj("runbook", "check", "missing.hcl").code == 1


def test_two_files_that_define_the_same_are_a_problem(cli: Harness, books: Path) -> None:
    write(books, "a.hcl", 'command "x" { run = "true" }')
    write(books, "b.hcl", 'command "x" { run = "true" }')
    result = cli.oj("runbook", "check")
    assert result.code == 1
    assert "a.hcl" in result.out
    assert "b.hcl" in result.out


# Libraries


def test_a_library_is_added_found_explained_and_used(cli: Harness, books: Path) -> None:
    write(cli.work, "release/cut.hcl", LIBRARY)
    added = cli.oj("runbook", "add", "release", "--name", "team/release")
    assert added.code == 0
    assert added.out.startswith(
        f"Added library team/release (1 file) in {cli.state}/libraries/team/release\n"
    )
    found = cli.oj("runbook", "search", "RELEASE", "-o", "json").json
    assert found == [
        {
            "name": "team/release",
            "origin": "user",
            "description": "Releases",
            "consts": [
                {"name": "branch", "required": False, "default": "main"},
                {"name": "remote", "required": True, "default": None},
            ],
        }
    ]
    info = cli.oj("runbook", "info", "team/release").out
    for part in (
        "remote  required",
        "branch  [default: main]",
        "Commands: cut",
        'import "team/release" {',
    ):
        assert part in info
    write(
        books,
        "a.hcl",
        'import "team/release" {\n  alias = "r"\n  const "remote" { value = "origin" }\n}\n',
    )
    assert "r:cut" in cli.oj("run").out


def test_a_library_with_mistakes_replaces_nothing(cli: Harness) -> None:
    path = write(cli.work, "release/cut.hcl", LIBRARY)
    assert cli.oj("runbook", "add", "release").code == 0
    kept = cli.state / "libraries" / "release" / "cut.hcl"
    path.write_text(LIBRARY + 'command "broken" {}\n')
    result = cli.oj("runbook", "add", "release")
    assert result.code == 1
    assert "cut.hcl:" in result.err
    assert kept.read_text() == LIBRARY


def test_adding_again_replaces_the_files_that_were_there(cli: Harness) -> None:
    path = write(cli.work, "release/cut.hcl", LIBRARY)
    cli.oj("runbook", "add", "release", "--local")
    path.rename(path.with_name("new.hcl"))
    result = cli.oj("runbook", "add", "release", "--local", "-o", "json")
    folder = cli.work / ".oj" / "libraries" / "release"
    assert result.json == {
        "name": "release",
        "path": str(folder),
        "files": ["new.hcl"],
        "replaced": True,
    }
    assert [each.name for each in folder.iterdir()] == ["new.hcl"]


def test_the_older_word_for_local_still_works(cli: Harness) -> None:
    write(cli.work, "one.hcl", LIBRARY)
    assert cli.oj("runbook", "add", "one.hcl", "--project").code == 0
    assert (cli.work / ".oj" / "libraries" / "one" / "one.hcl").is_file()


@pytest.mark.parametrize("name", ["../up", "a/../b", "/abs", "a//b", "a b", ""])
def test_a_library_cannot_be_named_out_of_its_folder(cli: Harness, name: str) -> None:
    write(cli.work, "one.hcl", LIBRARY)
    result = cli.oj("runbook", "add", "one.hcl", "--name", name)
    assert result.code == 1
    assert not (cli.state / "libraries").exists()


@pytest.mark.parametrize("path", ["missing", ".", "notes.txt"])
def test_what_is_no_library_is_refused(cli: Harness, path: str) -> None:
    write(cli.work, "notes.txt", "")
    assert cli.oj("runbook", "add", path).code == 1


def test_an_unknown_library_is_an_error(cli: Harness) -> None:
    result = cli.oj("runbook", "info", "nosuch")
    assert result.code == 1
    assert "unknown library `nosuch`" in result.err


def test_a_library_that_is_shown_by_info_may_hold_directives(cli: Harness) -> None:
    text = '# Conditional\nconst "kind" { default = "a" }\n%{ if const.kind == "a" }\ncommand "one" { run = "true" }\n%{ endif }\n'
    write(cli.work / ".oj" / "libraries", "cond/c.hcl", text)
    result = cli.oj("runbook", "info", "cond")
    assert result.code == 0
    assert "Commands: one" in result.out
