from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_daemon import HANG_UP
from tests.support.harness import ROOT, Harness
from tests.support.replies import JOB, changes, detail, node, reply, step

SHORT = JOB[4:12]
BOOK = """
# Builds
#
# All of them.

# Build the shop
#
# Usage: oj run build x
command "build" {
  args     = "<name> [--base <ref>] [-f/--fast]"
  defaults = { base = "main" }
  run      = { job = "build" }
}

job "build" {
  vars = ["name", "base"]
  defaults = { fast = "" }
  step "one" { run = "echo ${var.name}" }
}

command "greet" {
  args = "<who>"
  run  = "printf '%s|' ${args.who} \\"${args.who}\\" '${args.who}'"
}

command "exits" {
  args = "<code>"
  run  = "exit ${args.code}"
}

command "dies" { run = "kill -TERM $$; sleep 5" }

command "where" { run = "pwd; echo $OJ_PROJECT; cat" }

command "fails-midway" { run = "false | true; echo not reached" }
"""


@pytest.fixture
def book(cli: Harness) -> Harness:
    write(cli, "build.hcl", BOOK)
    return cli


def write(cli: Harness, name: str, text: str) -> None:
    path = cli.work / ".oj" / "runbooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def real(
    cli: Harness, *args: str, given: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A whole process, for what shell text does to its streams and exit code."""
    return subprocess.run(
        [sys.executable, "-m", "oj_cli", "run", *args],
        cwd=cwd or cli.work,
        env={**cli.environ, "PYTHONPATH": str(ROOT)},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# The list and the help


def test_without_a_command_the_commands_are_listed_with_their_descriptions(book: Harness) -> None:
    result = book.oj("run")
    assert result.code == 0
    assert result.out.startswith("Usage: oj run COMMAND [ARGS...]\n\nCommands:\n")
    assert "  build <name> [--base <base>] [--fast]  Build the shop\n" in result.out
    assert "Warnings" not in result.out


def test_a_broken_file_appears_under_warnings_and_hides_nothing(book: Harness) -> None:
    write(book, "broken.hcl", 'command "x" { args = "<a>" }\n')
    result = book.oj("run")
    assert result.code == 0
    assert "Warnings:\n" in result.out
    assert ".oj/runbooks/broken.hcl:1:" in result.out
    assert "build <name>" in result.out


def test_a_project_without_commands_says_how_to_get_some(cli: Harness) -> None:
    result = cli.oj("run")
    assert (result.code, "No commands found." in result.out, "oj init" in result.out) == (
        0,
        True,
        True,
    )


def test_the_list_as_json(book: Harness) -> None:
    listed = book.oj("run", "-o", "json").json
    assert listed["warnings"] == []
    assert {
        "name": "build",
        "usage": "<name> [--base <base>] [--fast]",
        "description": "Build the shop",
        "kind": "job",
        "file": ".oj/runbooks/build.hcl",
    } in listed["commands"]


def test_run_help_lists_the_commands_as_well(book: Harness) -> None:
    result = book.oj("run", "--help")
    assert result.code == 0
    assert "--detach" in result.out
    assert "Build the shop" in result.out


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["x", "--help"], ["--base", "-h", "-h"]])
def test_help_behind_a_command_explains_it(book: Harness, words: list[str]) -> None:
    result = book.oj("run", "build", *words)
    assert result.code == 0
    assert result.out == (
        "Build the shop\n"
        "\n"
        "Usage: oj run build <name> [--base <base>] [--fast]\n"
        "\n"
        "Arguments:\n"
        "  <name>  \n"
        "\n"
        "Options:\n"
        "      --base <base>  [default: main]\n"
        "  -f, --fast         \n"
        "  -h, --help         Show this help\n"
        "\n"
        "Description:\n"
        "  Examples: oj run build x\n"
    )


def test_imported_commands_have_their_alias_and_the_description_of_the_library(
    cli: Harness,
) -> None:
    library = cli.work / ".oj" / "libraries" / "team"
    library.mkdir(parents=True)
    (library / "it.hcl").write_text('# Cut a release\ncommand "cut" { run = "echo library" }\n')
    write(cli, "main.hcl", '# Mine\nimport "team" { alias = "t" }\n')
    assert "  t:cut  Cut a release\n" in cli.oj("run").out
    assert cli.oj("run", "cut", "--help").out.startswith("Cut a release\n")
    write(cli, "main.hcl", 'import "team" { alias = "t" }\ncommand "cut" { run = "echo local" }\n')
    assert real(cli, "cut").stdout == "local\n"
    assert real(cli, "t:cut").stdout == "library\n"


# Local checks: no daemon is asked, none is started


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["buidl"], ["unknown command `buidl`", "build"]),
        (["build"], ["<name>"]),
        (["build", "a", "b"], ["argument `b`"]),
        (["build", "a", "--nope"], ["unknown option `--nope`"]),
        (["build", "a", "--base"], ["--base"]),
        (["build", "a", "--attach"], ["only an agent"]),
        (["greet", "a", "--detach"], ["--detach is for jobs"]),
        (["--runbook", "nope.hcl", "build", "a"], ["nope.hcl"]),
    ],
)
def test_mistakes_are_found_before_the_daemon_hears_of_them(
    book: Harness, words: list[str], said: list[str]
) -> None:
    result = book.oj("run", *words)
    assert result.code == 1
    for part in said:
        assert part in result.err
    assert list(book.state.iterdir()) == []


def test_an_unknown_command_names_the_files_that_were_skipped_and_why(book: Harness) -> None:
    write(book, "broken.hcl", 'command "x" {\n  run = \n')
    result = book.oj("run", "nosuch")
    assert result.code == 1
    assert "skipped due to errors" in result.err
    assert ".oj/runbooks/broken.hcl:2:" in result.err


def test_errors_are_json_too(book: Harness) -> None:
    result = book.oj("run", "-o", "json", "buidl")
    assert result.code == 1
    assert result.json["error"]["code"] == "not_found"


# Shell text


def test_values_arrive_as_they_are_in_every_quoting(book: Harness) -> None:
    value = "a b'c\"$(x)`y`\\*"
    result = real(book, "greet", value)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{value}|{value}|{value}|", "")


def test_the_exit_code_of_shell_text_is_ours(book: Harness) -> None:
    assert real(book, "exits", "7").returncode == 7
    assert real(book, "dies").returncode == 128 + signal.SIGTERM
    failed = real(book, "fails-midway")
    assert (failed.returncode, failed.stdout) == (1, "")


def test_shell_text_runs_in_the_project_with_our_streams_and_without_a_daemon(
    book: Harness,
) -> None:
    below = book.work / "deep" / "er"
    below.mkdir(parents=True)
    result = real(book, "where", given="from stdin", cwd=below)
    assert result.stdout == f"{book.work}\nshop\nfrom stdin"
    assert not (book.state / "daemon.sock").exists()


def test_help_behind_two_dashes_is_the_commands_own(book: Harness) -> None:
    assert real(book, "greet", "--", "-h").stdout == "-h|-h|-h|"


def test_signals_reach_the_script_and_not_only_us(cli: Harness) -> None:
    write(
        cli,
        "a.hcl",
        'command "wait" { run = "trap \'echo bye; exit 9\' TERM; echo ready; while :; do sleep 0.05; done" }\n',
    )
    process = cli.spawn("run", "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (9, "bye\n")


def test_a_long_script_is_no_problem(cli: Harness) -> None:
    write(cli, "a.hcl", f'command "long" {{ run = "echo hi\\n: {"é" * 90_000}" }}\n')
    assert real(cli, "long").stdout == "hi\n"


def test_runbook_takes_the_command_from_that_file(book: Harness) -> None:
    write(book, "other.hcl", 'command "greet" { run = "echo other" }\n')
    (book.work / "loose.hcl").write_text('command "greet" { run = "echo loose" }\n')
    assert "defined in several" in real(book, "greet").stderr
    assert real(book, "--runbook", ".oj/runbooks/other.hcl", "greet").stdout == "other\n"
    assert real(book, "--runbook", "other", "greet").stdout == "other\n"
    assert real(book, "--runbook", "loose.hcl", "greet").stdout == "loose\n"


# Jobs


def started(**fields: object) -> dict[str, Any]:
    named: dict[str, Any] = {
        "job_id": JOB,
        "name": "shop-build",
        "kind": "build",
        "status": "pending",
    }
    return reply("JobStarted", **{**named, **fields})


def ended(status: str = "completed", **fields: object) -> dict[str, Any]:
    text = f"2026-01-01T00:00:00Z [one] hello\n2026-01-01T00:00:00Z [job] job {status}\n"
    shown = detail(
        name="shop-build",
        status=status,
        steps=[step("one")],
        graph=[node("one")],
        finished_at_ms=1,
        **fields,
    )
    return changes(shown, logs={JOB: {"content": text, "offset": len(text), "restarted": False}})


@pytest.fixture
def job_cli(book: Harness) -> Harness:
    book.daemon.start()
    book.daemon.answer("RunCommand", started())
    book.daemon.answer("Watch", ended())
    return book


def test_an_agent_is_started_and_followed_like_a_job(job_cli: Harness) -> None:
    write(
        job_cli,
        "a.hcl",
        'agent "helper" { run = "claude" }\ncommand "ask" { run = { agent = "helper" } }\n',
    )
    crew = "crw-9q8p7n6m5k4j3h2g"
    job_cli.daemon.answer("RunCommand", started(job_id=crew, name=crew, kind="helper"))
    text = "2026-01-01T00:00:00Z [job] job completed\n"
    chunk = {"content": text, "offset": len(text), "restarted": False}
    shown = detail(id=crew, name=crew, kind="helper", status="completed", finished_at_ms=1)
    job_cli.daemon.answer("Watch", changes(shown, logs={crew: chunk}))
    result = job_cli.oj("run", "ask")
    assert result == (
        0,
        f"""\
