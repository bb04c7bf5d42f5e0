"""The folders that jobs work in: private, kept for those who must look, and removed otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.world import NESTED, World, ran

SLOW = """
    source = "folder"
    step "work" { run = "pwd; touch here; until [ -e ${invoke.dir}/go ]; do sleep 0.05; done" }
"""
ENDING = """
    source = "folder"
    step "work" { run = "touch here; exit ${var.code}" }
"""


@pytest.fixture
def calm(shop: World) -> World:
    """The user of the file, without the file that jobs wait for."""
    (shop.project / "go").unlink(missing_ok=True)
    return shop


def running(world: World) -> tuple[str, Path]:
    """Start a job and wait until its step has made a file; its id and its folder."""
    job_id = world.start("build")
    world.until_running(job_id, "work")
    place = Path(world.show(job_id)["workspace_path"])
    until((place / "here").exists, 60, "the step has begun")
    return job_id, place


def listed(world: World) -> set[str]:
    return {each["path"] for each in world.oj("workspace", "list", "--no-limit", "-o", "json").json}


def gone(path: Path) -> None:
    until(lambda: not path.exists(), 30, f"{path} is removed")


def test_two_jobs_at_once_have_folders_of_their_own(calm: World) -> None:
    """A054."""
    calm.job(SLOW)
    (one, here), (two, there) = running(calm), running(calm)
    assert here != there
    assert {str(here), str(there)} <= listed(calm)
    (calm.project / "go").touch()
    for job_id, place in ((one, here), (two, there)):
        assert calm.finish(job_id)["status"] == "completed"
        gone(place)


def test_a_job_that_is_run_again_starts_in_an_empty_folder(calm: World) -> None:
    """A055."""
    calm.job(
        """
        source = "folder"
        step "work" { run = "test -z \\"$(ls -A)\\"; touch here; exit ${var.code}" }
    """,
        args="<code>",
    )
    paths = [calm.run("build", code, code=int(code))["workspace_path"] for code in ("1", "1", "0")]
    assert len(set(paths)) == 3


@pytest.mark.parametrize(
    ("end", "kept"),
    [("completed", False), ("cancelled", False), ("failed", True), ("suspended", True)],
)
def test_the_folder_is_kept_only_where_somebody_has_to_look(
    calm: World, end: str, kept: bool
) -> None:
    """A063, C48."""
    if end in ("completed", "failed"):
        calm.job(ENDING, args="<code>")
        job = calm.run("build", "1" if end == "failed" else "0", code=int(end == "failed"))
        place = Path(job["workspace_path"] or calm.state / "workspaces" / job["vars"]["source.id"])
    else:
        calm.job(SLOW)
        job_id, place = running(calm)
        calm.oj("cancel" if end == "cancelled" else "suspend", job_id)
        calm.until_status(job_id, end)
    if kept:
        assert (place / "here").exists()
        assert str(place) in listed(calm)
    else:
        gone(place)
        until(lambda: str(place) not in listed(calm), 30, "it is forgotten")


def test_the_folder_is_there_for_the_clean_up_and_removed_after_it(calm: World) -> None:
    """A057, A063."""
    calm.job("""
        source    = "folder"
        on_cancel = { step = "clean" }
        step "work"  { run = "touch here; sleep 300" }
        step "clean" { run = "ls; pwd >${invoke.dir}/cleaned" }
    """)
    job_id, place = running(calm)
    calm.oj("cancel", job_id)
    assert calm.finish(job_id)["status"] == "cancelled"
    assert (calm.project / "cleaned").read_text() == f"{place}\n"
    gone(place)


def test_a_workspace_is_shown_with_its_owner(calm: World) -> None:
    """Spec 4.4."""
    calm.job(ENDING, args="<code>")
    job = calm.run("build", "1", code=1)
    workspace = job["workspace"]["id"]
    short = workspace.removeprefix("wks-")[:8]
    assert short in calm.oj("workspace", "list").out
    for words in (("workspace", "show", short), ("show", short), ("show", workspace)):
        shown = calm.oj(*words).out
        assert job["workspace_path"] in shown
        assert job["id"] in shown
    assert "nosuch" in calm.oj("workspace", "show", "nosuch", code=1).err


def test_a_list_without_workspaces_says_so(world: World) -> None:
    """Spec 4.4."""
    world.oj("daemon", "start")
    assert world.oj("workspace", "list").out == "No workspaces\n"
    assert world.oj("workspace", "drop", "--all").out == "No workspaces deleted\n"


def test_a_dropped_workspace_is_gone_when_drop_returns(calm: World) -> None:
    """C63."""
    calm.job(ENDING, args="<code>")
    job = calm.run("build", "1", code=1)
    shown = calm.oj("workspace", "drop", job["workspace"]["id"].removeprefix("wks-")[:8]).out
    assert job["workspace_path"] in shown
    assert "Deleted\n" in shown
    assert not Path(job["workspace_path"]).exists()
    assert calm.show(job["id"])["status"] == "failed"


def test_a_prefix_of_several_workspaces_is_refused_and_drops_none(calm: World) -> None:
    """C63."""
    calm.job(ENDING, args="<code>")
    paths = [Path(calm.run("build", "1", code=1)["workspace_path"]) for _ in range(2)]
    refused = calm.oj("workspace", "drop", "wks-", code=1)
    assert "could be any of" in refused.err
    assert all(path.exists() for path in paths)
    for words in ((), ("x", "--all")):
        assert "--all" in calm.oj("workspace", "drop", *words, code=1).err


def test_the_workspace_of_a_live_job_is_not_dropped_without_force(calm: World) -> None:
    """Y5, spec 4.4."""
    calm.job(SLOW)
    job_id, place = running(calm)
    workspace = calm.show(job_id)["workspace"]["id"]
    refused = calm.oj("workspace", "drop", workspace, code=1)
    assert f"job {job_id[4:12]} is running" in refused.err
    assert "--force" in refused.err
    assert (place / "here").exists()
    calm.oj("cancel", job_id)
    gone(place)


def test_workspaces_of_failed_jobs_are_dropped_together(world: World) -> None:
    """Spec 4.4."""
    world.job(ENDING, args="<code>")
    place = Path(world.run("build", "1", code=1)["workspace_path"])
    world.job(SLOW)
    job_id, live = running(world)
    world.oj("workspace", "drop", "--failed")
    gone(place)
    assert live.exists()
    (world.project / "go").touch()
    world.finish(job_id)


def test_prune_spares_the_workspaces_of_live_jobs_and_clears_what_nobody_claims(
    world: World,
) -> None:
    """C62, Y5, 8.40."""
    world.job(ENDING, args="<code>")
    failed = Path(world.run("build", "1", code=1)["workspace_path"])
    world.job(SLOW)
    job_id, live = running(world)
    suspended_id, suspended = running(world)
    world.oj("suspend", suspended_id)
    world.until_status(suspended_id, "suspended")
    stray = world.state / "workspaces" / "wks-0000000000000000"
    stray.mkdir()
    (stray / "old").touch()
    dry = world.oj("workspace", "prune", "--all", "--dry-run", "-o", "json").json
    assert len(dry["pruned"]) == 2
    assert failed.exists()
    assert stray.exists()
    done = world.oj("workspace", "prune", "--all", "-o", "json").json
    assert done["skipped"] == 2
    gone(failed)
    gone(stray)
    assert (live / "here").exists()
    assert (suspended / "here").exists()
    (world.project / "go").touch()
    assert world.finish(job_id)["status"] == "completed"
    world.oj("cancel", suspended_id)


# Git worktrees

WORKTREE = """
    source { git = true }
    step "work" { run = "cat README; git branch --show-current; echo new >made; exit ${var.code}" }
