"""What one call of `oj` knows, and what travels with a run."""

from __future__ import annotations

import click
import pytest

from oj_cli.context import Ctx, pass_ctx
from oj_cli.lazy import Options
from oj_daemon.errors import OjError, WireError
from tests.support.harness import Harness
from tests.support.replies import reply


def options(**values: str) -> Options:
    made = Options()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_a_directory_that_is_not_there_is_an_error_that_names_it(cli: Harness) -> None:
    done = cli.oj("-C", "/nonexistent", "job", "list")
    assert (done.code, done.out) == (1, "")
    assert (
        done.err == "Error: cannot change to directory '/nonexistent': No such file or directory\n"
    )


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_directory_may_stand_before_or_after_the_command(cli: Harness, place: str) -> None:
    (cli.work.parent / "other" / ".oj").mkdir(parents=True)
    ctx = Ctx(options(directory="../other"))
    assert ctx.project == "other"
    words = ["-C", "/nonexistent"]
    args = [*words, "status"] if place == "before" else ["status", *words]
    assert cli.oj(*args).code == 1


def test_the_project_is_named_by_flag_then_environment_then_configuration_then_folder(
    cli: Harness,
) -> None:
    assert Ctx(options()).project == "shop"
    (cli.work / ".oj" / "config.toml").write_text('[project]\nname = "configured"\n')
    assert Ctx(options()).project == "configured"
    cli.setenv("OJ_PROJECT", "surroundings")
    assert Ctx(options()).project == "surroundings"
    assert Ctx(options(project="flag")).project == "flag"


def test_only_the_flag_limits_lists(cli: Harness) -> None:
    cli.setenv("OJ_PROJECT", "surroundings")
    assert Ctx(options()).project_filter is None
    assert Ctx(options(project="flag")).project_filter == "flag"


def test_a_query_without_a_daemon_fails_starts_nothing_and_leaves_one_line(cli: Harness) -> None:
    with pytest.raises(WireError) as caught:
        Ctx(options()).query("JobList")
    assert (caught.value.code, caught.value.message) == ("unavailable", "Daemon not running")
    assert [path.name for path in cli.state.iterdir()] == ["cli.log"]
    log = (cli.state / "cli.log").read_text()
    assert log.count("\n") == 1
    assert f"cwd={cli.work}" in log
    assert f"state={cli.state}" in log
    assert log.endswith("Daemon not running\n")


def test_a_state_folder_that_cannot_be_written_does_not_hide_the_error(cli: Harness) -> None:
    cli.setenv("OJ_STATE_DIR", "/nonexistent/state")
    with pytest.raises(WireError, match="Daemon not running"):
        Ctx(options()).query("JobList")


def test_a_setting_that_is_ignored_is_warned_about(cli: Harness) -> None:
    cli.setenv("OJ_TIMEOUT_IPC_MS", "soon")
    done = cli.oj("status")
    assert done.code == 0
    assert done.err.count("Warning: OJ_TIMEOUT_IPC_MS='soon' is ignored") == 1


def test_a_deleted_folder_is_an_error_and_no_traceback(cli: Harness) -> None:
    gone = cli.work / "gone"
    gone.mkdir()
    ctx = Ctx(options(directory=str(gone)))
    gone.rmdir()
    with pytest.raises(OjError, match="current directory no longer exists"):
        _ = ctx.root


def test_a_command_gets_the_context_of_its_call_and_keeps_its_help(daemon_cli: Harness) -> None:
    daemon_cli.daemon.answer("Ping", reply("Ok"))

    @click.command()
    @pass_ctx
    def ping(ctx: Ctx) -> object:
        """Ask for a sign of life."""
        return ctx.query("Ping")

    assert ping.help == "Ask for a sign of life."
    assert ping.main([], standalone_mode=False, obj=options()) == {"type": "Ok"}
