"""`-o json` on every verb: one JSON document on stdout and nothing else there, errors too."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import World

SHELL_JOB = 'step "work" { run = "sleep ${var.seconds}; exit ${var.code}" }'


@pytest.fixture
def ready(shop: World) -> World:
    """A project with a job and a library."""
    shop.job('source = "folder"\n' + SHELL_JOB, args="<seconds> <code>")
    library = shop.project / ".oj" / "libraries" / "kit"
    library.mkdir(parents=True, exist_ok=True)
    (library / "kit.hcl").write_text('# A kit\ncommand "do" { run = "true" }\n')
    return shop


def asked(world: World, line: str, *, code: int = 0) -> Any:
    """What the command prints; stderr must hold no second copy of it."""
    result = world.oj(*shlex.split(line), "-o", "json", code=code)
    found = result.json
    assert result.out == result.out.strip() + "\n"
    assert "{" not in result.err
    return found


# What each prints, as far as scripts may rely on it: a type for lists, names of keys for objects.


@pytest.mark.parametrize(
    ("line", "shape"),
    [
        ("job list", list),
        ("job list build --status failed --no-limit", list),
        ("job show {failed}", {"id", "name", "kind", "project", "status", "step", "steps", "vars"}),
        ("job show {failed} -v", {"id", "steps"}),
        ("job show --story {failed}", {"lines", "complete"}),
        ("show {failed}", {"id", "steps"}),
        ("show {workspace}", {"id", "path", "owner"}),
        ("job logs {failed}", {"log_path", "lines"}),
        ("logs {failed} -n 0", {"log_path", "lines"}),
        ("job prune --dry-run", {"dry_run", "pruned", "skipped"}),
        ("workspace list", list),
        ("workspace show {workspace}", {"id", "path", "branch", "status", "owner"}),
        ("workspace prune --dry-run", {"dry_run", "pruned", "skipped"}),
        ("project list", list),
        ("status", {"uptime_secs", "projects", "version"}),
        (
            "daemon status",
            {"status", "version", "uptime_secs", "uptime", "jobs_active", "orphan_count"},
        ),
        ("daemon start", {"status", "version", "pid"}),
        ("daemon logs -n 3", {"log_path", "lines"}),
        ("daemon orphans", list),
        ("daemon -v", {"status", "version"}),
        ("run", {"commands", "warnings"}),
        ("runbook list", list),
        ("runbook check", {"files", "problems"}),
        ("runbook search", list),
        ("runbook info kit", {"name"}),
        ("doctor", None),
        ("init", None),
    ],
)
def test_questions_are_answered_with_one_document(
    ready: World, line: str, shape: type | set[str] | None
) -> None:
    """C100, Y12, D12."""
    job = ready.run("build", "0", "1", code=1)
    names = {"failed": job["id"], "workspace": job["workspace"]["id"]}
    found = asked(ready, line.format(**names))
    if isinstance(shape, type):
        assert isinstance(found, shape)
    elif shape is not None:
        assert shape <= set(found), found.keys()


def test_deeds_are_answered_with_one_document(ready: World) -> None:
    """C100, Y12."""
    started = asked(ready, "run --detach build 300 0")
    job_id = started["job_id"]
    assert {"job_id", "name", "status"} <= set(started)
    ready.until_running(job_id, "work")
    timed_out = ready.oj("job", "wait", job_id, "--timeout", "1s", "-o", "json", code=2)
    assert '"outcome": "timeout"' in timed_out.out
    assert asked(ready, f"suspend {job_id}")["suspended"] == [job_id]
    ready.until_status(job_id, "suspended")
    assert asked(ready, f"job wait {job_id}", code=5)["outcome"] == "suspended"
    assert asked(ready, f"resume {job_id} --var seconds=301")["id"] == job_id
    ready.until_running(job_id, "work")
    assert asked(ready, f"cancel {job_id}")["cancelled"] == [job_id]
    ready.until_status(job_id, "cancelled")
    assert asked(ready, f"cancel {job_id}")["already_terminal"] == [job_id]
    ended = asked(ready, "run --wait build 0 1", code=1)
    assert (ended["type"], ended["status"]) == ("JobDetail", "failed")
    assert asked(ready, f"job wait {ended['id']}", code=1)["outcome"] == "failed"
    assert [
        view["id"] for view in asked(ready, f"workspace drop {ended['workspace']['id']}")["dropped"]
    ]
    assert "resumed" in asked(ready, "job resume --all")
    assert asked(ready, "workspace drop --all")["dropped"] is not None
    assert asked(ready, "job prune --all")["dry_run"] is False


def test_the_life_of_the_daemon_as_json(world: World) -> None:
    """C100, Y12."""
    assert asked(world, "daemon stop") == {"status": "not_running"}
    assert asked(world, "daemon start")["status"] == "started"
    assert asked(world, "daemon restart")["status"] == "restarted"
    assert asked(world, "daemon stop")["status"] == "stopped"
    assert asked(world, "project list") == {"status": "not_running"}


def test_init_doctor_and_add_as_json(world: World, tmp_path: Path) -> None:
    """C100, Y12."""
    folder = world.folder / "fresh"
    folder.mkdir()
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "kit.hcl").write_text('# A kit\ncommand "do" { run = "true" }\n')
    for words in (("init",), ("doctor",), ("runbook", "add", str(kit)), ("runbook", "list")):
        assert world.oj(*words, "-o", "json", cwd=folder).json is not None


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("job show nosuch", 1, "not_found"),
        ("show nosuch", 1, "not_found"),
        ("logs nosuch", 1, "not_found"),
        ("job wait nosuch", 3, "not_found"),
        ("workspace show nosuch", 1, "not_found"),
        ("workspace drop nosuch", 1, "not_found"),
        ("resume nosuch", 1, "not_found"),
        ("resume", 1, "invalid"),
        ("run nosuch", 1, "not_found"),
        ("run build", 1, "invalid"),
        ("job nosuch", 2, "usage"),
        ("job list --bogus", 2, "usage"),
        ("runbook info nosuch", 1, "not_found"),
        ("-C /nonexistent job list", 1, "invalid"),
    ],
)
def test_errors_are_a_document_too_and_the_exit_code_is_the_same(
    ready: World, line: str, code: int, word: str
) -> None:
    """C45, C100, Y12."""
    error = asked(ready, line, code=code)["error"]
    assert error["code"] == word
    assert error["message"]
    assert ready.oj(*shlex.split(line), code=code).out == ""


def test_what_is_not_found_among_several_is_in_the_document(ready: World) -> None:
    """C47, C100."""
    assert asked(ready, "cancel nosuch", code=1)["not_found"] == ["nosuch"]


def test_an_error_without_a_daemon_is_a_document(world: World) -> None:
    """C11, C100."""
    error = asked(world, "job list", code=1)["error"]
    assert (error["code"], error["message"]) == ("unavailable", "Daemon not running")


def test_json_keeps_every_character(ready: World) -> None:
    """C100: values are data."""
    ready.job('step "work" { run = "true" }', args="<text>")
    text = "a\x1b[31m\n\t\"'é漢🙂\u2028\x7f"
    job = ready.run("build", text)
    assert job["vars"]["var.text"] == text
    assert (
        json.loads(ready.oj("job", "show", job["id"], "-o", "json").out)["vars"]["var.text"] == text
    )
