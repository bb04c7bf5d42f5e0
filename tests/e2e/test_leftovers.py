"""What jobs leave in the state folder."""

from __future__ import annotations

from tests.support.waiting import until
from tests.support.world import World


def files(world: World, *folders: str) -> list[str]:
    """Everything below these folders of the state folder, without the book-keeping of the folders themselves."""
    return sorted(
        str(path.relative_to(world.state))
        for folder in folders
        for path in (world.state / folder).rglob("*")
        if path.name != "instance"
    )


def test_of_a_job_that_has_ended_only_its_log_is_left(world: World) -> None:
    world.job("""
        source = "folder"
        locals = { x = "$(echo hi)" }
        step "a" {
          run     = "echo '${local.x}' >made"
          on_done = { step = ["b", "c"] }
        }
        step "b" { run = "cat made" }
        step "c" { run = "echo c" }
    """)
    job = world.run("build")
    until(lambda: not files(world, "runs", "workspaces"), 10, "runs and workspace are gone")
    until(
        lambda: files(world, "logs/job") == [f"logs/job/{job['id']}.log"],
        10,
        "only the log is left",
    )


def test_of_a_job_that_was_pruned_nothing_is_left_though_its_branch_is(world: World) -> None:
    world.git_project()
    world.job("""
        source = { git = true }
        step "a" {
          run = "git commit -q --allow-empty -m mine; false"
        }
    """)
    job = world.run("build", code=1)
    world.oj("job", "prune", "--failed")
    until(
        lambda: not files(world, "workspaces"), 20, lambda: f"{files(world, 'workspaces')} is gone"
    )
    # A request that is answered now comes after whatever the removal had to tell.
    world.oj("daemon", "restart")
    assert files(world, "logs/job", "runs") == []
    assert f"ws-{job['id'][4:12]}" in world.git("branch")