Project: shop
Command: ask
Agent: helper (9q8p7n6m)
  details: oj agent show 9q8p7n6m
  wait:    oj agent wait 9q8p7n6m
  output:  oj logs -f 9q8p7n6m
  screen:  oj peek 9q8p7n6m
  enter:   oj attach 9q8p7n6m
  end:     oj cancel 9q8p7n6m
{text}completed helper (0.0s)
""",
        "",
    )
    assert job_cli.daemon.of("RunCommand")[0]["command"] == "ask"


def test_a_job_is_handed_over_with_its_texts_and_followed_to_its_end(job_cli: Harness) -> None:
    job_cli.setenv("TARGET", "prod")
    write(
        job_cli, "env.hcl", 'job "e" { step "s" { run = "echo ${TARGET:-x} ${UNSET_NAME:-y}" } }\n'
    )
    result = job_cli.oj("run", "build", "-f", "auth")
    assert result.code == 0
    asked = job_cli.daemon.requests[0]
    key = asked.pop("key")
    assert len(key) == 32
    files = {each["path"]: each["text"] for each in asked.pop("sources")["files"]}
    assert files[".oj/runbooks/build.hcl"] == BOOK
    assert asked == {
        "type": "RunCommand",
        "project": "shop",
        "project_root": str(job_cli.work),
        "invoke_dir": str(job_cli.work),
        "command": "build",
        "args": ["-f", "auth"],
        "runbook": None,
        "env": {"TARGET": "prod"},
        "repo": None,
    }
    assert result.out == (
        "Project: shop\n"
        "Command: build\n"
        f"Started shop-build (job: {SHORT})\n"
        f"  details: oj job show {SHORT}\n"
        f"  wait:    oj job wait {SHORT}\n"
        f"  output:  oj logs -f {SHORT}\n"
        f"  pause:   oj suspend {SHORT}\n"
        f"  end:     oj cancel {SHORT}\n"
        "2026-01-01T00:00:00Z [one] hello\n"
        "2026-01-01T00:00:00Z [job] job completed\n"
        "completed shop-build (0.0s)\n"
    )


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 4), ("suspended", 5)]
)
def test_the_exit_code_is_the_jobs(job_cli: Harness, status: str, code: int) -> None:
    job_cli.daemon.answer("Watch", ended(status, error="step one: exit code 3"))
    assert job_cli.oj("run", "build", "auth").code == code


@pytest.mark.parametrize("words", [["--detach", "build", "auth"], ["build", "auth", "-d"]])
def test_detach_returns_once_the_job_is_on_record(job_cli: Harness, words: list[str]) -> None:
    result = job_cli.oj("run", *words)
    assert result.code == 0
    assert [asked["type"] for asked in job_cli.daemon.requests] == ["RunCommand"]
    assert f"Started shop-build (job: {SHORT})\n" in result.out


def test_json_gives_the_reply_at_once(job_cli: Harness) -> None:
    result = job_cli.oj("run", "build", "auth", "-o", "json")
    assert result.json == started()
    assert [asked["type"] for asked in job_cli.daemon.requests] == ["RunCommand"]


def test_json_and_wait_give_the_job_as_it_ended(job_cli: Harness) -> None:
    job_cli.daemon.answer("Watch", changes(detail(seq=1)), ended("failed"))
    result = job_cli.oj("run", "--wait", "-o", "json", "build", "auth")
    assert result.code == 1
    assert result.json["status"] == "failed"
    assert result.json["type"] == "JobDetail"


def test_a_lost_reply_is_asked_for_again_under_the_same_key(job_cli: Harness) -> None:
    job_cli.daemon.answer("RunCommand", HANG_UP, started())
    result = job_cli.oj("run", "-d", "build", "auth")
    assert result.code == 0
    keys = [asked["key"] for asked in job_cli.daemon.requests]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_two_runs_have_two_keys(job_cli: Harness) -> None:
    job_cli.oj("run", "-d", "build", "auth")
    job_cli.oj("run", "-d", "build", "auth")
    assert len({asked["key"] for asked in job_cli.daemon.requests}) == 2


def test_a_refusal_is_told_in_the_daemons_words(job_cli: Harness) -> None:
    job_cli.daemon.refuse(
        "RunCommand", "job `build` lacks a value for `x`", code="invalid", hint="give it one"
    )
    result = job_cli.oj("run", "build", "auth")
    assert result.code == 1
    assert "job `build` lacks a value for `x`" in result.err
    assert "give it one" in result.err


def test_what_a_warm_daemon_refuses_is_explained_on_this_side(job_cli: Harness) -> None:
    job_cli.daemon.refuse("RunCommand", "in other words", code="invalid")
    result = job_cli.oj("run", "build")
    assert result.code == 1
    assert "<name>" in result.err
    assert "in other words" not in result.err
    assert len(job_cli.daemon.requests) == 1


def test_a_mistake_starts_no_daemon(book: Harness) -> None:
    assert book.oj("run", "build").code == 1
    assert list(book.state.iterdir()) == []


def test_warnings_of_the_daemon_are_shown(job_cli: Harness) -> None:
    job_cli.daemon.answer("RunCommand", started(warnings=["odd"]))
    assert "Warning: odd" in job_cli.oj("run", "-d", "build", "auth").err


def test_the_repository_is_described_for_a_job_that_wants_a_worktree(job_cli: Harness) -> None:
    write(
        job_cli,
        "git.hcl",
        'command "tree" { run = { job = "tree" } }\njob "tree" {\n source { git = true }\n step "s" { run = "true" }\n}\n',
    )
    git = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(job_cli.work)}
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(job_cli.work)], check=True, env=git)
    job_cli.oj("run", "-d", "tree")
    repo = job_cli.daemon.requests[0]["repo"]
    assert (repo["root"], repo["branch"]) == (str(job_cli.work), "trunk")
    job_cli.oj("run", "-d", "build", "auth")
    assert job_cli.daemon.requests[1]["repo"] is None


LOADED = """
import sys
from oj_cli.main import main
main(["run", "-d", "build", "auth"])
print(sorted({"msgspec", "tree_sitter", "rich", "asyncio", "psutil"} & set(sys.modules)))
"""


def test_a_warm_daemon_spares_the_reader_of_runbooks(job_cli: Harness) -> None:
    process = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=job_cli.work,
        env={**job_cli.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.endswith("[]\n")
