"""`oj run` with shell text, which runs in the caller's terminal without a daemon, and everything judged before a job starts."""

from __future__ import annotations

import pytest

from tests.support.world import World

HOSTILE = [
    "a b'c\"$(x)",
    "`id`",
    "*",
    "-n",
    "",
    "a\nb",
    "\\",
    "$HOME",
    "!x",
    "~",
    "é漢",
    "'; exit 9; '",
]


def no_daemon(world: World) -> None:
    """None was started, and nothing was written."""
    assert not (world.state / "daemon.sock").exists()
    assert not (world.state / "wal").exists()


@pytest.fixture
def calm(world: World) -> World:
    """A project with a few shell commands, and no daemon."""
    world.runbook("""
        # Hello, world
        command "hello" { run = "echo hello" }
        # Greets somebody
        command "greet" {
          args = "<name> [-t/--title <title>] [-l/--loud]"
          run  = "printf '%s|%s|%s\\n' \\"${args.name}\\" \\"${args.title}\\" \\"${args.loud}\\""
        }
        command "code" {
          args = "<n>"
          run  = "exit ${args.n}"
        }
        command "die"   { run = "kill -TERM $$" }
        command "unset" { run = "echo $NOPE" }
        command "pipe"  { run = "false | true" }
        command "where" { run = "pwd; echo $OJ_PROJECT; echo ${invoke.dir}; echo ${workspace}" }
        command "read"  { run = "cat" }
    """)
    return world


def test_shell_text_prints_and_passes_and_no_daemon_is_started(calm: World) -> None:
    """A013, A015, C28."""
    assert calm.oj("run", "hello").out == "hello\n"
    no_daemon(calm)
    assert calm.oj("daemon", "status").out == "Daemon not running\n"


def test_the_exit_code_is_that_of_the_shell(calm: World) -> None:
    """C29."""
    assert calm.oj("run", "code", "7", code=7).err == ""
    calm.oj("run", "die", code=143)


def test_shell_text_is_strict_bash(calm: World) -> None:
    """C28: errexit, nounset, pipefail (spec 5 rule 5)."""
    assert "NOPE" in calm.oj("run", "unset", code=1).err
    calm.oj("run", "pipe", code=1)


def test_shell_text_runs_in_the_project_root_and_reads_our_stdin(calm: World) -> None:
    """C28."""
    below = calm.project / "deep" / "down"
    below.mkdir(parents=True)
    lines = calm.oj("run", "where", cwd=below).out.splitlines()
    assert lines == [str(calm.project), "shop", str(below), str(calm.project)]
    assert calm.oj("run", "read", stdin="given\n").out == "given\n"


def test_hostile_arguments_arrive_as_they_are(calm: World) -> None:
    """A014, C30."""
    for value in HOSTILE:
        assert calm.oj("run", "greet", "--", value).out == f"{value}||\n"


def test_options_may_be_written_in_every_usual_way(calm: World) -> None:
    """C33."""
    for words in (
        ["--title=Dr", "Ada"],
        ["--title", "Dr", "Ada"],
        ["-t", "Dr", "Ada"],
        ["Ada", "-t", "Dr"],
    ):
        assert calm.oj("run", "greet", *words).out == "Ada|Dr|\n"
    assert calm.oj("run", "greet", "Ada", "-l").out == "Ada||true\n"
    refused = calm.oj("run", "greet", "Ada", "--titel", "Dr", code=1)
    assert "--titel" in refused.err
    assert "--title" in refused.err


def test_help_of_a_command_is_on_stdout_unless_it_was_meant_for_the_command(calm: World) -> None:
    """A002, C34."""
    for words in (["greet", "-h"], ["greet", "--help"], ["greet", "Ada", "-h"]):
        shown = calm.oj("run", *words).out
        assert shown.startswith("Greets somebody\n")
        assert "oj run greet <name>" in shown
    assert calm.oj("run", "greet", "--", "-h").out == "-h||\n"


