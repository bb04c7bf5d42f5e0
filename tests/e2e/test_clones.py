"""Jobs of a caller on another machine: its folder and its repository are not the daemon's, and are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oj_cli import project
from oj_daemon import settings
from oj_daemon.errors import OjError
from oj_daemon.wire.client import Client
from tests.support.waiting import until
from tests.support.world import World, alive, ran


class Far:
    """The user of a world whose daemon believes that they are elsewhere; the folder can be taken away meanwhile."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shared = world.folder / "shared"

    def repository(self) -> None:
        """Everything of the project is in a repository, and pushed."""
        self.world.git("init", "-q", "--bare", str(self.shared))
        self.world.git_project()
        self.world.git("remote", "add", "origin", f"file://{self.shared}")
        self.world.git("push", "-q", "-u", "origin", "main")

    def commit(self, name: str) -> str:
        (self.world.project / name).parent.mkdir(parents=True, exist_ok=True)
        (self.world.project / name).write_text(f"{name}\n")
        self.world.git("add", ".")
        self.world.git("commit", "-qm", name)
        return self.world.git("rev-parse", "HEAD").strip()

    def at_remote(self, *words: str) -> str:
        return self.world.git(*words, cwd=self.shared)

    def ask(self, *, folder: Path | None = None, url: str = "", hide: bool = False) -> str:
        """`oj run -d build` from afar; the job's id. `hide` takes the project away until the job has ended."""
        world = self.world
        folder = folder or world.project
        repo = project.repository(folder)
        if repo is not None and url:
            repo["url"] = url
        fields: dict[str, Any] = {
            "project": world.project.name,
            "project_root": str(world.project),
            "invoke_dir": str(folder),
            "command": "build",
            "sources": {
                "files": [
                    {"path": f".oj/runbooks/{path.name}", "text": path.read_text()}
                    for path in (world.project / ".oj" / "runbooks").iterdir()
                ],
            },
            "repo": repo,
            "is_remote": True,
        }
        world.oj("daemon", "start")
        away = world.project.rename(world.folder / "away") if hide else None
        try:
            with Client(settings.load(world.environ)) as client:
                job_id = str(client.call("RunCommand", **fields)["job_id"])
            if hide:
                world.oj("job", "wait", job_id, cwd=world.folder, code=None)
        finally:
            if away is not None:
                away.rename(world.project)
        return job_id

    def run(self, *, folder: Path | None = None) -> dict[str, Any]:
        """The job as it ended; the caller's folder was not there meanwhile."""
        return self.world.finish(self.ask(folder=folder, hide=True))


@pytest.fixture
def far(world: World) -> Far:
    return Far(world)


def gone(world: World, job: dict[str, Any]) -> None:
    """The job's clone is removed, and forgotten."""
    folder = world.state / "workspaces"
    until(lambda: not list(folder.iterdir()), 30, "the workspaces are removed")
    assert world.show(job["id"])["workspace"] is None


def test_a_job_runs_in_a_clone_at_the_folder_that_oj_was_called_in(far: Far) -> None:
    world = far.world
    far.repository()
    world.job("""
        step "look" {
          run     = "pwd; cat here; git branch --show-current; echo ${invoke.dir}"
          on_done = { step = "more" }
        }
        step "more" { run = "cat ../README" }
    """)
    far.commit("sub/here")
    world.git("push", "-q")
    job = far.run(folder=world.project / "sub")
    assert ran(job) == ["look completed", "more completed"]
    log = world.log(job["id"])
    place = f"{world.state}/workspaces/"
    assert f"[look] {place}" in log
    assert "[look] sub/here\n" in log
    assert "[look] main\n" in log
    assert "[more] hello\n" in log
    assert f"a clone of file://{far.shared} at main" in log
    assert job["vars"]["invoke.dir"].startswith(place)
    assert job["vars"]["invoke.dir"].endswith("/sub")
    gone(world, job)


def test_a_git_source_works_on_a_branch_that_it_pushes_itself(far: Far) -> None:
    world = far.world
    far.repository()
    world.job("""
        source { git = true }
        step "work" {
          run = "echo new >made; git add made; git commit -qm made; git push -q origin HEAD; pwd; echo ${source.type}"
        }
    """)
    job = far.run()
    assert job["status"] == "completed"
    branch = job["vars"]["source.branch"]
    assert far.at_remote("show", f"{branch}:made") == "new\n"
    assert "[work] clone\n" in world.log(job["id"])
    assert world.git("branch", "--format=%(refname:short)") == "main\n"
    gone(world, job)


def test_work_that_was_not_pushed_is_kept_and_told_until_somebody_drops_it(far: Far) -> None:
    world = far.world
    far.repository()
    world.job("""
        source { git = true }
        step "work" { run = "echo new >made; git add made; git commit -qm made" }
    """)
    job = far.run()
    assert job["status"] == "completed"
    branch = job["vars"]["source.branch"]
    world.until_listed(
        job["id"], f"workspace kept: branch {branch} has commits that were not pushed"
    )
    listed = world.oj("workspace", "list").out
    assert "kept" in listed
    assert "were not pushed" in listed
    shown = world.show(job["id"])["workspace"]
    assert (shown["kind"], shown["status"]) == ("clone", "kept")
    place = Path(shown["path"])
    world.kill_daemon()
    world.oj("daemon", "start")
    world.oj("workspace", "prune", "--all")
    until(lambda: world.show(job["id"])["workspace"]["status"] == "kept", 30, "prune keeps it")
    assert (place / "made").read_text() == "new\n"
    assert "Deleted\n" in world.oj("workspace", "drop", shown["id"]).out
    assert not place.exists()


