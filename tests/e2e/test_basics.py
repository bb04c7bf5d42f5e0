"""The first things people type: help, versions, folders, colours, and names in every script."""

from __future__ import annotations

import re

import pytest

from tests.support.world import World


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_top_help_is_on_stdout_with_its_three_groups(
    shop: World, words: tuple[str, ...]
) -> None:
    """A001, A002, C1, C2."""
    shown = shop.oj(*words)
    assert shown.out.startswith("Usage: oj ")
    assert [
        line for line in shown.out.splitlines() if line in ("Actions:", "Resources:", "System:")
    ] == [
        "Actions:",
        "Resources:",
        "System:",
    ]
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--help"), ("Usage: oj run",)),
        (("help", "job"), ("Usage: oj job", "list", "show", "wait", "cancel")),
        (("job", "--help"), ("list", "show")),
        (("daemon", "--help"), ("start", "stop", "status")),
        (("daemon", "-h"), ("start", "stop", "status")),
    ],
)
def test_the_help_of_a_command_lists_its_verbs(
    shop: World, words: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """A002, A003, A079, C2."""
    shown = shop.oj(*words)
    assert all(word in shown.out for word in expected), shown
    assert shown.err == ""


def test_all_spellings_of_the_version_option_print_the_same_line(shop: World) -> None:
    """A004, C3."""
    lines = {shop.oj(word).out for word in ("-v", "-V", "--version")}
    assert len(lines) == 1
    assert re.fullmatch(r"oj \d+\.\d+\.\d+\+\w+\n", lines.pop())


def test_a_group_without_a_verb_shows_its_help_and_is_a_usage_error(shop: World) -> None:
    """C4."""
    shown = shop.oj("job", code=2)
    assert "Usage: oj job" in shown.out + shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nosuch",), "nosuch"),
        (("stat",), "status"),
        (("job", "nosuch"), "nosuch"),
        (("job", "list", "--bogus"), "--bogus"),
        (("job", "show"), "ID"),
        (("job", "list", "-n", "0"), "0"),
        (("-o", "yaml", "status"), "yaml"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error_on_stderr(
    shop: World, words: tuple[str, ...], said: str
) -> None:
    """C4."""
    refused = shop.oj(*words, code=2)
    assert refused.out == ""
    assert "Error:" in refused.err
    assert said in refused.err


def test_a_folder_that_does_not_exist_is_named(shop: World) -> None:
    """C5."""
    refused = shop.oj("-C", "/nonexistent", "job", "list", code=1)
    assert refused.err.startswith("Error: cannot change to directory '/nonexistent'")


def test_the_folder_option_means_the_same_before_and_after_the_command(shop: World) -> None:
    """C6."""
    shop.runbook('command "where" { run = "pwd" }\n')
    project = str(shop.project)
    for words in (("-C", project, "run", "where"), ("run", "-C", project, "where")):
        assert shop.oj(*words, cwd=shop.folder).out == f"{shop.project}\n"
    shop.job('step "a" { run = "true" }')
    shop.run("build", cwd=shop.project)
    lists = [
        shop.oj(*words, cwd=shop.folder).out.splitlines()[0].split()
        for words in (
            ("-C", project, "job", "list"),
            ("job", "-C", project, "list"),
            ("job", "list", "-C", project),
        )
    ]
    assert lists[0] == lists[1] == lists[2]


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, False), ({"COLOR": "1"}, True), ({"COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colour_follows_the_environment_when_stdout_is_a_pipe(
    shop: World, environ: dict[str, str], coloured: bool
) -> None:
    """C9."""
    shop.job('step "a" { run = "true" }')
    shop.run("build")
    for words in (("job", "list"), ("status",)):
        assert ("\x1b[" in shop.oj(*words, environ=environ).out) is coloured


@pytest.mark.parametrize("name", ["é" * 30, "漢字" * 15, "🙂" * 30, "e\u0301" * 30])
def test_a_name_of_thirty_wide_characters_is_shown_everywhere(shop: World, name: str) -> None:
    """C10."""
    shop.job('step "a" { run = "echo ${var.name}; exit 1" }', args="<name>")
    job = shop.run("build", name, code=1)
    assert job["name"] == name
    for words in (
        ("job", "list"),
        ("job", "show", job["id"]),
        ("status",),
        ("logs", job["id"]),
        ("job", "wait", job["id"]),
        ("show", job["id"]),
    ):
        shown = shop.oj(*words, code=None)
        assert shown.code == (1 if "wait" in words else 0), shown
        assert name[:10] in shown.out + shown.err, shown


@pytest.mark.parametrize("language", ["C", "POSIX"])
def test_a_caller_without_utf_8_sees_names_in_some_form_and_no_traceback(
    shop: World, language: str
) -> None:
    """C10."""
    shop.job('step "a" { run = "true" }', args="<name>")
    environ = {"LC_ALL": language}
    shop.oj("run", "build", "漢字é", environ=environ)
    shown = shop.oj("job", "list", environ=environ)
    assert "Traceback" not in shown.err


def test_a_reader_that_goes_away_ends_the_output_quietly(shop: World) -> None:
    """A closed pipe (`oj ... | head -1`) is no error of ours."""
    child = shop.spawn("run", "--help")
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert "Traceback" not in child.stderr.read()
    child.wait(60)
