"""Projects: several share one daemon, and which one a caller is in."""

from __future__ import annotations

import pytest

from tests.support.world import NESTED, World

ECHO = 'step "only" { run = "echo \\"project $OJ_PROJECT\\"" }'


def projects(world: World, *words: str) -> set[str]:
    return {job["project"] for job in world.oj("job", "list", "-o", "json", *words).json}


def test_two_projects_with_equal_names_share_a_daemon_and_never_mix(world: World) -> None:
    """A142, C41."""
    other = world.other_project("bakery", 'step "only" { run = "echo from bakery" }')
    world.job('step "only" { run = "echo from shop" }')
    mine, theirs = world.run("build"), world.run("build", cwd=other)
    assert (mine["project"], theirs["project"]) == ("shop", "bakery")
    assert "from shop" in world.log(mine["id"])
    assert "from bakery" in world.log(theirs["id"])
    assert projects(world) == {"shop", "bakery"}
    assert projects(world, "--project", "bakery") == {"bakery"}
    assert projects(world, "--project", "nosuch") == set()
    # Only what was said on the command line limits a list.
    listed = world.oj("job", "list", "-o", "json", environ={"OJ_PROJECT": "bakery"}).json
    assert {job["project"] for job in listed} == {"shop", "bakery"}


def test_a_step_sees_its_project_and_its_job(shop: World) -> None:
    """A144, C99."""
    shop.job(
        'step "only" { run = "echo \\"project $OJ_PROJECT job $OJ_JOB_ID step $OJ_STEP_NAME\\"" }'
    )
    job = shop.run("build")
    assert f"[only] project shop job {job['id']} step only\n" in shop.log(job["id"])


def test_the_name_in_the_configuration_beats_the_folders(world: World) -> None:
    """A146."""
    (world.project / ".oj" / "config.toml").write_text('[project]\nname = "emporium"\n')
    world.job(ECHO)
    job = world.run("build")
    assert job["project"] == "emporium"
    assert "[only] project emporium\n" in world.log(job["id"])


def test_flag_beats_environment_beats_configuration_beats_folder(world: World) -> None:
    """C8."""
    world.runbook('command "who" { run = "echo $OJ_PROJECT" }\n')
    assert world.oj("run", "who").out == "shop\n"
    (world.project / ".oj" / "config.toml").write_text('[project]\nname = "by-config"\n')
    assert world.oj("run", "who").out == "by-config\n"
    environ = {"OJ_PROJECT": "by-environment"}
    assert world.oj("run", "who", environ=environ).out == "by-environment\n"
    assert world.oj("run", "who", environ={"OJ_PROJECT": ""}).out == "by-config\n"
    for words in (("--project", "by-flag", "run", "who"), ("run", "--project", "by-flag", "who")):
        assert world.oj(*words, environ=environ).out == "by-flag\n"


def test_the_root_is_the_nearest_folder_with_the_marker(world: World) -> None:
    """Spec cli 2.3."""
    world.runbook('command "where" { run = "pwd" }\n')
    below = world.project / "a" / "b"
    below.mkdir(parents=True)
    assert world.oj("run", "where", cwd=below).out == f"{world.project}\n"


def test_in_a_git_worktree_the_main_checkout_is_the_root(world: World) -> None:
    """C7."""
    world.git_project()
    world.runbook('command "where" { run = "pwd; echo $OJ_PROJECT" }\n')
    tree = world.folder / "tree"
    world.git("worktree", "add", "-q", "--detach", str(tree))
    assert world.oj("run", "where", cwd=tree).out == f"{world.project}\nshop\n"


def test_a_nested_call_lands_in_the_same_project_and_daemon(shop: World) -> None:
    """C99."""
    (shop.project / ".oj" / "config.toml").write_text('[project]\nname = "emporium"\n')
    try:
        shop.job(ECHO, command="inner", name="inner.hcl")
        shop.job(
            f'step "outer" {{ run = "cd /; {NESTED} -C ${{invoke.dir}} run --detach -o json inner" }}'
        )
        job = shop.run("build", environ={"OJ_PROJECT": "market"})
        assert job["project"] == "market"
        newest = shop.oj("job", "list", "inner", "-n", "1", "-o", "json").json[0]
        assert newest["project"] == "market"
        shop.finish(newest["id"])
        assert "[only] project market\n" in shop.log(newest["id"])
    finally:
        (shop.project / ".oj" / "config.toml").unlink()


def test_projects_with_live_jobs_are_listed_and_others_are_not(world: World) -> None:
    """C12, spec 4.8."""
    assert "not running" in world.oj("project", "list").out
    assert world.oj("project", "list", "-o", "json").json == {"status": "not_running"}
    world.oj("daemon", "start")
    assert world.oj("project", "list").out == "No active projects\n"
    assert world.oj("project", "list", "-o", "json").json == []
    world.job('step "only" { run = "sleep 300" }')
    job_id = world.start("build")
    world.until_running(job_id, "only")
    row = world.oj("project", "list").out.splitlines()[1].split()
    assert row[:3] == ["shop", str(world.project), "1"]
    world.oj("cancel", job_id)
    world.until_status(job_id, "cancelled")
    assert world.oj("project", "list").out == "No active projects\n"


@pytest.mark.parametrize("name", ["../evil\nx", "a b", "--help", "$(x)", "é漢", "x" * 200])
def test_a_project_may_have_any_name_and_every_list_stays_in_shape(shop: World, name: str) -> None:
    """C8, C10."""
    shop.job(
        'source = "folder"\nstep "only" { run = "test \\"$OJ_PROJECT\\" = \\"${var.name}\\"; exit 3" }',
        args="<name>",
    )
    job = shop.run(f"--project={name}", "build", "--", name, code=1)
    assert job["project"] == name
    assert "exit code: 3" in job["error"]
    assert len(shop.oj("job", "list", f"--project={name}").out.splitlines()) == 2
    status = shop.oj("status", f"--project={name}").out.splitlines()
    assert len([line for line in status if line]) == 5
    assert len(shop.oj("workspace", "list", f"--project={name}").out.splitlines()) == 2