"""


@pytest.fixture
def repo(world: World) -> World:
    """A project that is a git repository."""
    world.git_project()
    return world


def branches(world: World) -> set[str]:
    return set(world.git("branch", "--format=%(refname:short)").split())


def test_a_worktree_is_a_checkout_on_a_branch_of_its_own_and_vanishes_after_success(
    repo: World,
) -> None:
    """A063 for worktrees."""
    repo.job(WORKTREE, args="<code>")
    job = repo.run("build", "0")
    branch = job["vars"]["source.branch"]
    assert job["vars"]["source.type"] == "worktree"
    log = repo.log(job["id"])
    assert "[work] hello\n" in log
    assert f"[work] {branch}\n" in log
    until(lambda: branches(repo) == {"main"}, 30, "the branch is deleted")
    assert repo.git("worktree", "list").count("\n") == 1
    assert not (repo.project / "made").exists()


def test_the_worktree_of_a_failed_job_stays_with_its_changes_until_it_is_dropped(
    repo: World,
) -> None:
    """C48, C63 for worktrees."""
    repo.job(WORKTREE, args="<code>")
    job = repo.run("build", "1", code=1)
    place = Path(job["workspace_path"])
    assert (place / "made").read_text() == "new\n"
    assert job["workspace"]["branch"] in branches(repo)
    repo.oj("workspace", "drop", job["workspace"]["id"])
    assert not place.exists()
    assert repo.git("worktree", "list").count("\n") == 1


def test_a_worktree_can_have_a_branch_and_a_start_by_template(repo: World) -> None:
    """Spec 2.5."""
    first = repo.git("rev-parse", "HEAD").strip()
    (repo.project / "README").write_text("changed\n")
    repo.git("commit", "-qam", "second")
    repo.job(
        """
        source {
          git    = true
          branch = "work/${var.name}-${source.nonce}"
          ref    = "$(git rev-parse HEAD~1)"
        }
        step "work" { run = "git rev-parse HEAD; git branch --show-current; exit 1" }
        """,
        args="<name>",
    )
    job = repo.run("build", "fix", code=1)
    log = repo.log(job["id"])
    assert f"[work] {first}\n" in log
    assert f"[work] work/fix-{job['id'][4:12]}\n" in log


def test_a_worktree_outside_of_a_repository_is_refused_before_a_job_exists(world: World) -> None:
    """8.23: no id of a job that never exists."""
    world.job(WORKTREE, args="<code>")
    refused = world.oj("run", "build", "0", code=1)
    assert "not in a git repository" in refused.err
    assert world.oj("job", "list").out == "No jobs\n"


def test_a_start_that_git_does_not_know_fails_the_job_with_gits_words(repo: World) -> None:
    """Spec 2.5: the job fails with that reason, and its on_fail step runs."""
    repo.job("""
        source {
          git = true
          ref = "no-such-ref"
        }
        step "work" { run = "true" }
    """)
    job = repo.run("build", code=1)
    assert "no-such-ref" in job["error"]
    assert ran(job) == []
    assert repo.git("worktree", "list").count("\n") == 1


def test_oj_inside_of_a_worktree_acts_for_the_main_checkout(repo: World) -> None:
    """C7, C99."""
    repo.runbook(
        'command "where" { run = "pwd; echo \\"project $OJ_PROJECT\\"" }\n', name="where.hcl"
    )
    repo.job(f"""
        source {{ git = true }}
        step "work" {{ run = "{NESTED} run where" }}
    """)
    log = repo.log(repo.run("build")["id"])
    assert f"[work] {repo.project}\n" in log
    assert "[work] project shop\n" in log
