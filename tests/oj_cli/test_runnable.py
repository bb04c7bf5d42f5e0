from __future__ import annotations

from pathlib import Path

import pytest

from oj_cli import output
from oj_cli.runnable import help_rows, shown_path
from oj_daemon.runbook import argspec
from oj_daemon.runbook.model import CommandDef, RunJob


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/p/.oj/runbooks/a.hcl", ".oj/runbooks/a.hcl"),
        ("/p/x/../a.hcl", "a.hcl"),
        ("/elsewhere/a.hcl", "/elsewhere/a.hcl"),
        ("/p2/a.hcl", "/p2/a.hcl"),
    ],
)
def test_a_file_is_named_relative_to_its_project(path: str, shown: str) -> None:
    assert shown_path(Path("/p"), Path(path)) == shown


def test_the_help_of_a_command_names_all_it_takes() -> None:
    spec = argspec.parse("<name> [files...] -b/--base <ref> [--dry <x>] [-v] [--force]")
    command = CommandDef(
        name="build", run=RunJob(job="build"), args=spec, defaults={"dry": "no"}, help_short="Build"
    )
    output.configure(color=False, no_color=True)
    assert [output.render(*row).rstrip() for row in help_rows(command)] == [
        "Build",
        "",
        "Usage: oj run build <name> [files...] --base <base> [--dry <dry>] [-v] [--force]",
        "",
        "Arguments:",
        "  <name>",
        "  [files...]",
        "",
        "Options:",
        "  -b, --base <base>  required",
        "      --dry <dry>    [default: no]",
        "  -v",
        "      --force",
        "  -h, --help         Show this help",
    ]
