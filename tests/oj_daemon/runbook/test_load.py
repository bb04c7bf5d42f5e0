"""Catalogs: lookup by name, skipped files, libraries and their order, and the cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oj_daemon.errors import OjError, Rejected, RunbookError
from oj_daemon.runbook import load
from oj_daemon.runbook.load import Catalog, catalog
from oj_daemon.runbook.model import RunShell

BROKEN = 'command "broken" {\n  args = "<x>"\n}\n'


def command(name: str, text: str = "true") -> str:
    return f'command "{name}" {{\n  run = "{text}"\n}}\n'


def runbooks(**texts: str) -> dict[str, str]:
    return {f".oj/runbooks/{name}.hcl": text for name, text in texts.items()}


def refusal(found: Catalog, name: str, file: str | None = None) -> OjError:
    with pytest.raises((Rejected, RunbookError)) as caught:
        found.find_command(name, file)
    return caught.value


# Lookup


def test_a_command_is_found_with_the_runbook_it_stands_in() -> None:
    found = catalog(runbooks(a=command("one"), b=command("two") + command("three"))).find_command(
        "two"
    )
    assert found.definition.name == "two"
    assert found.runbook.path == ".oj/runbooks/b.hcl"
    assert set(found.runbook.commands) == {"two", "three"}


def test_queues_workers_and_crons_are_found_too() -> None:
    text = (
        'queue "q" {\n  type = "persisted"\n  vars = ["x"]\n}\n'
        'worker "w" {\n  source = { queue = "q" }\n  run = { job = "j" }\n}\n'
        'cron "c" {\n  interval = "1h"\n  run = { job = "j" }\n}\n'
        'job "j" {\n  step "s" { run = "true" }\n}\n'
    )
    found = catalog(runbooks(a=text))
    assert found.find_queue("q").definition.vars == ("x",)
    assert found.find_worker("w").definition.queue == "q"
    assert found.find_cron("c").definition.interval_ms == 3_600_000
    with pytest.raises(Rejected) as caught:
        found.find_worker("ww")
    assert (caught.value.code, caught.value.message, caught.value.hint) == (
        "not_found",
        "unknown worker `ww`",
        "workers here: `w`",
    )


def test_an_exact_name_beats_the_ending_of_an_imported_one() -> None:
    texts = runbooks(a=command("merge", "mine"), b='import "oj/git" { alias = "git" }\n')
    found = catalog(texts).find_command("merge")
    assert found.runbook.path == ".oj/runbooks/a.hcl"
    assert catalog(texts).find_command("git:merge").runbook.path == ".oj/runbooks/b.hcl"


def test_an_imported_name_is_found_by_its_ending() -> None:
    found = catalog(runbooks(b='import "oj/git" { alias = "git" }\n'))
    assert found.find_command("merge").definition.name == "git:merge"
    assert found.find_queue("merges").definition.name == "git:merges"


def test_an_ending_that_two_names_of_a_file_share_is_ambiguous() -> None:
    error = refusal(
        catalog(runbooks(b='import "oj/git" { alias = "x" }\nimport "oj/git" { alias = "y" }\n')),
        "merge",
    )
    assert (error.code, error.message) == (
        "ambiguous",
        "command `merge` is ambiguous: `x:merge`, `y:merge`",
    )


def test_a_name_in_two_files_is_an_error_that_a_file_name_resolves() -> None:
    found = catalog(runbooks(a=command("x", "one"), b=command("x", "two")))
    error = refusal(found, "x")
    assert (
        error.message
        == "command `x` is defined in several runbooks: .oj/runbooks/a.hcl, .oj/runbooks/b.hcl"
    )
    assert (error.code, error.hint) == ("ambiguous", "say which one: --runbook .oj/runbooks/a.hcl")
    for file in (
        ".oj/runbooks/b.hcl",
        "b.hcl",
        "b",
        "./.oj/runbooks/b.hcl",
        "/home/me/project/.oj/runbooks/b.hcl",
    ):
        run = found.find_command("x", file).definition.run
        assert isinstance(run, RunShell)
        assert run.shell.text == "two"


def test_a_file_outside_of_the_runbooks_is_used_only_when_it_is_named() -> None:
    found = catalog(
        {**runbooks(a=command("x", "one")), "other/b.hcl": command("x", "two") + command("y")}
    )
    assert found.find_command("x").runbook.path == ".oj/runbooks/a.hcl"
    assert found.find_command("x", "other/b.hcl").runbook.path == "other/b.hcl"
    assert refusal(found, "y").code == "not_found"


def test_an_unknown_file_is_refused() -> None:
    error = refusal(catalog(runbooks(build=command("x"))), "x", ".oj/runbooks/biuld.hcl")
    assert (error.code, error.message, error.hint) == (
        "not_found",
        "no runbook file `.oj/runbooks/biuld.hcl`",
        "did you mean `.oj/runbooks/build.hcl`?",
    )


def test_an_unknown_name_gets_the_nearest_one() -> None:
    error = refusal(catalog(runbooks(a=command("build") + command("test"))), "biuld")
    assert (error.code, error.message, error.hint) == (
        "not_found",
        "unknown command `biuld`",
        "did you mean `build`?",
    )
    assert refusal(catalog(runbooks(a=command("build"))), "zzzzzz").hint == "commands here: `build`"
    assert (
        refusal(catalog({}), "x").hint
        == "no command is defined in .oj/runbooks/; oj init writes a first runbook"
    )


# Broken files


def test_a_broken_file_hides_nothing_of_other_files() -> None:
    found = catalog(runbooks(a=BROKEN, b=command("fine")))
    assert found.find_command("fine").definition.name == "fine"
    assert [each.path for each in found.runbooks] == [".oj/runbooks/b.hcl"]
    assert [each.path for each in found.skipped] == [".oj/runbooks/a.hcl"]


def test_an_unknown_name_mentions_the_files_that_were_skipped_and_why() -> None:
    error = refusal(catalog(runbooks(a=BROKEN, b=command("fine"))), "other")
    assert error.message == (
        "unknown command `other`\n"
        "1 runbook was skipped due to errors:\n"
        ".oj/runbooks/a.hcl:1:9: missing field `run` in command.broken\n"
        '   1 | command "broken" {\n'
        "     |         ^^^^^^^^"
    )


def test_a_name_in_a_broken_file_says_that_the_file_was_skipped_and_why() -> None:
    error = refusal(catalog(runbooks(a=BROKEN, b=command("fine"))), "broken")
    assert isinstance(error, RunbookError)
    assert error.message.startswith(
        "command `broken` is in .oj/runbooks/a.hcl, which was skipped due to errors:\n"
        ".oj/runbooks/a.hcl:1:9: missing field `run` in command.broken\n"
    )


def test_wrong_shell_text_is_found_when_the_command_is_looked_up() -> None:
    error = refusal(catalog(runbooks(a=command("x", "echo 'oops"))), "x")
    assert "skipped due to errors" in error.message
    assert ".oj/runbooks/a.hcl:2:" in error.message
    assert "invalid shell command in command.x.run" in error.message


def test_a_file_that_could_not_be_read_is_mentioned() -> None:
    found = catalog(runbooks(b=command("fine")), [(".oj/runbooks/a.hcl", "not UTF-8 text")])
    assert refusal(found, "x").message == (
        "unknown command `x`\n1 runbook was skipped due to errors:\n.oj/runbooks/a.hcl: cannot read: not UTF-8 text"
    )
    assert refusal(found, "x", "a.hcl").message == ".oj/runbooks/a.hcl: cannot read: not UTF-8 text"


def test_a_listing_shows_what_has_wrong_shell_text_but_not_what_cannot_be_read() -> None:
    found = catalog(
        runbooks(a=command("quote", "echo 'oops"), b=BROKEN, c=command("fine")), [("d.hcl", "gone")]
    )
    assert [list(each.commands) for each in found.outlines()] == [["quote"], ["fine"]]
    assert [each.path for each in found.skipped_outlines] == ["d.hcl", ".oj/runbooks/b.hcl"]
    assert found.find_command("quote", full=False).definition.name == "quote"
    assert [each.path for each in found.skipped] == [
        "d.hcl",
        ".oj/runbooks/a.hcl",
        ".oj/runbooks/b.hcl",
    ]


def test_odd_things_in_usable_files_are_warnings() -> None:
    text = 'job "j" {\n  step "a" { run = "true" }\n  step "b" { run = "true" }\n}\n'
    found = catalog(runbooks(a=text))
    assert found.skipped == []
    assert [each.message for each in found.warnings] == ["step is unreachable: job.j.step[1](b)"]


def test_check_tells_everything_at_once() -> None:
    files = {
        **runbooks(
            a=command("x") + BROKEN,
            b=command("x"),
            c='job "x" {\n  step "s" { run = "echo (" }\n}\n',
        ),
        ".oj/libraries/team/a.hcl": 'const "c" {}\ncommand "l" {\n  runn = "${const.c}"\n}\n',
    }
    assert [
        (each.path, each.line, each.message.partition(":")[0]) for each in catalog(files).check()
    ] == [
        (".oj/runbooks/a.hcl", 4, "missing field `run` in command.broken"),
        (".oj/runbooks/c.hcl", 2, "invalid shell command in job.x.step[0](s).run"),
        (
            ".oj/runbooks/b.hcl",
            1,
            "command `x` defined in both .oj/runbooks/a.hcl and .oj/runbooks/b.hcl",
        ),
        (".oj/libraries/team/a.hcl", 2, "missing field `run` in command.l"),
        (".oj/libraries/team/a.hcl", 3, "unknown key `runn` in command.l"),
    ]


# Libraries


def test_libraries_of_the_project_beat_the_users_and_those_beat_the_built_in_ones() -> None:
    files = runbooks(a='import "oj/git" {}\n')
    assert set(catalog(files).find_command("merge").runbook.commands) == {"merge"}
    files["~/libraries/oj/git/a.hcl"] = command("user")
    assert set(catalog(files).find_command("user").runbook.commands) == {"user"}
    files[".oj/libraries/oj/git/a.hcl"] = command("project")
    assert set(catalog(files).find_command("project").runbook.commands) == {"project"}


def test_libraries_are_never_runbooks() -> None:
    found = catalog({".oj/libraries/x/a.hcl": command("x"), "~/libraries/y/a.hcl": command("y")})
    assert found.paths == []
    assert refusal(found, "x").code == "not_found"


@pytest.mark.parametrize("name", sorted(load.built_in()))
def test_a_built_in_library_is_valid(name: str) -> None:
    linked, _ = load.check_library(load.built_in()[name])
    assert [each.render() for each in linked.problems] == []


def test_the_built_in_libraries() -> None:
    assert sorted(load.built_in()) == ["oj/claude", "oj/git", "oj/github", "oj/wok"]


def test_a_library_describes_itself() -> None:
    found = catalog({}).library("oj/wok")
    assert (found.name, found.origin) == ("oj/wok", "built-in")
    assert (
        found.description == "Bugs and chores of a local issue tracker, each worked on by an agent."
    )
    assert found.entities["command"] == ["bug", "chore"]
    assert found.entities["queue"] == ["bugs", "chores"]
    assert found.consts["prefix"].default is None
    assert found.consts["base"].default == "main"
    assert found.usage.startswith(
        'import "oj/wok" {\n  alias = "wok"\n  const "prefix" { value = "..." }\n'
    )
    with pytest.raises(Rejected) as caught:
        catalog({}).library("oj/wokk")
    assert caught.value.hint == "did you mean `oj/wok`?"


def test_the_usage_of_every_built_in_library_is_a_valid_runbook() -> None:
    for name in load.built_in():
        usage = catalog({}).library(name).usage
        load.runbook("x.hcl", usage + "\n")


def test_libraries_are_searched_by_name_and_description() -> None:
    found = catalog({".oj/libraries/team/ci.hcl": "# Pipelines\n" + command("ci")})
    assert [each.name for each in found.search()] == [
        "oj/claude",
        "oj/git",
        "oj/github",
        "oj/wok",
        "team",
    ]
    assert [each.name for each in found.search("PIPELINE")] == ["team"]
    assert [each.name for each in found.search("git")] == ["oj/git", "oj/github"]


# The cache and what is loaded


def test_the_same_texts_give_the_same_catalog() -> None:
    first = catalog(runbooks(a=command("x")))
    assert catalog(runbooks(a=command("x"))) is first
    assert catalog(runbooks(a=command("y"))) is not first
    assert catalog(runbooks(a=command("x")), [("b", "c")]) is not first


def test_the_cache_stays_small() -> None:
    for number in range(load.CACHED_CATALOGS * 2):
        catalog(runbooks(a=command(f"x{number}")))
    assert len(load._catalogs) == load.CACHED_CATALOGS


def test_a_listing_does_not_load_what_it_does_not_need() -> None:
    code = (
        "import sys; from oj_daemon.runbook.load import catalog; "
        'found = catalog({\'.oj/runbooks/a.hcl\': \'command "x" {\\n run = "echo ${args.y:-}"\\n args = "[y]"\\n}\\n\'}); '
        "assert [list(each.commands) for each in found.outlines()] == [['x']]; "
        "heavy = {'asyncio', 'tomllib', 'subprocess', 'tree_sitter', 'hcl2', 'zoneinfo'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert (done.returncode, done.stderr) == (0, "")
