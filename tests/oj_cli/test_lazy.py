"""A lazy group imports one command, and every command takes the shared options wherever they stand."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner, Result

from oj_cli.lazy import LazyGroup, Options, Row, shared_options, with_shared_options


@click.command()
@click.argument("words", nargs=-1)
@click.pass_obj
def plain(options: Options, words: tuple[str, ...]) -> None:
    click.echo((options.directory, options.project, options.output, words))


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def passing(options: Options, words: tuple[str, ...]) -> None:
    click.echo((options.directory, options.project, options.output, words))


@click.group()
def nested() -> None:
    pass


nested.add_command(plain, "plain")


@click.command()
@click.option("--project", is_flag=True)
@click.pass_obj
def own(options: Options, project: bool) -> None:
    click.echo((options.project, project))


NOT_A_COMMAND = 1

TABLE: dict[str, Row] = {
    "plain": (f"{__name__}:plain", "A", "Plain."),
    "passing": (f"{__name__}:passing", "A", "Passing."),
    "nested": (f"{__name__}:nested", "A", "Nested."),
    "own": (f"{__name__}:own", "A", "Own."),
    "missing": ("no_such_module_anywhere:x", "A", "Its module cannot be imported."),
    "wrong": (f"{__name__}:NOT_A_COMMAND", "A", "Not a command."),
}


def run(line: str) -> Result:
    group = LazyGroup(
        "oj",
        table=TABLE,
        overview="the overview\n",
        params=[*shared_options()],
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return CliRunner().invoke(group, line.split(), obj=Options(), prog_name="oj")


@pytest.mark.parametrize(
    "line",
    [
        "-C d --project p -o json plain w",
        "plain -C d --project p -o json w",
        "plain w -C d --project=p --output json",
        "-C d plain --project p w -ojson",
        "-C d nested --project p plain w -o json",
        "nested plain w -C d --project p -o json",
        "-o text --project q plain --project p w -o json -C d",
    ],
)
def test_shared_options_may_stand_anywhere_and_the_rightmost_wins(line: str) -> None:
    result = run(line)
    assert (result.exit_code, result.output) == (0, "('d', 'p', 'json', ('w',))\n")


def test_without_them_output_is_text_and_the_rest_unset() -> None:
    assert run("plain").output == "(None, None, 'text', ())\n"


def test_words_after_a_double_dash_are_not_options() -> None:
    assert (
        run("plain -- -o json --project p").output
        == "(None, None, 'text', ('-o', 'json', '--project', 'p'))\n"
    )


def test_a_command_that_passes_words_on_loses_none_of_them() -> None:
    assert run("passing -o json build -o wheel --project x -C y").output == (
        "(None, None, 'json', ('build', '-o', 'wheel', '--project', 'x', '-C', 'y'))\n"
    )


def test_a_command_keeps_its_own_meaning_of_a_shared_word() -> None:
    assert run("--project p own --project").output == "('p', True)\n"


def test_sharing_twice_changes_nothing() -> None:
    command = click.Command("twice")
    with_shared_options(command)
    with_shared_options(command)
    assert [param.opts for param in command.params] == [["-C"], ["--project"], ["-o", "--output"]]


def test_a_wrong_output_format_is_a_usage_error() -> None:
    result = run("plain -o yaml")
    assert result.exit_code == 2
    assert "'yaml' is not one of 'text', 'json'" in result.stderr


def test_an_unknown_command_suggests_names_that_were_never_imported() -> None:
    result = run("mising")
    assert result.exit_code == 2
    assert "No such command 'mising'." in result.stderr
    assert "'missing'" in result.stderr


def test_help_lists_a_command_whose_module_cannot_be_imported() -> None:
    assert run("-h").output == "the overview\n"


def test_a_group_without_a_verb_shows_its_help_and_exits_2() -> None:
    result = run("nested")
    assert result.exit_code == 2
    assert "Usage: oj nested" in result.stderr


def test_a_row_that_is_no_command_is_a_bug_that_names_itself() -> None:
    assert str(run("wrong").exception) == f"{__name__}:NOT_A_COMMAND is not a click command"


def test_completing_a_name_imports_nothing() -> None:
    group = LazyGroup("oj", table=TABLE, overview="")
    found = group.shell_complete(click.Context(group), "mis")
    assert [(item.value, item.help) for item in found] == [
        ("missing", "Its module cannot be imported.")
    ]
    assert [item.value for item in group.shell_complete(click.Context(group), "--he")] == ["--help"]
