from __future__ import annotations

import pytest

from oj_cli.warm import is_plain_job

JOB = 'command "build" {\n  args = "<a>"\n  run  = { job = "build" }\n}\n'


def test_a_job_written_in_the_usual_way_is_recognised() -> None:
    assert is_plain_job([JOB, 'command "other" { run = "x" }'], "build")
    assert is_plain_job(['command "build" { run = { job = "build" } }\n'], "build")


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [JOB, JOB],
        [JOB + 'job "build" {\n  source { git = true }\n}\n'],
        [JOB, '{"job": {"x": {"source": {"git": true}}}}'],
        ['command "build" { run = { job = "build" } } command "x" { run = "y" }'],
        ['command "build" {\n  run = "shell"\n}\n'],
        ['command "build" {\n  run = <<SH\nrun = { job = "x" }\nSH\n}\n'],
        ['command "build" {\n  run = { agent = "a" }\n}\n'],
        ['command "build" {\n  run = { job = "${raw(const.x)}" }\n}\n'],
        ['[command.build]\nrun = { job = "build" }\n'],
    ],
)
def test_everything_else_takes_the_long_way(texts: list[str]) -> None:
    assert not is_plain_job(texts, "build")


@pytest.mark.parametrize("name", ["a:build", ".*", "", "bui"])
def test_only_the_very_name_counts(name: str) -> None:
    assert not is_plain_job([JOB], name)