def test_a_branch_that_is_not_pushed_fails_the_job_and_it_goes_on_once_it_is(far: Far) -> None:
    world = far.world
    far.repository()
    world.job('step "a" { run = "cat fresh" }')
    world.git("switch", "-qc", "fresh")
    far.commit("fresh")
    job = far.run()
    assert job["status"] == "failed"
    assert "it has no branch fresh" in job["error"]
    assert "git push -u origin fresh" in job["error"]
    assert ran(job) == []
    world.git("push", "-q", "-u", "origin", "fresh")
    world.oj("resume", job["id"])
    assert world.finish(job["id"])["status"] == "completed"


def test_a_commit_that_is_not_pushed_is_told_in_the_log(far: Far) -> None:
    world = far.world
    far.repository()
    world.job('step "a" { run = "git rev-parse HEAD" }')
    pushed = world.git("rev-parse", "HEAD").strip()
    own = far.commit("own")
    job = far.run()
    log = world.log(job["id"])
    assert f"your commit {own[:7]} is not pushed: the job works on {pushed[:7]}" in log
    assert f"[a] {pushed}\n" in log


def test_a_ref_and_locals_of_a_shell_are_found_out_in_the_clone(far: Far) -> None:
    world = far.world
    far.repository()
    first = world.git("rev-parse", "HEAD").strip()
    far.commit("second")
    world.git("push", "-q")
    world.job("""
        locals { count = "$(git rev-list --count HEAD)" }
        source {
          git    = true
          branch = "work/${source.nonce}"
          ref    = "$(git rev-parse HEAD~1)"
        }
        step "a" { run = "git rev-parse HEAD; git branch --show-current; echo commits ${local.count}" }
    """)
    job = far.run()
    log = world.log(job["id"])
    assert f"[a] {first}\n" in log
    assert f"[a] work/{job['id'][4:12]}\n" in log
    assert "[a] commits 2\n" in log


def test_outside_of_a_repository_there_is_an_empty_folder_and_the_log_says_so(far: Far) -> None:
    world = far.world
    world.job('step "a" { run = "pwd; ls -A | wc -l" }')
    job = far.run()
    log = world.log(job["id"])
    assert f"{world.project} is not in a git repository: an empty folder" in log
    assert f"[a] {world.state}/workspaces/wks-" in log
    assert "[a] 0\n" in log
    gone(world, job)
    world.job('source { git = true }\nstep "a" { run = "true" }')
    with pytest.raises(OjError, match="is not in a git repository"):
        far.run()


def test_a_clone_is_kept_after_a_failure_and_goes_on_there(far: Far) -> None:
    world = far.world
    far.repository()
    world.job('step "a" { run = "test -e again || { touch again; exit 1; }; rm again" }')
    job = far.run()
    assert job["status"] == "failed"
    assert job["workspace"]["status"] == "ready"
    assert (Path(job["workspace"]["path"]) / "README").read_text() == "hello\n"
    world.oj("resume", job["id"])
    assert world.finish(job["id"])["status"] == "completed"
    gone(world, job)


def test_a_daemon_that_is_killed_while_it_clones_clones_again(far: Far) -> None:
    world = far.world
    far.repository()
    world.job('step "a" { run = "cat README" }')
    asked = world.folder / "asked"
    ssh = world.folder / "ssh.sh"
    # The first time it hangs; the second time it is as good as ssh.
    ssh.write_text(
        f"#!/bin/sh\nif mkdir {asked} 2>/dev/null; then echo $$ >{asked}/pid; exec sleep 300; fi\n"
        f'shift $(($# - 1)); exec sh -c "$1"\n'
    )
    ssh.chmod(0o755)
    world.environ["GIT_SSH_COMMAND"] = str(ssh)
    job_id = far.ask(url=f"example.org:{far.shared}")
    world.until_file(asked / "pid")
    world.kill_daemon()
    world.oj("daemon", "start")
    job = world.finish(job_id)
    assert job["status"] == "completed", job
    assert "[a] hello\n" in world.log(job_id)
    gone(world, job)


def test_a_job_that_is_cancelled_while_it_clones_ends_the_clone(far: Far) -> None:
    world = far.world
    far.repository()
    world.job('step "a" { run = "true" }')
    pid = world.folder / "pid"
    world.environ["GIT_SSH_COMMAND"] = f"sh -c 'echo $$ >{pid}; exec sleep 300'"
    job_id = far.ask(url="example.org:shop")
    number = int(world.until_file(pid))
    world.oj("cancel", job_id)
    job = world.finish(job_id)
    assert job["status"] == "cancelled"
    gone(world, job)
    until(lambda: not alive(number), 30, "its ssh is ended")


def test_the_same_caller_of_a_local_daemon_works_in_the_folder_itself(far: Far) -> None:
    world = far.world
    far.repository()
    world.job('step "a" { run = "pwd; touch touched" }')
    job = world.run("build")
    assert f"[a] {world.project}\n" in world.log(job["id"])
    assert (world.project / "touched").exists()