def test_a_missing_argument_is_named_and_nothing_is_started(world: World) -> None:
    """A006, A007, A008, C31."""
    world.job('step "a" { run = "true" }', args="<name> <prompt>")
    assert "<name>" in world.oj("run", "build", code=1).err
    one = world.oj("run", "build", "x", code=1).err
    assert "<prompt>" in one
    assert "<name>" not in one.splitlines()[0]
    assert "y z" in world.oj("run", "build", "x", "y", "y z", code=1).err
    no_daemon(world)
    assert "Command: build\n" in world.oj("run", "build", "x", "y").out


def test_an_unknown_command_is_answered_with_the_nearest_one(calm: World) -> None:
    """A005, C32."""
    refused = calm.oj("run", "helo", code=1)
    assert "unknown command `helo`" in refused.err
    assert "hello" in refused.err
    no_daemon(calm)


def test_a_broken_file_is_a_warning_in_the_list_and_a_reason_in_the_error(calm: World) -> None:
    """A068, C26, C32."""
    calm.runbook('command "other" { }\n', name="bad.hcl")
    listed = calm.oj("run").out
    assert "hello" in listed
    assert "Greets somebody" in listed
    assert "Warnings:" in listed
    assert "bad.hcl" in listed
    refused = calm.oj("run", "other", code=1).err
    assert "skipped due to errors" in refused
    assert "bad.hcl:1" in refused
    assert "missing field `run`" in refused
    assert calm.oj("run", "hello").out == "hello\n"


def test_a_folder_without_runbooks_has_no_commands_and_that_is_fine(world: World) -> None:
    """C26."""
    assert "No commands found" in world.oj("run").out
    assert "unknown command" in world.oj("run", "nosuch", code=1).err


LIBRARY = """
# The kit
const "mode" { default = "a" }

%{ if const.mode == "a" }
# From the library
command "do" { run = "echo library" }
%{ else }
command "do" { run = "echo other" }
%{ endif }
"""


@pytest.fixture
def kit(world: World) -> World:
    """A project with a library of its own."""
    folder = world.project / ".oj" / "libraries" / "kit"
    folder.mkdir(parents=True)
    (folder / "kit.hcl").write_text(LIBRARY)
    return world


def test_a_library_with_directives_is_explained(kit: World) -> None:
    """A009."""
    shown = kit.oj("runbook", "info", "kit").out
    assert "do" in shown
    assert "mode" in shown
    assert "kit" in kit.oj("runbook", "search").out


def test_the_help_of_an_imported_command_is_its_librarys_comment(kit: World) -> None:
    """A010, C27."""
    kit.runbook('# About the importing file\n\nimport "kit" { alias = "k" }\n')
    listed = kit.oj("run", "--help").out
    row = next(line for line in listed.splitlines() if "k:do" in line)
    assert "From the library" in row
    assert "importing file" not in listed
    assert kit.oj("run", "k:do", "--help").out.startswith("From the library\n")


def test_an_imported_command_is_found_by_alias_and_by_plain_name(kit: World) -> None:
    """A011."""
    kit.runbook('import "kit" {\n  alias = "k"\n  const "mode" { value = "b" }\n}\n')
    assert kit.oj("run", "k:do").out == "other\n"
    assert kit.oj("run", "do").out == "other\n"


def test_a_local_command_wins_over_an_imported_one_of_the_same_name(kit: World) -> None:
    """A012, C27."""
    kit.runbook('import "kit" { alias = "k" }\ncommand "do" { run = "echo local" }\n')
    assert kit.oj("run", "do").out == "local\n"
    assert kit.oj("run", "k:do").out == "library\n"


def test_the_file_that_was_named_is_the_one_that_counts(shop: World) -> None:
    """C38."""
    shop.job('step "a" { run = "echo from main" }')
    shop.job('step "a" { run = "echo from other" }', name="other.hcl")
    refused = shop.oj("run", "build", code=1).err
    assert "main.hcl" in refused
    assert "other.hcl" in refused
    assert "--runbook" in refused
    for name in ("main", "other"):
        shown = shop.oj("run", "--runbook", f".oj/runbooks/{name}.hcl", "build").out
        assert f"[a] from {name}\n" in shown
